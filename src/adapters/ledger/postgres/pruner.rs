//! Deletes old entries, on a connection of its own: a cold disk, or a row that another session has
//! locked, delays no command of the writer.

use anyhow::Context as _;
use jiff::Timestamp;
use sqlx::Row as _;
use tokio::time::sleep;

use super::super::database::{PRUNE_PAUSE, PRUNE_ROWS};
use super::connection::PostgresConnection;
use super::server::{CONNECT_TIMEOUT, PostgresServer, PostgresUrl};

/// The server ends a step that waits for a lock or takes long: without us it would go on with it.
const LIMITS: &str = "SET LOCAL lock_timeout = 1000; SET LOCAL statement_timeout = 10000";

/// One step. It skips rows that are locked: the next run deletes them.
const PRUNE: &str = "WITH pruned AS (DELETE FROM handoff_events WHERE key IN (
    SELECT key FROM handoff_events WHERE state = 'published' AND published_at_us < $1
    ORDER BY published_at_us LIMIT $2 FOR UPDATE SKIP LOCKED)
  RETURNING published_at_us),
noted AS (INSERT INTO handoff_pruned AS p (id, published_until_us)
  SELECT 1, max(published_at_us) FROM pruned HAVING count(*) > 0
  ON CONFLICT (id) DO UPDATE
  SET published_until_us = greatest(p.published_until_us, excluded.published_until_us))
SELECT count(*) AS rows FROM pruned";

/// A server, for pruning.
pub(in super::super) struct PostgresPruner {
    server: PostgresServer,
}

impl PostgresPruner {
    pub(in super::super) fn new(url: &PostgresUrl) -> anyhow::Result<Self> {
        Ok(Self { server: PostgresServer::new(url)? })
    }

    /// Deletes the entries that were published before this time; returns how many.
    pub(in super::super) async fn prune(&self, before: Timestamp) -> anyhow::Result<u64> {
        let mut connection = self.server.connect().await?;
        let limit = connection.time_limit();
        let mut pruned = 0;
        loop {
            let rows = self.server.within(limit, step(&mut connection, before)).await?;
            let rows = rows.context("no row")?;
            pruned += rows;
            if rows < PRUNE_ROWS {
                self.server.within(CONNECT_TIMEOUT, connection.close()).await?;
                return Ok(u64::try_from(pruned)?);
            }
            sleep(PRUNE_PAUSE).await;
        }
    }
}

/// Deletes up to [`PRUNE_ROWS`] entries; returns how many.
async fn step(connection: &mut PostgresConnection, before: Timestamp) -> sqlx::Result<Option<i64>> {
    connection.begin().await?;
    connection.fetch_raw(LIMITS).await?;
    let prune = sqlx::query(PRUNE).bind(before.as_microsecond()).bind(PRUNE_ROWS);
    let rows = connection.fetch_all(prune).await?;
    connection.commit().await?;
    rows.first().map(|row| row.try_get("rows")).transpose()
}
