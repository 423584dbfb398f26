//! A producer for people: it says where each record lies, and gives up after a while.
//!
//! Records leave in the order in which they are handed over, however long their receipts are
//! waited for. The service's own producer, which never gives up, is another one.
//! This file never says where a record lies before the broker has acknowledged it.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::sleep;

use super::quiet::QuietContext;
use super::{Settings, plain};
use crate::domain::record::{Header, Position};

/// The producer.
pub struct Publisher {
    client: FutureProducer<QuietContext>,
    limit: Duration,
}

/// A record to be published.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The topic.
    pub topic: String,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Vec<u8>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

/// A record that was handed over and is not acknowledged yet.
pub struct Receipt {
    topic: String,
    delivery: DeliveryFuture,
    limit: Duration,
}

impl Publisher {
    /// A producer that gives a record up after `limit`.
    pub fn start(settings: &Settings, limit: Duration) -> anyhow::Result<Self> {
        let mut config = settings.producer_config();
        config.remove("delivery.timeout.ms");
        config.set("message.timeout.ms", limit.as_millis().to_string());
        let client = config
            .create_with_context(QuietContext::default())
            .map_err(plain)
            .context("failed to set up the Kafka producer")?;
        Ok(Self { client, limit })
    }

    /// Hand a record over; waits only where too many are on their way.
    pub async fn hand_over(&self, record: &Outgoing) -> anyhow::Result<Receipt> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(KafkaHeader { key, value: value.as_ref() });
        }
        loop {
            let mut sent = FutureRecord::<[u8], [u8]>::to(&record.topic).payload(&record.value);
            sent.key = record.key.as_deref();
            sent.headers = Some(headers.clone());
            let error = match self.client.send_result(sent) {
                Ok(delivery) => {
                    return Ok(Receipt {
                        topic: record.topic.clone(),
                        delivery,
                        limit: self.limit,
                    });
                }
                Err((error, _)) => error,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let text = format!("{} does not take the record", record.topic);
                return Err(plain(error).context(text));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Receipt {
    /// Wait until the broker has the record; where it lies then.
    pub async fn acknowledged(self) -> anyhow::Result<Position> {
        let Self { topic, delivery, limit } = self;
        match delivery.await.context("the producer ended")? {
            Ok(place) => Ok(Position {
                topic: topic.into(),
                partition: place.partition,
                offset: place.offset,
            }),
            Err((error, _)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageTimedOut) => Err(anyhow!(
                    "{topic} did not acknowledge the record within {} s; it may still be there",
                    limit.as_secs()
                )),
                _ => Err(plain(error).context(format!("{topic} does not take the record"))),
            },
        }
    }
}
