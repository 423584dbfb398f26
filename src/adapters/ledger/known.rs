//! The rows that this writer has written last and that are still worked on: they need no reading.
//!
//! What is assumed here is checked by the database: a row is written only as the next version of
//! what is there, and where that fails the row is read. Records and answers are left out.
//! This file never decides anything, and forgetting never harms.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::ledger_entry::{EntryState, LedgerCommand, LedgerEntry};

/// More than can be in work at once; what was taken from us stays behind until then.
const MAX_KNOWN: usize = 50_000;

/// The rows.
#[derive(Default)]
pub(super) struct Known(HashMap<Arc<str>, LedgerEntry>);

impl Known {
    /// The row as it must be: `Some(None)` is no row, `None` has to be read. A row that is there is
    /// forgotten: it is about to change.
    pub(super) fn take(
        &mut self,
        key: &str,
        command: &LedgerCommand,
    ) -> Option<Option<LedgerEntry>> {
        match command {
            // As a rule an identity is new. Whoever claims has to be told everything.
            LedgerCommand::Claim(_) => (!self.0.contains_key(key)).then_some(None),
            _ => self.0.remove(key).map(Some),
        }
    }

    /// It is written.
    pub(super) fn keep(&mut self, key: &Arc<str>, entry: LedgerEntry) {
        match entry.state {
            EntryState::Open | EntryState::Settled { .. } => {
                if self.0.len() >= MAX_KNOWN {
                    self.0.clear();
                }
                self.0.insert(key.clone(), LedgerEntry { record: None, answer: None, ..entry });
            }
            // For a long while, or for ever, nothing follows.
            EntryState::Parked { .. } | EntryState::Published { .. } => self.forget(key),
        }
    }

    /// Nobody knows what is written.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}
