//! The rate of one instance, and that a group of instances never exceeds the quota together.

mod throttling;

use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECOND: Duration = Duration::from_secs(1);

/// The start of every call that `limiter` allows from `from` until `until`.
fn call_at_full_rate(limiter: &mut RateLimiter, from: Duration, until: Duration) -> Vec<Duration> {
    let mut started = Vec::new();
    while let Some(at) = limiter.next_at(from).map(|at| at.max(from))
        && at < until
    {
        limiter.start_call(at);
        started.push(at);
    }
    started
}

#[test]
fn an_isolated_complaint_changes_nothing() {
    let mut limiter = RateLimiter::new(Some(100.0));
    limiter.start_call(MS(0));
    assert_eq!(limiter.throttle(session(1), MS(50)), None);
    assert!(call_at_full_rate(&mut limiter, MS(50), MS(1_150)).len() >= 100);
}

#[test]
fn a_session_that_is_always_throttled_slows_no_other() {
    let mut limiter = RateLimiter::new(Some(100.0));
    for second in 0..60 {
        assert_eq!(limiter.throttle(session(0), MS(second * 1_000)), None);
        limiter.succeed(session(second + 1), MS(second * 1_000 + 500));
        assert_eq!(limiter.rate(MS(second * 1_000 + 500)), 100.0);
    }
}

#[test]
fn a_burst_of_complaints_counts_once_and_the_rate_returns_within_ten_seconds() {
    let mut limiter = RateLimiter::new(Some(100.0));
    for call in 0..40 {
        limiter.succeed(session(call), MS(10 * call));
    }
    assert_eq!(limiter.throttle(session(100), MS(400)), None);
    assert_eq!(limiter.throttle(session(101), MS(410)), Some(32.0));
    assert_eq!(limiter.throttle(session(102), MS(420)), None);
    assert_eq!(limiter.next_at(MS(420)), Some(MS(1_000)), "Desk's second is full until then");
    assert!((limiter.rate(MS(1_000)) - 32.0).abs() < 1e-6);
    assert_eq!(limiter.rate(MS(10_000)), 100.0);
}

#[test]
fn a_pause_named_by_desk_is_kept() {
    let mut limiter = RateLimiter::new(Some(10.0));
    limiter.hold(MS(60_000), MS(0));
    assert_eq!(limiter.next_at(MS(1)), Some(MS(60_000)));
}

fn session(number: u64) -> SessionHash {
    SessionHash::of(&number.to_string())
}

fn first(partitions: i32) -> Vec<i32> {
    (0..partitions).collect()
}

#[test]
fn a_share_follows_the_partitions_and_no_partition_means_no_call() {
    let mut limiter = RateLimiter::new(Some(200.0));
    limiter.set_share(&[], 12, MS(0));
    assert_eq!(limiter.next_at(MS(5)), None);
    limiter.set_share(&first(4), 12, MS(0));
    assert_eq!(limiter.next_at(MS(5)), Some(MS(100)), "a waiter looks again then");
    assert_eq!(call_at_full_rate(&mut limiter, MS(0), MS(10_100)).len(), 651);
    let mut unlimited = RateLimiter::new(None);
    unlimited.set_share(&[], 12, MS(0));
    assert_eq!(unlimited.next_at(MS(5)), None);
    unlimited.set_share(&first(6), 12, MS(5));
    assert_eq!(unlimited.next_at(MS(5)), Some(MS(0)), "at once");
}

#[test]
fn a_smaller_share_starts_at_once_and_a_larger_one_later() {
    let mut limiter = RateLimiter::new(Some(100.0));
    limiter.set_share(&first(1), 4, MS(0));
    assert_eq!(limiter.rate(MS(0)), 25.0);
    limiter.set_share(&first(3), 4, MS(100));
    assert_eq!(limiter.rate(MS(199)), 25.0);
    assert_eq!(limiter.rate(MS(200)), 75.0);
    limiter.set_share(&first(4), 4, MS(2000));
    limiter.set_share(&first(2), 4, MS(2001));
    assert_eq!(limiter.rate(MS(2001)), 50.0);
    assert_eq!(limiter.rate(MS(9000)), 50.0, "a larger share that was revoked never starts");
    let mut slow = RateLimiter::new(Some(100.0));
    slow.set_share(&first(1), 100, MS(0));
    slow.start_call(MS(0));
    slow.set_share(&first(2), 100, MS(100));
    assert_eq!(slow.rate(MS(1114)), 1.0, "one more call per second starts after a second");
    assert_eq!(slow.rate(MS(1115)), 2.0);
}

#[test]
fn a_repeated_share_changes_nothing_and_several_decreases_skip_one_call() {
    let mut limiter = RateLimiter::new(Some(100.0));
    limiter.set_share(&first(1), 4, MS(0));
    limiter.set_share(&first(3), 4, MS(0));
    limiter.set_share(&first(3), 4, MS(60));
    assert_eq!(limiter.rate(MS(100)), 75.0, "100 ms after it was first set");
    let mut small = RateLimiter::new(Some(12.0));
    small.start_call(MS(0));
    for partitions in (1..12).rev() {
        small.set_share(&first(partitions), 12, MS(10));
    }
    assert_eq!(small.next_at(MS(10)), Some(MS(10 + 2 * 1015)), "one call a second");
}

