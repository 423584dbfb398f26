//! Rows that were read for recovery and for parked events, as the port returns them.

use std::future::Future;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;
use tracing::error;

use super::availability::Availability;
use super::columns::{parse_time, parse_waits_for};
use super::database::{CountedRows, DueRows, IdentityRow, ParkedRows, StoredRow};
use crate::domain::ledger_entry::{
    RecoveredEntry, StoredDeadLetter, StoredIdentities, StoredIdentity,
};
use crate::ledger::{
    DueEntries, ParkedCount, ParkedGroup, Recovered, StoredEntries, UnreadableEntry,
};

/// Between two attempts to read.
const RETRY: Duration = Duration::from_secs(1);

/// Reads again until the database answers.
pub(super) async fn until_available<T, R: Future<Output = anyhow::Result<T>>>(
    availability: &Availability,
    read: impl Fn() -> R,
) -> T {
    loop {
        match read().await {
            Ok(found) => {
                availability.succeeded();
                return found;
            }
            Err(error) => availability.failed(&error),
        }
        sleep(RETRY).await;
    }
}

/// Leaves out every partition that has an unreadable row. Unreadable parked rows do not count here:
/// they are found when their events are due.
pub(super) fn recovered(rows: Vec<StoredRow>, groups: Vec<ParkedRows>) -> Recovered {
    let (mut entries, mut blocked_partitions) = (Vec::new(), Vec::new());
    for row in rows {
        let partition = row.partition;
        match recovered_entry(row) {
            Ok(entry) => entries.push(entry),
            Err(UnreadableEntry { why: error, .. }) => {
                error!(kafka.partition = partition, error, "partition blocked: unreadable entry");
                blocked_partitions.push(partition);
            }
        }
    }
    let mut parked_partitions: Vec<_> = groups.iter().map(|group| group.partition).collect();
    parked_partitions.sort_unstable();
    parked_partitions.dedup();
    entries.retain(|entry| !blocked_partitions.contains(&entry.record.position.partition));
    blocked_partitions.dedup();
    let parsed = groups.iter().map(|rows| group(rows).inspect_err(|error| report(rows, error)));
    let parked = parsed.flatten().collect();
    Recovered { entries, blocked_partitions, parked, parked_partitions }
}

/// The parked rows in groups. Those that cannot be read were reported by the recovery.
pub(super) fn groups(groups: &[ParkedRows]) -> Vec<ParkedGroup> {
    groups.iter().flat_map(group).collect()
}

/// The numbers of parked rows by group. Rows that wait for something unknown are left out.
pub(super) fn counts(rows: Vec<CountedRows>) -> Vec<ParkedCount> {
    let mut counts: Vec<ParkedCount> = Vec::new();
    for CountedRows { partition, waits_for, events } in rows {
        let Ok(waits_for) = parse_waits_for(&waits_for) else { continue };
        let events = u64::try_from(events).unwrap_or(0);
        match counts.last_mut() {
            Some(last) if (last.partition, &last.waits_for) == (partition, &waits_for) => {
                last.events += events;
            }
            _ => counts.push(ParkedCount { partition, waits_for, events }),
        }
    }
    counts
}

/// Those that can be read. The others are found to be damaged when their events are claimed.
pub(super) fn identities(rows: Vec<IdentityRow>) -> StoredIdentities {
    let mut found = StoredIdentities::default();
    for row in rows {
        let Ok(recorded_at) = row.recorded_us.map(parse_time).transpose() else { continue };
        let (offset, is_answered) = (row.offset, row.is_answered);
        let Some(session_id) = row.session_id else {
            found.dead_letters.push(StoredDeadLetter { offset, recorded_at });
            continue;
        };
        let deadline = row.deadline_us.and_then(|deadline| parse_time(deadline).ok());
        if let (Ok(first_seen), Some(deadline)) = (parse_time(row.first_seen_us), deadline) {
            let key = row.key;
            found.events.push(StoredIdentity {
                offset,
                recorded_at,
                key,
                session_id,
                first_seen,
                deadline,
                is_answered,
            });
        }
    }
    found
}

/// The rows that are due.
pub(super) fn due(rows: DueRows) -> DueEntries {
    // A time that no program of ours wrote is no time to wait for.
    let time = |us: Option<i64>| us.and_then(|us| parse_time(us).ok());
    DueEntries {
        overdue: stored(rows.overdue),
        due: stored(rows.due),
        next_deadline: time(rows.next_deadline_us),
        next_due: time(rows.next_due_us),
        has_early: rows.has_early,
    }
}

/// The rows, apart from those that cannot be read.
pub(super) fn stored(rows: Vec<StoredRow>) -> StoredEntries {
    let mut found = StoredEntries::default();
    for row in rows {
        match recovered_entry(row) {
            Ok(entry) => found.entries.push(entry),
            Err(unreadable) => found.unreadable.push(unreadable),
        }
    }
    found
}

fn recovered_entry(
    StoredRow { key, entry, .. }: StoredRow,
) -> Result<RecoveredEntry, UnreadableEntry> {
    let damaged = || anyhow!("the ledger is damaged: {key:?} is unfinished without a record");
    let entry = entry.and_then(|entry| entry.recover(key.clone()).ok_or_else(damaged));
    entry.map_err(|error| UnreadableEntry { key, why: format!("{error:#}") })
}

fn group(rows: &ParkedRows) -> anyhow::Result<ParkedGroup> {
    Ok(ParkedGroup {
        partition: rows.partition,
        waits_for: parse_waits_for(&rows.waits_for)?,
        oldest: parse_time(rows.oldest_us)?,
        oldest_until: parse_time(rows.oldest_until_us)?,
    })
}

/// A column is unreadable. The rows are found as unreadable at their deadlines.
fn report(rows: &ParkedRows, error: &anyhow::Error) {
    let error = format!("{error:#}");
    error!(kafka.partition = rows.partition, error, "unreadable parked events");
}
