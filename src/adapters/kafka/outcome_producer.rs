//! The service's producer of outcomes and dead letters: idempotent, `acks=all`, never gives up.
//!
//! A message is enqueued when [`OutcomeProducer::publish`](OutcomePublisher::publish) is called,
//! or once the previous message of its session is acknowledged ([`PublishOrder`]). librdkafka gives
//! up a message after seconds ([`KafkaSettings::message_timeout`]), so that a process that was
//! paused does not send it when it resumes; a process that runs gives it up before
//! ([`KeepTimes`]). Before a message is sent again that may have arrived
//! ([`Undelivered`]), or that another instance may have published while this process was paused, the
//! topic is read ([`PublishedLookup`]); when that is certain, [`HiddenRecords`] knows. The
//! subcommands use [`super::RecordPublisher`], which gives up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tokio::time::{Instant, sleep, timeout};
use tracing::error;

use super::delivery_report::{Acknowledgement, Attempted, Undelivered};
use super::hidden_records::{HiddenRecords, PossiblyAppended, TopicPartition};
use super::publish_order::{OrderEntry, PublishOrder};
use super::published_lookup::{LookupStart, PublishedLookup};
use super::replaceable_producer::{
    EnqueuedMessage, KeepTimes, ProducerClientId, ReplaceableProducer,
};
use super::topic_identity::log_metadata;
use super::unacknowledged::{PendingMessage, Unacknowledged};
use super::{KafkaSettings, plain};
use crate::clock::Clock;
use crate::deliver::{OutcomePublisher, Published, PublishedBy};
use crate::domain::record::Position;
use crate::domain::wire::{Channel, Message};
use crate::health::Health;
use crate::lease::{FencingToken, Lease};
use crate::telemetry::Metrics;
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

const RETRY_PAUSE: Duration = Duration::from_secs(1);
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(20);
/// A message that waits for others looks at the lease so often.
const LEASE_CHECK: Duration = Duration::from_secs(1);
/// The pause between two lookups of a message that may be hidden.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
/// From one look for clients that have lost their brokers to the next.
const RESTORE_INTERVAL: Duration = Duration::from_secs(1);

/// The producer; clones share it.
#[derive(Clone)]
pub(crate) struct OutcomeProducer {
    outcomes: TopicProducers,
    /// Clients of their own, so that a refused dead letter costs outcomes nothing.
    dead_letters: TopicProducers,
    failures: Arc<LogThrottle>,
    truncations: Arc<LogThrottle>,
    settings: KafkaSettings,
    lookup: Arc<PublishedLookup>,
    order: Arc<PublishOrder>,
    hidden: Arc<HiddenRecords>,
    unacknowledged: Arc<Unacknowledged>,
    lease: Arc<Lease>,
    clock: Clock,
}

/// The clients that publish to one topic; clones share them.
#[derive(Clone)]
struct TopicProducers {
    batched: ReplaceableProducer,
    /// Sends each message in a batch of its own; created when it is first needed.
    unbatched: ReplaceableProducer,
}

impl TopicProducers {
    fn new(settings: &KafkaSettings, channel: Channel) -> anyhow::Result<Self> {
        let (topic, keep) = (settings.topics.of(channel), KeepTimes::new(settings));
        let mut config = settings.producer_config();
        log_metadata(&mut config);
        let mut unbatched = config.clone();
        unbatched.set("batch.num.messages", "1");
        let batched = ReplaceableProducer::new(topic, config, keep)
            .map_err(plain)
            .context("failed to create the Kafka producer")?;
        Ok(Self { batched, unbatched: ReplaceableProducer::lazy(topic, unbatched, keep) })
    }
}

