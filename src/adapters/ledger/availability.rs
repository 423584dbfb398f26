//! Whether the database works, and the log lines about it: one when it fails, one every 10 s while
//! it is unavailable, one when it works again. While it cannot be written, that failed reads wait as
//! well is no news.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;
use tracing::{error, info};

/// The same error is logged this often.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// A different error is news, and is logged sooner.
const NEW_ERROR_AFTER: Duration = Duration::from_secs(1);

/// Which use of the database an [`Availability`] is about.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Write,
    Recovery,
    ParkedEvents,
}

/// The availability of the database for one purpose, as it was at the last access.
pub(super) struct Availability {
    purpose: Purpose,
    /// The partitions that recovery is about.
    partitions: Vec<i32>,
    /// For reads: the availability for writes.
    writes: Option<Arc<Availability>>,
    outage: Mutex<Option<Outage>>,
}

/// The ledger does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerOutage {
    /// For how long.
    pub lasts: Duration,
    /// Why.
    pub error: String,
}

struct Outage {
    since: Instant,
    /// When it was logged last, if it was.
    logged: Option<Instant>,
    error: String,
}

/// What the writer reports of its writes.
pub(super) struct WriteWatch {
    pub(super) availability: Arc<Availability>,
    /// Observes how long each batch took, in seconds.
    pub(super) duration: Histogram,
}

impl Availability {
    /// For writing: the instance pauses without it.
    pub(super) fn of_writes() -> Self {
        Self::new(Purpose::Write, None)
    }

    /// For the recovery of these partitions: only they wait for it.
    pub(super) fn of_recovery(partitions: &[i32], writes: &Arc<Self>) -> Self {
        let partitions = partitions.to_vec();
        Self { partitions, ..Self::new(Purpose::Recovery, Some(writes.clone())) }
    }

    /// For reading parked events: only they wait for it.
    pub(super) fn of_parked_events(writes: &Arc<Self>) -> Self {
        Self::new(Purpose::ParkedEvents, Some(writes.clone()))
    }

    fn new(purpose: Purpose, writes: Option<Arc<Self>>) -> Self {
        Self { purpose, partitions: Vec::new(), writes, outage: Mutex::default() }
    }

    /// Reports a successful access.
    pub(super) fn succeeded(&self) {
        let Some(outage) = self.outage.lock().take() else { return };
        if outage.logged.is_none() {
            return;
        }
        let after_s = outage.since.elapsed().as_secs();
        match self.purpose {
            Purpose::Write => info!(after_s, "ledger available again"),
            Purpose::Recovery | Purpose::ParkedEvents => info!(after_s, "ledger readable again"),
        }
    }

    /// Reports a failed access.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        let error = format!("{error:#}");
        if !self.is_to_be_logged(&error) {
            return;
        }
        match self.purpose {
            Purpose::Write => error!(error, "ledger unavailable; all work waits for it"),
            Purpose::Recovery => {
                let partitions = &self.partitions;
                error!(error, kafka.partitions = ?partitions, "ledger unreadable; recovery waits");
            }
            Purpose::ParkedEvents => error!(error, "ledger unreadable; parked events wait"),
        }
    }

    /// Stores the error, and says whether it is time for a log line.
    fn is_to_be_logged(&self, error: &str) -> bool {
        let is_covered = self.writes.as_ref().is_some_and(|writes| writes.problem().is_some());
        let now = Instant::now();
        let mut outage = self.outage.lock();
        let new = || Outage { since: now, logged: None, error: error.to_owned() };
        let outage = outage.get_or_insert_with(new);
        let pause = if outage.error == error { REPEAT_AFTER } else { NEW_ERROR_AFTER };
        let is_due = !is_covered && outage.logged.is_none_or(|logged| now >= logged + pause);
        if is_due {
            outage.logged = Some(now);
        }
        error.clone_into(&mut outage.error);
        is_due
    }

    /// For how long it has not worked, and why; `None` while it works as far as is known.
    pub(super) fn outage(&self) -> Option<LedgerOutage> {
        let outage = self.outage.lock();
        let Outage { since, error, .. } = outage.as_ref()?;
        Some(LedgerOutage { lasts: since.elapsed(), error: error.clone() })
    }

    /// Why the database does not work; `None` while it works as far as is known.
    pub(super) fn problem(&self) -> Option<String> {
        self.outage.lock().as_ref().map(|outage| outage.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn failed_reads_are_no_news_while_nothing_can_be_written() {
        let writes = Arc::new(Availability::of_writes());
        let reads = Availability::of_parked_events(&writes);
        writes.failed(&anyhow!("no server"));
        assert!(!reads.is_to_be_logged("no server"));
        writes.succeeded();
        assert!(reads.is_to_be_logged("no server"));
        assert!(!reads.is_to_be_logged("no server"), "throttled");
        assert_eq!(reads.problem().as_deref(), Some("no server"));
        reads.succeeded();
        assert_eq!(reads.problem(), None);
    }
}
