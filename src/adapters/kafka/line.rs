//! One client of the producer: made when it is wanted, replaced when it broke for good.
//!
//! Making one and dropping one take a while; both are done on a blocking thread, and the one in
//! use is exchanged in between. This file never waits for an acknowledgement.

use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use rdkafka::util::Timeout;
use tokio::task::spawn_blocking;
use tracing::error;

use super::plain;
use super::quiet::QuietContext;

type Client = FutureProducer<QuietContext>;

/// The client; clones share it.
#[derive(Clone)]
pub(super) struct Line(Arc<Inner>);

struct Inner {
    config: ClientConfig,
    client: RwLock<Option<Client>>,
    /// Held by the one that makes a new client.
    making: Mutex<()>,
}

impl Line {
    /// A line whose client is there at once; brokers are connected to in the background.
    pub(super) fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        let client = new_client(&config)?;
        let line = Self::later(config);
        line.0.put(client);
        Ok(line)
    }

    /// A line without a client yet; `mend` makes it.
    pub(super) fn later(config: ClientConfig) -> Self {
        Self(Arc::new(Inner { config, client: RwLock::default(), making: Mutex::default() }))
    }

    /// Hand a record over; never waits.
    pub(super) fn send(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> Result<DeliveryFuture, KafkaError> {
        let client = self.0.client.read();
        let Some(client) = &*client else { return Err(KafkaError::Canceled) };
        client.send_result(record).map_err(|(error, _)| error)
    }

    /// Make the client that is missing, or replace the one that broke for good; else nothing.
    pub(super) async fn mend(&self) {
        if !self.0.is_usable() {
            let inner = self.0.clone();
            // It cannot be cancelled, and it panics only with the process.
            drop(spawn_blocking(move || inner.mend()).await);
        }
    }

    /// Drop what has not left, and what has left and is not acknowledged: it fails. Never waits.
    pub(super) fn purge(&self) {
        let client = self.0.client.read().clone();
        if let Some(client) = client {
            client.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }

    /// Wait, at most so long, for what is on its way.
    pub(super) fn flush(&self, limit: impl Into<Timeout>) -> Result<(), KafkaError> {
        let client = self.0.client.read().clone();
        client.map_or(Ok(()), |client| client.flush(limit))
    }
}

impl Inner {
    fn is_usable(&self) -> bool {
        self.why_unusable().is_none()
    }

    /// `Some(None)`: there is no client yet.
    fn why_unusable(&self) -> Option<Option<(RDKafkaErrorCode, String)>> {
        let client = self.client.read();
        match &*client {
            None => Some(None),
            Some(client) => client.client().fatal_error().map(Some),
        }
    }

    fn mend(&self) {
        let _turn = self.making.lock();
        // Somebody else may have been quicker.
        let Some(why) = self.why_unusable() else { return };
        if let Some((code, reason)) = why {
            error!("the Kafka producer broke ({code}: {reason}); starting another");
        }
        match new_client(&self.config) {
            Ok(fresh) => drop(self.put(fresh)),
            Err(error) => error!("failed to set up the Kafka producer: {:#}", plain(error)),
        }
    }

    /// Exchange; the old client is the caller's to drop, outside the lock.
    fn put(&self, fresh: Client) -> Option<Client> {
        self.client.write().replace(fresh)
    }
}

fn new_client(config: &ClientConfig) -> Result<Client, KafkaError> {
    config.create_with_context(QuietContext::default())
}
