//! What the reading of a record says about itself: the envelopes, the formats that were tried, the
//! fields that a mapping has found, and why a record is skipped.
//!
//! The reading code reports its steps to [`ReadingSteps`], and `handoff explain` shows them. The
//! service keeps no steps but the format; each other report then costs a comparison.

use std::borrow::Cow;

/// Why a record is not of a format, or not for us; completes "it does not fit: ".
pub(super) type Why = Cow<'static, str>;

/// Why a record is skipped: it is no escalation of this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The reason, for the metric and the remedy.
    pub reason: SkipReason,
    /// The same for this record, in words; completes "it is skipped: ".
    pub why: Cow<'static, str>,
}

impl Skip {
    pub(super) fn new(reason: SkipReason, why: impl Into<Why>) -> Self {
        Self { reason, why: why.into() }
    }
}

/// The reasons why a record is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Its `type`, as a field, header or attribute of a CloudEvent, is not one that is configured.
    OtherType,
    /// No format that is configured recognises it.
    OtherFormat,
    /// It is of a format that is configured, and there no escalation.
    NoEscalation,
}

impl SkipReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::OtherType, Self::OtherFormat, Self::NoEscalation];

    /// The word in the metric and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherType => "other_type",
            Self::OtherFormat => "other_format",
            Self::NoEscalation => "no_escalation",
        }
    }

    /// What to do if the record is an escalation all the same.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::OtherType => {
                "if it is an escalation, add its type to escalation.types \
                 (of a CloudEvent: input.cloudevents_types)"
            }
            Self::OtherFormat => {
                "if it is an escalation, add its format to input.dialects, or change the `match` of \
                 its [[mappings]]; `handoff explain` shows what was tried"
            }
            Self::NoEscalation => {
                "expected where the topic has other events of this format, too; if it is an \
                 escalation, `handoff explain` shows what it lacks"
            }
        }
    }
}

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
pub struct ReadingSteps {
    steps: Option<Vec<ReadingStep>>,
    recognised: Option<Cow<'static, str>>,
}

impl ReadingSteps {
    /// Keeps the steps.
    pub fn kept() -> Self {
        Self { steps: Some(Vec::new()), recognised: None }
    }

    /// Returns the steps that were kept.
    pub fn into_steps(self) -> Vec<ReadingStep> {
        self.steps.unwrap_or_default()
    }

    /// Returns the format of the record, of a CloudEvent whatever its data is: a name of
    /// `input.dialects`, or `cloudevents`.
    pub fn into_format(self) -> Cow<'static, str> {
        self.recognised.unwrap_or(Cow::Borrowed("native"))
    }

    /// The record is of this format. The first report counts: the data of a CloudEvent has a format, too.
    pub(super) fn recognised(&mut self, format: impl FnOnce() -> Cow<'static, str>) {
        self.recognised.get_or_insert_with(format);
    }

    /// Adds a step, which is made only if steps are kept.
    pub(super) fn add(&mut self, step: impl FnOnce() -> ReadingStep) {
        if let Some(steps) = &mut self.steps {
            steps.push(step());
        }
    }

    pub(super) fn tried(&mut self, format: &str, result: impl FnOnce() -> FormatResult) {
        self.add(|| ReadingStep::Tried { format: format.to_owned(), result: result() });
    }
}
