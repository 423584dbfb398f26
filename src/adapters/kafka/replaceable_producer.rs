//! A librdkafka producer that is replaced by a new one where it cannot go on.
//!
//! An idempotent producer may fail for good, for example when the broker has lost its producer id, and
//! its epochs may run out. Creating and dropping a client takes a while, so both happen on a blocking
//! thread; the client in use is swapped under a lock that is held only for the swap.
//!
//! A request without an answer is sent again by librdkafka, with the same sequence numbers, so that
//! the broker appends it once. But after a message that was refused, or that timed out in its queue,
//! librdkafka begins a new epoch and renumbers whatever is still in the client: a request that the
//! broker appended without an answer is then appended twice. So a client is purged before that happens
//! ([`KeepTimes`]), and what may have arrived is looked up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use rdkafka::util::Timeout;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::delivery_report::{
    DeliveryReport, DeliveryReporter, LastRefusal, ReportSender, Undelivered, is_refused,
};
use super::{KafkaSettings, plain};

/// Tells the clients of this process from each other: each has a producer id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProducerClientId(pub(super) u64);

/// How long a message may be in a client before everything in it is purged.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepTimes {
    /// Long enough for a second request after one without an answer (`socket.timeout.ms`), and shorter
    /// than [`KafkaSettings::message_timeout`]: a message that times out begins a new epoch.
    usually: Duration,
    /// While messages are refused, each of which begins a new epoch: shorter than a request may take,
    /// so that no message is sent again.
    while_refused: Duration,
}

impl KeepTimes {
    pub(super) fn new(settings: &KafkaSettings) -> Self {
        let message_timeout = settings.message_timeout();
        Self { usually: message_timeout * 3 / 4, while_refused: message_timeout / 5 }
    }

    fn after(self, refusal: LastRefusal) -> Duration {
        if is_refused(refusal) { self.while_refused } else { self.usually }
    }
}

/// From one purge for a message to the next, until it is reported.
const PURGE_AGAIN: Duration = Duration::from_millis(250);

/// A message that a client has accepted.
pub(super) struct EnqueuedMessage {
    pub(super) client: ProducerClientId,
    at: Instant,
    report: oneshot::Receiver<DeliveryReport>,
    refusal: watch::Receiver<LastRefusal>,
}

/// The producer; clones share it.
#[derive(Clone)]
pub(super) struct ReplaceableProducer(Arc<Shared>);

struct Shared {
    topic: String,
    config: ClientConfig,
    keep: KeepTimes,
    current: RwLock<Option<Arc<ProducerClient>>>,
    /// Held by the thread that creates a new client, so that only one is created.
    creating: Mutex<()>,
}

struct ProducerClient {
    id: ProducerClientId,
    refusal: watch::Sender<LastRefusal>,
    native: ThreadedProducer<DeliveryReporter>,
    /// Why it cannot go on, where librdkafka does not say so.
    unusable: OnceLock<Unusable>,
}

/// Why a new client has to be created.
#[derive(Clone)]
enum Unusable {
    NotCreatedYet,
    Failed {
        code: RDKafkaErrorCode,
        reason: String,
    },
    /// Its topic was created again, and it has kept a message for too long. librdkafka keeps the leader
    /// epochs of the old topic. Where those of the new one are lower, it takes the metadata for outdated,
    /// and sends to the old leaders for ever.
    Outdated,
}

impl ReplaceableProducer {
    /// Create the client now; it connects to the brokers in the background.
    pub(super) fn new(
        topic: &str,
        config: ClientConfig,
        keep: KeepTimes,
    ) -> Result<Self, KafkaError> {
        let producer = Self::lazy(topic, config, keep);
        producer.0.replace(producer.0.create()?);
        Ok(producer)
    }

    /// Create no client until [`Self::ensure_usable`] is called.
    pub(super) fn lazy(topic: &str, config: ClientConfig, keep: KeepTimes) -> Self {
        Self(Arc::new(Shared {
            topic: topic.to_owned(),
            config,
            keep,
            current: RwLock::default(),
            creating: Mutex::default(),
        }))
    }

