//! The formats of the three topics: one definition each, for reading and for writing.
//!
//! [`escalation`] is the input, in the envelopes that [`unwrap`] removes, or in one of the [`dialects`]
//! of other systems. [`outcome`] and [`dead_letter`] are the outputs. Both outputs are published as a
//! [`Message`], which can be truncated where a topic refuses its size. [`replay`] takes a dead letter
//! back to the input. The service
//! and all commands use these definitions; `docs/` and the snapshot tests describe the formats.

pub mod dead_letter;
pub mod dialects;
pub mod escalation;
pub(crate) mod headers;
pub mod ignored_fields;
pub mod input;
mod message;
pub mod outcome;
pub mod outcome_format;
pub mod reading;
pub(crate) mod repair;
pub(crate) mod replay;
mod truncate;
mod unwrap;

pub use self::message::{Channel, Message};
