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
pub struct Speed {
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

impl Speed {
    /// The whole group makes at most so many calls per second; `None`: no limit.
    pub fn new(per_second: Option<f64>) -> Self {
        Self {
            quota: per_second.unwrap_or(f64::INFINITY),
            part: Part { share: 1.0, partitions: usize::MAX },
            raise: None,
            slowed: None,
            slot: None,
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
            let spacing = self.spacing(now).unwrap_or_default();
            // Once for several in a row: the first has put the next call far enough away.
            self.slot = self.slot.map(|slot| slot.max(slot.min(now) + spacing));
        } else if self.quota.is_infinite() {
            self.part = part;
        } else if part.share > before.share {
            let more = self.quota * (part.share - before.share);
            let paid = PAID + part.partitions.saturating_sub(before.partitions) as f64;
            let wait = Duration::from_secs_f64((paid / more).min(SPREAD)).max(LEAST_WAIT);
            self.raise = Some((now + wait, part));
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
        self.slot = Some(due.max(now.saturating_sub(LATE)));
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// As many calls as it lets through until then.
    fn as_fast_as_it_goes(speed: &mut Speed, from: Duration, until: Duration) -> Vec<Duration> {
        let mut begun = Vec::new();
        while let Some(at) = speed.ready_at(from).map(|at| at.max(from))
            && at < until
        {
            speed.begin(at);
            begun.push(at);
        }
        begun
    }

    #[test]
    fn too_fast_halves_the_speed_once_per_burst_and_recovers_additively() {
        let mut speed = Speed::new(None);
        for call in 0..100 {
            speed.begin(MS(10 * call));
        }
        assert_eq!(speed.slow_down(MS(1000), None), Some(50.0));
        assert_eq!(speed.slow_down(MS(1010), None), None);
        assert_eq!(speed.ready_at(MS(1010)), Some(MS(2000)));
        assert_eq!(speed.rate(MS(2000)), 50.0);
        assert_eq!(speed.rate(MS(4000)), 60.0);
        assert_eq!(speed.rate(MS(62_000)), f64::INFINITY);
    }

    #[test]
    fn retry_after_is_honoured() {
        let mut speed = Speed::new(Some(10.0));
        speed.slow_down(MS(0), Some(MS(60_000)));
        assert_eq!(speed.ready_at(MS(1)), Some(MS(60_000)));
    }

    /// So many of the partitions.
    fn first(partitions: i32) -> Vec<i32> {
        (0..partitions).collect()
    }

    #[test]
    fn without_partitions_there_is_no_call_and_with_some_there_is_a_part() {
        let mut speed = Speed::new(Some(200.0));
        speed.set_share(&[], 12, MS(0));
        assert_eq!(speed.ready_at(MS(5)), None);
        speed.set_share(&first(4), 12, MS(0));
        assert_eq!(speed.ready_at(MS(5)), Some(MS(100)), "whoever waits looks again then");
        assert_eq!(as_fast_as_it_goes(&mut speed, MS(0), MS(10_100)).len(), 651);
        let mut unlimited = Speed::new(None);
        unlimited.set_share(&[], 12, MS(0));
        assert_eq!(unlimited.ready_at(MS(5)), None);
        unlimited.set_share(&first(6), 12, MS(5));
        assert_eq!(unlimited.ready_at(MS(5)), Some(MS(0)), "at once");
    }

    #[test]
    fn less_is_at_once_and_more_when_it_is_paid_for() {
        let mut speed = Speed::new(Some(100.0));
        speed.set_share(&first(1), 4, MS(0));
        assert_eq!(speed.rate(MS(0)), 25.0);
        speed.set_share(&first(3), 4, MS(100));
        assert_eq!(speed.rate(MS(199)), 25.0);
        assert_eq!(speed.rate(MS(200)), 75.0);
        speed.set_share(&first(4), 4, MS(2000));
        speed.set_share(&first(2), 4, MS(2001));
        assert_eq!(speed.rate(MS(2001)), 50.0);
        assert_eq!(speed.rate(MS(9000)), 50.0, "a raise that was taken back never comes");
        let mut slow = Speed::new(Some(100.0));
        slow.set_share(&first(1), 100, MS(0));
        slow.begin(MS(0));
        slow.set_share(&first(2), 100, MS(100));
        assert_eq!(slow.rate(MS(1114)), 1.0, "one call more is waited for a second");
        assert_eq!(slow.rate(MS(1115)), 2.0);
    }

    #[test]
    fn what_is_told_again_changes_nothing_and_many_steps_down_cost_one_call() {
        let mut speed = Speed::new(Some(100.0));
        speed.set_share(&first(1), 4, MS(0));
        speed.set_share(&first(3), 4, MS(0));
        speed.set_share(&first(3), 4, MS(60));
        assert_eq!(speed.rate(MS(100)), 75.0, "100 ms after it was told first");
        let mut small = Speed::new(Some(12.0));
        small.begin(MS(0));
        for partitions in (1..12).rev() {
            small.set_share(&first(partitions), 12, MS(10));
        }
        assert_eq!(small.ready_at(MS(10)), Some(MS(10 + 2 * 1015)), "one call a second");
    }

    #[test]
    fn who_gets_everything_waits_for_all_who_have_just_called() {
        for (quota, instances) in (12..60).flat_map(|quota| (2..=12).map(move |n| (quota, n))) {
            let (all, moved) = (first(12), MS(10_000));
            let mut begun = Vec::new();
            let mut heir = Speed::new(Some(f64::from(quota)));
            for (who, ours) in all.chunks(12_usize.div_ceil(instances)).enumerate() {
                let mut speed = Speed::new(Some(f64::from(quota)));
                speed.set_share(ours, 12, MS(0));
                let spacing = speed.spacing(MS(0)).unwrap();
                // The last of their calls begins as they go.
                let calls = (0..50_u32).map(|n| moved - MS(1) - spacing * n);
                begun.extend(calls.take_while(|at| *at > moved - SECOND));
                if who == 0 {
                    speed.begin(moved - MS(1));
                    heir = speed;
                }
            }
            heir.set_share(&all, 12, moved);
            begun.extend(as_fast_as_it_goes(&mut heir, moved, moved + SECOND));
            begun.sort();
            for (i, start) in begun.iter().enumerate() {
                let in_second = begun[i..].iter().take_while(|t| **t < *start + SECOND).count();
                assert!(in_second <= quota as usize, "{in_second} of {quota}, {instances}");
            }
        }
    }

    #[test]
    fn the_quota_is_used_but_for_the_spread() {
        for (quota, instances) in [(200.0, 1), (200.0, 3), (100.0, 4), (12.5, 3), (77.0, 5)] {
            let all = first(12);
            let mut begun = 0;
            for ours in all.chunks(all.len().div_ceil(instances)) {
                let mut speed = Speed::new(Some(quota));
                speed.set_share(ours, all.len(), MS(0));
                begun += as_fast_as_it_goes(&mut speed, MS(0), MS(60_000)).len();
            }
            let used = begun as f64 / 60.0 / quota.floor();
            assert!((0.98..=1.0).contains(&used), "{quota} among {instances}: {used}");
        }
    }

    #[test]
    fn a_small_quota_leaves_no_instance_without_calls() {
        let mut speed = Speed::new(Some(5.0));
        speed.set_share(&[3], 12, MS(0));
        assert!((speed.rate(MS(0)) - 5.0 / 12.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_limit_is_never_exceeded_in_any_second(
            rate in 1u32..300,
            gaps in prop::collection::vec(0u64..40, 1..400),
            late in prop::collection::vec(0u64..4, 400),
        ) {
            let mut speed = Speed::new(Some(f64::from(rate)));
            let (mut now, mut begun) = (Duration::ZERO, Vec::new());
            for (gap, late) in gaps.into_iter().zip(late) {
                now = speed.ready_at(now).unwrap().max(now + MS(gap)) + MS(late);
                speed.begin(now);
                begun.push(now);
            }
            for (i, start) in begun.iter().enumerate() {
                let in_second = begun[i..].iter().take_while(|t| **t < *start + SECOND).count();
                prop_assert!(in_second <= rate as usize, "{in_second} in a second");
            }
        }

        #[test]
        fn a_group_never_exceeds_its_quota_while_partitions_change_hands(
            quota in 12u32..300,
            instances in 2usize..9,
            moves in prop::collection::vec((prop::collection::vec(0usize..8, 12), 0u64..2500), 2..12),
        ) {
            // Together they own all twelve; some are given up just before others come.
            let mut group = vec![Speed::new(Some(f64::from(quota))); instances];
            let mut owners = vec![0; 12];
            let (mut begun, mut now) = (Vec::new(), Duration::ZERO);
            let owned = |owners: &[usize], who: usize| -> Vec<i32> {
                (0..12).filter(|partition| owners[*partition as usize] == who).collect()
            };
            for (who, speed) in group.iter_mut().enumerate() {
                speed.set_share(&owned(&owners, who), 12, now);
            }
            for (wanted, steady) in moves {
                for speed in &mut group {
                    begun.extend(as_fast_as_it_goes(speed, now, now + MS(steady)));
                }
                now += MS(steady);
                let next: Vec<_> = wanted.into_iter().map(|who| who % instances).collect();
                for (who, speed) in group.iter_mut().enumerate() {
                    let mut kept = owned(&owners, who);
                    kept.retain(|partition| next[*partition as usize] == who);
                    speed.set_share(&kept, 12, now);
                    speed.set_share(&owned(&next, who), 12, now);
                }
                owners = next;
            }
            begun.sort();
            for (i, start) in begun.iter().enumerate() {
                let in_second = begun[i..].iter().take_while(|t| **t < *start + SECOND).count();
                prop_assert!(in_second <= quota as usize, "{in_second} of {quota}");
            }
        }
    }
}
