//! The journey of one event: what came back so far, and therefore the next step.
//!
//! The shell performs a `Step`, tells the course what came back, and asks again, until
//! `Settle`. Here is the walk and what a transfer's reply does to it; `fault` holds what may
//! pass, `doubt` what may have happened, `patience` what follows when nobody is online, `ending`
//! how the final answer is put together.
//! No file here ever reads a clock, draws a number, or forgets a doubt.

mod in_doubt;
mod no_agent;
mod retry;
mod settlement;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

pub use self::snapshot::Snapshot;
pub use self::step::{Assessment, CompletedCall, InterimOutcome, Moment, Policy, Step};

use self::in_doubt::InDoubt;
use self::no_agent::Interim;
use self::retry::{Attempts, RetryAction};
use self::settlement::Settlement;
use super::event::Event;
use super::plan::Plan;
use super::reply::{DeskStatus, Reply};
use super::request::{self, DeskCommand};
use super::route::Route;
use super::signal::Signal;
use super::verdict::{Verdict, VerdictClass};
use super::wire::outcome::{ConfirmedBy, Outcome, Status, Tried};

/// The state of one journey.
#[derive(Debug)]
pub struct Course<'a> {
    event: &'a Event,
    policy: &'a Policy,
    /// The route it takes.
    route: Option<&'a Route>,
    /// When this worker took it up.
    begun: Timestamp,
    plan: Plan,
    /// The targets that were asked, and the last code each of them got.
    asked: Vec<Tried>,
    /// The plan stepped on, and its target was not asked yet.
    stepped: bool,
    /// How often nobody of the whole plan was online, and it was tried again.
    rounds: usize,
    /// The interim outcome, once there is one.
    interim: Option<Interim>,
    /// Transfers sent.
    attempts: u32,
    /// The last reply to a transfer.
    last: Option<Verdict>,
    /// The last answer to a transfer.
    desk: Option<DeskStatus>,
    /// What the last transfer left open; while this is set, no other is made.
    doubt: Option<InDoubt>,
    /// What follows once the doubt is gone.
    owed: Option<RetryAction>,
    /// Session states cannot be asked, and why.
    cannot_ask: Option<String>,
    /// A transfer may have happened, it cannot be asked, and no later answer cleared it up.
    unverified: bool,
    /// A signature made before this is not good enough.
    signature_after: Option<Timestamp>,
    /// A new signature was asked for, and nothing shows yet that it is a good one.
    resigned: bool,
    tries: Attempts,
    pause: Option<Step>,
    settled: Option<Box<Outcome>>,
}

impl<'a> Course<'a> {
    /// The journey of an event that nothing was done for yet.
    pub fn new(event: &'a Event, policy: &'a Policy, now: Timestamp) -> Self {
        let route = event.request.as_ref().ok().and_then(|ask| policy.routes.find(&ask.attributes));
        let requested_target =
            event.request.as_ref().map(|ask| ask.requested_target.clone()).unwrap_or_default();
        let mut course = Self {
            event,
            policy,
            route,
            begun: now,
            plan: Plan::new(&requested_target, route, policy.default_target),
            asked: Vec::new(),
            stepped: true,
            rounds: 0,
            interim: None,
            attempts: 0,
            last: None,
            desk: None,
            doubt: None,
            owed: None,
            cannot_ask: None,
            unverified: false,
            signature_after: None,
            resigned: false,
            tries: Attempts::default(),
            pause: None,
            settled: None,
        };
        if let Err(problem) = &event.request {
            course.settle(Settlement::new(Status::Rejected).because(problem), now);
        }
        course
    }

    /// What to do now. A wait is told once; a call and the final answer are told again when
    /// asked again, the interim outcome until it is told.
    pub fn next(&mut self, now: Timestamp) -> Step {
        // A clock that was set back brings no deadline back.
        let now = now.max(self.begun);
        self.judge_deadline(now);
        if let Some(outcome) = &self.settled {
            return Step::Settle(outcome.clone());
        }
        if let Some(tell) = self.to_tell() {
            return tell;
        }
        if let Some(pause) = self.pause.take() {
            return self.until_given_up(pause, now);
        }
        if self.doubt.is_some() {
            let body = request::session_state(&self.event.session_id);
            return Step::Call(DeskCommand::GetSessionState, body);
        }
        self.transfer(now)
    }

    /// A transfer may be out whose effect is not known yet.
    pub fn in_doubt(&self) -> bool {
        self.doubt.is_some() && self.settled.is_none()
    }

