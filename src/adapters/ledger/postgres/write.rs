//! Writes batches and wakes sessions, around rows that other sessions have locked.
//!
//! An open transaction of a tool may hold a row lock for hours. It must delay only the event of that
//! row: a write waits for a row lock for [`LOCK_WAIT`], then the batch is written without the
//! locked rows; a wake skips them. Either way the result names those that are left. A lock on the
//! whole table is another matter: then nothing can be written, and the access fails as in an outage.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row as _;
use tokio::time::Instant;

use super::super::database::{BatchWrite, RowChange, RowWrite};
use super::connection::PostgresConnection;
use super::row::{EventRow, text};
use crate::domain::ledger_entry::WakeSession;

/// How long the rows of a batch wait for row locks: longer than another instance's commit takes, and
/// short, because every command behind the batch waits as well.
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// The same after the locked rows were found.
const PART_LOCK_WAIT: Duration = Duration::from_millis(20);
/// After this time the parts that are not written yet are taken for locked.
const PARTS_TIME: Duration = Duration::from_secs(1);

/// The SQLSTATE of a lock time-out.
const LOCK_NOT_AVAILABLE: &str = "55P03";

// The time-out is set within the statement, because a statement of its own would be another round
// trip, and a setting of the session would not survive a pooler. It ends with the transaction. The
// table is locked before it is set, so it does not apply to locks on the whole table.
const WRITE: &str = r#"INSERT INTO handoff_events AS e (key, session_id, topic, partition,
  "offset", recorded_us, state, owner, version, first_seen_us, deadline_us, claimed_at_us, from_ledger,
  parked_until_us, waits_for, settled_at_us, published_at_us, published_to, record, snapshot, answer, history)
SELECT change.* FROM (SELECT set_config('lock_timeout', $23, true) AS lock_timeout) AS setting,
UNNEST($1::text[], $2::text[], $3::text[], $4::int[], $5::bigint[], $22::bigint[], $6::text[],
  $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[],
  $13::bigint[], $14::text[], $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::text[],
  $20::text[], $21::text[]) AS change
WHERE setting.lock_timeout <> ''
ON CONFLICT (key) DO UPDATE SET
  state = excluded.state, owner = excluded.owner, version = excluded.version, deadline_us = excluded.deadline_us,
  claimed_at_us = excluded.claimed_at_us, from_ledger = excluded.from_ledger,
  parked_until_us = excluded.parked_until_us,
  waits_for = excluded.waits_for, settled_at_us = excluded.settled_at_us, published_at_us = excluded.published_at_us,
  published_to = excluded.published_to,
  record = CASE WHEN excluded.state = 'published' THEN NULL
    ELSE coalesce(excluded.record, e.record) END,
  snapshot = coalesce(excluded.snapshot, e.snapshot),
  answer = coalesce(excluded.answer, e.answer), history = excluded.history
WHERE e.version = excluded.version - 1
RETURNING e.key"#;

/// Whatever locks the table is no matter of single rows: this waits for it until the access fails.
const LOCK_TABLE: &str = "LOCK TABLE handoff_events IN ROW EXCLUSIVE MODE";

/// The rows that other sessions have locked. The others are locked until the transaction ends, so
/// nobody locks them in between.
const LOCKED: &str = "WITH free AS (
  SELECT key FROM handoff_events WHERE key = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
SELECT key FROM handoff_events WHERE key = ANY($1) AND key NOT IN (SELECT key FROM free)";

// The first unfinished event of a session decides: if it is being worked on, waits for something
// else, or is behind the one in memory, nothing changes. Returns the wakes whose event is locked.
const WAKE: &str = r#"WITH first AS (
  SELECT wake.number, f.key
  FROM UNNEST($2::text[], $3::text[], $4::int[], $5::bigint[]) WITH ORDINALITY
    AS wake (session_id, topic, partition, before_offset, number)
  CROSS JOIN LATERAL (
    SELECT key, "offset", waits_for FROM handoff_events AS f
    WHERE f.session_id = wake.session_id AND f.topic = wake.topic
      AND f.partition = wake.partition AND f.record IS NOT NULL
      AND f.state IN ('open', 'parked')
    ORDER BY f."offset" LIMIT 1) AS f
  WHERE f.waits_for = 'session' AND f."offset" < wake.before_offset),
free AS (
  SELECT key FROM handoff_events WHERE key IN (SELECT key FROM first) AND waits_for = 'session'
  FOR NO KEY UPDATE SKIP LOCKED),
woken AS (
  UPDATE handoff_events AS e SET parked_until_us = LEAST($1, e.deadline_us - 1)
  FROM free WHERE e.key = free.key AND e.waits_for = 'session')
SELECT number FROM first WHERE key NOT IN (SELECT key FROM free)"#;

/// One statement, which is one transaction, where no session is woken and no row is locked; most
/// batches are like that.
pub(super) async fn write_and_wake(
    connection: &mut PostgresConnection,
    changes: &[RowChange],
    now: Timestamp,
) -> sqlx::Result<BatchWrite> {
    if changes.iter().any(|change| change.wake.is_some()) {
        connection.begin().await?;
    }
    let all: Vec<_> = changes.iter().collect();
    let rows = match write(connection, &all, LOCK_WAIT).await {
        Err(error) if is_lock_timeout(&error) => {
            if connection.is_in_transaction() {
                connection.roll_back().await?;
            }
            connection.begin().await?;
            write_around_locks(connection, changes).await?
        }
        rows => rows?,
    };
    let written = changes.iter().zip(&rows).filter(|(_, row)| **row == RowWrite::Written);
    let wakes: Vec<_> = written.filter_map(|(change, _)| change.wake.as_ref()).collect();
    // After all writes: an event that was parked before the answer of this batch is found.
    let woken = wake(connection, &wakes, now).await?;
    if connection.is_in_transaction() {
        connection.commit().await?;
    }
    let locked = wakes.into_iter().zip(woken).filter(|(_, woken)| !woken);
    Ok(BatchWrite { rows, locked_wakes: locked.map(|(wake, _)| wake.clone()).collect() })
}

