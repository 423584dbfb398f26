//! The producer of the `publish`, `check` and `demo` subcommands: reports where each record was
//! written, and gives up after a time limit.
//!
//! The service publishes through [`super::OutcomeProducer`], which never gives up. Records leave in
//! the order in which they are enqueued, however late their receipts are awaited.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::time::{Instant, sleep};

use super::client_errors::ThrottledErrors;
use super::remedy::{TopicUse, remedy_of};
use super::{KafkaSettings, plain};
use crate::domain::record::{Header, Position};

const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(20);
/// How often [`RecordPublisher::warm_up`] looks; the client's statistics come as often.
const WARM_UP_STEP: Duration = Duration::from_millis(20);

/// The producer.
pub(crate) struct RecordPublisher {
    client: FutureProducer<ThrottledErrors>,
    errors: ThrottledErrors,
    limit: Duration,
}

/// A record to publish.
#[derive(Debug, Clone)]
pub(crate) struct OutgoingRecord {
    /// The topic.
    pub topic: String,
    /// The key; records with the same key go to the same partition.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Vec<u8>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

/// A record that was enqueued and is not acknowledged yet.
pub(crate) struct PublishReceipt {
    topic: String,
    delivery: DeliveryFuture,
    errors: ThrottledErrors,
    limit: Duration,
}

impl RecordPublisher {
    /// A producer that gives up on a record `limit` after it was enqueued.
    pub(crate) fn start(settings: &KafkaSettings, limit: Duration) -> anyhow::Result<Self> {
        let mut config = settings.producer_config();
        // Another name of the property that is set in the next line.
        config.remove("delivery.timeout.ms");
        config.set("message.timeout.ms", limit.as_millis().to_string());
        config.set("statistics.interval.ms", WARM_UP_STEP.as_millis().to_string());
        let errors = ThrottledErrors::default();
        let client = config
            .create_with_context(errors.clone())
            .map_err(plain)
            .context("failed to create the Kafka producer")?;
        Ok(Self { client, errors, limit })
    }

    /// Wait, at most `limit`, until the client can send at once, or never will. An idempotent producer
    /// sends nothing without an id from a broker. librdkafka asks for it first 500 ms after its start,
    /// with a timer, because it has no connection yet. A record would age meanwhile: its timestamp is
    /// the time of the enqueuing.
    pub(crate) async fn warm_up(&self) {
        let until = Instant::now() + self.limit;
        let has_failed = || self.client.client().fatal_error().is_some();
        while !self.errors.has_producer_id() && !has_failed() && Instant::now() < until {
            sleep(WARM_UP_STEP).await;
        }
    }

    /// Enqueue a record; waits only while the queue is full.
    pub(crate) async fn enqueue(&self, record: &OutgoingRecord) -> anyhow::Result<PublishReceipt> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(KafkaHeader { key, value: value.as_ref() });
        }
        loop {
            let mut outgoing = FutureRecord::<[u8], [u8]>::to(&record.topic).payload(&record.value);
            outgoing.key = record.key.as_deref();
            outgoing.headers = Some(headers.clone());
            let error = match self.client.send_result(outgoing) {
                Ok(delivery) => {
                    let topic = record.topic.clone();
                    let (errors, limit) = (self.errors.clone(), self.limit);
                    return Ok(PublishReceipt { topic, delivery, errors, limit });
                }
                Err((error, _)) => error,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(refusal(plain(error), &record.topic));
            }
            sleep(QUEUE_FULL_PAUSE).await;
        }
    }
}

impl PublishReceipt {
    /// Wait for the broker's acknowledgement. Returns the position of the record.
    pub(crate) async fn acknowledged(self) -> anyhow::Result<Position> {
        let Self { topic, delivery, errors, limit } = self;
        match delivery.await.context("the producer ended")? {
            Ok(delivery) => Ok(Position {
                topic: topic.into(),
                partition: delivery.partition,
                offset: delivery.offset,
            }),
            Err((error, _)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageTimedOut) => {
                    let cause = errors.last_error();
                    let cause = if cause.is_empty() { cause } else { format!(": {cause}") };
                    let seconds = limit.as_secs();
                    Err(anyhow!(
                        "{topic} did not acknowledge the record within {seconds} s; it may still \
                         be there{cause}"
                    ))
                }
                _ => Err(refusal(plain(error), &topic)),
            },
        }
    }
}

/// The error of a record that a topic does not take, with what to do about it.
fn refusal(error: anyhow::Error, topic: &str) -> anyhow::Error {
    let remedy = remedy_of(&error, &TopicUse::Write(topic));
    let remedy = remedy.map(|remedy| format!(" ({remedy})")).unwrap_or_default();
    error.context(format!("{topic} refuses the record{remedy}"))
}
