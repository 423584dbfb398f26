//! The clients' own complaints, in the log at a bearable rate.
//!
//! In a broker outage librdkafka repeats itself several times a second; one line per while
//! is told, with the number of the ones left out.
//! This file never hides the first complaint of a while.

use parking_lot::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;
use tracing::{debug, warn};

const WHILE: Duration = Duration::from_secs(10);

/// Lets one complaint per while through.
#[derive(Default)]
pub(super) struct Quiet(Mutex<Option<(Instant, u64)>>);

impl Quiet {
    /// Tell it, or count it.
    pub(super) fn complain(&self, who: &str, text: &str) {
        let mut state = self.0.lock();
        let now = Instant::now();
        let left_out = match &mut *state {
            Some((told, left_out)) if now < *told + WHILE => {
                *left_out += 1;
                return;
            }
            Some((_, left_out)) => *left_out,
            None => 0,
        };
        *state = Some((now, 0));
        drop(state);
        warn!(repeated = left_out, "Kafka {who}: {text}");
    }
}

/// What a client without callbacks of its own does with its complaints.
#[derive(Default)]
pub(super) struct QuietContext {
    pub(super) quiet: Quiet,
}

impl ConsumerContext for QuietContext {}

impl ClientContext for QuietContext {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        // The end of a partition is no error, no client here joins the group it is given the name
        // of, and a topic that refuses us is told by the call that it refuses.
        if let Some(
            Code::PartitionEOF | Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed,
        ) = error.rdkafka_error_code()
        {
            return;
        }
        self.quiet.complain("client", &format!("{error}: {reason}"));
    }
}
