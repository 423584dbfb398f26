//! Answers of the ledger that are outdated when they arrive: another instance has changed an entry
//! meanwhile.

use std::sync::Arc;

use handoff::domain::ledger_entry::{EntryState, LedgerEntry, WaitsFor};
use handoff::ledger::{DueEntries, DuePartition, DueQuery, Recovered};

use super::world::SimProcess;

/// Chosen by the time: another draw would make other worlds of all seeds.
fn is_outdated(process: &SimProcess, one_in: i64) -> bool {
    let world = &process.world;
    !world.faults_are_over() && world.now().as_millisecond() % one_in == 0
}

/// Sometimes recovery finds no waiting rooms: the previous owner parks its events there a moment later,
/// when it is fenced already.
pub(super) fn before_rooms(process: &Arc<SimProcess>, mut recovered: Recovered) -> Recovered {
    if is_outdated(process, 2) {
        recovered.parked.retain(|group| !matches!(group.waits_for, WaitsFor::Agent(_)));
    }
    recovered
}

/// Sometimes the answer shows events as they were before their last attempt.
pub(super) fn before_attempts(
    process: &Arc<SimProcess>,
    query: &DueQuery,
    mut due: DueEntries,
) -> DueEntries {
    if !is_outdated(process, 4) {
        return due;
    }
    for (key, entry) in process.world.ledger.entries() {
        let EntryState::Parked { until, waits_for: WaitsFor::Time } = &entry.state else {
            continue;
        };
        let of_entry = |one: &DuePartition| one.partition == entry.source.partition;
        let is_theirs = query.partitions.iter().any(of_entry);
        if entry.version > 2 && is_theirs && *until > query.now {
            // It was claimed and parked since.
            let version = entry.version - 2;
            due.due.entries.extend(LedgerEntry { version, ..entry }.recover(key));
        }
    }
    due
}