#[test]
fn an_instance_that_gains_every_partition_waits_for_the_calls_of_their_owners() {
    for (quota, instances) in (12..60).flat_map(|quota| (2..=12).map(move |n| (quota, n))) {
        let (all, moved) = (first(12), MS(10_000));
        let mut started = Vec::new();
        let mut last_owner = RateLimiter::new(Some(f64::from(quota)));
        for (who, ours) in all.chunks(12_usize.div_ceil(instances)).enumerate() {
            let mut limiter = RateLimiter::new(Some(f64::from(quota)));
            limiter.set_share(ours, 12, MS(0));
            let interval = limiter.interval(MS(0)).unwrap();
            // Their last calls start just before they lose the partitions.
            let calls = (0..50_u32).map(|n| moved - MS(1) - interval * n);
            started.extend(calls.take_while(|at| *at > moved - SECOND));
            if who == 0 {
                limiter.start_call(moved - MS(1));
                last_owner = limiter;
            }
        }
        last_owner.set_share(&all, 12, moved);
        started.extend(call_at_full_rate(&mut last_owner, moved, moved + SECOND));
        started.sort();
        for (i, start) in started.iter().enumerate() {
            let in_second = started[i..].iter().take_while(|t| **t < *start + SECOND).count();
            assert!(in_second <= quota as usize, "{in_second} of {quota}, {instances}");
        }
    }
}

#[test]
fn the_whole_quota_is_used_but_for_the_slack() {
    for (quota, instances) in [(200.0, 1), (200.0, 3), (100.0, 4), (12.5, 3), (77.0, 5)] {
        let all = first(12);
        let mut started = 0;
        for ours in all.chunks(all.len().div_ceil(instances)) {
            let mut limiter = RateLimiter::new(Some(quota));
            limiter.set_share(ours, all.len(), MS(0));
            started += call_at_full_rate(&mut limiter, MS(0), MS(60_000)).len();
        }
        let used = started as f64 / 60.0 / quota.floor();
        assert!((0.98..=1.0).contains(&used), "{quota} among {instances}: {used}");
    }
}

#[test]
fn a_quota_below_the_partition_count_gives_each_instance_a_fraction_of_a_call() {
    let mut limiter = RateLimiter::new(Some(5.0));
    limiter.set_share(&[3], 12, MS(0));
    assert!((limiter.rate(MS(0)) - 5.0 / 12.0).abs() < 1e-9);
}

proptest! {
    #[test]
    fn no_second_has_more_calls_than_the_rate(
        rate in 1u32..300,
        gaps in prop::collection::vec(0u64..40, 1..400),
        late in prop::collection::vec(0u64..4, 400),
    ) {
        let mut limiter = RateLimiter::new(Some(f64::from(rate)));
        let (mut now, mut started) = (Duration::ZERO, Vec::new());
        for (gap, late) in gaps.into_iter().zip(late) {
            now = limiter.next_at(now).unwrap().max(now + MS(gap)) + MS(late);
            limiter.start_call(now);
            started.push(now);
        }
        for (i, start) in started.iter().enumerate() {
            let in_second = started[i..].iter().take_while(|t| **t < *start + SECOND).count();
            prop_assert!(in_second <= rate as usize, "{in_second} in a second");
        }
    }

    #[test]
    fn a_group_stays_within_its_quota_while_partitions_move(
        quota in 12u32..300,
        instances in 2usize..9,
        moves in prop::collection::vec((prop::collection::vec(0usize..8, 12), 0u64..2500), 2..12),
    ) {
        // Together they own all twelve partitions; each loses some just before it gains others.
        let mut group = vec![RateLimiter::new(Some(f64::from(quota))); instances];
        let mut owners = vec![0; 12];
        let (mut started, mut now) = (Vec::new(), Duration::ZERO);
        let owned = |owners: &[usize], who: usize| -> Vec<i32> {
            (0..12).filter(|partition| owners[*partition as usize] == who).collect()
        };
        for (who, limiter) in group.iter_mut().enumerate() {
            limiter.set_share(&owned(&owners, who), 12, now);
        }
        for (wanted, unchanged_for) in moves {
            for limiter in &mut group {
                started.extend(call_at_full_rate(limiter, now, now + MS(unchanged_for)));
            }
            now += MS(unchanged_for);
            let next: Vec<_> = wanted.into_iter().map(|who| who % instances).collect();
            for (who, limiter) in group.iter_mut().enumerate() {
                let mut kept = owned(&owners, who);
                kept.retain(|partition| next[*partition as usize] == who);
                limiter.set_share(&kept, 12, now);
                limiter.set_share(&owned(&next, who), 12, now);
            }
            owners = next;
        }
        started.sort();
        for (i, start) in started.iter().enumerate() {
            let in_second = started[i..].iter().take_while(|t| **t < *start + SECOND).count();
            prop_assert!(in_second <= quota as usize, "{in_second} of {quota}");
        }
    }
}
