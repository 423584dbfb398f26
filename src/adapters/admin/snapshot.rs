//! `/status`: builds the document, at most about once a second for all who ask, and never when
//! nobody does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::collect::{Collector, LedgerPart, MAX_EVENTS};
use super::document::StatusDocument;
use super::ids::Ids;
use super::parked::{ParkedRow, row_of_entry};
use super::parked_totals::{FIRST_WAIT, ParkedTotals};
use super::shared_reader::SharedReader;
use super::steady_times::SteadyTimes;
use super::{Admin, View};

/// A document is served to all who ask for this long.
const MAX_AGE: Duration = Duration::from_millis(900);
/// The events of the ledger are read this often: their rows may be large.
const PARKED_MAX_AGE: Duration = Duration::from_secs(5);
/// A read of the ledger may take this long; the rows before it are shown otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// One document.
#[derive(Debug)]
pub(super) struct StatusSnapshot {
    /// Another one for each change.
    pub(super) number: u64,
    pub(super) as_of: Timestamp,
    pub(super) document: StatusDocument,
    /// Its JSON without `as_of`.
    body: String,
}

/// The document of this moment.
pub(super) struct Snapshots {
    view: Arc<View>,
    ids: Arc<Ids>,
    ledger: Arc<SharedReader>,
    totals: Arc<ParkedTotals>,
    inner: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    last: Option<(Instant, Arc<StatusSnapshot>)>,
    parked: Vec<ParkedRow>,
    /// When they were read.
    parked_at: Option<Instant>,
    steady: SteadyTimes,
}

impl StatusSnapshot {
    /// Names this document among those of all processes.
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.document.service.started_at.as_millisecond(), self.number)
    }

    /// The JSON, dated.
    pub(super) fn json(&self) -> String {
        // Spliced, because the rest is equal for each reader: `{"format":..` follows.
        format!("{{\"as_of\":\"{}\",{}", self.as_of, &self.body[1..])
    }
}

impl Snapshots {
    pub(super) fn new(
        view: Arc<View>,
        ids: Arc<Ids>,
        ledger: Arc<SharedReader>,
        totals: Arc<ParkedTotals>,
    ) -> Self {
        Self { view, ids, ledger, totals, inner: Mutex::default() }
    }

    /// The document, at most [`MAX_AGE`] old.
    pub(super) async fn current(&self) -> Arc<StatusSnapshot> {
        // All who ask meanwhile wait here for the same document.
        let mut cache = self.inner.lock().await;
        let Cache { last, parked, parked_at, steady } = &mut *cache;
        if let Some((_, snapshot)) = last.as_ref().filter(|(at, _)| at.elapsed() < MAX_AGE) {
            return snapshot.clone();
        }
        if parked_at.is_none_or(|at| at.elapsed() >= PARKED_MAX_AGE) {
            *parked = self.parked(std::mem::take(parked)).await;
            *parked_at = Some(Instant::now());
        }
        let as_of = self.view.clock.now();
        let waits = self.totals.current(FIRST_WAIT).await;
        let part = LedgerPart { urgent: parked, waits: &waits };
        let document = Collector::new(&self.view, &self.ids, &part, as_of).document(steady);
        let body = serde_json::to_string(&document).expect("texts and numbers are always JSON");
        let number = match last {
            Some((_, before)) if before.body == body => before.number,
            Some((_, before)) => before.number + 1,
            None => 1,
        };
        let snapshot = Arc::new(StatusSnapshot { number, as_of, document, body });
        *last = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// The parked events with the earliest deadlines; `before` if the ledger cannot be read now.
    async fn parked(&self, before: Vec<ParkedRow>) -> Vec<ParkedRow> {
        let assigned = self.view.activity.assigned().partitions;
        if self.view.metrics.parked() == [0; 3] || assigned.is_empty() {
            return vec![];
        }
        let read = self.ledger.read(async |reader| {
            reader.most_urgent(&self.view.about.topic, &assigned, MAX_EVENTS).await
        });
        match timeout(READ_TIMEOUT, read).await {
            Ok(Ok(entries)) => {
                let readable = entries.iter().filter_map(|listed| {
                    row_of_entry(&listed.key, listed.entry.as_ref().ok()?, &self.ids)
                });
                readable.collect()
            }
            // The service itself says that its ledger is unavailable.
            Ok(Err(_)) | Err(_) => before,
        }
    }
}

/// `GET /status`.
pub(super) async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    let snapshot = admin.snapshots.current().await;
    ([(header::CONTENT_TYPE, "application/json")], snapshot.json())
}
