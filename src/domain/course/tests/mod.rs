//! The proof of `Course`: one driver for tables, properties and a model of Desk.
//!
//! `drive` walks a course as the shell does, on a clock of its own, with the gate's waits, and
//! checks after every step what must hold on every walk (`Watch`).
//! No test here ever sleeps or reads a clock.

mod doubts;
mod model;
mod patience;
mod properties;
mod table;
mod words;

use std::time::Duration;

use jiff::Timestamp;

use self::words::{Script, event, shown};
use super::{Call, Course, Moment, Notice, Policy, Step, Tell};
use crate::domain::event::Event;
use crate::domain::outcome::{ConfirmedBy, Outcome, Status};
use crate::domain::pace::Backoff;
use crate::domain::reply::{Desk, Reply};
use crate::domain::request::Command;
use crate::domain::route::Routes;
use crate::domain::verdict::{Class, Finding, Verdicts};

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
    fn call(&mut self, command: Command, body: &[u8], now: Timestamp) -> Option<(Reply, Duration)>;
    fn jitter(&mut self) -> f64 {
        1.0
    }
}

/// What was seen on a walk, in order.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Called(Command, Vec<u8>),
    Waited(Duration),
    Parked(Duration),
    Told(Tell),
    Noticed(Notice),
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
            Step::Tell(tell) => {
                assert_eq!(course.next(now), Step::Tell(tell.clone()), "until it is told");
                watch.told(&tell, &course);
                course.told();
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
                let call = Call { command, begun: now, reply };
                now += took;
                let heard = course.heard(&call, Moment { now, jitter: world.jitter() });
                watch.heard(&call, &heard.notice);
                watch.signature(&call, &heard.notice, (now, course.signature_after()));
                open_at = match heard.notice {
                    Notice::Closed(_) => now + MS(5_000),
                    Notice::Slow(pause) => now + pause.unwrap_or(MS(1_000)),
                    _ => now,
                };
                seen.push(Seen::Noticed(heard.notice));
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
    desk: Option<Desk>,
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

    fn called(&self, command: Command, now: Timestamp, course: &Course<'_>) {
        assert!(self.event.ask.is_ok(), "an invalid event is never called for");
        match command {
            Command::TransferToHuman => {
                assert!(!self.doubtful || self.cannot_ask, "a transfer in doubt");
                assert!(now < self.event.deadline, "a transfer past the deadline");
                assert!(!course.in_doubt());
            }
            Command::GetSessionState => {
                assert!(self.doubtful, "an idle question");
                assert!(!self.cannot_ask, "asked where it cannot be asked");
                assert!(now >= self.busy_until, "asked while Desk may still be at work");
                assert!(now < self.event.deadline + self.policy.doubt_grace);
                assert!(course.in_doubt());
            }
        }
    }

    fn heard(&mut self, call: &Call, notice: &Notice) {
        match call.command {
            Command::TransferToHuman => self.transferred(call, notice),
            Command::GetSessionState => match self.policy.verdicts.of_question(&call.reply) {
                Finding::State(..) => self.doubtful = false,
                Finding::CannotAsk(_) => self.cannot_ask = true,
                Finding::Unclear(_) => {}
            },
        }
        self.resigns = if *notice == Notice::Resigning { self.resigns + 1 } else { 0 };
        assert!(self.resigns <= 1, "signed again twice in a row");
    }

    /// A bad signature is never used again, and for each probe of a wrong set-up the key is read.
    fn signature(
        &mut self,
        call: &Call,
        notice: &Notice,
        (now, after): (Timestamp, Option<Timestamp>),
    ) {
        assert!(after >= self.signature_after, "an old signature again");
        self.signature_after = after;
        let code = call.reply.answer().map(|answer| answer.desk.code);
        match (notice, &call.reply) {
            (Notice::Resigning, _) => assert!(after >= Some(call.begun)),
            (Notice::Closed(_), Reply::Http { .. }) => {}
            (Notice::Closed(_), _) => assert_eq!(after, Some(now)),
            (Notice::Slow(_), _) if code == Some(70050) => assert_eq!(after, Some(now)),
            _ => {}
        }
    }

    fn transferred(&mut self, call: &Call, notice: &Notice) {
        let verdict = self.policy.verdicts.of_transfer(&call.reply);
        self.sent += u32::from(!matches!(call.reply, Reply::NotSent(_) | Reply::Unsigned(_)));
        self.doubtful |= verdict.ambiguous || verdict.class == Class::Occupied;
        // Desk looked for an agent and found none: the session is with the bot.
        self.doubtful &= verdict.class != Class::NoAgent;
        if verdict.ambiguous && call.reply.answer().is_none() {
            self.busy_until = call.begun + self.policy.settle;
        }
        match &call.reply {
            Reply::Answer(answer) => self.desk = Some(answer.desk.clone()),
            _ => assert_ne!(*notice, Notice::Fine, "silence is not fine"),
        }
    }

    fn told(&mut self, tell: &Tell, course: &Course<'_>) {
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
