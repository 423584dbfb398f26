//! One reader of the ledger for all routes, opened when it is first needed. The service's own reads do
//! not wait for it.

use tokio::sync::Mutex;

use crate::adapters::ledger::{LedgerReader, LedgerUrl};

/// The reader.
pub(super) struct SharedReader {
    url: LedgerUrl,
    reader: Mutex<Option<LedgerReader>>,
}

impl SharedReader {
    pub(super) fn new(url: LedgerUrl) -> Self {
        Self { url, reader: Mutex::default() }
    }

    /// Reads something. After a failure the ledger is opened again for the next one.
    pub(super) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(LedgerReader) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let done = read(self.open().await?).await;
        if done.is_err() {
            *self.reader.lock().await = None;
        }
        done
    }

    async fn open(&self) -> anyhow::Result<LedgerReader> {
        let mut reader = self.reader.lock().await;
        if let Some(reader) = reader.as_ref() {
            return Ok(reader.clone());
        }
        Ok(reader.insert(LedgerReader::open(&self.url).await?).clone())
    }
}
