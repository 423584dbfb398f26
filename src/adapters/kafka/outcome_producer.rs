//! The service's producer of outcomes and dead letters: idempotent, `acks=all`, never gives up.
//!
//! A message is enqueued when [`OutcomeProducer::publish`](OutcomePublisher::publish) is called,
//! so messages leave in the order of the calls; messages that have to be sent again keep their
//! order within a session ([`ResendOrder`]). Before a message is sent again that may have arrived,
//! or that another instance may have published while this process was paused, the topic is read
//! ([`PublishedLookup`]). The subcommands use [`super::RecordPublisher`], which gives up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use tokio::time::sleep;
use tracing::error;

use super::published_lookup::PublishedLookup;
use super::replaceable_producer::ReplaceableProducer;
use super::resend_order::{ResendEntry, ResendOrder};
use super::{KafkaSettings, plain};
use crate::clock::Clock;
use crate::deliver::{OutcomePublisher, Published, PublishedBy};
use crate::domain::record::Position;
use crate::domain::wire::{Channel, Message};
use crate::lease::{FencingToken, Lease};
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

const RETRY_PAUSE: Duration = Duration::from_secs(1);
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(20);
/// Messages that fail for the same reason all report it within this time.
const FAILURES_SETTLE: Duration = Duration::from_millis(100);

/// The producer; clones share it.
#[derive(Clone)]
pub(crate) struct OutcomeProducer {
    batched: ReplaceableProducer,
    /// Sends each message in a batch of its own; created when it is first needed.
    unbatched: ReplaceableProducer,
    throttle: Arc<LogThrottle>,
    settings: KafkaSettings,
    lookup: Arc<PublishedLookup>,
    resend_order: Arc<ResendOrder>,
    lease: Arc<Lease>,
    clock: Clock,
}

impl OutcomeProducer {
    /// Create the producer; it connects to the brokers in the background.
    pub(crate) fn start(
        settings: &KafkaSettings,
        lease: Arc<Lease>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let config = settings.producer_config();
        let mut unbatched = config.clone();
        unbatched.set("batch.num.messages", "1");
        let batched = ReplaceableProducer::new(config)
            .map_err(plain)
            .context("failed to create the Kafka producer")?;
        Ok(Self {
            batched,
            unbatched: ReplaceableProducer::lazy(unbatched),
            throttle: Arc::default(),
            settings: settings.clone(),
            lookup: Arc::default(),
            resend_order: Arc::default(),
            lease,
            clock,
        })
    }

    /// Wait at most `limit` per client until everything enqueued is acknowledged.
    pub(crate) fn flush(&self, limit: Duration) {
        for client in [&self.batched, &self.unbatched] {
            if let Err(error) = client.flush(limit) {
                error!(%error, "not all published messages are acknowledged");
            }
        }
    }

    fn client(&self, batching: Batching) -> &ReplaceableProducer {
        match batching {
            Batching::Batched => &self.batched,
            Batching::Unbatched => &self.unbatched,
        }
    }

    fn enqueue(&self, batching: Batching, message: &Message) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let topic = self.settings.topics.of(message.channel);
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        self.client(batching).enqueue(record)
    }
}

impl OutcomePublisher for OutcomeProducer {
    fn purge(&self) {
        self.batched.purge();
        self.unbatched.purge();
    }

    fn publish(
        &self,
        message: Arc<Message>,
        token: FencingToken,
    ) -> impl Future<Output = Published> + Send {
        // Enqueued here, not when the future is polled: the order of the calls counts.
        let (publication, enqueued) = Publication::begin(self, message, token);
        publication.run(enqueued)
    }

    async fn find_published(&self, message: &Message, since: Timestamp) -> Option<Position> {
        self.lookup.find(&self.settings, message, since).await
    }
}

/// Which of the two clients sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batching {
    Batched,
    Unbatched,
}

/// The publication of one message, until it is in its topic.
struct Publication<'p> {
    producer: &'p OutcomeProducer,
    message: Arc<Message>,
    token: FencingToken,
    /// The lookup reads the topic from this time on.
    since: Timestamp,
    sequence: u64,
    /// Messages with the same key keep their order.
    order_key: Option<Vec<u8>>,
    batching: Batching,
    /// Set once the message has failed, or waits for one that has.
    resend: Option<ResendEntry>,
    /// An attempt of ours has failed in a way that leaves open whether the message arrived.
    may_have_arrived: bool,
}

impl<'p> Publication<'p> {
    /// Enqueue the message, unless an earlier message of its session has failed and goes first.
    fn begin(
        producer: &'p OutcomeProducer,
        message: Arc<Message>,
        token: FencingToken,
    ) -> (Self, Option<Result<DeliveryFuture, KafkaError>>) {
        let since = producer.clock.now();
        // Dead letters have no session and no order.
        let order_key = match message.channel {
            Channel::Outcomes => message.key.clone(),
            Channel::DeadLetters => None,
        };
        let order = &producer.resend_order;
        let sequence = order.next_sequence();
        let must_wait = order.has_pending(order_key.as_deref());
        let resend = must_wait.then(|| order.join(order_key.as_deref(), sequence));
        let batching = Batching::Batched;
        let enqueued = (!must_wait).then(|| producer.enqueue(batching, &message));
        let publication = Self {
            producer,
            message,
            token,
            since,
            sequence,
            order_key,
            batching,
            resend,
            may_have_arrived: false,
        };
        (publication, enqueued)
    }

