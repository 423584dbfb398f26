//! Whether the database works, and the log lines about it: one when it fails, one every 10 s while
//! it is unavailable, one when it works again.

use std::time::Duration;

use parking_lot::Mutex;
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
    outage: Mutex<Option<Outage>>,
}

struct Outage {
    since: Instant,
    logged: Instant,
    error: String,
}

impl Availability {
    /// For writing: the instance pauses without it.
    pub(super) fn of_writes() -> Self {
        Self { purpose: Purpose::Write, partitions: Vec::new(), outage: Mutex::default() }
    }

    /// For the recovery of these partitions: only they wait for it.
    pub(super) fn of_recovery(partitions: &[i32]) -> Self {
        let partitions = partitions.to_vec();
        Self { purpose: Purpose::Recovery, partitions, outage: Mutex::default() }
    }

    /// For reading parked events: only they wait for it.
    pub(super) fn of_parked_events() -> Self {
        Self { purpose: Purpose::ParkedEvents, partitions: Vec::new(), outage: Mutex::default() }
    }

    /// Reports a successful access.
    pub(super) fn succeeded(&self) {
        let Some(outage) = self.outage.lock().take() else { return };
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
        let now = Instant::now();
        let mut outage = self.outage.lock();
        let Some(outage) = outage.as_mut() else {
            *outage = Some(Outage { since: now, logged: now, error: error.to_owned() });
            return true;
        };
        let pause = if outage.error == error { REPEAT_AFTER } else { NEW_ERROR_AFTER };
        let is_due = now >= outage.logged + pause;
        if is_due {
            outage.logged = now;
        }
        error.clone_into(&mut outage.error);
        is_due
    }

    /// Why the database does not work; `None` while it works as far as is known.
    pub(super) fn problem(&self) -> Option<String> {
        self.outage.lock().as_ref().map(|outage| outage.error.clone())
    }
}
