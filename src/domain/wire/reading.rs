//! What the reading of a record says about itself: the envelopes, the formats that were tried, the
//! fields that a mapping has found.
//!
//! The reading code reports its steps to [`ReadingSteps`], and `handoff explain` shows them. The
//! service keeps no steps; each report then costs a comparison.

use std::borrow::Cow;

/// Why a record is not of a format, or not for us; completes "it does not fit: ".
pub(super) type Why = Cow<'static, str>;

/// One step of the reading of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadingStep {
    /// This envelope around the value was removed.
    Unwrapped(String),
    /// A format was tried.
    Tried {
        /// Its name in `input.dialects`, or `cloudevents`.
        format: String,
        /// The result.
        result: FormatResult,
    },
    /// A mapping looked for a field of the escalation.
    Mapped {
        /// The field, as `attributes.lang`.
        field: String,
        /// Where the mapping looks for it.
        source: String,
        /// Whether something was there, or a default counts.
        is_found: bool,
    },
    /// The record is skipped before any format is tried: why.
    Skipped(String),
}

/// What a format makes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatResult {
    /// It is of this format and goes on.
    Recognised,
    /// It is of another format: why.
    Unrecognised(String),
    /// It is of this format and no escalation: why.
    NotForUs(String),
    /// It is of this format, or no other was left to try, and it is malformed.
    Malformed,
}

/// The steps of one reading, in their order; the default keeps none.
#[derive(Debug, Default)]
pub struct ReadingSteps(Option<Vec<ReadingStep>>);

impl ReadingSteps {
    /// Keeps the steps.
    pub fn kept() -> Self {
        Self(Some(Vec::new()))
    }

    /// Returns the steps that were kept.
    pub fn into_steps(self) -> Vec<ReadingStep> {
        self.0.unwrap_or_default()
    }

    /// Adds a step, which is made only if steps are kept.
    pub(super) fn add(&mut self, step: impl FnOnce() -> ReadingStep) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }

    pub(super) fn tried(&mut self, format: &str, result: impl FnOnce() -> FormatResult) {
        self.add(|| ReadingStep::Tried { format: format.to_owned(), result: result() });
    }
}
