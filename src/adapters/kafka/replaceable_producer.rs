//! A librdkafka producer that is replaced by a new one after a fatal error.
//!
//! An idempotent producer may fail for good, for example when the broker has lost its producer id.
//! Creating and dropping a client takes a while, so both happen on a blocking thread; the client in
//! use is swapped under a lock that is held only for the swap.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use rdkafka::util::Timeout;
use tokio::task::spawn_blocking;
use tracing::error;

use super::client_errors::ThrottledErrors;
use super::plain;

type NativeProducer = FutureProducer<ThrottledErrors>;

/// The producer; clones share it.
#[derive(Clone)]
pub(super) struct ReplaceableProducer(Arc<Shared>);

struct Shared {
    config: ClientConfig,
    current: RwLock<Option<NativeProducer>>,
    /// Held by the thread that creates a new client, so that only one is created.
    creating: Mutex<()>,
}

/// Why a new client has to be created.
enum Unusable {
    NotCreatedYet,
    Fatal { code: RDKafkaErrorCode, reason: String },
}

impl ReplaceableProducer {
    /// Create the client now; it connects to the brokers in the background.
    pub(super) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let client = create(&config)?;
        let producer = Self::lazy(config);
        producer.0.replace(client);
        Ok(producer)
    }

    /// Create no client until [`Self::ensure_usable`] is called.
    pub(super) fn lazy(config: ClientConfig) -> Self {
        Self(Arc::new(Shared { config, current: RwLock::default(), creating: Mutex::default() }))
    }

    /// Enqueue a record. Does not wait; a full queue is an error.
    pub(super) fn enqueue(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> Result<DeliveryFuture, KafkaError> {
        let current = self.0.current.read();
        let Some(client) = &*current else { return Err(KafkaError::Canceled) };
        client.send_result(record).map_err(|(error, _)| error)
    }

    /// Create the client if there is none, or replace it after a fatal error; else do nothing.
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
            client.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }

    /// Wait at most `limit` until all messages are acknowledged.
    pub(super) fn flush(&self, limit: impl Into<Timeout>) -> Result<(), KafkaError> {
        let client = self.0.current.read().clone();
        client.map_or(Ok(()), |client| client.flush(limit))
    }
}

impl Shared {
    fn unusable(&self) -> Option<Unusable> {
        let current = self.current.read();
        let Some(client) = &*current else { return Some(Unusable::NotCreatedYet) };
        let (code, reason) = client.client().fatal_error()?;
        Some(Unusable::Fatal { code, reason })
    }

    fn ensure_usable(&self) {
        let _creating = self.creating.lock();
        // Another thread may have replaced it while this one waited for the lock.
        let Some(unusable) = self.unusable() else { return };
        if let Unusable::Fatal { code, reason } = unusable {
            error!(error = %code, reason, "Kafka producer failed for good, replacing it");
        }
        match create(&self.config) {
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
    fn replace(&self, client: NativeProducer) -> Option<NativeProducer> {
        self.current.write().replace(client)
    }
}

fn create(config: &ClientConfig) -> Result<NativeProducer, KafkaError> {
    config.create_with_context(ThrottledErrors::default())
}
