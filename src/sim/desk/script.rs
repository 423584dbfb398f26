//! What the simulated Desk is told to do wrong, and when.
//!
//! An act has two sides that do not depend on each other: whether the call *takes effect*, and
//! what the client *gets to see*. A lost answer is an effect without an answer; a refused call is
//! an answer without an effect. Scripts are plain JSON, and a misspelt word in one is an error. This
//! file is data only: it never decides which call an act meets, and never performs one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::agents::Staffing;
use super::stats::Command;

/// A batch of instructions: the body of `POST /sim/script` and of a script file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Acts, added behind those that are waiting already.
    pub acts: Vec<Act>,
    /// Changes of the staff that happen later.
    pub shifts: Vec<Shift>,
    /// Calls per command in any one second, above which 60007 is answered; 0 lifts the limit.
    pub limit_per_second: Option<u32>,
    /// The usual latency of every call from now on.
    pub latency: Option<Span>,
}

impl Script {
    /// Read one; each number must be one that it can be.
    pub fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let script: Self = serde_json::from_slice(json)?;
        for (number, act) in (1..).zip(&script.acts) {
            act.check().with_context(|| format!("act {number}"))?;
        }
        script.latency.unwrap_or_default().check().context("latency")?;
        Ok(script)
    }
}

impl From<Act> for Script {
    fn from(act: Act) -> Self {
        Self { acts: vec![act], ..Self::default() }
    }
}

/// One deviation from the normal course.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Act {
    /// The session it is for; `*` for any.
    pub session: String,
    /// The commands it is for.
    pub commands: Vec<Command>,
    /// For how many calls it is good; 0 for ever.
    pub times: u32,
    /// The part of the calls it strikes, from 0 to 1; the others pass it by.
    pub chance: f64,
    /// Whether the call does what it asks for. An answer of `normal` implies it.
    pub takes_effect: bool,
    /// What the client gets to see.
    pub answer: Answer,
    /// Time before the effect, on top of the usual latency. The client's leaving does not stop it.
    pub delay: Span,
    /// Time between the effect and the answer.
    pub answer_delay: Span,
}

impl Default for Act {
    fn default() -> Self {
        Self {
            session: ANY_SESSION.to_owned(),
            commands: vec![Command::Transfer],
            times: 1,
            chance: 1.0,
            takes_effect: false,
            answer: Answer::Normal,
            delay: Span::default(),
            answer_delay: Span::default(),
        }
    }
}

/// What the client gets to see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The truth.
    #[default]
    Normal,
    /// An `ErrorCode`, with HTTP 200.
    Error {
        /// The code.
        code: i64,
        /// The `ErrorInfo`; absent: a usual text for this code.
        #[serde(default)]
        info: Option<String>,
    },
    /// Another HTTP status.
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
    /// HTTP 200 with this text in place of the JSON.
    Body {
        /// The text.
        text: String,
        /// The header `Content-Type`.
        #[serde(default = "html")]
        content_type: String,
    },
    /// Nothing, for as long as the client waits.
    Hang,
    /// Nothing: the connection is closed.
    Close,
}

/// A change of the staff that happens at a later call; whichever condition comes first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shift {
    /// After so many more transfers were asked for.
    pub after_transfers: Option<u64>,
    /// After so many milliseconds.
    pub after_ms: Option<u64>,
    /// The change.
    pub staffing: Staffing,
}

/// A time between two bounds, drawn anew for each call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The least, in milliseconds.
    pub min_ms: u64,
    /// The most, in milliseconds; absent or 0: exactly the least.
    #[serde(default)]
    pub max_ms: u64,
}

impl Span {
    /// Always the same.
    pub fn exactly(ms: u64) -> Self {
        Self { min_ms: ms, max_ms: ms }
    }

    /// Anything between the two.
    pub fn between(min_ms: u64, max_ms: u64) -> Self {
        Self { min_ms, max_ms }
    }

    /// Whether it is one: not the wrong way round, and short enough that somebody waits for it.
    pub fn check(self) -> anyhow::Result<()> {
        let Self { min_ms, max_ms } = self;
        let is_span = max_ms == 0 || min_ms <= max_ms;
        ensure!(is_span, "min_ms is {min_ms}, above max_ms, which is {max_ms}");
        let longest = min_ms.max(max_ms);
        ensure!(longest <= LONGEST_MS, "{longest} ms is above {LONGEST_MS} ms, which is an hour");
        Ok(())
    }

    pub(super) fn draw(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.u64(self.min_ms..=self.max_ms.max(self.min_ms)))
    }
}

pub(super) const ANY_SESSION: &str = "*";
const LONGEST_MS: u64 = 3_600_000;

impl Act {
    fn check(&self) -> anyhow::Result<()> {
        let chance = self.chance;
        ensure!((0.0..=1.0).contains(&chance), "chance is {chance}; it goes from 0 to 1");
        if let Answer::Status { status, .. } = self.answer {
            ensure!((200..=599).contains(&status), "status is {status}; it goes from 200 to 599");
        }
        self.delay.check().context("delay")?;
        self.answer_delay.check().context("answer_delay")
    }
}

/// Building acts in code. Each begins as: any session, transfers only, once.
impl Act {
    /// Answers with a code and does nothing.
    pub fn error(code: i64) -> Self {
        Self::answering(Answer::Error { code, info: None })
    }

    /// Answers with an HTTP status and does nothing.
    pub fn status(status: u16) -> Self {
        Self::answering(Answer::Status { status, retry_after: None, location: None })
    }

    /// Answers with a text that is not the API's JSON, and does nothing.
    pub fn garbage(text: impl Into<String>) -> Self {
        Self::answering(Answer::Body { text: text.into(), content_type: html() })
    }

    /// Answers nothing and does nothing.
    pub fn hang() -> Self {
        Self::answering(Answer::Hang)
    }

    /// Closes the connection and does nothing.
    pub fn close() -> Self {
        Self::answering(Answer::Close)
    }

    /// Does what is asked for and closes the connection.
    pub fn lost_answer() -> Self {
        Self::close().with_effect()
    }

    /// The normal course, later than usual.
    pub fn slow(delay: Span) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Does nothing and answers so.
    pub fn answering(answer: Answer) -> Self {
        Self { answer, ..Self::default() }
    }

    /// The same, but the call does what it asks for.
    #[must_use]
    pub fn with_effect(self) -> Self {
        Self { takes_effect: true, ..self }
    }

    /// The same, for one session.
    #[must_use]
    pub fn session(self, id: impl Into<String>) -> Self {
        Self { session: id.into(), ..self }
    }

    /// The same, for these commands.
    #[must_use]
    pub fn commands(self, commands: &[Command]) -> Self {
        Self { commands: commands.to_vec(), ..self }
    }

    /// The same, for so many calls; 0 for ever.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// The same, for this part of the calls.
    #[must_use]
    pub fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }

    /// The same, taking effect or answering later.
    #[must_use]
    pub fn delayed(self, delay: Span, answer_delay: Span) -> Self {
        Self { delay, answer_delay, ..self }
    }

    pub(super) fn really_acts(&self) -> bool {
        self.takes_effect || self.answer == Answer::Normal
    }
}

fn html() -> String {
    "text/html".to_owned()
}
