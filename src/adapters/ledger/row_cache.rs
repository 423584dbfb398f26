//! The rows that this writer wrote last: their next change needs no read.
//!
//! A cached row may be outdated, because another instance may have changed it. That is safe: the
//! database writes a row only over the version before it, and the writer reads a row whose write
//! was refused. So the cache may also forget any row at any time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::ledger_entry::{EntryState, LedgerCommand, LedgerEntry};

/// More than an instance works on at once. Rows that another instance took over stay until the
/// limit is reached, and then all are dropped: a read per event in work is cheap, an eviction
/// order is not.
const MAX_ROWS: usize = 50_000;

/// What the cache assumes of a row.
#[expect(clippy::large_enum_variant, reason = "taken apart at once; a box would be an allocation")]
pub(super) enum CachedRow {
    /// It does not exist.
    Absent,
    /// It is this entry, without record and answer.
    Present(LedgerEntry),
    /// It must be read.
    Unknown,
}

/// The cached rows by their keys.
#[derive(Default)]
pub(super) struct RowCache(HashMap<Arc<str>, LedgerEntry>);

impl RowCache {
    /// Removes a row for the command that is about to change it.
    pub(super) fn take(&mut self, key: &str, command: &LedgerCommand) -> CachedRow {
        match command {
            // Nearly every claim is the first one of its event, so a key that is not cached is
            // assumed to be new. The claim of an existing entry returns its answer or snapshot,
            // which the cache does not hold.
            LedgerCommand::Claim(_) if self.0.contains_key(key) => CachedRow::Unknown,
            LedgerCommand::Claim(_) => CachedRow::Absent,
            _ => self.0.remove(key).map_or(CachedRow::Unknown, CachedRow::Present),
        }
    }

    /// Stores a row that was written.
    pub(super) fn store(&mut self, key: &Arc<str>, entry: LedgerEntry) {
        match entry.state {
            EntryState::Open { .. } | EntryState::Settled { .. } => {
                if self.0.len() >= MAX_ROWS {
                    self.0.clear();
                }
                self.0.insert(key.clone(), LedgerEntry { record: None, answer: None, ..entry });
            }
            // The next change comes much later, or never.
            EntryState::Parked { .. } | EntryState::Published { .. } => self.forget(key),
        }
    }

    /// Forgets a row whose content in the database is uncertain.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}
