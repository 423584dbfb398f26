//! Limits how often the log repeats a Kafka client's errors.
//!
//! In a broker outage librdkafka reports errors several times a second. One warning per ten
//! seconds is logged, with the number of those that were suppressed since.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;
use tracing::debug;

const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one warning per interval through and counts the others.
#[derive(Default)]
pub(super) struct LogThrottle(Mutex<Option<LastWarning>>);

struct LastWarning {
    at: Instant,
    /// Warnings since then that were not logged.
    suppressed: u64,
}

impl LogThrottle {
    /// `Some(number of warnings suppressed before this one)` where this warning is due.
    pub(super) fn admit(&self) -> Option<u64> {
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
        *last = Some(LastWarning { at: now, suppressed: 0 });
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
pub(super) use warn_throttled;

/// The context of clients that need no callbacks: logs their errors, throttled.
#[derive(Default)]
pub(super) struct ThrottledErrors {
    throttle: LogThrottle,
}

impl ConsumerContext for ThrottledErrors {}

impl ClientContext for ThrottledErrors {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        // The end of a partition is not an error. These clients use a group's name without joining
        // it, so its ACL does not matter. A topic's ACL is reported by the call that it refuses.
        if let Some(
            Code::PartitionEOF | Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed,
        ) = error.rdkafka_error_code()
        {
            return;
        }
        warn_throttled!(self.throttle, %error, reason, "Kafka client error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_warning_per_interval_is_logged_and_the_others_are_counted() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!((throttle.admit(), throttle.admit()), (None, None));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.admit(), Some(2));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.admit(), Some(0));
    }
}
