//! The errors of clients that need no callbacks: logged, and the last one kept. The log is throttled,
//! because in a broker outage librdkafka reports them several times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};
use tracing::{debug, trace};

use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// The context of clients that need no callbacks: logs their errors, throttled, and keeps the last
/// connection error; clones share both.
#[derive(Clone, Default)]
pub(super) struct ThrottledErrors(Arc<ErrorState>);

#[derive(Default)]
struct ErrorState {
    throttle: LogThrottle,
    /// Errors are kept and not logged: `metadata` reports the last one.
    is_quiet: AtomicBool,
    last_error: Mutex<String>,
    /// An idempotent producer has the id without which it sends nothing.
    has_producer_id: AtomicBool,
}

impl ThrottledErrors {
    /// The client's last error, in librdkafka's words; may be empty. While no broker answers, it is
    /// why the last connection failed.
    pub(super) fn last_error(&self) -> String {
        self.0.last_error.lock().clone()
    }

    /// Whether the client, an idempotent producer, can send now. Needs statistics.
    pub(super) fn has_producer_id(&self) -> bool {
        self.0.has_producer_id.load(Relaxed)
    }

    /// Whether errors are kept without being logged.
    pub(super) fn set_quiet(&self, is_quiet: bool) {
        self.0.is_quiet.store(is_quiet, Relaxed);
    }
}

/// The text of a message of librdkafka's log, without the thread before it
/// ("[thrd:localhost:9092/bootstrap]: ") and the time behind it (" (after 0ms in state CONNECT)").
pub(super) fn bare_text(message: &str) -> &str {
    let text = message.split_once("]: ").map_or(message, |(_, text)| text);
    text.split_once(" (after ").map_or(text, |(text, _)| text)
}

impl ConsumerContext for ThrottledErrors {}

impl ClientContext for ThrottledErrors {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if matches!(level, RDKafkaLogLevel::Debug) {
            trace!(facility, "{message}");
        } else {
            debug!(facility, "{message}");
        }
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.eos.is_some_and(|producer| producer.producer_id >= 0) {
            self.0.has_producer_id.store(true, Relaxed);
        }
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
        // "All brokers down" follows the error that says why: that one is kept.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            bare_text(reason).clone_into(&mut self.0.last_error.lock());
        }
        if self.0.is_quiet.load(Relaxed) {
            return;
        }
        warn_throttled!(self.0.throttle, %error, reason, "Kafka client error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_message_has_no_thread_and_no_time() {
        let message = "[thrd:b:9/bootstrap]: b:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: \
                       Connection refused (after 3ms in state CONNECT)";
        let text = "b:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused";
        assert_eq!(bare_text(message), text);
        assert_eq!(bare_text("unknown"), "unknown");
    }
}
