//! What the service decides, as pure values: data in, data out.
//!
//! In reading order: a `record` becomes an `event`; its `route` and its `plan` say whom to ask
//! for; `request` makes the bodies; a `reply` becomes a `verdict` by the table of `codes`;
//! `course` turns verdicts into steps at the `pace` of its back-off; `outcome` is what gets published,
//! made `smaller` where a topic refuses its size; `memory` is what outlives the process; `audit`
//! says afterwards whether all is well. `gate`, `speed`, `lanes` and `progress` do for the
//! worker, the session and the partition what `course` does for the event.
//! This layer never waits, never reads a clock, a file or the environment, and never logs.

pub mod audit;
pub mod codes;
pub mod course;
pub mod event;
mod fields;
pub mod gate;
pub mod lanes;
pub mod memory;
pub mod outcome;
pub mod pace;
pub mod plan;
pub mod progress;
pub mod record;
pub mod reply;
pub mod request;
pub mod route;
mod smaller;
pub mod speed;
pub mod usersig;
pub mod verdict;
