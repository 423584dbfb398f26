//! The JSON that controls what the simulated Desk does wrong, and when.
//!
//! A fault has two independent sides: whether the call *takes effect*, and what the client *sees*.
//! A lost answer is an effect without an answer; a refused call is an answer without an effect.
//! Unknown field names are errors. Which call a fault applies to is decided in `pending`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::agents::StaffChange;
use super::odd_body::OddForm;
use super::stats::ApiCommand;

/// Faults and staff changes to come: the body of `POST /sim/schedule` and of a `--schedule` file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSchedule {
    /// Faults, queued behind those that are already waiting.
    pub faults: Vec<InjectedFault>,
    /// Staff changes that happen at a later call.
    pub staff_changes: Vec<ScheduledStaffChange>,
    /// Calls per command in any one second, above which 60007 is returned; 0 removes the limit.
    pub limit_per_second: Option<u32>,
    /// The latency of every call from now on.
    pub latency: Option<LatencyRange>,
}

impl FaultSchedule {
    /// Parses a schedule and checks the range of each number, and that each part has an effect.
    pub fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let schedule: Self = serde_json::from_slice(json)?;
        ensure!(schedule != Self::default(), "the schedule is empty");
        for (number, fault) in (1..).zip(&schedule.faults) {
            fault.check().with_context(|| format!("fault {number}"))?;
        }
        for (number, change) in (1..).zip(&schedule.staff_changes) {
            change.check().with_context(|| format!("staff change {number}"))?;
        }
        schedule.latency.unwrap_or_default().check().context("latency")?;
        Ok(schedule)
    }
}

impl From<InjectedFault> for FaultSchedule {
    fn from(fault: InjectedFault) -> Self {
        Self { faults: vec![fault], ..Self::default() }
    }
}

/// One deviation from what Desk would do by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InjectedFault {
    /// The session whose calls it applies to; `*` for any.
    pub session: String,
    /// The commands it applies to.
    pub commands: Vec<ApiCommand>,
    /// How many calls it applies to; 0 for all.
    pub times: u32,
    /// The probability, from 0 to 1, that it applies to a matching call.
    pub chance: f64,
    /// Whether the call takes effect. An answer of `normal` implies it.
    pub takes_effect: bool,
    /// What the client sees.
    pub answer: InjectedAnswer,
    /// Time before the effect, on top of the latency. A client that disconnects does not cancel it.
    pub delay: LatencyRange,
    /// Time between the effect and the answer.
    pub answer_delay: LatencyRange,
}

impl Default for InjectedFault {
    fn default() -> Self {
        Self {
            session: ANY_SESSION.to_owned(),
            commands: vec![ApiCommand::Transfer],
            times: 1,
            chance: 1.0,
            takes_effect: false,
            answer: InjectedAnswer::Normal,
            delay: LatencyRange::default(),
            answer_delay: LatencyRange::default(),
        }
    }
}

/// What the client sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InjectedAnswer {
    /// What really happened.
    #[default]
    Normal,
    /// An `ErrorCode`, with HTTP 200.
    Error {
        /// The code.
        code: i64,
        /// The `ErrorInfo`; absent: the usual text for this code.
        #[serde(default)]
        info: Option<String>,
    },
    /// This HTTP status, without a body.
    Status {
        /// The status.
        status: u16,
        /// The header `Retry-After`, as seconds or as a date.
        #[serde(default)]
        retry_after: Option<String>,
        /// The header `Location`.
        #[serde(default)]
        location: Option<String>,
    },
    /// HTTP 200 with this text instead of the JSON.
    Body {
        /// The text.
        text: String,
        /// The header `Content-Type`.
        #[serde(default = "html")]
        content_type: String,
    },
    /// The answer of the effect, or a code, in an odd form.
    Odd {
        /// The form of the body.
        form: OddForm,
        /// The code; absent: what really happened.
        #[serde(default)]
        code: Option<i64>,
    },
    /// Nothing, until the client gives up.
    Hang,
    /// Nothing: the connection is closed.
    Close,
}

/// A staff change that is applied at a later call, as soon as one of its conditions holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduledStaffChange {
    /// After this many more transfer calls.
    pub after_transfers: Option<u64>,
    /// After this many milliseconds.
    pub after_ms: Option<u64>,
    /// The change.
    pub change: StaffChange,
}

/// A duration drawn at random between two bounds for each call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRange {
    /// Minimum, in milliseconds.
    pub min_ms: u64,
    /// Maximum, in milliseconds; absent or 0: the same as the minimum.
    #[serde(default)]
    pub max_ms: u64,
}

impl LatencyRange {
    /// Always this long.
    pub fn exactly(ms: u64) -> Self {
        Self { min_ms: ms, max_ms: ms }
    }

