//! Calls per second to one command of Desk: this worker's part of the quota, slowed down together
//! when Desk says "too fast".
//!
//! Calls are spread evenly, a little further apart than the quota needs: so there are never more
//! of them than it allows in any second, wherever that begins, although each takes a different
//! time to arrive. Times are durations since any fixed moment.
//! This file never lets two calls make up for a pause.

use std::time::Duration;

/// Calls per second.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    /// What the whole group may do; infinite where there is no limit.
    quota: f64,
    /// What of it is ours.
    part: Part,
    /// More of it is ours from then on.
    raise: Option<(Duration, Part)>,
    /// The limit in force while Desk complains.
    slowed: Option<Slowed>,
    /// When the last call was due.
    slot: Option<Duration>,
    /// When the one before it was due; that counts again where this call was not made.
    slot_before: Option<Duration>,
    revocable: Option<u64>,
    /// Calls begun so far.
    begun: u64,
    /// Nothing begins earlier, whatever the speed.
    not_before: Duration,
    /// Calls begun in the current and the last second, to know what "half" is.
    recent: Recent,
}

/// What of the quota goes with some partitions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    /// From 0 to 1.
    share: f64,
    partitions: usize,
}

/// From `since` on, `rate` grows by `step` every second.
#[derive(Debug, Clone)]
struct Slowed {
    since: Duration,
    rate: f64,
    step: f64,
    complaints: u32,
}

#[derive(Debug, Clone, Default)]
struct Recent {
    second: u64,
    count: u32,
    last: u32,
}

const SECOND: Duration = Duration::from_secs(1);
/// The calls of one second are spread over so much: what arrives unevenly still fits.
const SPREAD: f64 = 1.015;
/// A call that is late by this much does not delay the ones behind it.
const LATE: Duration = Duration::from_millis(4);
/// Who gets more calls waits for so many of them and one for each partition that comes: whoever had
/// it may have called just now. And for so long at least.
const PAID: f64 = 1.1;
const LEAST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So long without a complaint, and the slow-down is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
const SLOWEST: f64 = 0.5;

impl RateLimiter {
    /// The whole group makes at most so many calls per second; `None`: no limit.
    pub fn new(per_second: Option<f64>) -> Self {
        Self {
            quota: per_second.unwrap_or(f64::INFINITY),
            part: Part { share: 1.0, partitions: 0 },
            raise: None,
            slowed: None,
            slot: None,
            slot_before: None,
            revocable: None,
            begun: 0,
            not_before: Duration::ZERO,
            recent: Recent::default(),
        }
    }

    /// From now on what goes with these of all partitions is ours.
    ///
    /// Calls in even distances at a rate that changes fill a second as the rate says, but for one
    /// call at each change. Who gets less pays for it with one call, who gets nothing any more
    /// cannot; who gets more waits as long as some calls of the more take, which pays for all.
    pub fn set_share(&mut self, ours: &[i32], all: usize, now: Duration) {
        let part = self.part_of(ours, all);
        if self.raise.is_some_and(|(from, raised)| now < from && raised == part) {
            return;
        }
        let before = self.part_at(now);
        (self.part, self.raise) = (before, None);
        if part.share < before.share {
            self.part = part;
            self.revocable = None;
            let spacing = self.spacing(now).unwrap_or_default();
            // Once for several in a row: the first has put the next call far enough away.
            self.slot = self.slot.map(|slot| slot.max(slot.min(now) + spacing));
        } else if part.share > before.share && self.quota.is_finite() {
            let more = self.quota * (part.share - before.share);
            let paid = PAID + part.partitions.saturating_sub(before.partitions) as f64;
            let wait = Duration::from_secs_f64((paid / more).min(SPREAD)).max(LEAST_WAIT);
            self.raise = Some((now + wait, part));
        } else {
            self.part = part;
        }
    }

    /// Each partition has a whole number of calls where there are enough of them, so that together
    /// they use all of the quota.
    fn part_of(&self, ours: &[i32], all: usize) -> Part {
        let (partitions, all) = (ours.len(), all.max(1) as f64);
        if self.quota.is_infinite() || self.quota < all {
            return Part { share: (partitions as f64 / all).min(1.0), partitions };
        }
        let up_to = |partition: f64| (self.quota.floor() * partition / all).floor();
        let calls =
            |partition: &i32| up_to(f64::from(partition + 1)) - up_to(f64::from(*partition));
        let share = ours.iter().map(calls).sum::<f64>() / self.quota;
        Part { share: share.min(1.0), partitions }
    }

