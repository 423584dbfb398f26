//! The proof of [`Course`]: one driver for tables, properties and a model of Desk.
//!
//! [`drive`] takes a course from its start to its outcome, with a clock of its own and with the waits
//! of the gate. After every step, [`Invariants`] checks what must hold for every course. The tables
//! (`table`, `in_doubt`, `no_agent`) are written in the short words of `words`.

mod given_up;
mod in_doubt;
mod isolated;
mod model;
mod no_agent;
mod opening;
mod properties;
mod table;
mod words;

use std::time::Duration;

use jiff::Timestamp;

use self::words::{ReplyScript, event, shown};
use super::{CompletedCall, Course, InterimOutcome, Policy, RetryPolicy, Signal, Step};
use crate::domain::backoff::Backoff;
use crate::domain::event::Event;
use crate::domain::reply::{DeskStatus, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::route::Routes;
use crate::domain::verdict::{StateQueryResult, VerdictClass, Verdicts};
use crate::domain::wire::outcome::{ConfirmedBy, Outcome, Status};

const MS: fn(u64) -> Duration = Duration::from_millis;
const TIME_TO_LIVE: Duration = Duration::from_secs(600);
const LONGEST_CALL: Duration = Duration::from_secs(5);
const START: Timestamp = Timestamp::constant(1_795_428_000, 0);

fn policy() -> Policy {
    Policy {
        verdicts: Verdicts::default(),
        retry: RetryPolicy {
            backoff: Backoff::new(MS(200), MS(10_000)).unwrap(),
            quick_attempts: 4,
            park: vec![MS(30_000), MS(60_000)],
        },
        settle_time: MS(3_000),
        doubt_grace: MS(60_000),
        default_target: true,
        routes: Routes::default(),
        outcome_format: crate::domain::wire::outcome_format::OutcomeFormat::Native,
    }
}

/// The policy with another number of quick attempts and other parks (in ms).
fn policy_with(quick_attempts: u32, park: &[u64]) -> Policy {
    let park = park.iter().map(|ms| MS(*ms)).collect();
    let policy = policy();
    Policy { retry: RetryPolicy { quick_attempts, park, ..policy.retry.clone() }, ..policy }
}

#[track_caller]
fn check(words: &str, replies: &str, expected: &str) {
    check_with(&policy(), words, replies, expected);
}

#[track_caller]
fn check_with(policy: &Policy, words: &str, replies: &str, expected: &str) {
    let driven = drive(&event(words), policy, &mut ReplyScript::new(replies));
    assert_eq!(shown(&driven), expected, "\nevent: {words}\nreplies: {replies}");
}

/// Checks that the outcome's reason contains `reason` and that its `tried` is exactly `tried`.
#[track_caller]
fn check_reported(words: &str, replies: &str, reason: &str, tried: &str) {
    let outcome = drive(&event(words), &policy(), &mut ReplyScript::new(replies)).outcome;
    let actual = outcome.reason.unwrap_or_default();
    assert!(actual.contains(reason), "{actual:?}\nevent: {words}\nreplies: {replies}");
    assert_eq!(serde_json::to_string(&outcome.tried).unwrap(), tried);
}

/// Desk and the random numbers, as a course meets them.
trait DeskDouble {
    /// The reply and its duration; `None`: the gate stays shut from now on.
    fn call(
        &mut self,
        command: DeskCommand,
        body: &[u8],
        now: Timestamp,
    ) -> Option<(Reply, Duration)>;
    fn jitter(&mut self) -> f64 {
        1.0
    }
    /// Whether the gate finds that Desk refuses this session only.
    fn refuses_only_this_session(&self) -> bool {
        false
    }
}

/// What the driver observed, in order.
#[derive(Debug, Clone, PartialEq)]
enum Observed {
    Called(DeskCommand, Vec<u8>),
    Waited(Duration),
    Parked(Duration),
    Published(InterimOutcome),
    Signalled(Signal),
    Held,
}

/// A course from its start to its outcome.
#[derive(Debug)]
struct Driven {
    observed: Vec<Observed>,
    outcome: Outcome,
}

fn drive(event: &Event, policy: &Policy, desk: &mut impl DeskDouble) -> Driven {
    let mut course = Course::new(event, policy, START);
    let (mut now, mut open_at, mut observed) = (START, START, Vec::new());
    let mut invariants = Invariants::new(event, policy);
    for _ in 0..20_000 {
        assert!(now <= invariants.last_end(), "past the end: {now}");
        match course.next(now) {
            Step::Settle(outcome) => {
                invariants.settled(&outcome);
                for later in [MS(0), MS(1), TIME_TO_LIVE * 2] {
                    assert_eq!(course.next(now + later), Step::Settle(outcome.clone()));
                }
                assert!(!course.in_doubt());
                return Driven { observed, outcome: *outcome };
            }
            Step::Wait(wait) => {
                now += wait;
                observed.push(Observed::Waited(wait));
            }
            Step::Park(wait) | Step::AwaitAgent(wait) => {
                assert!(!course.in_doubt(), "parked in doubt");
                now += wait;
                observed.push(Observed::Parked(wait));
            }
            Step::PublishInterim(interim) => {
                assert_eq!(
                    course.next(now),
                    Step::PublishInterim(interim.clone()),
                    "until it is published"
                );
                invariants.on_interim(&interim, &course);
                course.on_interim_published();
                observed.push(Observed::Published(*interim));
            }
            Step::Call(command, body) => {
                assert_eq!(course.next(now), Step::Call(command, body.clone()), "returned again");
                if open_at > now {
                    now = open_at.min(course.gives_up_at());
                    continue;
                }
                invariants.called(command, now, &course);
                let Some((reply, took)) = desk.call(command, &body, now) else {
                    now = course.gives_up_at();
                    observed.push(Observed::Held);
                    continue;
                };
                observed.push(Observed::Called(command, body));
                let call =
                    CompletedCall { command, started_at: now, finished_at: now + took, reply };
                now += took;
                let assessment = course.on_reply(&call, desk.jitter());
                invariants.on_reply(&call, &assessment.signal);
                invariants.on_signature(&call, &assessment.signal, course.signature_after());
                open_at = match assessment.signal {
                    Signal::Misconfigured(_) if desk.refuses_only_this_session() => {
                        course.on_isolated_refusal(now, desk.jitter());
                        now
                    }
                    Signal::Misconfigured(_) => now + MS(5_000),
                    Signal::Throttled(pause) => now + pause.unwrap_or(MS(1_000)),
                    _ => now,
                };
                observed.push(Observed::Signalled(assessment.signal));
            }
        }
    }
    panic!("it never settles");
}

/// What must hold for every course, judged from the outside.
#[derive(Debug)]
struct Invariants {
    event: Event,
    policy: Policy,
    /// A transfer may have happened and no state was returned since.
    in_doubt: bool,
    state_query_unsupported: bool,
    /// Desk may work until then on a call that got no answer.
    busy_until: Timestamp,
    sent: u32,
    desk: Option<DeskStatus>,
    signature_after: Option<Timestamp>,
    reauthentications: u32,
    interim_published: bool,
}

impl Invariants {
    fn new(event: &Event, policy: &Policy) -> Self {
        Self {
            event: event.clone(),
            policy: policy.clone(),
            in_doubt: false,
            state_query_unsupported: false,
            busy_until: START,
            sent: 0,
            desk: None,
            signature_after: None,
            reauthentications: 0,
            interim_published: false,
        }
    }

    fn last_end(&self) -> Timestamp {
        self.event.deadline.max(START) + self.policy.doubt_grace + LONGEST_CALL
    }

    fn called(&self, command: DeskCommand, now: Timestamp, course: &Course<'_>) {
        assert!(self.event.request.is_ok(), "an invalid event is never called for");
        match command {
            DeskCommand::TransferToHuman => {
                assert!(!self.in_doubt || self.state_query_unsupported, "a transfer in doubt");
                assert!(now < self.event.deadline, "a transfer past the deadline");
                assert!(course.may_call(now), "a transfer outside the hours");
                assert!(!course.in_doubt());
            }
            DeskCommand::GetSessionState => {
                assert!(self.in_doubt, "a state query without a doubt");
                assert!(!self.state_query_unsupported, "queried where it is unsupported");
                assert!(now >= self.busy_until, "queried while Desk may still be at work");
                assert!(now < self.event.deadline + self.policy.doubt_grace);
                assert!(course.in_doubt());
            }
        }
    }

    fn on_reply(&mut self, call: &CompletedCall, signal: &Signal) {
        match call.command {
            DeskCommand::TransferToHuman => self.transferred(call, signal),
            DeskCommand::GetSessionState => {
                match self.policy.verdicts.of_state_query(&call.reply) {
                    StateQueryResult::State(..) => self.in_doubt = false,
                    StateQueryResult::Unsupported(_) => self.state_query_unsupported = true,
                    StateQueryResult::Inconclusive(_) => {}
                }
            }
        }
        self.reauthentications =
            if *signal == Signal::Reauthenticating { self.reauthentications + 1 } else { 0 };
        assert!(self.reauthentications <= 1, "reauthenticated twice in a row");
    }

    /// A bad signature is not used again, and each probe of a misconfiguration reads the key again.
    fn on_signature(&mut self, call: &CompletedCall, signal: &Signal, after: Option<Timestamp>) {
        assert!(after >= self.signature_after, "an old signature again");
        self.signature_after = after;
        let code = call.reply.answer().map(|answer| answer.desk.code);
        match (signal, &call.reply) {
            (Signal::Reauthenticating, _) => assert!(after >= Some(call.started_at)),
            (Signal::Misconfigured(_), Reply::Http { .. }) => {}
            (Signal::Misconfigured(_), _) => assert_eq!(after, Some(call.finished_at)),
            (Signal::Throttled(_), _) if code == Some(70050) => {
                assert_eq!(after, Some(call.finished_at))
            }
            _ => {}
        }
    }

    fn transferred(&mut self, call: &CompletedCall, signal: &Signal) {
        let verdict = self.policy.verdicts.of_transfer(&call.reply);
        self.sent += u32::from(!matches!(call.reply, Reply::NotSent(_) | Reply::Unsigned(_)));
        self.in_doubt |= verdict.in_doubt || verdict.class == VerdictClass::Occupied;
        // Desk looked for an agent and found none: the session is with the bot.
        self.in_doubt &= verdict.class != VerdictClass::NoAgent;
        if verdict.in_doubt && call.reply.answer().is_none() {
            self.busy_until = call.started_at + self.policy.settle_time;
        }
        match &call.reply {
            Reply::Answer(answer) => self.desk = Some(answer.desk.clone()),
            _ => assert_ne!(*signal, Signal::Success, "no answer is no success"),
        }
    }

    fn on_interim(&mut self, interim: &InterimOutcome, course: &Course<'_>) {
        assert!(!self.interim_published, "a second interim outcome");
        assert!(!course.in_doubt() && !self.in_doubt, "published in doubt");
        assert_eq!(interim.since, None, "no previous incarnation can have published it");
        self.interim_published = true;
    }

    fn settled(&self, outcome: &Outcome) {
        let succeeded = matches!(outcome.status, Status::Assigned | Status::Queued);
        assert_eq!(outcome.attempts, self.sent, "transfers sent");
        assert_eq!(outcome.desk, self.desk, "the last answer to a transfer");
        assert_eq!(outcome.reason.is_none(), succeeded, "{:?}", outcome.reason);
        assert_ne!(outcome.reason.as_deref(), Some(""));
        assert!(outcome.agent_id.is_none() || outcome.status == Status::Assigned);
        assert!(outcome.confirmed_by.is_some() || !succeeded);
        assert_eq!(outcome.target.is_some(), self.sent > 0, "the target of the last transfer");
        assert_ne!(outcome.tried.len(), 1, "one target is no cascade");
        if let Some(last) = outcome.tried.last() {
            assert_eq!(
                Some(&last.target),
                outcome.target.as_ref(),
                "the last target is listed too"
            );
        }
        match outcome.status {
            Status::Expired if self.sent == 0 => assert_eq!(outcome.confirmed_by, None),
            Status::Expired => {
                assert_eq!(outcome.confirmed_by, Some(ConfirmedBy::SessionState));
            }
            Status::Failed if self.in_doubt => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                assert!(reason.contains("unknown"), "the outcome hides a doubt: {reason}");
            }
            _ => {}
        }
    }
}
