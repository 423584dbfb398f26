//! PostgreSQL: one connection that writes, and at most two that read.
//!
//! A batch is one statement, with its rows as arrays. No row is locked while a change is decided:
//! optimistic locking, a row is written only over the version that was read, so another instance's
//! change is never overwritten. `write` has the statements, and goes around rows that other sessions
//! have locked. `server` connects, `connection`
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
mod write;

use std::collections::HashSet;
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
use self::write::{wake, write_and_wake};
use super::database::{BatchWrite, Database, Decide, RowChange, RowRequest, StoredRow};
use crate::domain::ledger_entry::WakeSession;

/// Long, because another instance may be migrating: the second one waits for its lock.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Without records, which no command needs, and without answers, which few need.
const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", recorded_us, state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for, settled_at_us,
  published_at_us, published_to, NULL AS record, snapshot, NULL AS answer, history
FROM handoff_events WHERE key = ANY($1)"#;

const ANSWERS: &str = "SELECT key, answer FROM handoff_events WHERE key = ANY($1)";

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
    async fn write(&mut self, changes: &[RowChange], now: Timestamp) -> anyhow::Result<BatchWrite> {
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
    ) -> anyhow::Result<BatchWrite> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        let rows = self.server.within(limit, read(&mut connection, requests)).await?;
        let changes = decide(rows);
        let write = write_and_wake(&mut connection, &changes, now);
        let written = self.server.within(limit, write).await?;
        self.connection = Some(connection.after_success());
        Ok(written)
    }

    async fn wake(&mut self, wakes: &[WakeSession], now: Timestamp) -> anyhow::Result<Vec<bool>> {
        let mut connection = self.take_connection().await?;
        let limit = connection.time_limit();
        let wakes: Vec<_> = wakes.iter().collect();
        let woken = self.server.within(limit, wake(&mut connection, &wakes, now)).await?;
        self.connection = Some(connection.after_success());
        Ok(woken)
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
