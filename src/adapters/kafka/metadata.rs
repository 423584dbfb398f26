//! The first request of a client, and why nobody answers it.

use std::time::Duration;

use anyhow::anyhow;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use tokio::time::Instant;
use tracing::warn;

use super::KafkaSettings;
use super::client_errors::ThrottledErrors;

/// After this long without an answer the cause is logged, so that nobody waits without a word.
const REPORT_AFTER: Duration = Duration::from_secs(2);
/// A caller with a shorter limit soon reports the error itself.
const LONG_LIMIT: Duration = Duration::from_secs(10);
/// How long a client that has just failed is polled for the cause.
const SERVE: Duration = Duration::from_millis(100);

/// Fetch the metadata of a topic within `limit`. While no broker answers, librdkafka connects again
/// and again; the cause is logged once, and is part of the error. Blocks.
pub(super) fn fetch_metadata(
    client: &BaseConsumer<ThrottledErrors>,
    settings: &KafkaSettings,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<Metadata> {
    let errors: &ThrottledErrors = client.context();
    errors.set_quiet(true);
    let answer = fetch(client, topic, limit);
    errors.set_quiet(false);
    answer.map_err(|error| {
        let cause = errors.last_error();
        let cause = if cause.is_empty() { super::plain(error) } else { anyhow!("{cause}") };
        cause.context(format!(
            "no answer from {}: check that kafka.bootstrap_servers names the brokers, that they \
             run, and that security.protocol and sasl.* match them",
            settings.bootstrap_servers
        ))
    })
}

fn fetch(
    client: &BaseConsumer<ThrottledErrors>,
    topic: &str,
    limit: Duration,
) -> KafkaResult<Metadata> {
    let until = Instant::now() + limit;
    let reports = limit >= LONG_LIMIT;
    let answer = client.fetch_metadata(Some(topic), if reports { REPORT_AFTER } else { limit });
    if answer.is_ok() {
        return answer;
    }
    serve_callbacks(client);
    if !reports {
        return answer;
    }
    warn!(error = client.context().last_error(), "no answer from Kafka yet");
    let answer = client.fetch_metadata(Some(topic), until.duration_since(Instant::now()));
    serve_callbacks(client);
    answer
}

/// The client reports its errors to its context only while it is polled.
fn serve_callbacks(client: &BaseConsumer<ThrottledErrors>) {
    let until = Instant::now() + SERVE;
    while Instant::now() < until {
        // Nothing is assigned yet, so no records come.
        drop(client.poll(Duration::from_millis(10)));
    }
}
