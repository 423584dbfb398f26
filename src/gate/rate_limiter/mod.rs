//! The rate limiter of one Desk command: this process's share of the group's quota.
//!
//! Calls are paced at even intervals, without bursts. The quota counts for the whole consumer group,
//! so each instance uses the share that belongs to its partitions; no message passes between
//! instances. Pure: the time is an argument, a duration since any fixed moment. `cubic` holds the
//! reaction to throttling.

mod cubic;

use std::time::Duration;

use self::cubic::Cubic;
use crate::gate::permits::SessionHash;

/// Intervals are longer than the rate needs by this factor. Calls take different times to arrive, and
/// without the slack Desk would count one too many in some seconds.
const SLACK: f64 = 1.015;
/// A call that starts late by up to this much does not delay the calls behind it.
const LATE_TOLERANCE: Duration = Duration::from_millis(4);
/// A grown share starts after this many of its added intervals, and one more per partition gained.
const HANDOVER_INTERVALS: f64 = 1.1;
/// A grown share starts after this time at the earliest.
const MIN_HANDOVER: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(super) struct RateLimiter {
    /// Calls per second of the whole group; infinite where there is no limit.
    quota: f64,
    share: Share,
    /// A larger share that starts later.
    pending: Option<PendingShare>,
    cubic: Cubic,
    /// When the last call was due.
    last_at: Option<Duration>,
}

/// The part of the quota that belongs to this process's partitions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    /// 0 to 1.
    fraction: f64,
    partitions: usize,
}

#[derive(Debug, Clone, Copy)]
struct PendingShare {
    from: Duration,
    share: Share,
}

impl RateLimiter {
    /// `quota_per_second` is for the whole group; `None` is no limit. The share is all of it, until
    /// [`Self::set_share`] says otherwise.
    pub(super) fn new(quota_per_second: Option<f64>) -> Self {
        Self {
            quota: quota_per_second.unwrap_or(f64::INFINITY),
            share: Share { fraction: 1.0, partitions: 0 },
            pending: None,
            cubic: Cubic::default(),
            last_at: None,
        }
    }

    /// From now on this process owns these of `total` partitions.
    ///
    /// A rate change can put one extra call into the current second. An instance whose share shrinks
    /// therefore skips one call; one whose share grows waits for 1.1 + (partitions gained) of its
    /// added intervals.
    pub(super) fn set_share(&mut self, owned: &[i32], total: usize, now: Duration) {
        let share = self.share_of(owned, total);
        if self.pending.is_some_and(|pending| now < pending.from && pending.share == share) {
            return;
        }
        let before = self.share_at(now);
        (self.share, self.pending) = (before, None);
        if share.fraction < before.fraction {
            self.share = share;
            let interval = self.interval(now).unwrap_or_default();
            // Once for several changes in a row: the first has moved the next call far enough.
            self.last_at = self.last_at.map(|last_at| last_at.max(last_at.min(now) + interval));
        } else if share.fraction > before.fraction && self.quota.is_finite() {
            let added_rate = self.quota * (share.fraction - before.fraction);
            let gained = share.partitions.saturating_sub(before.partitions);
            let wait = (HANDOVER_INTERVALS + gained as f64) / added_rate;
            // Each partition's previous owner may have used it just now. After a second, the calls
            // of all of them are out of the window in which Desk counts.
            let wait = Duration::from_secs_f64(wait.min(SLACK)).max(MIN_HANDOVER);
            self.pending = Some(PendingShare { from: now + wait, share });
        } else {
            self.share = share;
        }
    }

