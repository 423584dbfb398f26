//! The proof of `Course`: one driver for tables, properties and a model of Desk.
//!
//! `drive` walks a course as the shell does, on a clock of its own, with the gate's waits, and
//! checks after every step what must hold on every walk (`Watch`).
//! No test here ever sleeps or reads a clock.

mod in_doubt;
mod model;
mod no_agent;
mod properties;
mod table;
mod words;

use std::time::Duration;

use jiff::Timestamp;

use self::words::{Script, event, shown};
use super::{CompletedCall, Course, InterimOutcome, Moment, Policy, Signal, Step};
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
        backoff: Backoff::new(MS(200), MS(10_000)).unwrap(),
        quick_attempts: 4,
        park: vec![MS(30_000), MS(60_000)],
        settle: MS(3_000),
        doubt_grace: MS(60_000),
        default_target: true,
        routes: Routes::default(),
    }
}

#[track_caller]
fn check(words: &str, replies: &str, expected: &str) {
    check_by(&policy(), words, replies, expected);
}

#[track_caller]
fn check_by(policy: &Policy, words: &str, replies: &str, expected: &str) {
    let walked = drive(&event(words), policy, &mut Script::new(replies));
    assert_eq!(shown(&walked), expected, "\nevent: {words}\nreplies: {replies}");
}

/// The reason must contain these words, the list of what was tried must be this.
#[track_caller]
fn check_told(words: &str, replies: &str, (reason, tried): (&str, &str)) {
    let outcome = drive(&event(words), &policy(), &mut Script::new(replies)).outcome;
    let told = outcome.reason.unwrap_or_default();
    assert!(told.contains(reason), "{told:?}\nevent: {words}\nreplies: {replies}");
    assert_eq!(serde_json::to_string(&outcome.tried).unwrap(), tried);
}

/// Desk and chance, as a walk meets them.
trait World {
    /// The reply and how long it takes; `None`: the gate stays shut from now on.
    fn call(
        &mut self,
        command: DeskCommand,
        body: &[u8],
        now: Timestamp,
    ) -> Option<(Reply, Duration)>;
    fn jitter(&mut self) -> f64 {
        1.0
    }
}

/// What was seen on a walk, in order.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Called(DeskCommand, Vec<u8>),
    Waited(Duration),
    Parked(Duration),
    Told(InterimOutcome),
    Noticed(Signal),
    Held,
}

/// A whole walk.
#[derive(Debug)]
struct Walked {
    seen: Vec<Seen>,
    outcome: Outcome,
}

fn drive(event: &Event, policy: &Policy, world: &mut impl World) -> Walked {
    let mut course = Course::new(event, policy, START);
    let (mut now, mut open_at, mut seen) = (START, START, Vec::new());
    let mut watch = Watch::new(event, policy);
    for _ in 0..20_000 {
        assert!(now <= watch.last_end(), "too late: {now}");
        match course.next(now) {
            Step::Settle(outcome) => {
                watch.settled(&outcome);
                for later in [MS(0), MS(1), TIME_TO_LIVE * 2] {
                    assert_eq!(course.next(now + later), Step::Settle(outcome.clone()));
                }
                assert!(!course.in_doubt());
                return Walked { seen, outcome: *outcome };
            }
            Step::Wait(wait) => {
                now += wait;
                seen.push(Seen::Waited(wait));
            }
            Step::Park(wait) => {
                assert!(!course.in_doubt(), "put away in doubt");
                now += wait;
                seen.push(Seen::Parked(wait));
            }
            Step::PublishInterim(tell) => {
                assert_eq!(
                    course.next(now),
                    Step::PublishInterim(tell.clone()),
                    "until it is told"
                );
                watch.told(&tell, &course);
                course.on_interim_published();
                seen.push(Seen::Told(*tell));
            }
            Step::Call(command, body) => {
                assert_eq!(course.next(now), Step::Call(command, body.clone()), "told again");
                if open_at > now {
                    now = open_at.min(course.gives_up_at());
                    continue;
                }
                watch.called(command, now, &course);
                let Some((reply, took)) = world.call(command, &body, now) else {
                    now = course.gives_up_at();
                    seen.push(Seen::Held);
                    continue;
                };
                seen.push(Seen::Called(command, body));
                let call = CompletedCall { command, begun: now, reply };
                now += took;
                let heard = course.on_reply(&call, Moment { now, jitter: world.jitter() });
                watch.on_reply(&call, &heard.signal);
                watch.signature(&call, &heard.signal, (now, course.signature_after()));
                open_at = match heard.signal {
                    Signal::Misconfigured(_) => now + MS(5_000),
                    Signal::Throttled(pause) => now + pause.unwrap_or(MS(1_000)),
                    _ => now,
                };
                seen.push(Seen::Noticed(heard.signal));
            }
        }
    }
    panic!("it never settles");
}

/// What must hold on every walk, judged from the outside.
#[derive(Debug)]
struct Watch {
    event: Event,
    policy: Policy,
    /// A transfer may have happened and no state was told since.
    doubtful: bool,
    cannot_ask: bool,
    /// Desk may work until then on a call that got no answer.
    busy_until: Timestamp,
    sent: u32,
    desk: Option<DeskStatus>,
    signature_after: Option<Timestamp>,
    resigns: u32,
    told: bool,
}

