//! The parked events of this instance's partitions, added up from the ledger in the background.
//!
//! The service itself counts them by what they wait for, as it parks and starts them. Their routes, and
//! which of them are in doubt, only their entries say.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::View;
use super::shared_reader::SharedReader;
use crate::adapters::ledger::ParkedWait;
use crate::task::spawn_owned;

/// From the end of one reading to the next, at least.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// The pause is so many times what the reading took: a million entries take seconds.
const PAUSE_FACTOR: u32 = 30;
/// The first sums are waited for, because nothing else is known; a small ledger has them in
/// milliseconds.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The sums.
pub(super) struct ParkedTotals {
    view: Arc<View>,
    ledger: Arc<SharedReader>,
    inner: Mutex<KnownTotals>,
}

#[derive(Default)]
struct KnownTotals {
    known: Option<Arc<[ParkedWait]>>,
    reading: Option<TotalsReading>,
    next_at: Option<Instant>,
}

struct TotalsReading {
    began: Instant,
    task: AbortOnDropHandle<anyhow::Result<Vec<ParkedWait>>>,
}

impl ParkedTotals {
    pub(super) fn new(view: Arc<View>, ledger: Arc<SharedReader>) -> Self {
        Self { view, ledger, inner: Mutex::default() }
    }

    /// The sums of the last reading; starts the next one when it is time for it. The first one is
    /// waited for no longer than `first_wait`.
    pub(super) async fn current(&self, first_wait: Duration) -> Arc<[ParkedWait]> {
        let partitions = self.view.activity.assigned().partitions;
        let mut totals = self.inner.lock().await;
        if self.view.metrics.parked() == [0; 3] || partitions.is_empty() {
            *totals = KnownTotals::default();
            return Arc::default();
        }
        let KnownTotals { known, reading, next_at } = &mut *totals;
        let is_due = next_at.is_none_or(|at| at <= Instant::now());
        if reading.is_none() && is_due {
            *reading = Some(self.read(partitions.clone()));
        }
        let wait = if known.is_none() { first_wait } else { Duration::ZERO };
        if let Some(TotalsReading { began, task }) = reading
            && let Ok(read) = timeout(wait, task).await
        {
            let pause = MIN_PAUSE.max(began.elapsed() * PAUSE_FACTOR);
            *next_at = Some(Instant::now() + pause);
            *reading = None;
            // The service itself says that its ledger is unavailable; the sums before it stay.
            if let Ok(Ok(waits)) = read {
                *known = Some(waits.into());
            }
        }
        let known = known.clone().unwrap_or_default();
        // Some may have been revoked since.
        if known.iter().all(|wait| partitions.contains(&wait.partition)) {
            return known;
        }
        known.iter().filter(|wait| partitions.contains(&wait.partition)).cloned().collect()
    }

    fn read(&self, partitions: Vec<i32>) -> TotalsReading {
        let (ledger, topic) = (self.ledger.clone(), self.view.about.topic.clone());
        let read = async move {
            ledger.read(async |reader| reader.parked_waits(&topic, &partitions).await).await
        };
        TotalsReading { began: Instant::now(), task: spawn_owned(read) }
    }
}
