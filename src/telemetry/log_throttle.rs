//! Limits how often the log repeats a line: one per ten seconds, with the number of those that were
//! suppressed since.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::event::MalformedClass;

const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line per interval through and counts the others.
#[derive(Default)]
pub(crate) struct LogThrottle(Mutex<Option<LastLine>>);

struct LastLine {
    at: Instant,
    /// Lines since then that were not logged.
    suppressed: u64,
}

impl LogThrottle {
    /// A throttle that lets the next line through.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// `Some(number of lines suppressed before this one)` where this line is due.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut last = self.0.lock();
        let now = Instant::now();
        let suppressed = match &mut *last {
            Some(last) if now < last.at + INTERVAL => {
                last.suppressed += 1;
                return None;
            }
            Some(last) => last.suppressed,
            None => 0,
        };
        *last = Some(LastLine { at: now, suppressed: 0 });
        Some(suppressed)
    }
}

/// Logs a warning with the fields `error` and `suppressed`, unless the throttle holds it back.
macro_rules! warn_throttled {
    ($throttle:expr, $($event:tt)+) => {
        if let Some(suppressed) = $throttle.admit() {
            ::tracing::warn!(suppressed, $($event)+);
        }
    };
}
pub(crate) use warn_throttled;

/// The same at the level `info`.
macro_rules! info_throttled {
    ($throttle:expr, $($event:tt)+) => {
        if let Some(suppressed) = $throttle.admit() {
            ::tracing::info!(suppressed, $($event)+);
        }
    };
}
pub(crate) use info_throttled;

/// A throttle for each class of dead letters: a publisher with a wrong serializer sends thousands a
/// second.
#[derive(Default)]
pub struct DeadLetterLog([LogThrottle; MalformedClass::ALL.len()]);

impl DeadLetterLog {
    /// `Some(number of lines of this class suppressed before this one)` where the line is due. A class
    /// that this version does not have is not throttled.
    pub(crate) fn admit(&self, class: &str) -> Option<u64> {
        let index = MalformedClass::ALL.iter().position(|own| own.as_str() == class);
        index.map_or(Some(0), |index| self.0[index].admit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_class_of_dead_letters_has_a_throttle_of_its_own() {
        let log = DeadLetterLog::default();
        assert_eq!((log.admit("not_json"), log.admit("bad_id")), (Some(0), Some(0)));
        assert_eq!((log.admit("not_json"), log.admit("bad_id")), (None, None));
        assert_eq!((log.admit("new"), log.admit("new")), (Some(0), Some(0)));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(log.admit("not_json"), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_per_interval_is_logged_and_the_others_are_counted() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!((throttle.admit(), throttle.admit()), (None, None));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.admit(), Some(2));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.admit(), Some(0));
    }
}
