//! The service's consumer: a thread that polls, hands records to `consume` and serves rebalances.
//!
//! Polling never waits for a delivery. What a rebalance does is in `callbacks`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::callbacks::{ConsumerCallbacks, ConsumerDeps};
use super::rebalance::partition_list;
use super::records::to_record;
use super::{KafkaSettings, plain};
use crate::consume::Source;
use crate::lease::Lease;

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(100);
/// The most records that are handed to `consume` in one message.
const BATCH: usize = 32;

/// The consumer's thread. It returns an error when the client has failed for good.
pub(crate) type ConsumerThread = JoinHandle<anyhow::Result<()>>;

/// The consumer as `consume` sees it: stores offsets, pauses and resumes partitions.
pub(crate) struct KafkaSource {
    /// Weak: the thread owns the client and must be the one that closes it.
    client: Weak<BaseConsumer<ConsumerCallbacks>>,
    topic: Arc<str>,
}

impl KafkaSource {
    /// Subscribe to the escalations topic and poll until `deps.stop` is cancelled.
    pub(crate) fn start(
        settings: &KafkaSettings,
        deps: ConsumerDeps,
    ) -> anyhow::Result<(Self, ConsumerThread)> {
        let (stop, lease) = (deps.stop.clone(), deps.lease.clone());
        let topic: Arc<str> = settings.topics.escalations.as_str().into();
        let callbacks = ConsumerCallbacks::new(topic.clone(), settings.uses_kip848(), deps);
        let client: BaseConsumer<ConsumerCallbacks> = settings
            .consumer_config()
            .create_with_context(callbacks)
            .map_err(plain)
            .context("failed to create the Kafka consumer")?;
        info!(kafka.group = settings.group_id, kafka.topic = %topic, "joining the group");
        client.subscribe(&[&topic]).with_context(|| format!("failed to subscribe to {topic}"))?;
        let client = Arc::new(client);
        client.context().attach(&client);
        let source = Self { client: Arc::downgrade(&client), topic: topic.clone() };
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || {
                let polling = AssertUnwindSafe(|| poll_until(&client, &topic, &lease, &stop));
                // After a panic too the consumer has to be closed in order: without `close`,
                // dropping it would wait for ever for a revocation that nobody serves.
                let ended = catch_unwind(polling);
                close(client, !matches!(ended, Ok(Ok(()))));
                ended.unwrap_or_else(|panic| resume_unwind(panic))
            })
            .context("failed to start the consumer's thread")?;
        Ok((source, thread))
    }

    fn with_partitions(
        &self,
        partitions: &[i32],
        act: impl FnOnce(&BaseConsumer<ConsumerCallbacks>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let Some(client) = self.client.upgrade() else { return };
        // An error here means that a partition is no longer assigned: nothing to do.
        if let Err(error) = act(&client, &partition_list(&self.topic, partitions)) {
            debug!(kafka.partitions = ?partitions, %error, "failed to pause or resume");
        }
    }
}

impl Source for KafkaSource {
    fn store(&self, partition: i32, offset: i64) {
        let Some(client) = self.client.upgrade() else { return };
        let mut list = TopicPartitionList::with_capacity(1);
        let stored = list
            .add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| client.store_offsets(&list));
        if let Err(error) = stored {
            debug!(kafka.partition = partition, kafka.offset = offset, %error, "offset not stored");
        }
    }

    fn pause(&self, partitions: &[i32]) {
        self.with_partitions(partitions, |client, list| client.pause(list));
    }

    fn resume(&self, partitions: &[i32]) {
        self.with_partitions(partitions, |client, list| client.resume(list));
    }
}

/// Poll until stopped, or until `consume` has ended. An error means that the client has failed for
/// good, for example because its group instance id was taken over.
fn poll_until(
    client: &BaseConsumer<ConsumerCallbacks>,
    topic: &Arc<str>,
    lease: &Lease,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let callbacks = client.context();
    while !stop.is_cancelled() {
        lease.renew();
        callbacks.release_drained(client);
        let mut wait = POLL;
        // After the first record take those that are there already, so that `consume` is woken once
        // for all of them.
        while let Some(polled) = client.poll(wait) {
            match polled {
                Ok(message) if callbacks.buffer(to_record(&message, topic)) < BATCH => {
                    wait = Duration::ZERO;
                    continue;
                }
                Ok(_) => {}
                Err(KafkaError::PartitionEOF(partition)) => {
                    callbacks.on_partition_end(partition);
                    wait = Duration::ZERO;
                    continue;
                }
                Err(KafkaError::MessageConsumptionFatal(_)) => {
                    let reason = client.client().fatal_error();
                    let reason =
                        reason.map_or_else(String::new, |(code, text)| format!("{code}: {text}"));
                    return Err(anyhow!("the Kafka consumer failed for good: {reason}"));
                }
                Err(error) => callbacks.log_error(&error),
            }
            break;
        }
        if callbacks.flush().is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Drain and commit everything that is assigned, then leave the group.
fn close(client: Arc<BaseConsumer<ConsumerCallbacks>>, lost: bool) {
    client.context().end(&client, lost);
    // Dropping the last reference closes the consumer, which leaves the group.
    drop(client);
}