    /// The rate in force, in calls per second.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        let Share { fraction, .. } = self.share_at(now);
        // An infinite quota times zero is not a number.
        let quota = if fraction == 0.0 { 0.0 } else { self.quota * fraction };
        quota.min(self.cubic.rate(now))
    }

    /// The part of the quota that belongs to this process, 0 to 1.
    pub(super) fn share(&self, now: Duration) -> f64 {
        self.share_at(now).fraction
    }

    /// The part of that share of which throttling deprives this process, 0 to 1: all of it while Desk
    /// wants no call, and where there is no quota of which it could leave a part.
    pub(super) fn slowed(&self, now: Duration) -> f64 {
        let Share { fraction, .. } = self.share_at(now);
        if now < self.cubic.hold_until() {
            return 1.0;
        }
        let limit = self.cubic.rate(now);
        if limit.is_infinite() || fraction == 0.0 {
            return 0.0;
        }
        (1.0 - limit / (self.quota * fraction)).clamp(0.0, 1.0)
    }

    /// The earliest start of the next call; `None` if this share allows none.
    pub(super) fn next_at(&self, now: Duration) -> Option<Duration> {
        match self.pending {
            Some(PendingShare { from, .. }) if now < from => match self.next_at_rate_of(now) {
                Some(at) if at <= from => Some(at),
                // The call is due after the rate has grown, so the new rate decides when.
                _ => self.next_at_rate_of(from).map(|at| at.max(from)),
            },
            _ => self.next_at_rate_of(now),
        }
    }

    /// A call starts now.
    pub(super) fn start_call(&mut self, now: Duration) {
        let due = self.next_at(now).unwrap_or(now);
        // Pacing counts from when the call was due, so that small delays do not lower the rate; but
        // an idle limiter does not save up calls.
        self.last_at = Some(due.max(now.saturating_sub(LATE_TOLERANCE)));
    }

    /// A call of this session was accepted.
    pub(super) fn succeed(&mut self, session: SessionHash, now: Duration) {
        self.cubic.succeed(session, now);
    }

    /// Desk said "too fast". Returns the reduced rate; see [`Cubic::throttle`].
    pub(super) fn throttle(&mut self, session: SessionHash, now: Duration) -> Option<f64> {
        let Share { fraction, .. } = self.share_at(now);
        let reduced = self.cubic.throttle(session, now, fraction)?;
        Some(reduced.min(self.rate(now)))
    }

    /// No call starts in the next `pause`.
    pub(super) fn hold(&mut self, pause: Duration, now: Duration) {
        self.cubic.hold(pause, now);
    }

    fn share_at(&self, now: Duration) -> Share {
        match self.pending {
            Some(PendingShare { from, share }) if now >= from => share,
            _ => self.share,
        }
    }

    fn share_of(&self, owned: &[i32], total: usize) -> Share {
        let (partitions, total) = (owned.len(), total.max(1) as f64);
        if self.quota.is_infinite() || self.quota < total {
            return Share { fraction: (partitions as f64 / total).min(1.0), partitions };
        }
        // Each partition gets a whole number of calls per second, and all partitions together get the
        // whole quota. `interval` rounds a rate down to whole calls; with equal fractions every
        // instance would lose part of a call. Every instance computes the same numbers by itself.
        let calls_before = |partition: f64| (self.quota.floor() * partition / total).floor();
        let calls_of = |partition: &i32| {
            calls_before(f64::from(partition + 1)) - calls_before(f64::from(*partition))
        };
        let fraction = owned.iter().map(calls_of).sum::<f64>() / self.quota;
        Share { fraction: fraction.min(1.0), partitions }
    }

    fn next_at_rate_of(&self, moment: Duration) -> Option<Duration> {
        let interval = self.interval(moment)?;
        let paced = self.last_at.map_or(Duration::ZERO, |last_at| last_at + interval);
        Some(paced.max(self.cubic.hold_until()))
    }

    /// From one call to the next; `None` if there is no next call.
    fn interval(&self, now: Duration) -> Option<Duration> {
        let rate = self.rate(now);
        if rate <= 0.0 {
            return None;
        }
        if rate.is_infinite() {
            return Some(Duration::ZERO);
        }
        // 7.5 calls per second would put 8 calls into some seconds, so only whole calls of a quota
        // count. The small addition keeps 7.9999999 (a sum of fractions) from becoming 7.
        let is_quota = rate < self.cubic.rate(now);
        let whole = if rate >= 1.0 && is_quota { (rate + 1e-6).floor() } else { rate };
        Some(Duration::from_secs_f64((SLACK / whole).min(1e6)))
    }
}

#[cfg(test)]
mod tests;
