//! The producer of `handoff dead-letters replay`: transactions.
//!
//! A replayed record and the marker that says so become visible together or not at all, also when the
//! process is killed in between. All replays of a dead-letter topic share one transactional id, so a
//! new one ends what a killed one has left, and two at the same time cannot both go on.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::client_errors::ThrottledErrors;
use super::{KafkaSettings, plain};
use crate::domain::record::Header;

/// Consumers wait for the end of a transaction. That of a killed process ends after this time, or
/// when the next replay begins.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// librdkafka allows no longer one.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The producer. It blocks, so it belongs on a blocking thread.
pub(crate) struct ReplayProducer {
    client: FutureProducer<ThrottledErrors>,
    limit: Duration,
}

/// A record of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct TransactedRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None`: by the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

impl ReplayProducer {
    /// Connects, and ends the transaction of an earlier replay; each request may take `limit`.
    pub(crate) fn start(settings: &KafkaSettings, limit: Duration) -> anyhow::Result<Self> {
        let id = transactional_id(settings);
        let mut config = settings.producer_config();
        // Another name of the property that is set below.
        config.remove("delivery.timeout.ms");
        config.set("transactional.id", &id);
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        config.set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string());
        let client: FutureProducer<ThrottledErrors> = config
            .create_with_context(ThrottledErrors::default())
            .map_err(plain)
            .context("failed to create the Kafka producer")?;
        client.init_transactions(limit).map_err(|error| {
            let is_refused = error.rdkafka_error_code()
                == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed);
            let remedy = if is_refused {
                format!(": allow Write and Describe on the transactional id {id}")
            } else {
                String::new()
            };
            plain(error).context(format!("failed to begin as {id}{remedy}"))
        })?;
        Ok(Self { client, limit })
    }

    /// Publishes these records, all or none. After an error they may be published or not.
    pub(crate) fn publish(&self, records: &[TransactedRecord<'_>]) -> anyhow::Result<()> {
        self.client.begin_transaction().map_err(plain).context("failed to begin a transaction")?;
        let published = records.iter().try_for_each(|record| self.enqueue(record));
        let published = published.and_then(|()| {
            // Waits for every record; one that failed fails the commit.
            self.client.commit_transaction(self.limit).map_err(|error| {
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch) => {
                        anyhow!("another replay of these dead letters has begun: it goes on")
                    }
                    _ => plain(error).context("the transaction is not committed"),
                }
            })
        });
        if published.is_err() {
            // The error counts: an abort that fails as well is done by the next replay.
            drop(self.client.abort_transaction(self.limit));
        }
        published
    }

    fn enqueue(&self, record: &TransactedRecord<'_>) -> anyhow::Result<()> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(KafkaHeader { key, value: value.as_ref() });
        }
        let mut outgoing = FutureRecord::<[u8], [u8]>::to(record.topic).headers(headers);
        (outgoing.key, outgoing.payload) = (record.key, record.value);
        outgoing.partition = record.partition;
        // A batch is far smaller than the queue. The commit reports what becomes of it.
        let enqueued = self.client.send_result(outgoing);
        enqueued.map(drop).map_err(|(error, _)| {
            plain(error).context(format!("{} refuses the record", record.topic))
        })
    }
}

/// The transactional id of every replay of this dead-letter topic.
fn transactional_id(settings: &KafkaSettings) -> String {
    format!("handoff-replay-{}", settings.topics.dead_letters)
}
