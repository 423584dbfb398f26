//! One change, one statement: a row of its own for what happens once.
//!
//! This file never writes over a version that a change was not made from.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use super::super::texts::{channel_word, headers_text, record_text, steps_text};
use super::super::writer::Change;
use crate::domain::ledger_entry::{EntryState, HistoryItem, HistoryKind, LedgerEntry};

const CLAIM: &str = r#"INSERT INTO handoff_events (key, session_id, topic, partition, "offset",
  owner, version, first_seen_us, deadline_us, claimed_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"#;

/// ClaimResult again, or put away.
const GO_ON: &str = "UPDATE handoff_events SET owner = ?, version = ?, claimed_at_us = ?,
  parked_until_us = ?, record = coalesce(?, record), memory = coalesce(?, memory), history = ?
WHERE key = ?8 AND version = ?2 - 1
  AND NOT EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = handoff_events.event)";

const SETTLE: &str = "INSERT INTO handoff_answers
SELECT event, ?, ?, ?, ?, ?, ?, ? FROM handoff_events WHERE key = ? AND version = ? - 1
ON CONFLICT DO NOTHING";

const PUBLISH: &str = "INSERT INTO handoff_published
SELECT event, ?, ?, ? FROM handoff_events WHERE key = ? AND version = ? - 2
  AND EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = handoff_events.event)
ON CONFLICT DO NOTHING";

const DROP_RECORD: &str = "UPDATE handoff_events SET record = NULL WHERE key = ?";

/// Was it written?
pub(super) fn write(connection: &Connection, change: &Change) -> rusqlite::Result<bool> {
    let next = &change.next;
    let rows = match &next.state {
        EntryState::Open if next.version == 1 => claim(connection, change)?,
        EntryState::Open => go_on(connection, change, None)?,
        EntryState::Parked { until } => go_on(connection, change, Some(until.as_microsecond()))?,
        EntryState::Settled { at } => settle(connection, change, at.as_microsecond())?,
        EntryState::Published { at, .. } => publish(connection, change, at.as_microsecond())?,
    };
    Ok(rows > 0)
}

fn claim(connection: &Connection, Change { key, next }: &Change) -> rusqlite::Result<usize> {
    connection.prepare_cached(CLAIM)?.execute(params![
        key,
        next.session_id,
        next.source.topic,
        next.source.partition,
        next.source.offset,
        next.owner,
        next.version,
        next.first_seen.as_microsecond(),
        next.deadline.map(|deadline| deadline.as_microsecond()),
        next.claimed_at.as_microsecond(),
    ])
}

fn go_on(
    connection: &Connection,
    Change { key, next }: &Change,
    parked_until_us: Option<i64>,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(GO_ON)?.execute(params![
        next.owner,
        next.version,
        next.claimed_at.as_microsecond(),
        parked_until_us,
        next.record.as_ref().map(record_text),
        next.memory,
        steps_text(&next.history),
        key,
    ])
}

fn settle(
    connection: &Connection,
    Change { key, next }: &Change,
    at_us: i64,
) -> rusqlite::Result<usize> {
    let answer = next.answer.as_ref().expect("what is settled has an answer");
    let step = last(next, HistoryKind::Settled);
    connection.prepare_cached(SETTLE)?.execute(params![
        at_us,
        step.owner,
        step.note,
        channel_word(answer.channel),
        ToSqlOutput::Borrowed(bytes(answer.key.as_deref())),
        ToSqlOutput::Borrowed(bytes(answer.value.as_deref())),
        headers_text(&answer.headers),
        key,
        next.version,
    ])
}

fn publish(
    connection: &Connection,
    Change { key, next }: &Change,
    at_us: i64,
) -> rusqlite::Result<usize> {
    let EntryState::Published { place, .. } = &next.state else { return Ok(0) };
    let step = last(next, HistoryKind::Published);
    let to = place.is_some().then_some(&step.note);
    let publish = params![at_us, step.owner, to, key, next.version];
    let rows = connection.prepare_cached(PUBLISH)?.execute(publish)?;
    // Only what was put away has one.
    if rows > 0 && next.memory.is_some() {
        connection.prepare_cached(DROP_RECORD)?.execute([key])?;
    }
    Ok(rows)
}

/// The step that this change adds to the story.
fn last(entry: &LedgerEntry, what: HistoryKind) -> &HistoryItem {
    entry
        .history
        .last()
        .filter(|step| step.what == what)
        .expect("every change is told in its story")
}

/// Bytes as they stand in a column: a text where a person can read it.
pub(super) fn bytes(bytes: Option<&[u8]>) -> ValueRef<'_> {
    match bytes {
        None => ValueRef::Null,
        // What reads texts elsewhere often stops at a NUL.
        Some(bytes) if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() => {
            ValueRef::Blob(bytes)
        }
        Some(bytes) => ValueRef::Text(bytes),
    }
}
