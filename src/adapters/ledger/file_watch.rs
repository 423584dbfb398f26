//! The sizes of a SQLite ledger's files, and a warning while its write-ahead log grows.
//!
//! SQLite moves the log (-wal) into the file only as far as no reader needs it any more. A reader
//! that does not end, as a backup that hangs, lets it grow until the disk is full.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::metadata;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::sqlite::{LOG_LIMIT_BYTES, log_of};
use super::url::LedgerUrl;
use crate::telemetry::Metrics;

const INTERVAL: Duration = Duration::from_secs(5);
const REPEAT_AFTER: Duration = Duration::from_secs(600);

const REPAIR: &str = "end the program that has been reading the ledger for so long (`fuser` with \
                      the file names it); the log shrinks by itself";

/// Reports the sizes until it is dropped; PostgreSQL has no files of ours.
pub async fn watch_files(url: LedgerUrl, metrics: Arc<Metrics>) {
    let LedgerUrl::Sqlite(file) = url else { return std::future::pending().await };
    let log = log_of(&file);
    let mut warned = None;
    loop {
        let (file_bytes, log_bytes) = (size_bytes(&file).await, size_bytes(&log).await);
        metrics.ledger_file_bytes(file_bytes, log_bytes);
        if log_bytes <= LOG_LIMIT_BYTES {
            if warned.take().is_some() {
                info!(log_bytes, "ledger's log small again");
            }
        } else if warned.is_none_or(|at: Instant| at.elapsed() >= REPEAT_AFTER) {
            warned = Some(Instant::now());
            let file = file.display();
            warn!(%file, log_bytes, file_bytes, repair = REPAIR, "ledger's log grows: a reader needs it");
        }
        sleep(INTERVAL).await;
    }
}

/// 0 where the file is missing; the writer reports that.
async fn size_bytes(file: &Path) -> u64 {
    metadata(file).await.map_or(0, |metadata| metadata.len())
}