    /// The limit in force, in calls per second.
    pub fn rate(&self, now: Duration) -> f64 {
        let slowed = self.slowed.as_ref().map_or(f64::INFINITY, |slowed| slowed.rate_at(now));
        // Infinity times zero would be no number.
        let Part { share, .. } = self.part_at(now);
        slowed.min(if share == 0.0 { 0.0 } else { self.quota * share })
    }

    /// The earliest time at which the next call may begin; `None`: not with this share.
    pub fn ready_at(&self, now: Duration) -> Option<Duration> {
        match self.raise {
            Some((from, _)) if now < from => match self.next_slot(now) {
                Some(at) if at <= from => Some(at),
                _ => self.next_slot(from).map(|at| at.max(from)),
            },
            _ => self.next_slot(now),
        }
    }

    /// When the next call is due at the rate of this moment.
    fn next_slot(&self, now: Duration) -> Option<Duration> {
        let spacing = self.spacing(now)?;
        Some(self.slot.map_or(Duration::ZERO, |slot| slot + spacing).max(self.not_before))
    }

    /// A call begins now.
    pub fn begin(&mut self, now: Duration) {
        self.recent.count_one(now.as_secs());
        let due = self.ready_at(now).unwrap_or(now);
        self.begun += 1;
        (self.slot_before, self.revocable) = (self.slot, Some(self.begun));
        self.slot = Some(due.max(now.saturating_sub(LATE)));
    }

    /// Calls begun so far: the number of the last.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The call of this number was not made after all: the next one need not wait for it, if none
    /// has begun and nothing has changed since.
    pub fn unused(&mut self, number: u64) {
        if self.revocable == Some(number) {
            self.revocable = None;
            self.slot = self.slot_before;
            self.recent.count = self.recent.count.saturating_sub(1);
        }
    }

    /// Desk said "too fast". Returns the new rate, or `None` for one more of the same burst.
    pub fn slow_down(&mut self, now: Duration, pause: Option<Duration>) -> Option<f64> {
        let earlier = self.slowed.as_ref().filter(|slowed| now < slowed.since + FORGIVEN_AFTER);
        if earlier.is_some_and(|slowed| now < slowed.since + SECOND) {
            self.not_before = self.not_before.max(now + pause.unwrap_or_default());
            return None;
        }
        let complaints = earlier.map_or(0, |slowed| slowed.complaints);
        let grown = SECOND.saturating_mul(1 << complaints.min(5)).min(LONGEST_PAUSE);
        let since = now + pause.unwrap_or(grown);
        let before = self.rate(now).min(self.recent.per_second());
        let step = earlier.map_or((before * 0.05).max(SLOWEST), |slowed| slowed.step);
        let rate = (before / 2.0).max(SLOWEST);
        self.not_before = self.not_before.max(since);
        self.slowed = Some(Slowed { since, rate, step, complaints: complaints + 1 });
        Some(rate)
    }

    fn part_at(&self, now: Duration) -> Part {
        match self.raise {
            Some((from, part)) if now >= from => part,
            _ => self.part,
        }
    }

    /// From one call to the next; `None`: no call at all.
    fn spacing(&self, now: Duration) -> Option<Duration> {
        let rate = self.rate(now);
        if rate <= 0.0 {
            return None;
        }
        if rate.is_infinite() {
            return Some(Duration::ZERO);
        }
        // Whole calls only: a part of one could be one too many in some second. The little more
        // makes a whole number of a share that is one but for its last digit.
        let whole = if rate >= 1.0 { (rate + 1e-6).floor() } else { rate };
        Some(Duration::from_secs_f64((SPREAD / whole).min(1e6)))
    }
}

impl Slowed {
    fn rate_at(&self, now: Duration) -> f64 {
        let peace = now.saturating_sub(self.since);
        if peace >= FORGIVEN_AFTER {
            f64::INFINITY
        } else {
            self.rate + self.step * peace.as_secs() as f64
        }
    }
}

impl Recent {
    fn count_one(&mut self, second: u64) {
        if second != self.second {
            self.last = if second == self.second + 1 { self.count } else { 0 };
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
    }

    fn per_second(&self) -> f64 {
        f64::from(self.count.max(self.last).max(1))
    }
}

#[cfg(test)]
mod tests;
