//! The wire formats: one definition each, read and written by everything in this crate.

pub mod outcome;
pub mod truncate;
