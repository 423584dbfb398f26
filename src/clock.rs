//! Time and chance: the one [`Clock`] and the one [`Rng`].
//!
//! Everything that needs the time or a random number takes one of these, so that tests and the
//! simulation decide both. Only [`Clock::system`] and [`Rng::system`] read the real ones. Durations
//! are measured with [`tokio::time::Instant`], which a paused runtime stops too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// The wall clock; clones share it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock, in whole microseconds: PostgreSQL stores no more digits, and a time
    /// that comes back from a ledger must equal the time that was stored.
    pub fn system() -> Self {
        Self::from_fn(|| {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the time")]
            let now = Timestamp::now();
            Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
        })
    }

    /// A clock that a test or the simulation drives.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A source of random numbers; clones share it. Not for secrets.
#[derive(Clone)]
pub struct Rng(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Rng {
    /// Randomly seeded, per thread.
    pub fn system() -> Self {
        Self::from_fn(|| fastrand::u64(..))
    }

    /// A source that a test or the simulation drives; it must return uniformly distributed numbers.
    pub fn from_fn(draw: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    /// A number from the whole range of `u64`.
    pub fn next_u64(&self) -> u64 {
        (self.0)()
    }

    /// A number from the whole range of `u32`.
    pub fn next_u32(&self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in 0..1, for back-off.
    pub fn jitter(&self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

/// Whole milliseconds, for atomics that hold a time.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_covers_zero_to_one_and_excludes_one() {
        let jitter = |drawn| Rng::from_fn(move || drawn).jitter();
        assert_eq!(jitter(0), 0.0);
        assert_eq!(jitter(1 << 63), 0.5);
        assert!(jitter(u64::MAX) < 1.0);
    }

    #[test]
    fn the_system_clock_has_whole_microseconds() {
        assert_eq!(Clock::system().now().subsec_nanosecond() % 1000, 0);
    }
}