impl Watch {
    fn new(event: &Event, policy: &Policy) -> Self {
        Self {
            event: event.clone(),
            policy: policy.clone(),
            doubtful: false,
            cannot_ask: false,
            busy_until: START,
            sent: 0,
            desk: None,
            signature_after: None,
            resigns: 0,
            told: false,
        }
    }

    fn last_end(&self) -> Timestamp {
        self.event.deadline.max(START) + self.policy.doubt_grace + LONGEST_CALL
    }

    fn called(&self, command: DeskCommand, now: Timestamp, course: &Course<'_>) {
        assert!(self.event.request.is_ok(), "an invalid event is never called for");
        match command {
            DeskCommand::TransferToHuman => {
                assert!(!self.doubtful || self.cannot_ask, "a transfer in doubt");
                assert!(now < self.event.deadline, "a transfer past the deadline");
                assert!(!course.in_doubt());
            }
            DeskCommand::GetSessionState => {
                assert!(self.doubtful, "an idle question");
                assert!(!self.cannot_ask, "asked where it cannot be asked");
                assert!(now >= self.busy_until, "asked while DeskStatus may still be at work");
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
                    StateQueryResult::State(..) => self.doubtful = false,
                    StateQueryResult::Unsupported(_) => self.cannot_ask = true,
                    StateQueryResult::Inconclusive(_) => {}
                }
            }
        }
        self.resigns = if *signal == Signal::Reauthenticating { self.resigns + 1 } else { 0 };
        assert!(self.resigns <= 1, "signed again twice in a row");
    }

    /// A bad signature is never used again, and for each probe of a wrong set-up the key is read.
    fn signature(
        &mut self,
        call: &CompletedCall,
        signal: &Signal,
        (now, after): (Timestamp, Option<Timestamp>),
    ) {
        assert!(after >= self.signature_after, "an old signature again");
        self.signature_after = after;
        let code = call.reply.answer().map(|answer| answer.desk.code);
        match (signal, &call.reply) {
            (Signal::Reauthenticating, _) => assert!(after >= Some(call.begun)),
            (Signal::Misconfigured(_), Reply::Http { .. }) => {}
            (Signal::Misconfigured(_), _) => assert_eq!(after, Some(now)),
            (Signal::Throttled(_), _) if code == Some(70050) => assert_eq!(after, Some(now)),
            _ => {}
        }
    }

    fn transferred(&mut self, call: &CompletedCall, signal: &Signal) {
        let verdict = self.policy.verdicts.of_transfer(&call.reply);
        self.sent += u32::from(!matches!(call.reply, Reply::NotSent(_) | Reply::Unsigned(_)));
        self.doubtful |= verdict.in_doubt || verdict.class == VerdictClass::Occupied;
        // Desk looked for an agent and found none: the session is with the bot.
        self.doubtful &= verdict.class != VerdictClass::NoAgent;
        if verdict.in_doubt && call.reply.answer().is_none() {
            self.busy_until = call.begun + self.policy.settle;
        }
        match &call.reply {
            Reply::Answer(answer) => self.desk = Some(answer.desk.clone()),
            _ => assert_ne!(*signal, Signal::Success, "silence is not fine"),
        }
    }

    fn told(&mut self, tell: &InterimOutcome, course: &Course<'_>) {
        assert!(!self.told, "a second interim outcome");
        assert!(!course.in_doubt() && !self.doubtful, "told in doubt");
        assert_eq!(tell.since, None, "nobody else could have told it");
        self.told = true;
    }

    fn settled(&self, outcome: &Outcome) {
        let good = matches!(outcome.status, Status::Assigned | Status::Queued);
        assert_eq!(outcome.attempts, self.sent, "transfers sent");
        assert_eq!(outcome.desk, self.desk, "the last answer to a transfer");
        assert_eq!(outcome.reason.is_none(), good, "{:?}", outcome.reason);
        assert_ne!(outcome.reason.as_deref(), Some(""));
        assert!(outcome.agent_id.is_none() || outcome.status == Status::Assigned);
        assert!(outcome.confirmed_by.is_some() || !good);
        assert_eq!(outcome.target.is_some(), self.sent > 0, "the target that was asked last");
        assert_ne!(outcome.tried.len(), 1, "one target is no cascade");
        if let Some(last) = outcome.tried.last() {
            assert_eq!(Some(&last.target), outcome.target.as_ref(), "the last one too");
        }
        match outcome.status {
            Status::Expired if self.sent == 0 => assert_eq!(outcome.confirmed_by, None),
            Status::Expired => {
                assert_eq!(outcome.confirmed_by, Some(ConfirmedBy::SessionState));
            }
            Status::Failed if self.doubtful => {
                let reason = outcome.reason.as_deref().unwrap_or_default();
                assert!(reason.contains("unknown"), "a doubt was forgotten: {reason}");
            }
            _ => {}
        }
    }
}
