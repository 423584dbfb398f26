//! What follows a fault: retry, park, fail, or leave it to the gate.
//!
//! Faults of one event are counted here, in [`Attempts`], and [`RetryPolicy`] decides. What concerns
//! all events (throttling, a bad signature, a misconfiguration) becomes a [`Signal`]; the gate then
//! holds every event, so such a fault uses up no attempt. If the gate finds that Desk refuses this
//! session only, the event goes on alone and fails after a few refusals.

use std::time::Duration;

use jiff::Timestamp;

use super::in_doubt::InDoubt;
use super::settlement::Settlement;
use super::{CompletedCall, Course, Signal, Step};
use crate::domain::backoff::Backoff;
use crate::domain::reply::Reply;
use crate::domain::verdict::{IfPersistent, PERMANENT_AFTER_ATTEMPTS, Verdict, VerdictClass};
use crate::domain::wire::outcome::Status;

/// Desk limits calls per second: within the same second it would most likely refuse the event again.
const DESK_COUNTS_FOR: Duration = Duration::from_secs(1);

/// Bursts of quick attempts with parking in between, until the deadline.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The waits between the attempts of a burst.
    pub backoff: Backoff,
    /// Attempts in a burst; at least 1.
    pub quick_attempts: u32,
    /// The waits between bursts; the last repeats. Empty: there is no second burst.
    pub park: Vec<Duration>,
}

/// What follows a fault, once it is known that the call had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAction {
    Retry(Duration),
    Park(Duration),
    Fail,
    /// The reply points at a wrong host, path or proxy, which every event would meet.
    ShutGate,
}

/// Counts of one event's faults.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures_in_burst: u32,
    /// Bursts that ended in a park.
    pub(super) parks: usize,
    unknown_codes: u32,
    /// Replies in a row that point at a wrong host, path or proxy.
    misrouted_in_a_row: u32,
    /// Refusals in a row for a reason that usually concerns all events.
    refused_in_a_row: u32,
    throttled: u32,
    /// State queries in a row that returned no state.
    pub(super) inconclusive_queries: u32,
}

impl Attempts {
    pub(super) fn start_burst(&mut self) {
        self.failures_in_burst = 0;
    }

    /// Whether anything was tried before and has to be repeated.
    pub(super) fn any(&self) -> bool {
        let faults = self.failures_in_burst + self.throttled + self.refusals();
        faults > 0 || self.parks > 0
    }

    fn refusals(&self) -> u32 {
        self.refused_in_a_row + self.misrouted_in_a_row
    }

    /// Count a reply that may point at a wrong host, path or proxy. True once there were enough in a
    /// row to blame the set-up and not a passing fault.
    pub(super) fn is_misrouted(&mut self, verdict: &Verdict) -> bool {
        let suspect = verdict.if_persistent == IfPersistent::Misconfigured;
        self.misrouted_in_a_row += u32::from(suspect);
        suspect && self.misrouted_in_a_row >= PERMANENT_AFTER_ATTEMPTS
    }
}

impl RetryPolicy {
    fn next_action(&self, attempts: &mut Attempts, verdict: &Verdict, jitter: f64) -> RetryAction {
        if attempts.is_misrouted(verdict) {
            return RetryAction::ShutGate;
        }
        if verdict.if_persistent == IfPersistent::Fail {
            attempts.unknown_codes += 1;
            if attempts.unknown_codes >= PERMANENT_AFTER_ATTEMPTS {
                return RetryAction::Fail;
            }
        }
        attempts.failures_in_burst += 1;
        if attempts.failures_in_burst < self.quick_attempts {
            return RetryAction::Retry(self.backoff.delay(attempts.failures_in_burst, jitter));
        }
        attempts.start_burst();
        let wait = self.park.get(attempts.parks).or(self.park.last());
        attempts.parks += 1;
        wait.map_or(RetryAction::Fail, |wait| RetryAction::Park(*wait))
    }
}

