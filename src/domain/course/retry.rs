//! What a fault does to a course: retry, park, fail, wait for a repair, or ask first.
//!
//! Faults of one event are counted here; what concerns the whole worker (too fast, to be
//! signed again, misconfigured) becomes a `Signal` for the gate, which then holds us.
//! This file never retries a transfer that may have happened without asking after it.

use std::time::Duration;

use jiff::Timestamp;

use super::in_doubt::InDoubt;
use super::settlement::Settlement;
use super::{CompletedCall, Course, Moment, Signal, Step};
use crate::domain::reply::Reply;
use crate::domain::verdict::{FEW_TRIES, IfPersistent, Verdict, VerdictClass};
use crate::domain::wire::outcome::Status;

/// What follows a fault, once it is known that nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAction {
    Retry(Duration),
    Park(Duration),
    Fail,
    Close,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Faults in this burst of quick attempts.
    failures: u32,
    /// Bursts that ended.
    pub(super) parks: usize,
    /// Unknown codes.
    unknown: u32,
    /// Replies in a row that look like a wrong host, path or proxy.
    foreign: u32,
    throttled: u32,
    /// Questions in a row that told no state.
    pub(super) unclear: u32,
}

impl Attempts {
    pub(super) fn new_target(&mut self) {
        self.failures = 0;
    }
}

impl Course<'_> {
    /// A fault that may pass: in doubt ask first, else retry, park or end.
    pub(super) fn fault(
        &mut self,
        verdict: &Verdict,
        call: &CompletedCall,
        moment: Moment,
    ) -> Signal {
        let settling = self.settling(call, moment.now);
        let after = self.after_fault(verdict, moment.jitter);
        if !verdict.in_doubt {
            return self.apply(after, verdict, moment.now);
        }
        // The back-off is spent before the question, so that a retry follows it at once.
        let (wait, owed) = match after {
            RetryAction::Retry(wait) => (wait.max(settling), None),
            later => (settling, Some(later)),
        };
        if self.cannot_ask.is_some() {
            self.unverified = true;
            return self.apply(owed.unwrap_or(RetryAction::Retry(wait)), verdict, moment.now);
        }
        self.doubt = Some(InDoubt::Ambiguous);
        self.owed = owed;
        self.pause = Some(Step::Wait(wait));
        Signal::Success
    }

    /// Go on with what the last fault owed, now that the doubt is gone.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if let Some(after) = self.owed.take()
            && let Some(last) = self.last.clone()
        {
            self.apply(after, &last, now);
        }
    }

    /// Slowed down, to be signed again, or misconfigured: the worker's gate holds us.
    pub(super) fn hindered(
        &mut self,
        verdict: &Verdict,
        begun: Timestamp,
        moment: Moment,
    ) -> Signal {
        if verdict.class == VerdictClass::Throttled {
            self.tries.throttled += 1;
            let wait = self.policy.backoff.delay(self.tries.throttled, moment.jitter);
            self.pause = Some(Step::Wait(wait));
            if verdict.signature_failed() {
                self.resigned = true;
                self.signature_after = Some(moment.now);
            }
            return Signal::Throttled(verdict.pause);
        }
        if verdict.class == VerdictClass::Resign && !self.resigned {
            self.resigned = true;
            self.signature_after = Some(begun);
            return Signal::Reauthenticating;
        }
        // The key is read again for every probe.
        self.signature_after = Some(moment.now);
        Signal::Misconfigured(verdict.text.clone())
    }

    /// An answer that judged the matter itself took the signature for good.
    pub(super) fn note_signature(&mut self, reply: &Reply, class: VerdictClass) {
        let hindered = matches!(
            class,
            VerdictClass::Throttled | VerdictClass::Resign | VerdictClass::Misconfigured
        );
        self.resigned &= hindered || reply.answer().is_none();
        if reply.answer().is_some() {
            self.tries.foreign = 0;
        }
    }

    /// Whether this has been said in a row often enough to blame host, path or proxy.
    pub(super) fn is_foreign(&mut self, verdict: &Verdict) -> bool {
        let foreign = verdict.if_persistent == IfPersistent::Misconfigured;
        self.tries.foreign += u32::from(foreign);
        foreign && self.tries.foreign >= FEW_TRIES
    }

    fn after_fault(&mut self, verdict: &Verdict, jitter: f64) -> RetryAction {
        if self.is_foreign(verdict) {
            return RetryAction::Close;
        }
        self.tries.unknown += u32::from(verdict.if_persistent == IfPersistent::Fail);
        if verdict.if_persistent == IfPersistent::Fail && self.tries.unknown >= FEW_TRIES {
            return RetryAction::Fail;
        }
        self.tries.failures += 1;
        if self.tries.failures < self.policy.quick_attempts {
            return RetryAction::Retry(self.policy.backoff.delay(self.tries.failures, jitter));
        }
        self.tries.failures = 0;
        let park = self.policy.park.get(self.tries.parks).or(self.policy.park.last());
        self.tries.parks += 1;
        park.map_or(RetryAction::Fail, |wait| RetryAction::Park(*wait))
    }

    fn apply(&mut self, after: RetryAction, verdict: &Verdict, now: Timestamp) -> Signal {
        match after {
            RetryAction::Retry(wait) => self.pause = Some(Step::Wait(wait)),
            RetryAction::Park(wait) => self.pause = Some(Step::Park(wait)),
            RetryAction::Fail => {
                let unknown =
                    if self.unverified { "; the effect of a call is unknown" } else { "" };
                let reason = format!("{}{unknown}", verdict.text);
                self.settle(Settlement::new(Status::Failed).because(reason), now);
            }
            RetryAction::Close => return Signal::Misconfigured(verdict.text.clone()),
        }
        Signal::Success
    }

    /// So long Desk may still be working on this call.
    fn settling(&self, call: &CompletedCall, now: Timestamp) -> Duration {
        if call.reply.call_is_over() {
            return Duration::ZERO;
        }
        let since = Duration::try_from(now.duration_since(call.begun)).unwrap_or_default();
        self.policy.settle.saturating_sub(since)
    }
}
