//! The vocabulary between a course and its caller: rules and replies in, steps and assessments out.

use std::time::Duration;

use jiff::Timestamp;

use super::retry::RetryPolicy;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::route::Routes;
use crate::domain::signal::Signal;
use crate::domain::verdict::Verdicts;
use crate::domain::wire::Message;
use crate::domain::wire::outcome::Outcome;
use crate::domain::wire::outcome_format::OutcomeFormat;

/// The rules that all courses share.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The table of codes.
    pub verdicts: Verdicts,
    /// What follows a fault.
    pub retry: RetryPolicy,
    /// How long Desk may still be working on a call that got no answer, from its start.
    pub settle_time: Duration,
    /// How long after the deadline a call in doubt is still reconciled.
    pub doubt_grace: Duration,
    /// Whether Desk's default allocation may be the last target of a plan.
    pub default_target: bool,
    /// Targets, priority and options by the attributes of an escalation.
    pub routes: Routes,
    /// How outcomes are written.
    pub outcome_format: OutcomeFormat,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this call with this body, and report the reply with [`Course::on_reply`](super::Course::on_reply).
    Call(DeskCommand, Vec<u8>),
    /// Wait for seconds at most; the event stays claimed.
    Wait(Duration),
    /// Park the event in the ledger for this time.
    Park(Duration),
    /// Nobody of the plan is online: park the event until its plan may be tried again, after this
    /// time or when another event of the same plan finds an agent.
    AwaitAgent(Duration),
    /// Nobody is online yet. Store the [`Snapshot`](super::Snapshot), publish this, then call
    /// [`Course::on_interim_published`](super::Course::on_interim_published).
    PublishInterim(Box<InterimOutcome>),
    /// The final outcome.
    Settle(Box<Outcome>),
}

/// An interim outcome to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterimOutcome {
    /// The record for the outcome topic.
    pub message: Message,
    /// When a previous incarnation stored it. It may have been published since then, so the topic has
    /// to be searched first. `None`: it is new.
    pub since: Option<Timestamp>,
}

/// A call and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCall {
    /// Which call.
    pub command: DeskCommand,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What came back.
    pub reply: Reply,
}

/// What the course concluded from a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The word for the metric and the log.
    pub verdict: &'static str,
    /// The call was a transfer that may have taken effect although its reply does not say so.
    pub in_doubt: bool,
    /// What the reply says about the service as a whole, for the gate.
    pub signal: Signal,
}
