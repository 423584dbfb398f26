//! The queries for recovery and for parked events.
//!
//! With a million parked rows each query may touch only the rows that it returns. So it names its
//! index (SQLite refuses a query that cannot use it), and is run for one partition after the other:
//! rows of several partitions are not in the order of an index. The few rows that are wanted are then
//! read from the view. A transaction keeps the steps consistent; as it reads, it blocks nobody.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::super::database::{CountedRows, DueRows, ParkedRows, StoredRow, WaitRows};
use super::file::explain;
use super::{json, read};
use crate::domain::ledger_entry::WaitsFor;
use crate::domain::record::Position;
use crate::ledger::{CountQuery, DuePartition, DueQuery, WaitingQuery};

const UNFINISHED: &str = r#"SELECT l.* FROM handoff_events AS e INDEXED BY handoff_events_recovery
CROSS JOIN handoff_ledger AS l ON l.event = e.event
WHERE e.record IS NOT NULL AND e.waits_for IS NULL AND e.topic = ? AND e.partition = ?
  AND (l.state = 'settled' OR l.state = 'open' AND l.from_ledger)
ORDER BY e."offset""#;

// The first row of the group after this one: one step in the index for each group.
const NEXT_GROUP: &str = "SELECT waits_for, first_seen_us, parked_until_us
FROM handoff_events INDEXED BY handoff_events_waiting
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ? AND waits_for > ?
ORDER BY waits_for, first_seen_us, parked_until_us LIMIT 1";

// The index holds all that this needs, so a million rows are counted in a fraction of a second.
const COUNT: &str = "SELECT waits_for, count(*)
FROM handoff_events INDEXED BY handoff_events_waiting
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ? AND first_seen_us < ?
GROUP BY waits_for";

// The last row of the next page, found in the index alone.
const WAITS_END: &str = "SELECT waits_for, first_seen_us
FROM handoff_events INDEXED BY handoff_events_waiting
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ?
  AND (waits_for, first_seen_us) > (?, ?)
ORDER BY waits_for, first_seen_us LIMIT 1 OFFSET ?";

const WAITS: &str = "SELECT waits_for, json_extract(course, '$.route') AS route,
  json_extract(course, '$.in_doubt') IS NOT NULL AS is_in_doubt,
  json_extract(course, '$.last_verdict.class') IS 'no_agent' AS found_nobody,
  count(*), min(first_seen_us)
FROM (
  SELECT waits_for, first_seen_us, CASE WHEN json_valid(snapshot) THEN snapshot END AS course
  FROM handoff_events INDEXED BY handoff_events_waiting
  WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ?
    AND (waits_for, first_seen_us) > (?, ?) AND (waits_for, first_seen_us) <= (?, ?))
GROUP BY waits_for, route, is_in_doubt, found_nobody";

/// Rows that one step adds up: some 20 ms.
const WAITS_PAGE: i64 = 5_000;

const OVERDUE: &str = "SELECT deadline_us, event
FROM handoff_events INDEXED BY handoff_events_deadline
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ? AND deadline_us <= ?
ORDER BY deadline_us LIMIT ?";

// An overdue event is not wanted here. If there are fewer of them than `overdue` may return, this
// window contains every event that `due` may return; otherwise the next read finds the rest. Without
// a window a million overdue events would be skipped at every read.
const DUE: &str = "SELECT parked_until_us, event FROM (
  SELECT parked_until_us, event, deadline_us
  FROM handoff_events INDEXED BY handoff_events_due
  WHERE waits_for = 'time' AND topic = ? AND partition = ? AND parked_until_us <= ?3
  ORDER BY parked_until_us LIMIT ?)
WHERE deadline_us IS NULL OR deadline_us > ?3 LIMIT ?";

// Those that are too early have an earlier time than those that are due since. They are not read, so
// that they take no place in the window.
const WOKEN: &str = r#"SELECT parked_until_us, event FROM (
  SELECT parked_until_us, event, deadline_us
  FROM handoff_events INDEXED BY handoff_events_woken
  WHERE waits_for = 'session' AND parked_until_us < deadline_us
    AND topic = ? AND partition = ? AND "offset" <= ?6 AND parked_until_us <= ?3
  ORDER BY "offset" LIMIT ?4)
WHERE deadline_us > ?3 LIMIT ?5"#;

const IS_EARLY: &str = r#"SELECT EXISTS (SELECT 1
FROM handoff_events INDEXED BY handoff_events_woken
WHERE waits_for = 'session' AND parked_until_us < deadline_us
  AND topic = ? AND partition = ? AND "offset" > ?)"#;

const NEXT_DEADLINE: &str = "SELECT deadline_us
FROM handoff_events INDEXED BY handoff_events_deadline
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ? AND deadline_us > ?
ORDER BY deadline_us LIMIT 1";

