//! The course of one event: what came back so far, and therefore the next step.
//!
//! `deliver` performs a [`Step`], reports the result, and asks for the next one until
//! [`Step::Settle`]. Everything here is a pure state machine: the time and the random number are
//! arguments, so a test can drive an event through hours in microseconds.
//!
//! Start with [`step`] (the vocabulary), then this file: the loop and what a transfer's reply does.
//! The rules are one file each: [`retry`] for faults, [`in_doubt`] for calls that may have taken
//! effect, [`no_agent`] for when nobody is online, [`opening`] for the hours of a route, [`deadline`]
//! for the end of the time to live.
//! [`settlement`] builds the final outcome, [`snapshot`] what the ledger stores of a course.

mod deadline;
mod in_doubt;
mod no_agent;
mod opening;
mod retry;
mod settlement;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

pub use self::no_agent::{Needs, needs};
pub use self::retry::RetryPolicy;
pub use self::snapshot::Snapshot;
pub use self::step::{Assessment, CompletedCall, InterimOutcome, Policy, Step};

use self::in_doubt::InDoubt;
use self::no_agent::Interim;
use self::retry::{Attempts, RetryAction};
use self::settlement::Settlement;
use super::event::Event;
use super::ledger_entry::GivenUp;
use super::plan::Plan;
use super::reply::{DeskStatus, Reply};
use super::request::{self, DeskCommand};
use super::route::{Route, RouteMatch};
use super::signal::{Attempt, Signal};
use super::verdict::{IfPersistent, Verdict, VerdictClass};
use super::wire::outcome::{ConfirmedBy, Outcome, Status, Tried};

/// The state of one event between its first look and its final outcome.
#[derive(Debug)]
pub struct Course<'a> {
    event: &'a Event,
    policy: &'a Policy,
    route: Option<&'a Route>,
    shadows: Vec<&'a Route>,
    /// When this process began with the event; a later clock reading before it is not believed.
    started_at: Timestamp,
    plan: Plan,
    /// The targets that were requested in this pass through the plan, with their last codes.
    tried: Vec<Tried>,
    /// The current target of the plan is not in `tried` yet.
    target_untried: bool,
    /// How often the whole plan was started again because nobody was online.
    plan_retries: usize,
    interim: Option<Interim>,
    /// The route is closed, and the event is parked until it opens.
    closed_until: Option<Timestamp>,
    /// An operator wants no further transfer.
    given_up: Option<GivenUp>,
    /// Transfers sent.
    transfers: u32,
    /// The verdict on the last transfer.
    last_verdict: Option<Verdict>,
    /// Desk's last answer to a transfer.
    last_answer: Option<DeskStatus>,
    /// Why the last transfer may have taken effect. While this is set, no other is made.
    in_doubt: Option<InDoubt>,
    /// What the last fault calls for, once the session's state shows that it had no effect.
    deferred_action: Option<RetryAction>,
    /// Why this deployment cannot answer state queries, once it is known that it cannot.
    state_query_unsupported: Option<String>,
    /// A transfer may have taken effect, it cannot be reconciled, and no later answer settled it.
    effect_unknown: bool,
    /// A signature made before this time is not good enough for the next call.
    signature_after: Option<Timestamp>,
    /// A new signature was requested and no answer has accepted it yet.
    reauthenticated: bool,
    attempts: Attempts,
    /// The first span of the event, as a `traceparent`: those of later bursts are linked to it.
    first_span: Option<String>,
    /// A wait or park that `next` has not returned yet.
    pause: Option<Step>,
    settled: Option<Box<Outcome>>,
}

impl<'a> Course<'a> {
    /// The course of an event that was never worked on. An invalid event is settled at once.
    pub fn new(event: &'a Event, policy: &'a Policy, now: Timestamp) -> Self {
        let request = event.request.as_ref();
        let found = request.map_or_else(|_| RouteMatch::default(), |r| policy.routes.find(r, now));
        let RouteMatch { route, shadows } = found;
        let requested_target =
            request.map(|request| request.requested_target.clone()).unwrap_or_default();
        let mut course = Self {
            event,
            policy,
            route,
            shadows,
            started_at: now,
            plan: Plan::new(&requested_target, route, policy.default_target),
            tried: Vec::new(),
            target_untried: true,
            plan_retries: 0,
            interim: None,
            closed_until: None,
            given_up: None,
            transfers: 0,
            last_verdict: None,
            last_answer: None,
            in_doubt: None,
            deferred_action: None,
            state_query_unsupported: None,
            effect_unknown: false,
            signature_after: None,
            reauthenticated: false,
            attempts: Attempts::default(),
            first_span: None,
            pause: None,
            settled: None,
        };
        if let Err(problem) = &event.request {
            course.settle(Settlement::new(Status::Rejected).because(problem), now);
        }
        course
    }