    async fn run(mut self, mut enqueued: Option<Result<DeliveryFuture, KafkaError>>) -> Published {
        loop {
            let error = match enqueued.take() {
                None => None,
                Some(enqueued) => match acknowledged(enqueued).await {
                    Ok(delivery) => {
                        let position = self.position(&delivery);
                        return Published { position, by: PublishedBy::Us };
                    }
                    Err(error) => Some(error),
                },
            };
            self.wait_in_resend_order().await;
            let mut must_look_up = false;
            if let Some(error) = error {
                must_look_up = may_have_arrived(&error);
                self.may_have_arrived |= must_look_up;
                self.react_to(&error).await;
            }
            if let Some(published) = self.find_if_published(must_look_up).await {
                return published;
            }
            enqueued = Some(self.producer.enqueue(self.batching, &self.message));
        }
    }

    async fn wait_in_resend_order(&mut self) {
        if self.resend.is_none() {
            let (order, key) = (&self.producer.resend_order, self.order_key.as_deref());
            self.resend = Some(order.join(key, self.sequence));
            // The other messages that failed with this one have to join before any is sent again.
            sleep(FAILURES_SETTLE).await;
        }
        self.wait_for_predecessors().await;
    }

    async fn wait_for_predecessors(&self) {
        if let Some(resend) = &self.resend {
            resend.wait_for_predecessors().await;
        }
    }

    /// Do what an error requires before the message is sent again.
    async fn react_to(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let producer = self.producer;
        let topic = producer.settings.topics.of(self.message.channel);
        if is_too_large(error) {
            // The broker refuses a whole batch for its size, so each message is first tried alone;
            // only one that is refused alone is truncated.
            if self.batching == Batching::Batched {
                producer.unbatched.ensure_usable().await;
                self.batching = Batching::Unbatched;
                return;
            }
            if Arc::make_mut(&mut self.message).truncate() {
                warn_throttled!(
                    producer.throttle,
                    kafka.topic = topic,
                    "message refused for its size, truncating it"
                );
                return;
            }
        }
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => return sleep(QUEUE_FULL_PAUSE).await,
            // We have purged the queue ourselves.
            Some(Code::PurgeQueue | Code::PurgeInflight) => return,
            _ => {}
        }
        warn_throttled!(
            producer.throttle,
            kafka.topic = topic,
            %error,
            "message not published, trying again"
        );
        sleep(RETRY_PAUSE).await;
        producer.client(self.batching).ensure_usable().await;
    }

    /// Look the message up where it may be in its topic: where `must_look_up` says so, or where
    /// the lease was interrupted, so that another instance may have published it meanwhile.
    async fn find_if_published(&mut self, mut must_look_up: bool) -> Option<Published> {
        let producer = self.producer;
        loop {
            // A predecessor may have failed while this message was looked up.
            self.wait_for_predecessors().await;
            let is_accepted = producer.lease.accepts(self.token);
            if !must_look_up && is_accepted {
                return None;
            }
            // A message that may have arrived from us counts as ours: the content is the same.
            let by = if self.may_have_arrived || is_accepted {
                PublishedBy::Us
            } else {
                PublishedBy::PreviousOwner
            };
            self.token = producer.lease.token().await;
            if let Some(position) = producer.find_published(&self.message, self.since).await {
                return Some(Published { position, by });
            }
            must_look_up = false;
        }
    }

    fn position(&self, delivery: &Delivery) -> Position {
        Position {
            topic: self.producer.settings.topics.of(self.message.channel).into(),
            partition: delivery.partition,
            offset: delivery.offset,
        }
    }
}

async fn acknowledged(
    enqueued: Result<DeliveryFuture, KafkaError>,
) -> Result<Delivery, KafkaError> {
    match enqueued?.await {
        Ok(Ok(delivery)) => Ok(delivery),
        Ok(Err((error, _))) => Err(error),
        Err(cancelled) => {
            error!(error = %cancelled, "Kafka producer dropped a message unanswered");
            // Not `Canceled`, which means that it was never enqueued: this one may have arrived.
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::PurgeInflight))
        }
    }
}

/// Whether the message may be in the topic in spite of the error. It is not where it was refused
/// or never left; a purged one may have been on its way.
fn may_have_arrived(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    !matches!(error, KafkaError::Canceled)
        && !matches!(
            error.rdkafka_error_code(),
            Some(
                Code::QueueFull
                    | Code::MessageSizeTooLarge
                    | Code::MessageBatchTooLarge
                    | Code::TopicAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::UnknownTopic
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
                    | Code::InvalidTopic
                    | Code::InvalidRecord
            )
        )
}

fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}
