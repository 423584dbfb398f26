//! What goes into a course and what comes out of it: the vocabulary between it and the shell.
//!
//! In: the `Policy` of every course, a `Moment`, a `CompletedCall` that came back. Out: the next `Step`,
//! and what was `Assessment`, with a `Signal` for the worker's gate.
//! This file never decides anything.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::backoff::Backoff;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::route::Routes;
use crate::domain::signal::Signal;
use crate::domain::verdict::Verdicts;
use crate::domain::wire::outcome::{Message, Outcome};

/// The rules of every course.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The table of codes.
    pub verdicts: Verdicts,
    /// Waits between quick attempts.
    pub backoff: Backoff,
    /// Attempts before an event is parked; at least 1.
    pub quick_attempts: u32,
    /// Waits between bursts of quick attempts; the last repeats. Empty: no second burst.
    pub park: Vec<Duration>,
    /// So long Desk itself may still be working on a call that got no answer.
    pub settle: Duration,
    /// So long past the deadline a doubtful call is still asked after.
    pub doubt_grace: Duration,
    /// Whether Desk's default allocation may end the plan.
    pub default_target: bool,
    /// What escalations get by what they say of themselves.
    pub routes: Routes,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this call with this body.
    Call(DeskCommand, Vec<u8>),
    /// Wait a little; the event stays in hand.
    Wait(Duration),
    /// Wait long; the event may be put away meanwhile.
    Park(Duration),
    /// Nobody is online yet: write down what the course remembers, then publish this, once.
    PublishInterim(Box<InterimOutcome>),
    /// This is the final answer.
    Settle(Box<Outcome>),
}

/// An interim outcome to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterimOutcome {
    /// The record for the outcome topic.
    pub message: Message,
    /// An earlier life wrote it down then, and may have published it; `None`: nobody did.
    pub since: Option<Timestamp>,
}

/// The time, and a fresh random number in 0..1.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// Chance, for back-off.
    pub jitter: f64,
}

/// One call that was made, and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCall {
    /// Which call.
    pub command: DeskCommand,
    /// When it began.
    pub begun: Timestamp,
    /// What came back.
    pub reply: Reply,
}

/// What the course made of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The word for the metric.
    pub verdict: &'static str,
    /// For the gate.
    pub signal: Signal,
}
