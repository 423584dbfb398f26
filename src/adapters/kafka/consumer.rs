//! The consumer: a thread that polls, hands records on, and serves rebalances.
//!
//! Polling never waits for a delivery. What a rebalance does is in `rebalance`.
//! No `TopicPartitionList` outlives the call it is for: a living one blocks the closing.
//! This file never commits an offset that was not stored by `consume`.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::rebalance::{Callbacks, Handle, list};
use super::{Settings, plain};
use crate::consume::Source;
use crate::domain::record::{self, Position, Record};
use crate::lease::Lease;

/// The wait for a record.
const POLL: Duration = Duration::from_millis(100);
/// So many records are handed on at once.
const TOGETHER: usize = 32;

/// The consumer's thread; it ends with an error where the group will not have us again.
pub type Thread = JoinHandle<anyhow::Result<()>>;

/// The consumer, as `consume` uses it.
pub struct Consumer {
    client: Weak<BaseConsumer<Callbacks>>,
    topic: Arc<str>,
}

impl Consumer {
    /// Subscribe, and poll on a thread of its own until stopped.
    pub fn start(settings: &Settings, handle: Handle) -> anyhow::Result<(Self, Thread)> {
        let (stop, lease) = (handle.stop.clone(), handle.lease.clone());
        let listens = settings.is_run_by_broker();
        let topic: Arc<str> = settings.topics.escalations.as_str().into();
        let client: BaseConsumer<Callbacks> = settings
            .consumer_config()
            .create_with_context(Callbacks::new(topic.clone(), listens, handle))
            .map_err(plain)
            .context("failed to set up the Kafka consumer")?;
        info!(kafka.group = settings.group_id, kafka.topic = %topic, "joining the group");
        client.subscribe(&[&topic]).with_context(|| format!("failed to subscribe to {topic}"))?;
        let client = Arc::new(client);
        client.context().know(&client);
        let consumer = Self { client: Arc::downgrade(&client), topic: topic.clone() };
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || {
                let polling = || poll(&client, &topic, (&lease, &stop));
                // Whatever happens, the group is left in order: dropping alone would wait for ever.
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(polling));
                close(client, !matches!(ended, Ok(Ok(()))));
                ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .context("failed to start the consumer's thread")?;
        Ok((consumer, thread))
    }

    fn with(
        &self,
        partitions: &[i32],
        act: impl FnOnce(&BaseConsumer<Callbacks>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        // The list goes before the client: see the head.
        let Some(client) = self.client.upgrade() else { return };
        if let Err(error) = act(&client, &list(&self.topic, partitions)) {
            // A partition that is not ours any more.
            debug!(kafka.partitions = ?partitions, "failed to pause or resume: {error}");
        }
    }
}

impl Source for Consumer {
    fn store(&self, partition: i32, offset: i64) {
        let Some(client) = self.client.upgrade() else { return };
        let mut list = TopicPartitionList::with_capacity(1);
        let stored = list
            .add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| client.store_offsets(&list));
        if let Err(error) = stored {
            debug!(kafka.partition = partition, kafka.offset = offset, "not stored: {error}");
        }
    }

    fn pause(&self, partitions: &[i32]) {
        self.with(partitions, |client, list| client.pause(list));
    }

    fn resume(&self, partitions: &[i32]) {
        self.with(partitions, |client, list| client.resume(list));
    }
}

fn poll(
    client: &BaseConsumer<Callbacks>,
    topic: &Arc<str>,
    (lease, stop): (&Lease, &CancellationToken),
) -> anyhow::Result<()> {
    let callbacks = client.context();
    while !stop.is_cancelled() {
        lease.renew();
        callbacks.let_go_of_drained(client);
        let mut wait = POLL;
        // What is there already goes along: who receives it is woken once.
        while let Some(polled) = client.poll(wait) {
            match polled {
                Ok(message) if callbacks.keep(own(&message, topic)) < TOGETHER => {
                    wait = Duration::ZERO;
                    continue;
                }
                Ok(_) => {}
                Err(KafkaError::MessageConsumptionFatal(_)) => {
                    let reason = client.client().fatal_error();
                    let reason =
                        reason.map_or_else(String::new, |(code, text)| format!("{code}: {text}"));
                    return Err(anyhow!("the consumer group does not have us any more: {reason}"));
                }
                Err(error) => callbacks.complain(&error.to_string()),
            }
            break;
        }
        // The receiver turns as long as we poll, and never waits for a call.
        if !callbacks.hand_on() {
            return Ok(());
        }
    }
    Ok(())
}

/// Drain and commit all that is ours, then leave the group.
fn close(client: Arc<BaseConsumer<Callbacks>>, lost: bool) {
    client.context().end(&client, lost);
    // The last reference: closing leaves the group.
    drop(client);
}

/// A header; `None` where its name is not UTF-8. Kafka asks for that, other producers need not keep
/// to it, and `rdkafka` panics at it: such a header is passed over, the record is not.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<record::Header> {
    let read = std::panic::AssertUnwindSafe(|| headers.try_get(index));
    let header = std::panic::catch_unwind(read).ok().flatten()?;
    Some((header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
}

pub(super) fn own(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        (0..headers.count()).filter_map(|index| header(headers, index)).collect()
    });
    Record {
        position: Position {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message
            .timestamp()
            .to_millis()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