    /// The next step. A wait or park is returned once; a call and the final outcome are returned
    /// again until the course changes, and the interim outcome until it is published.
    pub fn next(&mut self, now: Timestamp) -> Step {
        // A clock that was set back must not reopen a deadline.
        let now = now.max(self.started_at);
        self.check_deadline(now);
        if let Some(outcome) = &self.settled {
            return Step::Settle(outcome.clone());
        }
        if let Some(publish) = self.unpublished_interim() {
            return publish;
        }
        if let Some(pause) = self.pause.take() {
            return self.capped_at_end(pause, now);
        }
        if self.in_doubt.is_some() {
            let body = request::session_state(&self.event.session_id);
            return Step::Call(DeskCommand::GetSessionState, body);
        }
        if let Some(opening) = self.closed(now).cloned() {
            self.on_closed(&opening, now);
            return self.next(now);
        }
        self.transfer(now)
    }

    /// Whether a transfer may have taken effect and is not reconciled.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt.is_some() && self.settled.is_none()
    }

    /// Whether the next call repeats an earlier one. The further targets of the first pass through the
    /// plan do not, nor does the first state query.
    pub fn attempt(&self) -> Attempt {
        let repeats = if self.in_doubt() {
            self.attempts.inconclusive_queries > 0
        } else {
            self.plan_retries > 0 || self.attempts.any()
        };
        if repeats { Attempt::Again } else { Attempt::First }
    }

    /// The shadow routes that would have been used in place of the event's route.
    pub fn shadow_routes(&self) -> impl Iterator<Item = &str> {
        self.shadows.iter().map(|route| route.name.as_str())
    }

    /// The targets, in their order.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The route of the event.
    pub fn route(&self) -> Option<&Route> {
        self.route
    }

    /// The first span of the event, as a `traceparent`.
    pub fn first_span(&self) -> Option<&str> {
        self.first_span.as_deref()
    }

    /// This is the first span of the event.
    pub fn set_first_span(&mut self, traceparent: Option<String>) {
        self.first_span = traceparent;
    }

    /// Transfers sent.
    pub fn transfers(&self) -> u32 {
        self.transfers
    }

    /// The verdict on the last transfer, in full.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.last_verdict.as_ref()
    }

    /// The verdict on the last transfer, in a word.
    pub fn last_verdict(&self) -> Option<&'static str> {
        self.last_verdict.as_ref().map(|verdict| verdict.class.as_str())
    }

    /// Whether the final outcome is known.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// The end of this course: the deadline, or, while a call is in doubt, the end of the grace
    /// period. The grace period starts when this process began, if that was later, so that a call
    /// which a crash left in doubt is still reconciled after a long restart.
    pub fn gives_up_at(&self) -> Timestamp {
        let deadline = self.deadline();
        if !self.in_doubt() {
            return deadline;
        }
        let from = deadline.max(self.started_at);
        from.saturating_add(self.policy.doubt_grace).unwrap_or(Timestamp::MAX)
    }

    /// An operator has given the event up: no further transfer is made, and unless a call in doubt
    /// turns out to have found somebody, the outcome is `failed`.
    pub fn give_up(&mut self, given_up: GivenUp) {
        self.given_up = Some(given_up);
    }

    /// The event was parked, and goes on before its time: Desk may still be working on a call in doubt.
    pub fn on_resumed_early(&mut self) {
        if self.in_doubt() {
            self.pause = Some(Step::Wait(self.policy.settle_time));
        }
    }

    /// The event's deadline, or when it was given up.
    fn deadline(&self) -> Timestamp {
        let given_up = self.given_up.as_ref().map(|given_up| given_up.at);
        given_up.map_or(self.event.deadline, |at| at.min(self.event.deadline))
    }

    /// A signature made before this time is not good enough for the next call.
    pub fn signature_after(&self) -> Option<Timestamp> {
        self.signature_after
    }

    /// The next call tests whether a refusal of all calls is over: it reads the key again, and a refusal
    /// of this signature is the answer.
    pub fn sign_again(&mut self, now: Timestamp) {
        self.signature_after = Some(now);
        self.reauthenticated = true;
    }

    /// Take in the reply to a call. `jitter` is a fresh random number in 0..1, for the back-off.
    pub fn on_reply(&mut self, call: &CompletedCall, jitter: f64) -> Assessment {
        match call.command {
            DeskCommand::TransferToHuman => self.on_transfer_reply(call, jitter),
            DeskCommand::GetSessionState => self.on_state_reply(call, jitter),
        }
    }

    fn transfer(&mut self, now: Timestamp) -> Step {
        let request = self.effective_request();
        match request::transfer(&self.event.session_id, &request, self.plan.current()) {
            Ok(body) => Step::Call(DeskCommand::TransferToHuman, body),
            Err(too_large) => {
                let reason = format!(
                    "the request would have {} bytes; Desk allows {} (93000): name fewer agents",
                    too_large.bytes,
                    request::MAX_BODY_BYTES
                );
                self.settle(Settlement::new(Status::Rejected).because(reason), now);
                self.next(now)
            }
        }
    }

    fn capped_at_end(&self, pause: Step, now: Timestamp) -> Step {
        let left = Duration::try_from(self.gives_up_at().duration_since(now)).unwrap_or_default();
        match pause {
            Step::Wait(wait) => Step::Wait(wait.min(left)),
            Step::Park(wait) => Step::Park(wait.min(left)),
            Step::AwaitAgent(wait) => Step::AwaitAgent(wait.min(left)),
            other => other,
        }
    }

    fn on_transfer_reply(&mut self, call: &CompletedCall, jitter: f64) -> Assessment {
        let verdict = self.policy.verdicts.of_transfer(&call.reply);
        self.record_transfer(&call.reply, &verdict);
        let (class, now) = (verdict.class, call.finished_at);
        let signal = match class {
            VerdictClass::Assigned | VerdictClass::Queued => {
                self.on_success(class, &call.reply, now)
            }
            VerdictClass::NoAgent => self.on_no_agent(&verdict, now),
            VerdictClass::Occupied => self.on_occupied(&verdict, now),
            VerdictClass::Rejected => self.on_rejected(&verdict, now),
            VerdictClass::Transient => self.on_transient(&verdict, call, jitter),
            VerdictClass::Throttled
            | VerdictClass::Reauthenticate
            | VerdictClass::Misconfigured => self.on_fault_for_all(&verdict, call, jitter),
        };
        // The rules above signal success when the event's own matter is decided. For the gate only an
        // answer of Desk counts as one.
        let unanswered = signal == Signal::Success && call.reply.answer().is_none();
        let signal = match verdict.if_persistent {
            _ if !unanswered => signal,
            IfPersistent::Misconfigured => Signal::Misrouted(verdict.text),
            _ => Signal::NoResponse(verdict.text),
        };
        Assessment { verdict: class.as_str(), in_doubt: verdict.in_doubt, signal }
    }

    fn record_transfer(&mut self, reply: &Reply, verdict: &Verdict) {
        if reply.was_sent() {
            self.transfers += 1;
            match self.tried.last_mut() {
                Some(tried) if !self.target_untried => tried.code = verdict.code.or(tried.code),
                _ => {
                    if self.plan.step() == 0 {
                        // The plan was started again: outcomes list its last pass only.
                        self.tried.clear();
                    }
                    let target = self.plan.current().clone();
                    self.tried.push(Tried { target, code: verdict.code });
                }
            }
            self.target_untried = false;
        }
        if let Some(answer) = reply.answer() {
            self.last_answer = Some(answer.desk.clone());
        }
        self.record_signature_result(reply, verdict.class);
        self.last_verdict = Some(verdict.clone());
    }

    fn on_success(&mut self, class: VerdictClass, reply: &Reply, now: Timestamp) -> Signal {
        let settlement = match class {
            VerdictClass::Queued => Settlement::new(Status::Queued),
            _ => Settlement::assigned(reply.answer().and_then(|answer| answer.agent_id.clone())),
        };
        self.settle(settlement.confirmed_by(ConfirmedBy::Reply), now);
        Signal::Success
    }

    fn on_no_agent(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        // Desk looked for an agent, so no earlier transfer had given the session to one.
        self.effect_unknown = false;
        self.attempts.start_burst();
        self.target_untried = self.plan.advance();
        if !self.target_untried {
            self.on_nobody_online(verdict, now);
        }
        Signal::Success
    }

    fn on_rejected(&mut self, verdict: &Verdict, now: Timestamp) -> Signal {
        let reason = match &self.state_query_unsupported {
            // "No such session" may be the result of a transfer whose reply was lost.
            Some(cause) if self.effect_unknown => format!(
                "{}; an earlier call may have taken effect, which cannot be asked here ({cause})",
                verdict.text
            ),
            _ => verdict.text.clone(),
        };
        let settlement = Settlement::new(Status::Rejected).confirmed_by(ConfirmedBy::Reply);
        self.settle(settlement.because(reason), now);
        Signal::Success
    }
}
