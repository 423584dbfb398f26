//! PostgreSQL: one connection that writes, and at most two that read.
//!
//! A batch is one statement, with its rows as arrays. No row is locked while a change is decided:
//! optimistic locking, a row is written only over the version that was read, so another instance's
//! change is never overwritten. `server` connects, `connection`
//! runs queries, also behind PgBouncer in transaction mode, `tables` creates the tables, `row` has the
//! columns, `reader` the reading side, with the queries for parked events in `parked` and for all
//! entries in `list`. `pruner` deletes old entries, on a connection of its own.

mod connection;
mod list;
mod parked;
mod pruner;
mod reader;
mod row;
mod server;
mod tables;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use self::connection::PostgresConnection;
pub(super) use self::pruner::PostgresPruner;
pub(super) use self::reader::PostgresReader;
use self::row::{EventRow, optional_text, text};
use self::server::{CONNECT_TIMEOUT, PostgresServer};
pub(super) use self::server::{PostgresUrl, parse_url, redact_url};
use self::tables::migrate;
use super::database::{Database, Decide, RowChange, RowRequest, StoredRow};
use crate::domain::ledger_entry::WakeSession;

/// Long, because another instance may be migrating: the second one waits for its lock.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Without records, which no command needs, and without answers, which few need.
const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for, settled_at_us,
  published_at_us, published_to, NULL AS record, snapshot, NULL AS answer, history
FROM handoff_events WHERE key = ANY($1)"#;

const ANSWERS: &str = "SELECT key, answer FROM handoff_events WHERE key = ANY($1)";

const WRITE: &str = r#"INSERT INTO handoff_events AS e (key, session_id, topic, partition,
  "offset", state, owner, version, first_seen_us, deadline_us, claimed_at_us, from_ledger,
  parked_until_us, waits_for, settled_at_us, published_at_us, published_to, record, snapshot, answer, history)
SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::text[],
  $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[],
  $13::bigint[], $14::text[], $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::text[],
  $20::text[], $21::text[])
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

/// The server gives up where another session has locked an event that is to be woken.
const WAKE_LIMIT: &str = "SET LOCAL lock_timeout = 500";

// The first unfinished event of a session decides: if it is being worked on, waits for something
// else, or is behind the one in memory, nothing changes.
const WAKE: &str = r#"UPDATE handoff_events AS e SET parked_until_us = $1
FROM UNNEST($2::text[], $3::text[], $4::int[], $5::bigint[])
  AS wake (session_id, topic, partition, before_offset)
CROSS JOIN LATERAL (
  SELECT key, "offset" FROM handoff_events AS f
  WHERE f.session_id = wake.session_id AND f.topic = wake.topic
    AND f.partition = wake.partition AND f.record IS NOT NULL
    AND f.state IN ('open', 'parked')
  ORDER BY f."offset" LIMIT 1) AS first
WHERE e.key = first.key AND e.waits_for = 'session' AND first."offset" < wake.before_offset"#;

/// The writing side.
pub(super) struct PostgresDatabase {
    server: PostgresServer,
    /// Taken out during each use, so that a connection that failed is not used again.
    connection: Option<PostgresConnection>,
}

impl PostgresDatabase {
    /// Connects and applies the migrations.
    pub(super) async fn open(url: &PostgresUrl) -> anyhow::Result<Self> {
        let server = PostgresServer::new(url)?;
        let mut connection = server.connect().await?;
        let migration = server.within(MIGRATION_TIMEOUT, migrate(&mut connection)).await;
        migration.context("failed to create the tables")?.ensure_current(&server.name)?;
        Ok(Self { server, connection: Some(connection.after_success()) })
    }

    /// For an operator, beside the service: the tables exist, and nothing is locked.
    pub(super) fn beside(url: &PostgresUrl) -> anyhow::Result<Self> {
        Ok(Self { server: PostgresServer::new(url)?, connection: None })
    }

    async fn take_connection(&mut self) -> anyhow::Result<PostgresConnection> {
        let idle = self.connection.take();
        self.server.alive(idle).await
    }
}