    /// Between the two bounds, inclusive.
    pub fn between(min_ms: u64, max_ms: u64) -> Self {
        Self { min_ms, max_ms }
    }

    /// Fails if the bounds are in the wrong order or above one hour.
    pub fn check(self) -> anyhow::Result<()> {
        let Self { min_ms, max_ms } = self;
        let is_ordered = max_ms == 0 || min_ms <= max_ms;
        ensure!(is_ordered, "min_ms {min_ms} is above max_ms {max_ms}");
        let longest = min_ms.max(max_ms);
        ensure!(longest <= LONGEST_MS, "{longest} ms is above {LONGEST_MS} ms (one hour)");
        Ok(())
    }

    pub(super) fn draw(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.u64(self.min_ms..=self.max_ms.max(self.min_ms)))
    }
}

impl ScheduledStaffChange {
    fn check(&self) -> anyhow::Result<()> {
        let has_condition = self.after_transfers.is_some() || self.after_ms.is_some();
        ensure!(has_condition, "it has no condition: give after_transfers or after_ms");
        self.change.check()
    }
}

pub(super) const ANY_SESSION: &str = "*";
const LONGEST_MS: u64 = 3_600_000;

impl InjectedFault {
    fn check(&self) -> anyhow::Result<()> {
        let chance = self.chance;
        ensure!((0.0..=1.0).contains(&chance), "chance is {chance}; it must be from 0 to 1");
        ensure!(!self.commands.is_empty(), "commands is empty, so it applies to no call");
        ensure!(!self.session.is_empty(), "session is empty, so it applies to no call");
        let none = LatencyRange::default();
        let changes_something = self.answer != InjectedAnswer::Normal
            || self.delay != none
            || self.answer_delay != none;
        ensure!(changes_something, "it changes nothing: give it an answer or a delay");
        if let InjectedAnswer::Odd { code: None, .. } = self.answer {
            ensure!(self.takes_effect, "an odd answer without a code needs takes_effect");
        }
        if let InjectedAnswer::Status { status, .. } = self.answer {
            ensure!(
                (200..=599).contains(&status),
                "status is {status}; it must be from 200 to 599"
            );
        }
        self.delay.check().context("delay")?;
        self.answer_delay.check().context("answer_delay")
    }
}

/// Builders. Each fault starts as: any session, transfers only, once.
impl InjectedFault {
    /// Returns a code, without effect.
    pub fn error(code: i64) -> Self {
        Self::answering(InjectedAnswer::Error { code, info: None })
    }

    /// Returns an HTTP status, without effect.
    pub fn status(status: u16) -> Self {
        Self::answering(InjectedAnswer::Status { status, retry_after: None, location: None })
    }

    /// Returns a text that is not the API's JSON, without effect.
    pub fn garbage(text: impl Into<String>) -> Self {
        Self::answering(InjectedAnswer::Body { text: text.into(), content_type: html() })
    }

    /// Takes effect and answers in an odd form.
    pub fn odd(form: OddForm) -> Self {
        Self::answering(InjectedAnswer::Odd { form, code: None }).with_effect()
    }

    /// Never answers, without effect.
    pub fn hang() -> Self {
        Self::answering(InjectedAnswer::Hang)
    }

    /// Closes the connection, without effect.
    pub fn close() -> Self {
        Self::answering(InjectedAnswer::Close)
    }

    /// Takes effect, then closes the connection.
    pub fn lost_answer() -> Self {
        Self::close().with_effect()
    }

    /// Takes effect and answers normally, but later.
    pub fn slow(delay: LatencyRange) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Gives this answer, without effect.
    pub fn answering(answer: InjectedAnswer) -> Self {
        Self { answer, ..Self::default() }
    }

    /// Lets the call take effect.
    #[must_use]
    pub fn with_effect(self) -> Self {
        Self { takes_effect: true, ..self }
    }

    /// Limits the fault to one session.
    #[must_use]
    pub fn session(self, id: impl Into<String>) -> Self {
        Self { session: id.into(), ..self }
    }

    /// Replaces the commands it applies to.
    #[must_use]
    pub fn commands(self, commands: &[ApiCommand]) -> Self {
        Self { commands: commands.to_vec(), ..self }
    }

    /// Applies to this many calls; 0 for all.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Applies to a matching call with this probability.
    #[must_use]
    pub fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }

    /// Delays the effect and the answer.
    #[must_use]
    pub fn delayed(self, delay: LatencyRange, answer_delay: LatencyRange) -> Self {
        Self { delay, answer_delay, ..self }
    }

    pub(super) fn has_effect(&self) -> bool {
        self.takes_effect || self.answer == InjectedAnswer::Normal
    }
}

fn html() -> String {
    "text/html".to_owned()
}
