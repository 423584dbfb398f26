//! What would be done with a record, and why.
//!
//! Nothing is decided here: the record is read by [`decode_with`], and an event goes through its
//! [`Course`], with the answer that nobody is online after each call. So it asks for every call of its
//! plan, and says what follows then. `json` writes the result for programs.

mod json;

use std::time::Duration;

use jiff::Timestamp;

pub use self::json::object;

use super::course::{CompletedCall, Course, Policy, Step};
use super::event::{Event, Malformed};
use super::record::Record;
use super::reply::{DeskAnswer, DeskStatus, Reply};
use super::request::DeskCommand;
use super::route::{ExaminedRoute, OutsideHours};
use super::target::Target;
use super::wire::escalation::{DecodeRules, Decoded, decode_with};
use super::wire::outcome::Outcome;
use super::wire::reading::{ReadingStep, ReadingSteps, Skip};

/// What would be done with a record that is read at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// How it is read.
    pub steps: Vec<ReadingStep>,
    /// What it is.
    pub record: ExplainedRecord,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExplainedRecord {
    /// It is skipped and counted.
    NotForUs(Skip),
    /// It goes to the dead-letter topic.
    Malformed(Malformed),
    /// It is an escalation.
    Event(Box<ExplainedEvent>),
}

/// What would be done with an escalation.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedEvent {
    /// The escalation.
    pub event: Event,
    /// All routes, in their order; none if the escalation is invalid.
    pub routes: Vec<ExaminedRoute>,
    /// The opening hours of its route, where it has some.
    pub hours: Option<ExplainedHours>,
    /// The calls, each made if nobody was online for the one before.
    pub calls: Vec<ExplainedCall>,
    /// Whether an interim outcome is published after them.
    pub has_interim: bool,
    /// What follows if nobody is online for any of them, or instead of any call.
    pub ending: ExplainedEnding,
}

/// The opening hours of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedHours {
    /// Their name.
    pub name: String,
    /// What follows outside of them.
    pub outside: OutsideHours,
    /// Whether they are open.
    pub is_open: bool,
    /// When they open, where they are closed.
    pub opens_at: Option<Timestamp>,
}

/// A call of Desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedCall {
    /// Who is asked for.
    pub target: Target,
    /// The body, as it would be sent.
    pub body: Vec<u8>,
}

/// How the course of an escalation ends, or pauses, if nobody is online.
#[derive(Debug, Clone, PartialEq)]
pub enum ExplainedEnding {
    /// With its final outcome.
    Outcome(Box<Outcome>),
    /// All calls are made again after this wait.
    TriedAgain(Duration),
    /// It is parked for this time, until its route opens.
    Parked(Duration),
    /// No code of Desk means that nobody is online: the configuration has changed them all.
    NotKnown,
}

impl ExplainedEvent {
    /// Whether Desk would be called, now or when the route opens.
    pub fn is_called(&self) -> bool {
        !self.calls.is_empty() || matches!(self.ending, ExplainedEnding::Parked(_))
    }
}

/// A record to explain.
pub struct RecordToExplain {
    /// The record.
    pub record: Record,
    /// Whether its position is that of a record in Kafka.
    pub has_position: bool,
    /// When it is read.
    pub now: Timestamp,
}

/// What would be done, in one sentence.
pub struct Conclusion {
    /// A word of the JSON.
    pub word: &'static str,
    /// The sentence.
    pub text: String,
    /// Whether Desk would be called, now or when the route opens.
    pub is_called: bool,
}