    /// It has its answer.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// When waiting for anything stops making sense. Whoever takes up a doubt late still gets
    /// the whole time of grace to ask.
    pub fn gives_up_at(&self) -> Timestamp {
        let deadline = self.event.deadline;
        if !self.in_doubt() {
            return deadline;
        }
        let from = deadline.max(self.begun);
        from.saturating_add(self.policy.doubt_grace).unwrap_or(Timestamp::MAX)
    }

    /// A signature made before this moment is not good enough for the next call.
    pub fn signature_after(&self) -> Option<Timestamp> {
        self.signature_after
    }

    /// A call came back.
    pub fn on_reply(&mut self, call: &CompletedCall, moment: Moment) -> Assessment {
        match call.command {
            DeskCommand::TransferToHuman => self.transferred(call, moment),
            DeskCommand::GetSessionState => self.questioned(call, moment),
        }
    }

    fn transfer(&mut self, now: Timestamp) -> Step {
        match request::transfer(&self.event.session_id, &self.ask(), self.plan.current()) {
            Ok(body) => Step::Call(DeskCommand::TransferToHuman, body),
            Err(too_large) => {
                let reason = format!(
                    "the request would have {} bytes; DeskStatus allows {} (93000): name fewer agents",
                    too_large.bytes,
                    request::MAX_BODY_BYTES
                );
                self.settle(Settlement::new(Status::Rejected).because(reason), now);
                self.next(now)
            }
        }
    }

    fn until_given_up(&self, pause: Step, now: Timestamp) -> Step {
        let left = Duration::try_from(self.gives_up_at().duration_since(now)).unwrap_or_default();
        match pause {
            Step::Wait(wait) => Step::Wait(wait.min(left)),
            Step::Park(wait) => Step::Park(wait.min(left)),
            other => other,
        }
    }

    fn transferred(&mut self, call: &CompletedCall, moment: Moment) -> Assessment {
        let verdict = self.policy.verdicts.of_transfer(&call.reply);
        self.take_down(&call.reply, &verdict);
        let class = verdict.class;
        let signal = match class {
            VerdictClass::Assigned | VerdictClass::Queued => {
                self.succeeded(class, &call.reply, moment.now)
            }
            VerdictClass::NoAgent => self.next_target(&verdict, moment.now),
            VerdictClass::Occupied => self.occupied(&verdict, moment.now),
            VerdictClass::Rejected => self.rejected(&verdict, moment.now),
            VerdictClass::Transient => self.fault(&verdict, call, moment),
            VerdictClass::Throttled | VerdictClass::Resign | VerdictClass::Misconfigured => {
                self.hindered(&verdict, call.begun, moment)
            }
        };
        let silent = signal == Signal::Success && call.reply.answer().is_none();
        let signal = if silent { Signal::NoResponse(verdict.text) } else { signal };
        Assessment { verdict: class.as_str(), signal }
    }

    fn take_down(&mut self, reply: &Reply, verdict: &Verdict) {
        if reply.was_sent() {
            self.attempts += 1;
            match self.asked.last_mut() {
                Some(target) if !self.stepped => target.code = verdict.code.or(target.code),
                _ => {
                    if self.plan.steps() == 0 {
                        // A new round: what is told is the last one.
                        self.asked.clear();
                    }
                    let target = self.plan.current().clone();
                    self.asked.push(Tried { target, code: verdict.code });
                }
            }
            self.stepped = false;
        }
        if let Some(answer) = reply.answer() {
            self.desk = Some(answer.desk.clone());
        }
        self.note_signature(reply, verdict.class);
        self.last = Some(verdict.clone());
    }

    fn succeeded(&mut self, class: VerdictClass, reply: &Reply, now: Timestamp) -> Signal {
        let ending = match class {
            VerdictClass::Queued => Settlement::new(Status::Queued),
            _ => Settlement::assigned(reply.answer().and_then(|answer| answer.agent_id.clone())),
        };
        self.settle(ending.by(ConfirmedBy::Reply), now);
        Signal::Success
    }

    fn next_target(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        // Desk looked for an agent: the session is not with one.
        self.unverified = false;
        self.tries.new_target();
        self.stepped = self.plan.advance();
        if !self.stepped {
            self.nobody_online(verdict, now);
        }
        Signal::Success
    }

    fn rejected(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        let unknown = "an earlier call may have taken effect, which cannot be asked here";
        let reason = match &self.cannot_ask {
            Some(why) if self.unverified => format!("{}; {unknown} ({why})", verdict.text),
            _ => verdict.text.clone(),
        };
        let ending = Settlement::new(Status::Rejected).by(ConfirmedBy::Reply);
        self.settle(ending.because(reason), now);
        Signal::Success
    }
}
