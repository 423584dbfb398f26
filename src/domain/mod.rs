//! What the service decides, as pure values: data in, data out.
//!
//! In reading order: a `record` becomes an `event`; its `route` (with its `hours`) and its `plan` say
//! whom to ask in which order; `request` builds the bodies; a `reply` becomes a `verdict` by the table in `codes`;
//! `course` turns verdicts into steps, with waits from `backoff`; `wire` holds the formats of what
//! is read and published; `ledger_entry` is what outlives the process; `watermark` is the offset
//! that may be committed; `ids` shortens those of people; `audit` says afterwards whether every escalation was answered, `explanation` before what would be done with one; `problem` what an unfinished one waits for.
//!
//! Nothing here waits, reads a clock, a file or the environment, or logs.

pub(crate) mod audit;
pub mod backoff;
pub mod codes;
pub mod course;
pub mod event;
pub mod explanation;
pub mod hours;
pub mod ids;
pub mod ledger_entry;
pub mod plan;
pub mod problem;
pub mod record;
pub mod repeats;
pub mod reply;
pub mod request;
pub mod route;
pub mod signal;
pub mod target;
pub mod usersig;
pub mod verdict;
pub(crate) mod watermark;
pub mod wire;