impl OutcomeProducer {
    /// Create the producer; it connects to the brokers in the background.
    pub(crate) fn start(
        settings: &KafkaSettings,
        lease: Arc<Lease>,
        clock: Clock,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            outcomes: TopicProducers::new(settings, Channel::Outcomes)?,
            dead_letters: TopicProducers::new(settings, Channel::DeadLetters)?,
            failures: Arc::default(),
            truncations: Arc::default(),
            settings: settings.clone(),
            lookup: Arc::new(PublishedLookup::new(health.clone())),
            order: Arc::default(),
            hidden: Arc::default(),
            unacknowledged: Arc::new(Unacknowledged::new(health, metrics)),
            lease,
            clock,
        })
    }

    /// Show what is not acknowledged in the metrics, and report it where it waits for too long. Does
    /// not end.
    pub(crate) async fn watch(self) {
        let restore = async {
            loop {
                sleep(RESTORE_INTERVAL).await;
                self.clients().into_iter().for_each(ReplaceableProducer::restore_brokers);
            }
        };
        tokio::join!(self.unacknowledged.watch(&self.settings), restore);
    }

    /// Wait at most `limit` per client until everything enqueued is acknowledged.
    pub(crate) fn flush(&self, limit: Duration) {
        for client in self.clients() {
            if let Err(error) = client.flush(limit) {
                error!(%error, "not all published messages are acknowledged");
            }
        }
    }

    fn clients(&self) -> [&ReplaceableProducer; 4] {
        let Self { outcomes, dead_letters, .. } = self;
        [&outcomes.batched, &dead_letters.batched, &outcomes.unbatched, &dead_letters.unbatched]
    }

    fn client(&self, channel: Channel, batching: Batching) -> &ReplaceableProducer {
        let of_topic = match channel {
            Channel::Outcomes => &self.outcomes,
            Channel::DeadLetters => &self.dead_letters,
        };
        match batching {
            Batching::Batched => &of_topic.batched,
            Batching::Unbatched => &of_topic.unbatched,
        }
    }

    fn enqueue(&self, batching: Batching, message: &Message, token: FencingToken) -> Enqueued {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let topic = self.settings.topics.of(message.channel);
        // The last look at the lease is the last thing that happens before: a process that is paused
        // behind it publishes what another instance has published meanwhile.
        let is_ours = || self.lease.accepts(token);
        self.client(message.channel, batching).enqueue(is_ours, |waiting| {
            let mut record =
                BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, waiting).headers(headers);
            record.key = message.key.as_deref();
            record.payload = message.value.as_deref();
            // From before the lease is checked, so that a broker that refuses old timestamps refuses
            // what was paused behind the check.
            record.timestamp = Some(self.clock.now().as_millisecond());
            record
        })
    }
}

impl OutcomePublisher for OutcomeProducer {
    fn purge(&self) {
        self.clients().into_iter().for_each(ReplaceableProducer::purge);
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
        let start = LookupStart::At(since).not_after(self.clock.now());
        self.lookup.find(&self.settings, message, &start, None).await.position
    }
}

/// An error: the client did not accept the message.
type Enqueued = Result<EnqueuedMessage, KafkaError>;

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
    /// The message as it was before anything was left out. Any of its forms may have arrived, so this is
    /// what is looked up.
    whole: Arc<Message>,
    token: FencingToken,
    /// Where the next lookup begins: what it has read once it does not read again.
    unread: LookupStart,
    /// When the message was enqueued last.
    enqueued_at: Instant,
    /// Messages of a session are sent one by one. Dead letters have no session and no order.
    order: Option<OrderEntry>,
    batching: Batching,
    /// An attempt of ours has failed in a way that leaves open whether the message arrived.
    may_have_arrived: bool,
    /// Where these may have arrived.
    attempted: Attempted,
    pending: PendingMessage<'p>,
    /// An attempt may have left a record that is not visible yet, and nothing has proved that it has
    /// not.
    doubt: Option<PossiblyAppended>,
}

impl<'p> Publication<'p> {
    /// Enqueue the message, unless an earlier message of its session is not acknowledged yet.
    fn begin(
        producer: &'p OutcomeProducer,
        message: Arc<Message>,
        token: FencingToken,
    ) -> (Self, Option<Enqueued>) {
        let since = producer.clock.now();
        let pending = producer.unacknowledged.add(message.channel, since);
        let order = match (message.channel, &message.key) {
            (Channel::Outcomes, Some(key)) => Some(producer.order.join(key)),
            _ => None,
        };
        let is_first = order.as_ref().is_none_or(OrderEntry::is_first);
        let mut publication = Self {
            producer,
            whole: message.clone(),
            message,
            token,
            unread: LookupStart::At(since),
            enqueued_at: Instant::now(),
            order,
            batching: Batching::Batched,
            may_have_arrived: false,
            attempted: Attempted::default(),
            doubt: None,
            pending,
        };
        let enqueued = is_first.then(|| publication.enqueue());
        (publication, enqueued)
    }

