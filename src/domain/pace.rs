//! How long to wait: back-off of one event, and the speed of the whole worker.
//!
//! `Backoff` is crate `backoff` as a policy, made pure (no clock, no chance of its own) and
//! clamped: full jitter under a hard cap. `Speed` is multiplicative slow-down and additive
//! recovery. Times are durations since any fixed moment.
//! This file never sleeps and never reads a clock.

use std::time::{Duration, Instant};

use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoffBuilder;

/// Exponential back-off with full jitter under a hard cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
}

/// A clock for crate `backoff`: elapsed time plays no part here, so any instant serves.
#[derive(Default)]
struct AnyInstant;

impl backoff::Clock for AnyInstant {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other constructor")]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Backoff {
    /// A policy; `None` where the first wait is zero or above the cap.
    pub fn new(initial: Duration, max: Duration) -> Option<Self> {
        (!initial.is_zero() && initial <= max).then_some(Self { initial, max })
    }

    /// The wait after the `failures`th failure in a row (1 is the first), `jitter` in 0..1.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        self.ceiling(failures).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// The longest wait that `delay` can give.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let mut policy = ExponentialBackoffBuilder::<AnyInstant>::new()
            .with_initial_interval(self.initial)
            .with_max_interval(self.max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        let mut ceiling = self.initial;
        // 64 doublings reach any cap; the loop is bounded whatever the count says.
        for _ in 0..failures.clamp(1, 64) {
            ceiling = policy.next_backoff().unwrap_or(self.max);
            if ceiling >= self.max {
                break;
            }
        }
        ceiling.min(self.max)
    }
}

/// Calls per second, slowed down together when Desk says "too fast".
#[derive(Debug, Clone)]
pub struct Speed {
    /// The configured limit; infinite where there is none.
    limit: f64,
    /// The limit in force while Desk complains.
    slowed: Option<Slowed>,
    /// The earliest time of the next call.
    next: Duration,
    /// Calls begun in the current and the last second, to know what "half" is.
    recent: Recent,
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
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So long without a complaint, and the slow-down is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
const SLOWEST: f64 = 0.5;

impl Speed {
    /// At most so many calls per second; `None`: no limit.
    pub fn new(per_second: Option<f64>) -> Self {
        let limit = per_second.unwrap_or(f64::INFINITY);
        Self { limit, slowed: None, next: Duration::ZERO, recent: Recent::default() }
    }

    /// The limit in force.
    pub fn rate(&self, now: Duration) -> f64 {
        self.slowed.as_ref().map_or(self.limit, |slowed| slowed.rate_at(now).min(self.limit))
    }

    /// The earliest time at which the next call may begin.
    pub fn ready_at(&self) -> Duration {
        self.next
    }

    /// A call begins now.
    pub fn begin(&mut self, now: Duration) {
        self.recent.count_one(now.as_secs());
        let rate = self.rate(now);
        if rate.is_finite() {
            self.next = self.next.max(now) + Duration::from_secs_f64(1.0 / rate);
        }
    }

    /// Desk said "too fast". Returns the new rate, or `None` for one more of the same burst.
    pub fn slow_down(&mut self, now: Duration, pause: Option<Duration>) -> Option<f64> {
        let earlier = self.slowed.as_ref().filter(|slowed| now < slowed.since + FORGIVEN_AFTER);
        if earlier.is_some_and(|slowed| now < slowed.since + SECOND) {
            self.next = self.next.max(now + pause.unwrap_or_default());
            return None;
        }
        let complaints = earlier.map_or(0, |slowed| slowed.complaints);
        let grown = SECOND.saturating_mul(1 << complaints.min(5)).min(LONGEST_PAUSE);
        let since = now + pause.unwrap_or(grown);
        let before = self.rate(now).min(self.recent.per_second());
        let step = earlier.map_or((before * 0.05).max(SLOWEST), |slowed| slowed.step);
        let rate = (before / 2.0).max(SLOWEST);
        self.next = self.next.max(since);
        self.slowed = Some(Slowed { since, rate, step, complaints: complaints + 1 });
        Some(rate)
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

    #[test]
    fn doubles_up_to_the_cap() {
        let backoff = Backoff::new(MS(200), MS(1000)).unwrap();
        let ceilings: Vec<_> = (1..6).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(3, 0.5), MS(400));
    }

    #[test]
    fn a_policy_that_makes_no_sense_cannot_exist() {
        assert_eq!(Backoff::new(MS(0), MS(10)), None);
        assert_eq!(Backoff::new(MS(11), MS(10)), None);
    }

    #[test]
    fn too_fast_halves_the_speed_once_per_burst_and_recovers_additively() {
        let mut speed = Speed::new(None);
        for call in 0..100 {
            speed.begin(MS(10 * call));
        }
        assert_eq!(speed.slow_down(MS(1000), None), Some(50.0));
        assert_eq!(speed.slow_down(MS(1010), None), None);
        assert_eq!(speed.ready_at(), MS(2000));
        assert_eq!(speed.rate(MS(2000)), 50.0);
        assert_eq!(speed.rate(MS(4000)), 60.0);
        assert_eq!(speed.rate(MS(62_000)), f64::INFINITY);
    }

    #[test]
    fn retry_after_is_honoured() {
        let mut speed = Speed::new(Some(10.0));
        speed.slow_down(MS(0), Some(MS(60_000)));
        assert_eq!(speed.ready_at(), MS(60_000));
    }

    proptest! {
        #[test]
        fn a_delay_is_never_above_the_cap(
            initial in 1u64..100_000, more in 0u64..1_000_000,
            failures in any::<u32>(), jitter in 0.0f64..=1.0,
        ) {
            let cap = MS(initial + more);
            let backoff = Backoff::new(MS(initial), cap).unwrap();
            prop_assert!(backoff.delay(failures, jitter) <= backoff.ceiling(failures));
            prop_assert!(backoff.ceiling(failures) <= cap);
            prop_assert!(backoff.ceiling(failures) >= MS(initial));
        }

        #[test]
        fn a_limit_is_never_exceeded_in_any_second(rate in 1u32..300, gaps in prop::collection::vec(0u64..40, 1..400)) {
            let mut speed = Speed::new(Some(f64::from(rate)));
            let (mut now, mut begun) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now = speed.ready_at().max(now + MS(gap));
                speed.begin(now);
                begun.push(now);
            }
            for (i, start) in begun.iter().enumerate() {
                let in_second = begun[i..].iter().take_while(|t| **t < *start + SECOND).count();
                prop_assert!(in_second <= rate as usize + 1, "{in_second} in a second");
            }
        }
    }
}