impl Database for PostgresDatabase {
    async fn write(&mut self, changes: &[RowChange], now: Timestamp) -> anyhow::Result<Vec<bool>> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        let write = write_and_wake(&mut connection, changes, now);
        let written = self.server.within(limit, write).await?;
        self.connection = Some(connection.after_success());
        Ok(written)
    }

    async fn read_and_write(
        &mut self,
        requests: &[RowRequest<'_>],
        decide: Decide<'_>,
        now: Timestamp,
    ) -> anyhow::Result<Vec<bool>> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        let rows = self.server.within(limit, read(&mut connection, requests)).await?;
        let changes = decide(rows);
        let write = write_and_wake(&mut connection, &changes, now);
        let written = self.server.within(limit, write).await?;
        self.connection = Some(connection.after_success());
        Ok(written)
    }

    async fn wake(&mut self, wakes: &[WakeSession], now: Timestamp) -> anyhow::Result<()> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        let wake = async {
            connection.begin().await?;
            connection.fetch_raw(WAKE_LIMIT).await?;
            wake(&mut connection, wakes.iter(), now).await?;
            connection.commit().await
        };
        self.server.within(limit, wake).await?;
        self.connection = Some(connection.after_success());
        Ok(())
    }

    async fn prune(&mut self, _: Timestamp) -> anyhow::Result<u64> {
        Ok(0)
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        self.server.within(limit, connection.ping()).await?;
        self.connection = Some(connection.after_success());
        Ok(())
    }

    async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = self.server.within(CONNECT_TIMEOUT, connection.close()).await
        {
            tracing::debug!(error = format!("{error:#}"), "ledger not closed cleanly");
        }
    }
}

async fn read(
    connection: &mut PostgresConnection,
    requests: &[RowRequest<'_>],
) -> sqlx::Result<Vec<StoredRow>> {
    let keys: Vec<_> = requests.iter().map(|request| request.key).collect();
    let rows = connection.fetch_all(sqlx::query(ROWS).bind(&keys)).await?;
    let mut rows: Vec<_> = rows.iter().map(EventRow::from_row).collect::<sqlx::Result<_>>()?;
    let with_answer: HashSet<_> =
        requests.iter().filter(|request| request.with_answer).map(|request| request.key).collect();
    let needs_answer = |row: &&EventRow| row.is_settled() && with_answer.contains(&*row.key);
    let keys: Vec<_> = rows.iter().filter(needs_answer).map(|row| row.key.clone()).collect();
    // Answers are large, and a claim of a settled event is rare: they have a statement of their own.
    if !keys.is_empty() {
        let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
        for answer in connection.fetch_all(sqlx::query(ANSWERS).bind(keys)).await? {
            let key = text(&answer, "key")?;
            if let Some(row) = rows.iter_mut().find(|row| row.key == key) {
                row.answer = optional_text(&answer, "answer")?;
            }
        }
    }
    Ok(rows.into_iter().map(EventRow::into_stored_row).collect())
}

/// One statement, which is one transaction, where no session is woken; most batches wake none.
async fn write_and_wake(
    connection: &mut PostgresConnection,
    changes: &[RowChange],
    now: Timestamp,
) -> sqlx::Result<Vec<bool>> {
    if changes.iter().all(|change| change.wake.is_none()) {
        return write(connection, changes).await;
    }
    connection.begin().await?;
    let written = write(connection, changes).await?;
    let done = changes.iter().zip(&written).filter(|(_, written)| **written);
    // After all writes: an event that was parked before the answer of this batch is found.
    wake(connection, done.filter_map(|(change, _)| change.wake.as_ref()), now).await?;
    connection.commit().await?;
    Ok(written)
}

async fn wake(
    connection: &mut PostgresConnection,
    wakes: impl Iterator<Item = &WakeSession>,
    now: Timestamp,
) -> sqlx::Result<()> {
    let (mut sessions, mut topics) = (Vec::new(), Vec::new());
    let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
    for WakeSession { session_id, topic, partition, before_offset } in wakes {
        sessions.push(&**session_id);
        topics.push(&**topic);
        partitions.push(*partition);
        offsets.push(before_offset.unwrap_or(i64::MAX));
    }
    if !sessions.is_empty() {
        let wake = sqlx::query(WAKE).bind(now.as_microsecond());
        let wake = wake.bind(sessions).bind(topics).bind(partitions).bind(offsets);
        connection.fetch_all(wake).await?;
    }
    Ok(())
}

async fn write(
    connection: &mut PostgresConnection,
    changes: &[RowChange],
) -> sqlx::Result<Vec<bool>> {
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
        .bind(column(rows, |row| &*row.history));
    let returned = connection.fetch_all(query).await?;
    let written: HashSet<Arc<str>> =
        returned.iter().map(|row| text(row, "key")).collect::<sqlx::Result<_>>()?;
    Ok(changes.iter().map(|change| written.contains(&change.key)).collect())
}