    /// The client that sends it.
    fn client(&self) -> &'p ReplaceableProducer {
        self.producer.client(self.message.channel, self.batching)
    }

    fn enqueue(&mut self) -> Enqueued {
        self.enqueued_at = Instant::now();
        self.producer.enqueue(self.batching, &self.message, self.token)
    }

    async fn run(mut self, mut enqueued: Option<Enqueued>) -> Published {
        loop {
            let mut must_look_up = false;
            match enqueued.take() {
                None => {
                    if let Some(published) = self.wait_for_turn().await {
                        return published;
                    }
                }
                // It has not left. Where the lease has just ended, it is looked up below.
                Some(Err(error)) => {
                    if self.producer.lease.accepts(self.token) {
                        self.react_to(&Undelivered::not_enqueued(error)).await;
                    }
                }
                Some(Ok(message)) => {
                    let client = message.client;
                    match self.client().report(message).await {
                        Ok(acknowledged) => return self.published(acknowledged, client),
                        Err(failure) => {
                            self.may_have_arrived |= failure.may_have_arrived();
                            self.attempted = self.attempted.and(&failure);
                            if let Some(doubt) = self.doubt(&failure, client) {
                                self.doubt = Some(doubt);
                            }
                            // A refusal proves nothing about the attempts before.
                            must_look_up = failure.may_have_arrived() || self.doubt.is_some();
                            if failure.is_fenced() {
                                self.client().set_fenced(client);
                            }
                            self.react_to(&failure).await;
                        }
                    }
                }
            }
            if let Some(published) = self.find_if_published(must_look_up).await {
                return published;
            }
            enqueued = Some(self.enqueue());
        }
    }

    /// Wait until no predecessor is pending. All that wait while the lease is interrupted are looked up
    /// together, and not each in its turn: there may be hundreds of one session.
    async fn wait_for_turn(&mut self) -> Option<Published> {
        while let Some(order) = &self.order
            && timeout(LEASE_CHECK, order.wait_for_predecessors()).await.is_err()
        {
            let found = self.find_if_published(false).await;
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Whether the message may have been appended without being visible.
    fn doubt(&self, failure: &Undelivered, client: ProducerClientId) -> Option<PossiblyAppended> {
        let partition = failure.may_be_hidden_in()?;
        Some(self.producer.hidden.doubt(self.at(partition), client))
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { channel: self.message.channel, partition }
    }

    /// Do what an error requires before the message is sent again.
    async fn react_to(&mut self, failure: &Undelivered) {
        use RDKafkaErrorCode as Code;
        let producer = self.producer;
        let topic = producer.settings.topics.of(self.message.channel);
        let error = &failure.error;
        if failure.is_too_large() {
            // The broker refuses a whole batch for its size, so each message is first tried alone;
            // only one that is refused alone is truncated.
            if self.batching == Batching::Batched {
                self.batching = Batching::Unbatched;
                self.client().ensure_usable().await;
                return;
            }
            if Arc::make_mut(&mut self.message).truncate() {
                warn_throttled!(
                    producer.truncations,
                    kafka.topic = topic,
                    "message refused for its size, truncating it"
                );
                return;
            }
            // All that can be spared was in vain, so the topic refuses every size: once it is repaired, it
            // may take the whole message.
            self.message = self.whole.clone();
        }
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => return sleep(QUEUE_FULL_PAUSE).await,
            // We have purged the queue ourselves.
            Some(Code::PurgeQueue | Code::PurgeInflight) => return,
            _ => {}
        }
        self.pending.refused(error.rdkafka_error_code());
        warn_throttled!(
            producer.failures,
            kafka.topic = topic,
            %error,
            "message not published, trying again"
        );
        sleep(RETRY_PAUSE).await;
        self.client().ensure_usable().await;
    }

    /// Look the message up where it may be in its topic: where `must_look_up` says so, or where
    /// the lease was interrupted, so that another instance may have published it meanwhile.
    async fn find_if_published(&mut self, mut must_look_up: bool) -> Option<Published> {
        let producer = self.producer;
        loop {
            if !must_look_up && producer.lease.accepts(self.token) {
                return None;
            }
            // Waits while the lease is interrupted, so what counts is known after it only.
            let token = producer.lease.token().await;
            let is_accepted = producer.lease.accepts(std::mem::replace(&mut self.token, token));
            // A message that may have arrived from us counts as ours: the content is the same.
            let by = if self.may_have_arrived || is_accepted {
                PublishedBy::Us
            } else {
                PublishedBy::PreviousOwner
            };
            let is_resolved =
                self.doubt.as_mut().is_none_or(PossiblyAppended::is_resolved_by_lookup);
            // What another instance publishes can be elsewhere.
            let partition = self.attempted.partition().filter(|_| is_accepted);
            let (settings, message) = (&producer.settings, &self.whole);
            let start = self.unread.clone().not_after(producer.clock.now());
            let found = producer.lookup.find(settings, message, &start, partition).await;
            if let Some(position) = found.position {
                return Some(Published { position, by });
            }
            if let Some(read_to) = found.read_to {
                self.unread = LookupStart::After(read_to);
            }
            if is_resolved {
                self.doubt = self.doubt.take().filter(PossiblyAppended::is_trial);
            }
            must_look_up = !is_resolved;
            if must_look_up {
                if let Some(doubt) = &mut self.doubt {
                    doubt.set_has_replicas(found.has_replicas);
                }
                sleep(LOOKUP_PAUSE).await;
            }
        }
    }

    fn published(&self, acknowledged: Acknowledgement, client: ProducerClientId) -> Published {
        let Acknowledgement { partition, offset } = acknowledged;
        self.producer.hidden.acknowledged(self.at(partition), client, self.enqueued_at);
        let topic = self.producer.settings.topics.of(self.message.channel).into();
        Published { position: Position { topic, partition, offset }, by: PublishedBy::Us }
    }
}
