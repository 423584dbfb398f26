//! The wait before the next attempt: exponential back-off with full jitter under a hard cap.
//!
//! Full jitter (a wait anywhere between zero and the ceiling) spreads events that failed together; see
//! "Exponential Backoff And Jitter" in the AWS Architecture Blog. The crate `backoff` computes the
//! ceilings; the random number is an argument, so a test can choose it.

use std::time::{Duration, Instant};

use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoffBuilder;

/// Exponential back-off with full jitter under a hard cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
}

/// The crate `backoff` wants a clock for its limit on the elapsed time, which is not used here.
#[derive(Default)]
struct AnyInstant;

impl backoff::Clock for AnyInstant {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other constructor")]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Backoff {
    /// `None` if `initial` is zero or above `max`.
    pub fn new(initial: Duration, max: Duration) -> Option<Self> {
        (!initial.is_zero() && initial <= max).then_some(Self { initial, max })
    }

    /// The wait after this many failures in a row (at least 1), with `jitter` in 0..1.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        self.ceiling(failures).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// The longest wait that [`Self::delay`] can return.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let mut policy = ExponentialBackoffBuilder::<AnyInstant>::new()
            .with_initial_interval(self.initial)
            .with_max_interval(self.max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        let mut ceiling = self.initial;
        // 64 doublings reach any cap, so a huge count does not cost a long loop.
        for _ in 0..failures.clamp(1, 64) {
            ceiling = policy.next_backoff().unwrap_or(self.max);
            if ceiling >= self.max {
                break;
            }
        }
        ceiling.min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let backoff = Backoff::new(MS(200), MS(1000)).unwrap();
        let ceilings: Vec<_> = (1..6).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(3, 0.5), MS(400));
    }

    #[test]
    fn a_zero_or_inverted_policy_is_refused() {
        assert_eq!(Backoff::new(MS(0), MS(10)), None);
        assert_eq!(Backoff::new(MS(11), MS(10)), None);
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
    }
}