    /// Enqueue a record, which the function makes from who waits for its report, if the condition
    /// holds. Does not wait; a full queue is an error.
    pub(super) fn enqueue<'r>(
        &self,
        condition: impl FnOnce() -> bool,
        record: impl FnOnce(ReportSender) -> BaseRecord<'r, [u8], [u8], ReportSender>,
    ) -> Result<EnqueuedMessage, KafkaError> {
        let current = self.0.current.read();
        let Some(client) = &*current else { return Err(KafkaError::Canceled) };
        let (waiting, report) = oneshot::channel();
        let record = record(Box::new(waiting));
        if !condition() {
            return Err(KafkaError::Canceled);
        }
        let (at, refusal) = (Instant::now(), client.refusal.subscribe());
        client.native.send(record).map_err(|(error, _)| error)?;
        Ok(EnqueuedMessage { client: client.id, at, report, refusal })
    }

    /// The report of a message. Purges its client where that has kept the message for too long.
    pub(super) async fn report(&self, message: EnqueuedMessage) -> DeliveryReport {
        let EnqueuedMessage { client, at, mut report, mut refusal } = message;
        let mut is_purged = false;
        loop {
            let overdue = match is_purged {
                true => Instant::now() + PURGE_AGAIN,
                false => at + self.0.keep.after(*refusal.borrow_and_update()),
            };
            let received = tokio::select! {
                received = &mut report => received.ok(),
                // A client that was replaced purges what it has when it is dropped, and reports it. If this
                // process is paused meanwhile, a report may be lost with its client.
                changed = refusal.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => report.try_recv().ok(),
                },
                () = sleep_until(overdue) => {
                    is_purged = true;
                    self.0.give_up(client);
                    continue;
                }
            };
            return received.unwrap_or_else(|| Err(unanswered())).map_err(
                |failure| match is_purged {
                    true => failure.timed_out(),
                    false => failure,
                },
            );
        }
    }

    /// The brokers refuse this client's epoch. librdkafka raises it after each refused message, and
    /// goes back to 0 after 32,767: what is sent then is refused until the epoch has been raised as
    /// often again.
    pub(super) fn set_fenced(&self, client: ProducerClientId) {
        let reason = "the brokers know a later epoch of it".into();
        let failed = Unusable::Failed { code: RDKafkaErrorCode::InvalidProducerEpoch, reason };
        if let Some(client) = self.0.client(client) {
            client.unusable.get_or_init(|| failed);
        }
    }

    /// Create the client if there is none, or replace it if it cannot go on; else do nothing.
    pub(super) async fn ensure_usable(&self) {
        if self.0.unusable().is_some() {
            let shared = self.0.clone();
            // A blocking task cannot be cancelled once it runs, and a failure is logged there.
            drop(spawn_blocking(move || shared.ensure_usable()).await);
        }
    }

    /// Give the client its first brokers again if it has lost them.
    pub(super) fn restore_brokers(&self) {
        if let Some(client) = self.0.current.read().clone() {
            client.native.context().lost_brokers().restore(client.native.client());
        }
    }

    /// Fail all messages that are queued or not acknowledged yet. Does not wait.
    pub(super) fn purge(&self) {
        let current = self.0.current.read().clone();
        current.iter().for_each(|client| client.purge());
    }

    /// Wait at most `limit` until all messages are acknowledged.
    pub(super) fn flush(&self, limit: impl Into<Timeout>) -> Result<(), KafkaError> {
        let client = self.0.current.read().clone();
        client.map_or(Ok(()), |client| client.native.flush(limit))
    }
}

impl Shared {
    /// The client in use, if it is this one.
    fn client(&self, id: ProducerClientId) -> Option<Arc<ProducerClient>> {
        self.current.read().clone().filter(|client| client.id == id)
    }

    /// A client has kept a message for too long.
    fn give_up(&self, client: ProducerClientId) {
        let Some(client) = self.client(client) else { return };
        if client.native.context().topic().has_changed() {
            client.unusable.get_or_init(|| Unusable::Outdated);
        }
        client.purge();
    }

    fn unusable(&self) -> Option<Unusable> {
        let current = self.current.read();
        let Some(client) = &*current else { return Some(Unusable::NotCreatedYet) };
        client.unusable.get().cloned().or_else(|| {
            let (code, reason) = client.native.client().fatal_error()?;
            Some(Unusable::Failed { code, reason })
        })
    }

    fn ensure_usable(&self) {
        let _creating = self.creating.lock();
        // Another thread may have replaced it while this one waited for the lock.
        let Some(unusable) = self.unusable() else { return };
        let topic = &*self.topic;
        match unusable {
            Unusable::NotCreatedYet => {}
            Unusable::Failed { code, reason } => {
                error!(error = %code, reason, "Kafka producer failed for good, replacing it");
            }
            Unusable::Outdated => warn!(
                kafka.topic = topic,
                "nothing is acknowledged by the topic that was created again, replacing the producer \
                 client"
            ),
        }
        match self.create() {
            Ok(client) => drop(self.replace(client)),
            Err(error) => {
                error!(
                    error = format!("{:#}", plain(error)),
                    "failed to create the Kafka producer"
                );
            }
        }
    }