impl Course<'_> {
    /// A fault that may pass. If the call may have taken effect, the session's state is queried
    /// before anything is retried.
    pub(super) fn on_transient(
        &mut self,
        verdict: &Verdict,
        call: &CompletedCall,
        jitter: f64,
    ) -> Signal {
        let settle_time = self.settle_time_left(call);
        let action = self.policy.retry.next_action(&mut self.attempts, verdict, jitter);
        if !verdict.in_doubt {
            return self.perform(action, verdict, call.finished_at);
        }
        // The back-off is spent before the state query, so that a retry follows it at once.
        let (wait, deferred) = match action {
            RetryAction::Retry(wait) => (wait.max(settle_time), None),
            other => (settle_time, Some(other)),
        };
        if self.state_query_unsupported.is_some() {
            self.effect_unknown = true;
            let action = deferred.unwrap_or(RetryAction::Retry(wait));
            return self.perform(action, verdict, call.finished_at);
        }
        self.in_doubt = Some(InDoubt::Ambiguous);
        self.deferred_action = deferred;
        self.pause = Some(Step::Wait(wait));
        Signal::Success
    }

    /// The call in doubt had no effect, or cannot be reconciled: do what its fault calls for.
    pub(super) fn perform_deferred_action(&mut self, now: Timestamp) {
        if let Some(action) = self.deferred_action.take()
            && let Some(verdict) = self.last_verdict.clone()
        {
            self.perform(action, &verdict, now);
        }
    }

    /// Throttled, a refused signature, or misconfigured: the gate decides when the next call starts.
    pub(super) fn on_fault_for_all(
        &mut self,
        verdict: &Verdict,
        call: &CompletedCall,
        jitter: f64,
    ) -> Signal {
        let now = call.finished_at;
        if verdict.class == VerdictClass::Throttled {
            // A back-off of the event's own: without it, events that were throttled together would
            // return together, and too soon.
            self.attempts.throttled += 1;
            let wait = self.policy.retry.backoff.delay(self.attempts.throttled, jitter);
            let wait = wait.max(DESK_COUNTS_FOR);
            self.pause = Some(Step::Wait(wait));
            if verdict.too_many_bad_signatures() {
                self.reauthenticated = true;
                self.signature_after = Some(now);
            }
            return Signal::Throttled(verdict.pause);
        }
        self.attempts.refused_in_a_row += 1;
        if verdict.class == VerdictClass::Reauthenticate && !self.reauthenticated {
            self.reauthenticated = true;
            // A signature that another event requested meanwhile will do.
            self.signature_after = Some(call.started_at);
            return Signal::Reauthenticating;
        }
        // Every probe reads the key again, so that replacing the key file is repair enough.
        self.signature_after = Some(now);
        Signal::Misconfigured(verdict.text.clone())
    }

    /// The gate has seen that Desk refuses this session and accepts others. The event is no longer
    /// held by the gate: it goes on alone and fails after [`PERMANENT_AFTER_ATTEMPTS`] refusals.
    pub fn on_isolated_refusal(&mut self, now: Timestamp, jitter: f64) {
        let refusals = self.attempts.refusals();
        // A state query is repeated until the grace period ends: only it can end the doubt.
        if refusals >= PERMANENT_AFTER_ATTEMPTS && self.in_doubt.is_none() {
            let text = self.last_verdict.as_ref().map_or("", |verdict| &verdict.text);
            let reason = format!("Desk refuses this session only: {text}{}", self.unknown_effect());
            self.settle(Settlement::new(Status::Failed).because(reason), now);
        } else {
            self.pause = Some(Step::Wait(self.policy.retry.backoff.delay(refusals, jitter)));
        }
    }

    fn unknown_effect(&self) -> &'static str {
        if self.effect_unknown { "; the effect of a call is unknown" } else { "" }
    }

    /// Note what a reply says about the signature: an answer to the request itself accepted it,
    /// a lost answer says nothing.
    pub(super) fn record_signature_result(&mut self, reply: &Reply, class: VerdictClass) {
        self.reauthenticated &= class.concerns_all_events() || reply.answer().is_none();
        if reply.answer().is_some() {
            self.attempts.misrouted_in_a_row = 0;
            if !class.concerns_all_events() {
                self.attempts.refused_in_a_row = 0;
            }
        }
    }

    fn perform(&mut self, action: RetryAction, verdict: &Verdict, now: Timestamp) -> Signal {
        match action {
            RetryAction::Retry(wait) => self.pause = Some(Step::Wait(wait)),
            RetryAction::Park(wait) => self.pause = Some(Step::Park(wait)),
            RetryAction::Fail => {
                let reason = format!("{}{}", verdict.text, self.unknown_effect());
                self.settle(Settlement::new(Status::Failed).because(reason), now);
            }
            RetryAction::ShutGate => return Signal::Misconfigured(verdict.text.clone()),
        }
        Signal::Success
    }

    /// How long Desk may still be working on this call. A state query before that could miss the
    /// effect of the call.
    fn settle_time_left(&self, call: &CompletedCall) -> Duration {
        if call.reply.call_is_over() {
            return Duration::ZERO;
        }
        let elapsed = call.finished_at.duration_since(call.started_at);
        self.policy.settle_time.saturating_sub(Duration::try_from(elapsed).unwrap_or_default())
    }
}
