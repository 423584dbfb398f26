//! Events of the ledger that cannot be delivered now: their rows are damaged, or the configuration does
//! not read their records any more. They stay in the ledger and are read again, and each is logged once.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::error;

use crate::ledger::UnreadableEntry;
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// Of the process, like the log: a mapping that was removed concerns all events that it has read.
static NOT_READ: LogThrottle = LogThrottle::new();

/// Their keys.
#[derive(Debug, Default)]
pub(super) struct UnreadableEvents(HashSet<Arc<str>>);

impl UnreadableEvents {
    /// How many they are. Reads have room for them, so that they hide no others.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Rows that cannot be read.
    pub(super) fn on_damaged(&mut self, rows: Vec<UnreadableEntry>) {
        for UnreadableEntry { key, why } in rows {
            if self.0.insert(key.clone()) {
                error!(event_key = %key, error = why, "blocked: a parked event cannot be read");
            }
        }
    }

    /// An event whose record is not read as what it was; `error` says how it is read.
    pub(super) fn on_not_read(&mut self, key: Arc<str>, error: &str) {
        if !self.0.contains(&key) {
            report_not_read(&key, error);
            self.0.insert(key);
        }
    }

    /// An event that was started.
    pub(super) fn on_started(&mut self, key: &Arc<str>) {
        self.0.remove(key);
    }
}

/// An event whose record is not read as what it was; `error` says how it is read.
pub(super) fn report_not_read(key: &str, error: &str) {
    warn_throttled!(
        NOT_READ,
        event_key = key,
        error,
        repair =
            "put back what [input] or [[mappings]] had when it was stored, until it is answered",
        "event in the ledger is not read by the present dialects; it waits"
    );
}