    fn create(&self) -> Result<ProducerClient, KafkaError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let refusal = watch::Sender::new(None);
        let servers = self.config.get("bootstrap.servers").unwrap_or_default();
        let reporter = DeliveryReporter::new(&self.topic, servers, refusal.clone());
        let native = self.config.create_with_context(reporter)?;
        let id = ProducerClientId(NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(ProducerClient { id, refusal, native, unusable: OnceLock::new() })
    }

    /// Returns the previous client, so that the caller drops it outside the lock.
    fn replace(&self, client: ProducerClient) -> Option<Arc<ProducerClient>> {
        self.current.write().replace(Arc::new(client))
    }
}

impl ProducerClient {
    /// Fail all messages that are queued or not acknowledged yet. Does not wait.
    fn purge(&self) {
        self.native.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

fn unanswered() -> Undelivered {
    error!("Kafka producer dropped a message unanswered");
    Undelivered::unanswered()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(10);

    /// Without an address it connects to nobody.
    fn without_brokers(usually: Duration, while_refused: Duration) -> ReplaceableProducer {
        let keep = KeepTimes { usually, while_refused };
        ReplaceableProducer::new("topic", ClientConfig::new(), keep).unwrap()
    }

    fn enqueue(producer: &ReplaceableProducer) -> EnqueuedMessage {
        let record = |waiting| BaseRecord::with_opaque_to("topic", waiting).key(&b"k"[..]);
        producer.enqueue(|| true, record).map_err(|error| error.to_string()).unwrap()
    }

    fn never_sent(code: RDKafkaErrorCode) -> DeliveryReport {
        let error = KafkaError::MessageProduction(code);
        Err(Undelivered { error, partition: None, is_possibly_persisted: false })
    }

    #[tokio::test]
    async fn a_message_is_enqueued_where_the_condition_holds_and_its_failure_is_reported() {
        let producer = without_brokers(HOUR, HOUR);
        let record = |waiting| BaseRecord::with_opaque_to("topic", waiting).key(&b"k"[..]);
        assert!(producer.enqueue(|| false, record).is_err());
        let enqueued = enqueue(&producer);
        producer.purge();
        assert_eq!(producer.report(enqueued).await, never_sent(RDKafkaErrorCode::PurgeQueue));
    }

    #[tokio::test]
    async fn an_overdue_message_takes_the_younger_ones_out_of_its_client() {
        let producer = without_brokers(SOON, HOUR);
        let (overdue, younger) = (enqueue(&producer), enqueue(&producer));
        let report = producer.report(overdue).await;
        assert_eq!(report, never_sent(RDKafkaErrorCode::MessageTimedOut), "as if it had timed out");
        let report = younger.report.await.expect("it is reported");
        assert_eq!(report, never_sent(RDKafkaErrorCode::PurgeQueue));
    }

    #[tokio::test]
    async fn a_refusal_shortens_the_time_of_what_waits() {
        let producer = without_brokers(HOUR, SOON);
        let waiting = enqueue(&producer);
        let context = producer.0.current.read().as_ref().unwrap().native.context().clone();
        let refuse = async { context.on_refusal() };
        let (report, ()) = tokio::join!(producer.report(waiting), refuse);
        assert_eq!(report, never_sent(RDKafkaErrorCode::MessageTimedOut));
    }

    #[tokio::test]
    async fn an_overdue_message_replaces_a_client_whose_topic_was_created_again() {
        let producer = without_brokers(SOON, HOUR);
        let current = || producer.0.current.read().clone().unwrap();
        let first = current().id;
        let changed = |from, to| {
            let line = format!("[thrd:main]: Topic topic changed id from {from} to {to}");
            current().native.context().topic().on_log(&line);
        };
        changed("AAAA", "one");
        drop(producer.report(enqueue(&producer)).await);
        producer.ensure_usable().await;
        assert_eq!(current().id, first, "it is the topic that the client has known");
        changed("one", "two");
        producer.ensure_usable().await;
        assert_eq!(current().id, first, "it may go on");
        drop(producer.report(enqueue(&producer)).await);
        producer.ensure_usable().await;
        assert_ne!(current().id, first);
    }

    #[tokio::test]
    async fn a_client_whose_epoch_is_refused_is_replaced_once() {
        let producer = without_brokers(HOUR, HOUR);
        let current = || producer.0.current.read().as_ref().unwrap().id;
        let first = current();
        producer.ensure_usable().await;
        assert_eq!(current(), first);
        producer.set_fenced(first);
        producer.ensure_usable().await;
        let second = current();
        assert_ne!(second, first);
        // A message of the first client reports it late.
        producer.set_fenced(first);
        producer.ensure_usable().await;
        assert_eq!(current(), second);
    }
}