impl Conclusion {
    /// Of an explanation.
    pub fn of(explanation: &Explanation) -> Self {
        let not_called = |word, text| Self { word, text, is_called: false };
        let event = match &explanation.record {
            ExplainedRecord::NotForUs(skip) => {
                return not_called("skipped", format!("skipped, it is not for us: {}", skip.why));
            }
            ExplainedRecord::Malformed(malformed) => {
                let (class, error) = (malformed.class.as_str(), &malformed.error);
                return not_called("dead_letter", format!("a dead letter ({class}): {error}"));
            }
            ExplainedRecord::Event(event) => event,
        };
        match (&event.ending, event.calls.len()) {
            (ExplainedEnding::Outcome(outcome), 0) => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                not_called("outcome", format!("the outcome {}, no call: {reason}", outcome.status))
            }
            (_, 0) => {
                let text = "parked until its route opens".to_owned();
                Self { word: "parked", text, is_called: event.is_called() }
            }
            (_, 1) => Self { word: "call", text: "Desk is called".to_owned(), is_called: true },
            (_, count) => {
                let text = format!("Desk is called, for up to {count} targets one after the other");
                Self { word: "call", text, is_called: true }
            }
        }
    }
}

/// Explains what would be done with a record that is received at `now`.
pub fn explain(
    record: &Record,
    rules: &DecodeRules,
    policy: &Policy,
    now: Timestamp,
) -> Explanation {
    let mut steps = ReadingSteps::kept();
    let decoded = decode_with(record, rules, now, &mut steps);
    let steps = steps.into_steps();
    let record = match decoded {
        Decoded::NotForUs(skip) => ExplainedRecord::NotForUs(skip),
        Decoded::Malformed(malformed) => ExplainedRecord::Malformed(malformed),
        Decoded::Event(event) => ExplainedRecord::Event(Box::new(explained(*event, policy, now))),
    };
    Explanation { steps, record }
}

fn explained(event: Event, policy: &Policy, now: Timestamp) -> ExplainedEvent {
    let course = Course::new(&event, policy, now);
    let hours = course.route().and_then(|route| route.opening()).map(|opening| ExplainedHours {
        name: opening.hours.name.clone(),
        outside: opening.outside,
        is_open: opening.hours.is_open(now),
        opens_at: (!opening.hours.is_open(now)).then(|| opening.hours.opens_at(now)).flatten(),
    });
    let ExplainedCourse { calls, has_interim, ending } =
        run(course, policy.verdicts.no_agent_code(), now);
    let request = event.request.as_ref();
    let routes = request.map(|request| policy.routes.examine(request, now)).unwrap_or_default();
    ExplainedEvent { routes, hours, calls, has_interim, ending, event }
}

struct ExplainedCourse {
    calls: Vec<ExplainedCall>,
    has_interim: bool,
    ending: ExplainedEnding,
}

/// Runs a course whose calls are all answered with this code.
fn run(mut course: Course<'_>, nobody_online: Option<i64>, now: Timestamp) -> ExplainedCourse {
    let (mut calls, mut has_interim) = (Vec::new(), false);
    let ending = loop {
        match course.next(now) {
            Step::Call(command @ DeskCommand::TransferToHuman, body) => {
                calls.push(ExplainedCall { target: course.plan().current().clone(), body });
                let Some(code) = nobody_online else { break ExplainedEnding::NotKnown };
                let desk = DeskStatus { code, ..DeskStatus::default() };
                let reply = Reply::Answer(DeskAnswer { desk, ..DeskAnswer::default() });
                let (started_at, finished_at) = (now, now);
                let call = CompletedCall { command, started_at, finished_at, reply };
                course.on_reply(&call, 0.0);
            }
            Step::PublishInterim(_) => {
                has_interim = true;
                course.on_interim_published();
            }
            Step::AwaitAgent(wait) => break ExplainedEnding::TriedAgain(wait),
            Step::Park(wait) => break ExplainedEnding::Parked(wait),
            Step::Settle(outcome) => break ExplainedEnding::Outcome(outcome),
            // A course without faults and doubts takes no such step.
            Step::Call(DeskCommand::GetSessionState, _) | Step::Wait(_) => {
                break ExplainedEnding::NotKnown;
            }
        }
    };
    ExplainedCourse { calls, has_interim, ending }
}