const NEXT_DUE: &str = "SELECT parked_until_us
FROM handoff_events INDEXED BY handoff_events_due
WHERE waits_for = 'time' AND topic = ? AND partition = ? AND parked_until_us > ?
ORDER BY parked_until_us LIMIT 1";

const WAITING: &str = "SELECT first_seen_us, event
FROM handoff_events INDEXED BY handoff_events_waiting
WHERE waits_for <> 'redelivery' AND topic = ? AND partition = ? AND waits_for = ?
ORDER BY first_seen_us LIMIT ?";

const IS_SESSION_PARKED: &str = r#"SELECT EXISTS (
  SELECT 1 FROM handoff_events AS e INDEXED BY handoff_events_session
  WHERE record IS NOT NULL
    AND session_id = ? AND topic = ? AND partition = ? AND "offset" < ?
    AND (waits_for <> 'redelivery' OR waits_for IS NULL AND from_ledger
      AND "offset" NOT IN (SELECT value FROM json_each(?))
      AND NOT EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = e.event)))"#;

const IS_BEHIND_UNPUBLISHED: &str = r#"SELECT EXISTS (
  SELECT 1 FROM handoff_events AS e INDEXED BY handoff_events_position
  WHERE topic = ? AND partition = ? AND "offset" >= ? AND "offset" < ? AND session_id = ?
    AND EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = e.event)
    AND NOT EXISTS (SELECT 1 FROM handoff_published AS p WHERE p.event = e.event))"#;

const ROWS: &str = "SELECT l.* FROM json_each(?) AS wanted
CROSS JOIN handoff_ledger AS l ON l.event = wanted.value ORDER BY wanted.key";

/// The time by which a row is ordered, and the row.
type Found = (i64, i64);

pub(super) fn unfinished(
    connection: &Connection,
    file: &Path,
    topic: &str,
    partitions: &[i32],
) -> anyhow::Result<Vec<StoredRow>> {
    let mut partitions = partitions.to_vec();
    partitions.sort_unstable();
    let mut rows = Vec::new();
    for partition in partitions {
        rows.append(&mut read(connection, file, UNFINISHED, params![topic, partition])?);
    }
    Ok(rows)
}

pub(super) fn groups(
    connection: &Connection,
    topic: &str,
    partition: i32,
) -> rusqlite::Result<Vec<ParkedRows>> {
    let mut query = connection.prepare_cached(NEXT_GROUP)?;
    let mut next = |after: &str| {
        let group = query.query_row(params![topic, partition, after], |row| {
            Ok(ParkedRows {
                partition,
                waits_for: row.get(0)?,
                oldest_us: row.get(1)?,
                oldest_until_us: row.get(2)?,
            })
        });
        group.optional()
    };
    let mut groups = Vec::new();
    let mut found = next("")?;
    while let Some(group) = found {
        found = next(&group.waits_for)?;
        groups.push(group);
    }
    Ok(groups)
}

pub(super) fn count(
    connection: &Connection,
    query: &CountQuery,
    partition: i32,
) -> rusqlite::Result<Vec<CountedRows>> {
    let values = params![query.topic, partition, query.seen_before.as_microsecond()];
    let mut count = connection.prepare_cached(COUNT)?;
    let rows = count.query_map(values, |row| {
        Ok(CountedRows { partition, waits_for: row.get(0)?, events: row.get(1)? })
    })?;
    rows.collect()
}

/// Up to where the parked rows of a partition have been added up.
#[derive(Clone)]
pub(super) struct WaitsCursor {
    waits_for: String,
    first_seen_us: i64,
}

impl WaitsCursor {
    pub(super) const START: Self = Self { waits_for: String::new(), first_seen_us: i64::MIN };
}

/// Adds up the next page of parked rows; returns where it ends, `None` at the end.
pub(super) fn waits(
    connection: &Connection,
    topic: &str,
    partition: i32,
    after: &WaitsCursor,
) -> rusqlite::Result<(Vec<WaitRows>, Option<WaitsCursor>)> {
    let WaitsCursor { waits_for, first_seen_us } = after;
    let values = params![topic, partition, waits_for, first_seen_us, WAITS_PAGE - 1];
    let mut end = connection.prepare_cached(WAITS_END)?;
    let end = end.query_row(values, |row| {
        Ok(WaitsCursor { waits_for: row.get(0)?, first_seen_us: row.get(1)? })
    });
    let end = end.optional()?;
    // Behind everything that an entry can wait for.
    let last = WaitsCursor { waits_for: char::MAX.to_string(), first_seen_us: i64::MAX };
    let to = end.as_ref().unwrap_or(&last);
    let mut query = connection.prepare_cached(WAITS)?;
    let values =
        params![topic, partition, waits_for, first_seen_us, to.waits_for, to.first_seen_us];
    let rows = query.query_map(values, |row| {
        Ok(WaitRows {
            partition,
            waits_for: row.get(0)?,
            // A number, or a list, is no name of a route.
            route: row.get(1).unwrap_or_default(),
            is_in_doubt: row.get(2)?,
            found_nobody: row.get(3)?,
            events: row.get(4)?,
            oldest_us: row.get(5)?,
        })
    })?;
    Ok((rows.collect::<rusqlite::Result<_>>()?, end))
}