/// Makes the first parked event of each session due; returns for which of them it was not locked.
pub(super) async fn wake(
    connection: &mut PostgresConnection,
    wakes: &[&WakeSession],
    now: Timestamp,
) -> sqlx::Result<Vec<bool>> {
    let (mut sessions, mut topics) = (Vec::new(), Vec::new());
    let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
    for WakeSession { session_id, topic, partition, before_offset } in wakes {
        sessions.push(&**session_id);
        topics.push(&**topic);
        partitions.push(*partition);
        offsets.push(before_offset.unwrap_or(i64::MAX));
    }
    let mut woken = vec![true; wakes.len()];
    if !wakes.is_empty() {
        let wake = sqlx::query(WAKE).bind(now.as_microsecond());
        let wake = wake.bind(sessions).bind(topics).bind(partitions).bind(offsets);
        for locked in connection.fetch_all(wake).await? {
            // Counted from 1.
            let number = usize::try_from(locked.try_get::<i64, _>("number")?).unwrap_or_default();
            if let Some(woken) = woken.get_mut(number.wrapping_sub(1)) {
                *woken = false;
            }
        }
    }
    Ok(woken)
}

/// In a transaction: writes the rows that no other session has locked.
async fn write_around_locks(
    connection: &mut PostgresConnection,
    changes: &[RowChange],
) -> sqlx::Result<Vec<RowWrite>> {
    connection.fetch_raw(LOCK_TABLE).await?;
    let keys: Vec<_> = changes.iter().map(|change| &*change.key).collect();
    let locked = connection.fetch_all(sqlx::query(LOCKED).bind(&keys)).await?;
    let locked: HashSet<Arc<str>> =
        locked.iter().map(|row| text(row, "key")).collect::<sqlx::Result<_>>()?;
    let mut rows = vec![RowWrite::Locked; changes.len()];
    let free = (0..changes.len()).filter(|index| !locked.contains(&changes[*index].key));
    // A row that another session has inserted and not committed is invisible: where one is in the
    // way, halving finds it.
    let (mut parts, until) = (vec![free.collect::<Vec<_>>()], Instant::now() + PARTS_TIME);
    while let Some(mut part) = parts.pop()
        && Instant::now() < until
    {
        connection.fetch_raw("SAVEPOINT part").await?;
        let of_part: Vec<_> = part.iter().map(|index| &changes[*index]).collect();
        match write(connection, &of_part, PART_LOCK_WAIT).await {
            Ok(written) => part.iter().zip(written).for_each(|(index, row)| rows[*index] = row),
            Err(error) if is_lock_timeout(&error) => {
                connection.fetch_raw("ROLLBACK TO SAVEPOINT part").await?;
                if part.len() > 1 {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    refusal.is_some_and(|refusal| refusal.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}

/// Writes all of them, or fails with [`LOCK_NOT_AVAILABLE`].
async fn write(
    connection: &mut PostgresConnection,
    changes: &[&RowChange],
    lock_wait: Duration,
) -> sqlx::Result<Vec<RowWrite>> {
    fn column<'l, T>(rows: &'l [EventRow], of: impl Fn(&'l EventRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    if changes.is_empty() {
        return Ok(vec![]);
    }
    let rows: Vec<_> =
        changes.iter().map(|change| EventRow::from_entry(&change.key, &change.next)).collect();
    let rows = &*rows;
    let query = sqlx::query(WRITE)
        .bind(column(rows, |row| &*row.key))
        .bind(column(rows, |row| row.session_id.as_deref()))
        .bind(column(rows, |row| &*row.topic))
        .bind(column(rows, |row| row.partition))
        .bind(column(rows, |row| row.offset))
        .bind(column(rows, |row| &*row.state))
        .bind(column(rows, |row| &*row.owner))
        .bind(column(rows, |row| row.version))
        .bind(column(rows, |row| row.first_seen_us))
        .bind(column(rows, |row| row.deadline_us))
        .bind(column(rows, |row| row.claimed_at_us))
        .bind(column(rows, |row| row.from_ledger))
        .bind(column(rows, |row| row.parked_until_us))
        .bind(column(rows, |row| row.waits_for.as_deref()))
        .bind(column(rows, |row| row.settled_at_us))
        .bind(column(rows, |row| row.published_at_us))
        .bind(column(rows, |row| row.published_to.as_deref()))
        .bind(column(rows, |row| row.record.as_deref()))
        .bind(column(rows, |row| row.snapshot.as_deref()))
        .bind(column(rows, |row| row.answer.as_deref()))
        .bind(column(rows, |row| &*row.history))
        .bind(column(rows, |row| row.recorded_us))
        .bind(lock_wait.as_millis().to_string());
    let returned = connection.fetch_all(query).await?;
    let written: HashSet<Arc<str>> =
        returned.iter().map(|row| text(row, "key")).collect::<sqlx::Result<_>>()?;
    let row = |change: &&RowChange| match written.contains(&change.key) {
        true => RowWrite::Written,
        false => RowWrite::Outdated,
    };
    Ok(changes.iter().map(row).collect())
}
