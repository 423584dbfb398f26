//! The reaction to "too fast": additive increase, multiplicative decrease (AIMD).
//!
//! When Desk throttles, the rate is halved and calls pause; afterwards it grows by a fixed step per
//! second, until a minute without a complaint ends the limit. Pure: the time is an argument.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// The pause after the first complaint is one second and doubles with each further one.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The limit ends after this time without a complaint.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// The lowest rate and the smallest step, in calls per second.
const MIN_RATE: f64 = 0.5;
/// The step per second, as a part of the rate at the first complaint.
const STEP: f64 = 0.05;

#[derive(Debug, Clone, Default)]
pub(super) struct Aimd {
    limit: Option<Limit>,
    /// No call starts earlier, at whatever rate.
    hold_until: Duration,
    recent: RecentCalls,
}

/// From `since` on, `rate` (calls per second) grows by `step` every second.
#[derive(Debug, Clone)]
struct Limit {
    since: Duration,
    rate: f64,
    step: f64,
    complaints: u32,
}

/// Calls in this second and in the one before: the rate that is actually used.
#[derive(Debug, Clone, Default)]
struct RecentCalls {
    second: u64,
    this_second: u32,
    last_second: u32,
}

impl Aimd {
    /// The limit in force, in calls per second; infinite where there is none.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        self.limit.as_ref().map_or(f64::INFINITY, |limit| limit.rate_at(now))
    }

    pub(super) fn hold_until(&self) -> Duration {
        self.hold_until
    }

    pub(super) fn count_call(&mut self, now: Duration) {
        self.recent.count(now.as_secs());
    }

    /// Desk said "too fast" and perhaps named a `pause`; `rate` is the rate until now. Returns the
    /// reduced rate, or `None` if this complaint belongs to a burst that was answered already.
    pub(super) fn throttle(
        &mut self,
        now: Duration,
        pause: Option<Duration>,
        rate: f64,
    ) -> Option<f64> {
        let earlier = self.limit.as_ref().filter(|limit| now < limit.since + FORGET_AFTER);
        // The calls that were in flight at the first complaint are all refused together.
        if earlier.is_some_and(|limit| now < limit.since + SECOND) {
            self.hold_until = self.hold_until.max(now + pause.unwrap_or_default());
            return None;
        }
        let complaints = earlier.map_or(0, |limit| limit.complaints);
        let grown = SECOND.saturating_mul(1 << complaints.min(5)).min(MAX_PAUSE);
        let since = now + pause.unwrap_or(grown);
        // Half of what was used: half of an unused quota would change nothing.
        let used = rate.min(self.recent.per_second());
        let step = earlier.map_or((used * STEP).max(MIN_RATE), |limit| limit.step);
        let rate = (used / 2.0).max(MIN_RATE);
        self.hold_until = self.hold_until.max(since);
        self.limit = Some(Limit { since, rate, step, complaints: complaints + 1 });
        Some(rate)
    }
}

impl Limit {
    fn rate_at(&self, now: Duration) -> f64 {
        let without_complaint = now.saturating_sub(self.since);
        if without_complaint >= FORGET_AFTER {
            f64::INFINITY
        } else {
            self.rate + self.step * without_complaint.as_secs() as f64
        }
    }
}

impl RecentCalls {
    fn count(&mut self, second: u64) {
        if second != self.second {
            self.last_second = if second == self.second + 1 { self.this_second } else { 0 };
            (self.second, self.this_second) = (second, 0);
        }
        self.this_second += 1;
    }

    fn per_second(&self) -> f64 {
        f64::from(self.this_second.max(self.last_second).max(1))
    }
}
