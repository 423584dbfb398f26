//! Writes one change with one statement.
//!
//! Each statement names the version before the change, or requires that the row it inserts does not
//! exist, so a change that was decided on an outdated row writes nothing.

use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use super::super::columns::{
    format_channel, format_headers, format_history, format_record, is_from_ledger,
};
use super::super::database::RowChange;
use crate::domain::ledger_entry::{EntryState, HistoryItem, HistoryKind, LedgerEntry, WakeSession};

const CLAIM: &str = r#"INSERT INTO handoff_events (key, session_id, topic, partition, "offset",
  recorded_us, owner, version, first_seen_us, deadline_us, claimed_at_us, from_ledger)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"#;

const CLAIM_AGAIN_OR_PARK: &str = "UPDATE handoff_events SET owner = ?, version = ?,
  deadline_us = ?, claimed_at_us = ?, from_ledger = ?, parked_until_us = ?, waits_for = ?,
  record = coalesce(?, record), snapshot = coalesce(?, snapshot), history = ?
WHERE key = ?11 AND version = ?2 - 1
  AND NOT EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = handoff_events.event)";

// The version of an entry counts its answer and its acknowledgement; the row's own does not.
const SETTLE: &str = "INSERT INTO handoff_answers
SELECT event, ?, ?, ?, ?, ?, ?, ? FROM handoff_events WHERE key = ? AND version = ? - 1
ON CONFLICT DO NOTHING";

const PUBLISH: &str = "INSERT INTO handoff_published
SELECT event, ?, ?, ? FROM handoff_events WHERE key = ? AND version = ? - 2
  AND EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = handoff_events.event)
ON CONFLICT DO NOTHING";

const DROP_RECORD: &str = "UPDATE handoff_events SET record = NULL WHERE key = ?";

// The indexes of parked events cannot see the answer in the other table.
const END_PARKING: &str =
    "UPDATE handoff_events SET parked_until_us = NULL, waits_for = NULL WHERE key = ?";

// The first unfinished event of the session decides: if it is being worked on, waits for something
// else, or is behind the one in memory, nothing changes.
const WAKE: &str = r#"UPDATE handoff_events SET parked_until_us = min(?, deadline_us - 1)
WHERE waits_for = 'session' AND "offset" < ? AND event = (
  SELECT event FROM handoff_events AS e INDEXED BY handoff_events_session
  WHERE session_id = ? AND topic = ? AND partition = ? AND record IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = e.event)
  ORDER BY "offset" LIMIT 1)"#;

/// Makes the first parked event of a session due.
pub(super) fn wake(
    connection: &Connection,
    wake: &WakeSession,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let WakeSession { session_id, topic, partition, before_offset } = wake;
    let before_offset = before_offset.unwrap_or(i64::MAX);
    let values = params![now.as_microsecond(), before_offset, session_id, topic, partition];
    connection.prepare_cached(WAKE)?.execute(values)?;
    Ok(())
}

/// Returns whether the change was written.
pub(super) fn write(connection: &Connection, change: &RowChange) -> rusqlite::Result<bool> {
    let next = &change.next;
    let rows = match &next.state {
        EntryState::Open { .. } if next.version == 1 => claim(connection, change)?,
        EntryState::Open { .. } | EntryState::Parked { .. } => {
            claim_again_or_park(connection, change)?
        }
        EntryState::Settled { at } => settle(connection, change, at.as_microsecond())?,
        EntryState::Published { at, .. } => publish(connection, change, at.as_microsecond())?,
    };
    Ok(rows > 0)
}

fn claim(
    connection: &Connection,
    RowChange { key, next, .. }: &RowChange,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(CLAIM)?.execute(params![
        key,
        next.session_id,
        next.source.topic,
        next.source.partition,
        next.source.offset,
        next.recorded_at.map(Timestamp::as_microsecond),
        next.owner,
        next.version,
        next.first_seen.as_microsecond(),
        next.deadline.map(|deadline| deadline.as_microsecond()),
        next.claimed_at.as_microsecond(),
        is_from_ledger(&next.state),
    ])
}

fn claim_again_or_park(
    connection: &Connection,
    RowChange { key, next, .. }: &RowChange,
) -> rusqlite::Result<usize> {
    let (parked_until_us, waits_for) = match &next.state {
        EntryState::Parked { until, waits_for } => {
            (Some(until.as_microsecond()), Some(waits_for.to_string()))
        }
        _ => (None, None),
    };
    connection.prepare_cached(CLAIM_AGAIN_OR_PARK)?.execute(params![
        next.owner,
        next.version,
        next.deadline.map(|deadline| deadline.as_microsecond()),
        next.claimed_at.as_microsecond(),
        is_from_ledger(&next.state),
        parked_until_us,
        waits_for,
        next.record.as_ref().map(format_record),
        next.snapshot,
        format_history(&next.history),
        key,
    ])
}

fn settle(
    connection: &Connection,
    RowChange { key, next, .. }: &RowChange,
    at_us: i64,
) -> rusqlite::Result<usize> {
    let answer = next.answer.as_ref().expect("a settled entry has an answer");
    let item = last_item(next, HistoryKind::Settled);
    let rows = connection.prepare_cached(SETTLE)?.execute(params![
        at_us,
        item.owner,
        item.note,
        format_channel(answer.channel),
        ToSqlOutput::Borrowed(bytes(answer.key.as_deref())),
        ToSqlOutput::Borrowed(bytes(answer.value.as_deref())),
        format_headers(&answer.headers),
        key,
        next.version,
    ])?;
    if rows > 0 && was_parked(next) {
        connection.prepare_cached(END_PARKING)?.execute([key])?;
    }
    Ok(rows)
}

/// Whether a settled event was parked until then. Most events are settled by their claimant, and
/// save a statement.
fn was_parked(settled: &LedgerEntry) -> bool {
    let mut before = settled.history.iter().rev().skip(1);
    // What an operator did leaves it parked.
    let before = before.find(|item| !item.kind.is_by_operator());
    before.is_some_and(|item| item.kind == HistoryKind::Parked)
}

fn publish(
    connection: &Connection,
    RowChange { key, next, .. }: &RowChange,
    at_us: i64,
) -> rusqlite::Result<usize> {
    let EntryState::Published { position, .. } = &next.state else { return Ok(0) };
    let item = last_item(next, HistoryKind::Published);
    let published_to = position.is_some().then_some(&item.note);
    let values = params![at_us, item.owner, published_to, key, next.version];
    let rows = connection.prepare_cached(PUBLISH)?.execute(values)?;
    // Only an event that was parked has a record and a snapshot. The others, which are most, save
    // this statement.
    if rows > 0 && next.snapshot.is_some() {
        connection.prepare_cached(DROP_RECORD)?.execute([key])?;
    }
    Ok(rows)
}

/// The history item that this change adds.
fn last_item(entry: &LedgerEntry, kind: HistoryKind) -> &HistoryItem {
    let last = entry.history.last().filter(|item| item.kind == kind);
    last.expect("every change adds its history item")
}

/// Bytes for a column: a TEXT where a person can read them, else a BLOB.
fn bytes(bytes: Option<&[u8]>) -> ValueRef<'_> {
    match bytes {
        None => ValueRef::Null,
        // Many tools end a TEXT at its first NUL.
        Some(bytes) if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() => {
            ValueRef::Blob(bytes)
        }
        Some(bytes) => ValueRef::Text(bytes),
    }
}