pub(super) fn due(
    connection: &Connection,
    file: &Path,
    query: &DueQuery,
) -> anyhow::Result<DueRows> {
    let DueQuery { topic, partitions, now, overdue_limit, due_limit } = query;
    let now = now.as_microsecond();
    let [overdue_limit, due_limit] = [*overdue_limit, *due_limit].map(|limit| limit as i64);
    let window = overdue_limit.saturating_add(due_limit);
    let find = || -> rusqlite::Result<_> {
        let (mut overdue, mut due) = (Vec::new(), Vec::new());
        let (mut next_deadline_us, mut next_due_us, mut has_early) = (None, None, false);
        for DuePartition { partition, woken_up_to } in partitions {
            let after_now = params![topic, partition, now];
            find(connection, OVERDUE, params![topic, partition, now, overdue_limit], &mut overdue)?;
            if due_limit > 0 {
                let limits = params![topic, partition, now, window, due_limit];
                find(connection, DUE, limits, &mut due)?;
                let limits = params![topic, partition, now, window, due_limit, woken_up_to];
                find(connection, WOKEN, limits, &mut due)?;
            }
            let beyond = params![topic, partition, woken_up_to];
            has_early |= first(connection, IS_EARLY, beyond)? == Some(1);
            next_deadline_us =
                earliest(next_deadline_us, first(connection, NEXT_DEADLINE, after_now)?);
            next_due_us = earliest(next_due_us, first(connection, NEXT_DUE, after_now)?);
        }
        let next = DueRows { next_deadline_us, next_due_us, has_early, ..DueRows::default() };
        Ok((overdue, due, next))
    };
    let transaction = connection.unchecked_transaction().map_err(|error| explain(file, error))?;
    let (overdue, due, next) = find().map_err(|error| explain(file, error))?;
    let overdue = rows(&transaction, file, overdue, query.overdue_limit)?;
    let due = rows(&transaction, file, due, query.due_limit)?;
    Ok(DueRows { overdue, due, ..next })
}

pub(super) fn waiting(
    connection: &Connection,
    file: &Path,
    query: &WaitingQuery,
) -> anyhow::Result<Vec<StoredRow>> {
    let WaitingQuery { topic, partitions, room, limit } = query;
    let waits_for = WaitsFor::Agent(room.clone()).to_string();
    let explain = |error| explain(file, error);
    let transaction = connection.unchecked_transaction().map_err(explain)?;
    let mut found = Vec::new();
    for partition in partitions {
        let values = params![topic, partition, waits_for, *limit as i64];
        find(&transaction, WAITING, values, &mut found).map_err(explain)?;
    }
    rows(&transaction, file, found, *limit)
}

pub(super) fn is_session_parked(
    connection: &Connection,
    session_id: &str,
    before: &Position,
    in_memory: &[i64],
) -> rusqlite::Result<bool> {
    let Position { topic, partition, offset } = before;
    let values = params![session_id, topic, partition, offset, json(in_memory)];
    connection.prepare_cached(IS_SESSION_PARKED)?.query_row(values, |row| row.get(0))
}

pub(super) fn is_behind_unpublished(
    connection: &Connection,
    session_id: &str,
    position: &Position,
    from: i64,
) -> rusqlite::Result<bool> {
    let Position { topic, partition, offset } = position;
    let values = params![topic, partition, from, offset, session_id];
    connection.prepare_cached(IS_BEHIND_UNPUBLISHED)?.query_row(values, |row| row.get(0))
}

fn find(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    found: &mut Vec<Found>,
) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(sql)?;
    for row in query.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))? {
        found.push(row?);
    }
    Ok(())
}

fn first(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

fn earliest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// The earliest of these rows, in their order.
fn rows(
    connection: &Connection,
    file: &Path,
    mut found: Vec<Found>,
    limit: usize,
) -> anyhow::Result<Vec<StoredRow>> {
    if found.is_empty() {
        return Ok(vec![]);
    }
    found.sort_unstable();
    found.truncate(limit);
    let events: Vec<i64> = found.into_iter().map(|(_, event)| event).collect();
    read(connection, file, ROWS, [json(&events)])
}
