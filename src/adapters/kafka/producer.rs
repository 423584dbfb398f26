//! The producer of outcomes and dead letters: idempotent, acks=all, never giving up.
//!
//! A message is handed over at once, so that messages leave in the order of the calls; what has to
//! be handed over again keeps its order within its session (`turns`). What the broker refuses is
//! tried again until it is taken or the caller goes; what may have arrived all the same is looked
//! for first.
//! A whole batch is refused for its size where its sum is too large; so each of its messages goes
//! again alone, and only one that is refused alone is made smaller. Nothing is handed over again by a
//! process that was frozen meanwhile without a look whether a successor has published it.
//! This file never says "published" before the broker has acknowledged.

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

use super::line::Line;
use super::lookup::Lookup;
use super::quiet::Quiet;
use super::turns::Turns;
use super::{Settings, plain};
use crate::clock::Clock;
use crate::deliver::{OutcomePublisher, Published, PublishedBy};
use crate::domain::record::Position;
use crate::domain::wire::outcome::{Channel, Message};
use crate::lease::{FencingToken, Lease};

const RETRY_AFTER: Duration = Duration::from_secs(1);
const ROOM_AFTER: Duration = Duration::from_millis(20);
/// What fails for one reason has failed within this.
const TOGETHER: Duration = Duration::from_millis(100);

/// The producer; clones share it.
#[derive(Clone)]
pub struct Producer {
    together: Line,
    alone: Line,
    quiet: Arc<Quiet>,
    settings: Settings,
    lookup: Arc<Lookup>,
    turns: Arc<Turns>,
    lease: Arc<Lease>,
    clock: Clock,
}

impl Producer {
    /// A producer; brokers are connected to in the background.
    pub fn start(settings: &Settings, lease: Arc<Lease>, clock: Clock) -> anyhow::Result<Self> {
        let config = settings.producer_config();
        let mut alone = config.clone();
        alone.set("batch.num.messages", "1");
        let together =
            Line::open(config).map_err(plain).context("failed to set up the Kafka producer")?;
        let (alone, settings) = (Line::later(alone), settings.clone());
        let (quiet, lookup, turns) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { together, alone, quiet, settings, lookup, turns, lease, clock })
    }

    /// Wait, at most so long, for what is still on its way.
    pub fn flush(&self, limit: Duration) {
        for line in [&self.together, &self.alone] {
            if let Err(error) = line.flush(limit) {
                error!("not all that was published is acknowledged: {error}");
            }
        }
    }

    fn send(&self, line: &Line, message: &Message) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(self.settings.topics.of(message.channel))
            .headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        line.send(record)
    }

    fn place(&self, channel: Channel, delivery: &Delivery) -> Position {
        Position {
            topic: self.settings.topics.of(channel).into(),
            partition: delivery.partition,
            offset: delivery.offset,
        }
    }

    /// Messages of one session keep their order; dead letters have none.
    fn order(message: &Message) -> Option<Vec<u8>> {
        match message.channel {
            Channel::Outcomes => message.key.clone(),
            Channel::DeadLetters => None,
        }
    }

    /// What has to be done before another try, and the line it is made on.
    async fn prepare<'l>(
        &'l self,
        line: &'l Line,
        message: &mut Arc<Message>,
        error: &KafkaError,
    ) -> &'l Line {
        let is_alone = std::ptr::eq(line, &self.alone);
        if is_too_large(error) && !is_alone {
            self.alone.mend().await;
            return &self.alone;
        }
        if is_too_large(error) && Arc::make_mut(message).truncate() {
            let topic = self.settings.topics.of(message.channel);
            let text = format!("{topic} refuses a message for its size; leaving details out");
            self.quiet.complain("producer", &text);
        } else {
            self.refused(line, message, error).await;
        }
        line
    }

    /// What a refusal asks for.
    async fn refused(&self, line: &Line, message: &Message, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => return sleep(ROOM_AFTER).await,
            // We have taken it back ourselves.
            Some(Code::PurgeQueue | Code::PurgeInflight) => return,
            _ => {}
        }
        let topic = self.settings.topics.of(message.channel);
        self.quiet
            .complain("producer", &format!("{topic} does not take what is published: {error}"));
        sleep(RETRY_AFTER).await;
        line.mend().await;
    }
}

impl OutcomePublisher for Producer {
    fn purge(&self) {
        self.together.purge();
        self.alone.purge();
    }

    fn publish(
        &self,
        mut message: Arc<Message>,
        mut steady: FencingToken,
    ) -> impl Future<Output = Published> + Send {
        let since = self.clock.now();
        let number = self.turns.number();
        let key = Self::order(&message);
        let mut line = &self.together;
        // Behind one of its key that has failed it waits for its turn.
        let held = self.turns.holds(key.as_deref());
        let mut turn = held.then(|| self.turns.join(key.as_deref(), number));
        let mut sent = (!held).then(|| self.send(line, &message));
        let mut doubtful = false;
        async move {
            loop {
                let error = match sent.take() {
                    Some(sent) => match acknowledged(sent).await {
                        Ok(delivery) => {
                            let position = self.place(message.channel, &delivery);
                            return Published { position, by: PublishedBy::Us };
                        }
                        Err(error) => Some(error),
                    },
                    None => None,
                };
                if turn.is_none() {
                    turn = Some(self.turns.join(key.as_deref(), number));
                    // What failed with it stands in line too before anybody goes.
                    sleep(TOGETHER).await;
                }
                if let Some(turn) = &turn {
                    turn.comes().await;
                }
                let mut known = true;
                if let Some(error) = error {
                    line = self.prepare(line, &mut message, &error).await;
                    known = !may_be_there(&error);
                    // What may have arrived is taken for ours.
                    doubtful |= !known;
                }
                // Waiting takes its time: a successor may have published it, too.
                loop {
                    // One before it may have failed only now.
                    if let Some(turn) = &turn {
                        turn.comes().await;
                    }
                    if known && self.lease.accepts(steady) {
                        break;
                    }
                    let by = if doubtful || self.lease.accepts(steady) {
                        PublishedBy::Us
                    } else {
                        PublishedBy::PreviousOwner
                    };
                    steady = self.lease.token().await;
                    if let Some(position) = self.find_published(&message, since).await {
                        return Published { position, by };
                    }
                    known = true;
                }
                sent = Some(self.send(line, &message));
            }
        }
    }

    async fn find_published(&self, message: &Message, since: Timestamp) -> Option<Position> {
        self.lookup.find_published(&self.settings, message, since).await
    }
}

async fn acknowledged(sent: Result<DeliveryFuture, KafkaError>) -> Result<Delivery, KafkaError> {
    match sent?.await {
        Ok(Ok(delivery)) => Ok(delivery),
        Ok(Err((error, _))) => Err(error),
        Err(cancelled) => {
            error!("the producer ended: {cancelled}");
            Err(KafkaError::Canceled)
        }
    }
}

/// Whether the message may have arrived all the same: not where it was refused, or never left. What
/// was taken back out of the queue may stand there to be sent again.
fn may_be_there(error: &KafkaError) -> bool {
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
