//! A librdkafka producer that is replaced by a new one where it cannot go on.
//!
//! An idempotent producer may fail for good, for example when the broker has lost its producer id, and
//! its epochs may run out. Creating and dropping a client takes a while, so both happen on a blocking
//! thread; the client in use is swapped under a lock that is held only for the swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use rdkafka::util::Timeout;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::error;

use super::delivery_report::{DeliveryReport, DeliveryReporter, ReportSender};
use super::plain;

/// Tells the clients of this process from each other: each has a producer id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProducerClientId(pub(super) u64);

/// A message that a client has accepted.
pub(super) struct EnqueuedMessage {
    pub(super) client: ProducerClientId,
    pub(super) report: oneshot::Receiver<DeliveryReport>,
}

/// The producer; clones share it.
#[derive(Clone)]
pub(super) struct ReplaceableProducer(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    current: RwLock<Option<Arc<ProducerClient>>>,
    /// A client whose epoch the brokers refuse.
    fenced: Mutex<Option<ProducerClientId>>,
    /// Held by the thread that creates a new client, so that only one is created.
    creating: Mutex<()>,
}

struct ProducerClient {
    id: ProducerClientId,
    native: ThreadedProducer<DeliveryReporter>,
}

/// Why a new client has to be created.
enum Unusable {
    NotCreatedYet,
    Failed { code: RDKafkaErrorCode, reason: String },
}

impl ReplaceableProducer {
    /// Create the client now; it connects to the brokers in the background.
    pub(super) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let client = ProducerClient::create(&config)?;
        let producer = Self::lazy(config);
        producer.0.replace(client);
        Ok(producer)
    }

    /// Create no client until [`Self::ensure_usable`] is called.
    pub(super) fn lazy(config: ClientConfig) -> Self {
        Self(Arc::new(Shared {
            config,
            current: RwLock::default(),
            fenced: Mutex::default(),
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
        client.native.send(record).map_err(|(error, _)| error)?;
        Ok(EnqueuedMessage { client: client.id, report })
    }

    /// The brokers refuse this client's epoch. librdkafka raises it after each refused message, and
    /// goes back to 0 after 32,767: what is sent then is refused until the epoch has been raised as
    /// often again.
    pub(super) fn set_fenced(&self, client: ProducerClientId) {
        *self.0.fenced.lock() = Some(client);
    }

    /// Create the client if there is none, or replace it if it cannot go on; else do nothing.
    pub(super) async fn ensure_usable(&self) {
        if self.0.unusable().is_some() {
            let shared = self.0.clone();
            // A blocking task cannot be cancelled once it runs, and a failure is logged there.
            drop(spawn_blocking(move || shared.ensure_usable()).await);
        }
    }

    /// Fail all messages that are queued or not acknowledged yet. Does not wait.
    pub(super) fn purge(&self) {
        let client = self.0.current.read().clone();
        if let Some(client) = client {
            client.native.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }

    /// Wait at most `limit` until all messages are acknowledged.
    pub(super) fn flush(&self, limit: impl Into<Timeout>) -> Result<(), KafkaError> {
        let client = self.0.current.read().clone();
        client.map_or(Ok(()), |client| client.native.flush(limit))
    }
}

impl Shared {
    fn unusable(&self) -> Option<Unusable> {
        let current = self.current.read();
        let Some(client) = &*current else { return Some(Unusable::NotCreatedYet) };
        if *self.fenced.lock() == Some(client.id) {
            let reason = "the brokers know a later epoch of it".into();
            return Some(Unusable::Failed { code: RDKafkaErrorCode::InvalidProducerEpoch, reason });
        }
        let (code, reason) = client.native.client().fatal_error()?;
        Some(Unusable::Failed { code, reason })
    }

    fn ensure_usable(&self) {
        let _creating = self.creating.lock();
        // Another thread may have replaced it while this one waited for the lock.
        let Some(unusable) = self.unusable() else { return };
        if let Unusable::Failed { code, reason } = unusable {
            error!(error = %code, reason, "Kafka producer failed for good, replacing it");
        }
        match ProducerClient::create(&self.config) {
            Ok(client) => drop(self.replace(client)),
            Err(error) => {
                error!(
                    error = format!("{:#}", plain(error)),
                    "failed to create the Kafka producer"
                );
            }
        }
    }

    /// Returns the previous client, so that the caller drops it outside the lock.
    fn replace(&self, client: ProducerClient) -> Option<Arc<ProducerClient>> {
        self.current.write().replace(Arc::new(client))
    }
}

impl ProducerClient {
    fn create(config: &ClientConfig) -> Result<Self, KafkaError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let native = config.create_with_context(DeliveryReporter::default())?;
        Ok(Self { id: ProducerClientId(NEXT.fetch_add(1, Ordering::Relaxed)), native })
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery_report::Undelivered;
    use super::*;

    /// Without an address it connects to nobody.
    fn without_brokers() -> ReplaceableProducer {
        ReplaceableProducer::new(ClientConfig::new()).unwrap()
    }

    #[tokio::test]
    async fn a_message_is_enqueued_where_the_condition_holds_and_its_failure_is_reported() {
        let producer = without_brokers();
        let record = |waiting| BaseRecord::with_opaque_to("topic", waiting).key(&b"k"[..]);
        assert!(producer.enqueue(|| false, record).is_err());
        let enqueued = producer.enqueue(|| true, record).map_err(|error| error.to_string());
        producer.purge();
        let report = enqueued.expect("it is enqueued").report.await.expect("it is reported");
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue);
        let never_sent = Undelivered { error, partition: None, is_possibly_persisted: false };
        assert_eq!(report, Err(never_sent));
    }

    #[tokio::test]
    async fn a_client_whose_epoch_is_refused_is_replaced_once() {
        let producer = without_brokers();
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
