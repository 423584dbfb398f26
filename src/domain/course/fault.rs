//! What a fault does to a course: retry, park, fail, wait for a repair, or ask first.
//!
//! Faults of one event are counted here; what concerns the whole worker (too fast, to be
//! signed again, misconfigured) becomes a `Notice` for the gate, which then holds us.
//! This file never retries a transfer that may have happened without asking after it.

use std::time::Duration;

use jiff::Timestamp;

use super::doubt::Doubt;
use super::ending::Ending;
use super::{Call, Course, Moment, Notice, Step};
use crate::domain::outcome::Status;
use crate::domain::reply::Reply;
use crate::domain::verdict::{Class, FEW_TRIES, Lasting, Verdict};

/// What follows a fault, once it is known that nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Retry(Duration),
    Park(Duration),
    Fail,
    Close,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
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

impl Tries {
    pub(super) fn new_target(&mut self) {
        self.failures = 0;
    }
}

impl Course<'_> {
    /// A fault that may pass: in doubt ask first, else retry, park or end.
    pub(super) fn fault(&mut self, verdict: &Verdict, call: &Call, moment: Moment) -> Notice {
        let settling = self.settling(call, moment.now);
        let after = self.after_fault(verdict, moment.jitter);
        if !verdict.ambiguous {
            return self.apply(after, verdict, moment.now);
        }
        // The back-off is spent before the question, so that a retry follows it at once.
        let (wait, owed) = match after {
            After::Retry(wait) => (wait.max(settling), None),
            later => (settling, Some(later)),
        };
        if self.cannot_ask.is_some() {
            self.unverified = true;
            return self.apply(owed.unwrap_or(After::Retry(wait)), verdict, moment.now);
        }
        self.doubt = Some(Doubt::Ambiguous);
        self.owed = owed;
        self.pause = Some(Step::Wait(wait));
        Notice::Fine
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
    ) -> Notice {
        if verdict.class == Class::Throttled {
            self.tries.throttled += 1;
            let wait = self.policy.backoff.delay(self.tries.throttled, moment.jitter);
            self.pause = Some(Step::Wait(wait));
            if verdict.signature_failed() {
                self.resigned = true;
                self.signature_after = Some(moment.now);
            }
            return Notice::Slow(verdict.pause);
        }
        if verdict.class == Class::Resign && !self.resigned {
            self.resigned = true;
            self.signature_after = Some(begun);
            return Notice::Resigning;
        }
        // The key is read again for every probe.
        self.signature_after = Some(moment.now);
        Notice::Closed(verdict.text.clone())
    }

    /// An answer that judged the matter itself took the signature for good.
    pub(super) fn note_signature(&mut self, reply: &Reply, class: Class) {
        let hindered = matches!(class, Class::Throttled | Class::Resign | Class::Misconfigured);
        self.resigned &= hindered || reply.answer().is_none();
        if reply.answer().is_some() {
            self.tries.foreign = 0;
        }
    }

    /// Whether this has been said in a row often enough to blame host, path or proxy.
    pub(super) fn is_foreign(&mut self, verdict: &Verdict) -> bool {
        let foreign = verdict.lasting == Lasting::Misconfigured;
        self.tries.foreign += u32::from(foreign);
        foreign && self.tries.foreign >= FEW_TRIES
    }

    fn after_fault(&mut self, verdict: &Verdict, jitter: f64) -> After {
        if self.is_foreign(verdict) {
            return After::Close;
        }
        self.tries.unknown += u32::from(verdict.lasting == Lasting::Fail);
        if verdict.lasting == Lasting::Fail && self.tries.unknown >= FEW_TRIES {
            return After::Fail;
        }
        self.tries.failures += 1;
        if self.tries.failures < self.policy.quick_attempts {
            return After::Retry(self.policy.backoff.delay(self.tries.failures, jitter));
        }
        self.tries.failures = 0;
        let park = self.policy.park.get(self.tries.parks).or(self.policy.park.last());
        self.tries.parks += 1;
        park.map_or(After::Fail, |wait| After::Park(*wait))
    }

    fn apply(&mut self, after: After, verdict: &Verdict, now: Timestamp) -> Notice {
        match after {
            After::Retry(wait) => self.pause = Some(Step::Wait(wait)),
            After::Park(wait) => self.pause = Some(Step::Park(wait)),
            After::Fail => {
                let unknown =
                    if self.unverified { "; the effect of a call is unknown" } else { "" };
                let reason = format!("{}{unknown}", verdict.text);
                self.settle(Ending::new(Status::Failed).because(reason), now);
            }
            After::Close => return Notice::Closed(verdict.text.clone()),
        }
        Notice::Fine
    }

    /// So long Desk may still be working on this call.
    fn settling(&self, call: &Call, now: Timestamp) -> Duration {
        if call.reply.call_is_over() {
            return Duration::ZERO;
        }
        let since = Duration::try_from(now.duration_since(call.begun)).unwrap_or_default();
        self.policy.settle.saturating_sub(since)
    }
}
