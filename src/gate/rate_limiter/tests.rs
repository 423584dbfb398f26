//! How fast one worker calls, and that a group of them never calls faster than the quota.
//!
//! Time is handed in: no test here ever sleeps.

use super::*;
use proptest::prelude::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// As many calls as it lets through until then.
fn as_fast_as_it_goes(speed: &mut RateLimiter, from: Duration, until: Duration) -> Vec<Duration> {
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
    let mut speed = RateLimiter::new(None);
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
    let mut speed = RateLimiter::new(Some(10.0));
    speed.slow_down(MS(0), Some(MS(60_000)));
    assert_eq!(speed.ready_at(MS(1)), Some(MS(60_000)));
}

/// So many of the partitions.
fn first(partitions: i32) -> Vec<i32> {
    (0..partitions).collect()
}

#[test]
fn without_partitions_there_is_no_call_and_with_some_there_is_a_part() {
    let mut speed = RateLimiter::new(Some(200.0));
    speed.set_share(&[], 12, MS(0));
    assert_eq!(speed.ready_at(MS(5)), None);
    speed.set_share(&first(4), 12, MS(0));
    assert_eq!(speed.ready_at(MS(5)), Some(MS(100)), "whoever waits looks again then");
    assert_eq!(as_fast_as_it_goes(&mut speed, MS(0), MS(10_100)).len(), 651);
    let mut unlimited = RateLimiter::new(None);
    unlimited.set_share(&[], 12, MS(0));
    assert_eq!(unlimited.ready_at(MS(5)), None);
    unlimited.set_share(&first(6), 12, MS(5));
    assert_eq!(unlimited.ready_at(MS(5)), Some(MS(0)), "at once");
}

#[test]
fn less_is_at_once_and_more_when_it_is_paid_for() {
    let mut speed = RateLimiter::new(Some(100.0));
    speed.set_share(&first(1), 4, MS(0));
    assert_eq!(speed.rate(MS(0)), 25.0);
    speed.set_share(&first(3), 4, MS(100));
    assert_eq!(speed.rate(MS(199)), 25.0);
    assert_eq!(speed.rate(MS(200)), 75.0);
    speed.set_share(&first(4), 4, MS(2000));
    speed.set_share(&first(2), 4, MS(2001));
    assert_eq!(speed.rate(MS(2001)), 50.0);
    assert_eq!(speed.rate(MS(9000)), 50.0, "a raise that was taken back never comes");
    let mut slow = RateLimiter::new(Some(100.0));
    slow.set_share(&first(1), 100, MS(0));
    slow.begin(MS(0));
    slow.set_share(&first(2), 100, MS(100));
    assert_eq!(slow.rate(MS(1114)), 1.0, "one call more is waited for a second");
    assert_eq!(slow.rate(MS(1115)), 2.0);
}

#[test]
fn what_is_told_again_changes_nothing_and_many_steps_down_cost_one_call() {
    let mut speed = RateLimiter::new(Some(100.0));
    speed.set_share(&first(1), 4, MS(0));
    speed.set_share(&first(3), 4, MS(0));
    speed.set_share(&first(3), 4, MS(60));
    assert_eq!(speed.rate(MS(100)), 75.0, "100 ms after it was told first");
    let mut small = RateLimiter::new(Some(12.0));
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
        let mut heir = RateLimiter::new(Some(f64::from(quota)));
        for (who, ours) in all.chunks(12_usize.div_ceil(instances)).enumerate() {
            let mut speed = RateLimiter::new(Some(f64::from(quota)));
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
fn a_call_that_was_not_made_takes_nothing_of_the_quota() {
    let mut speed = RateLimiter::new(Some(1.0));
    speed.begin(MS(0));
    for second in 1..100 {
        speed.begin(MS(1015));
        speed.unused(speed.begun());
        assert_eq!(speed.ready_at(MS(1015)), Some(MS(1015)), "{second}");
    }
    speed.begin(MS(1015));
    let first = speed.begun();
    speed.begin(MS(2030));
    speed.unused(first);
    assert_eq!(speed.ready_at(MS(2030)), Some(MS(3045)), "another one was made since");
}

#[test]
fn the_quota_is_used_but_for_the_spread() {
    for (quota, instances) in [(200.0, 1), (200.0, 3), (100.0, 4), (12.5, 3), (77.0, 5)] {
        let all = first(12);
        let mut begun = 0;
        for ours in all.chunks(all.len().div_ceil(instances)) {
            let mut speed = RateLimiter::new(Some(quota));
            speed.set_share(ours, all.len(), MS(0));
            begun += as_fast_as_it_goes(&mut speed, MS(0), MS(60_000)).len();
        }
        let used = begun as f64 / 60.0 / quota.floor();
        assert!((0.98..=1.0).contains(&used), "{quota} among {instances}: {used}");
    }
}

#[test]
fn a_small_quota_leaves_no_instance_without_calls() {
    let mut speed = RateLimiter::new(Some(5.0));
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
        let mut speed = RateLimiter::new(Some(f64::from(rate)));
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
        let mut group = vec![RateLimiter::new(Some(f64::from(quota))); instances];
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
