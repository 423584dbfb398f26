//! The reading side: at most two connections at once, because the server's connections are shared by
//! many instances. They are kept for the next read, because a lookup may be needed for each record.

use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::Semaphore;

use super::super::database::{IdentityRow, NO_TABLES, StoredRow};
use super::connection::{PostgresConnection, Query};
use super::row::{EventRow, text};
use super::server::{AccessError, PostgresServer, PostgresUrl};
use super::tables::{NEWEST, TablesVersion};
use crate::domain::ledger_entry::key::KeysOfName;
use crate::ledger::RecordRange;

const MAX_CONNECTIONS: usize = 2;

/// SQLSTATE of a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

const ROW: &str = "SELECT * FROM handoff_events WHERE key = $1";

const KEYS: &str = "SELECT key FROM handoff_events
WHERE key = $1 OR key >= $2 AND key < $3 OR key >= $4 AND key < $5 ORDER BY first_seen_us DESC";

const FORGOT: &str = "SELECT EXISTS (SELECT 1 FROM handoff_pruned WHERE published_until_us >= $1)
  AND NOT EXISTS (SELECT 1 FROM handoff_events WHERE key = $2) AS forgot";

// One index has the unfinished events, another one the others: the conditions name them.
const IDENTITIES: &str = r#"SELECT * FROM (
  SELECT "offset", recorded_us, key, session_id, first_seen_us, deadline_us, state = 'settled' AS is_answered
  FROM handoff_events WHERE state <> 'published'
    AND topic = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4
  UNION ALL
  SELECT "offset", recorded_us, key, session_id, first_seen_us, deadline_us, true
  FROM handoff_events WHERE state = 'published'
    AND topic = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4) AS e
WHERE session_id IS NOT NULL OR is_answered ORDER BY "offset""#;

const UNPUBLISHED_BY_STATE: &str = "SELECT state, count(*) AS count FROM handoff_events
WHERE state <> 'published' AND topic = $1 AND partition = ANY($2)
GROUP BY state ORDER BY state";

/// A server, for reading.
pub struct PostgresReader {
    server: PostgresServer,
    permits: Semaphore,
    idle: Mutex<Vec<PostgresConnection>>,
}

impl PostgresReader {
    pub(in super::super) async fn open(url: &PostgresUrl) -> anyhow::Result<Self> {
        let (server, permits) = (PostgresServer::new(url)?, Semaphore::new(MAX_CONNECTIONS));
        let reader = Self { server, permits, idle: Mutex::default() };
        reader.check_schema().await?;
        Ok(reader)
    }

    pub(in super::super) async fn row(&self, key: &str) -> anyhow::Result<Option<StoredRow>> {
        let rows = self.rows(sqlx::query(ROW).bind(key)).await?;
        rows.first().map(|row| Ok(EventRow::from_row(row)?.into_stored_row())).transpose()
    }

    pub(in super::super) async fn unpublished_by_state(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        let query = sqlx::query(UNPUBLISHED_BY_STATE).bind(topic).bind(partitions);
        let rows = self.rows(query).await?;
        let count = |row: &PgRow| Ok((row.try_get("state")?, row.try_get("count")?));
        Ok(rows.iter().map(count).collect::<sqlx::Result<_>>()?)
    }

    pub(in super::super) async fn keys(&self, name: KeysOfName) -> anyhow::Result<Vec<Arc<str>>> {
        let KeysOfName { id, at_position } = name;
        let mut query = sqlx::query(KEYS).bind(id);
        for range in at_position {
            query = query.bind(range.start).bind(range.end);
        }
        let rows = self.rows(query).await?;
        Ok(rows.iter().map(|row| text(row, "key")).collect::<sqlx::Result<_>>()?)
    }

    pub(in super::super) async fn forgot(
        &self,
        key: &str,
        recorded_us: i64,
    ) -> anyhow::Result<bool> {
        let rows = self.rows(sqlx::query(FORGOT).bind(recorded_us).bind(key)).await?;
        Ok(rows.first().context("no row")?.try_get("forgot")?)
    }

    pub(in super::super) async fn identities(
        &self,
        range: &RecordRange,
    ) -> anyhow::Result<Vec<IdentityRow>> {
        let RecordRange { topic, partition, offsets } = range;
        let query = sqlx::query(IDENTITIES).bind(&**topic).bind(*partition);
        let rows = self.rows(query.bind(offsets.start).bind(offsets.end)).await?;
        let identity = |row: &PgRow| -> sqlx::Result<_> {
            Ok(IdentityRow {
                offset: row.try_get("offset")?,
                recorded_us: row.try_get("recorded_us")?,
                key: text(row, "key")?,
                session_id: row.try_get::<Option<&str>, _>("session_id")?.map(Arc::from),
                first_seen_us: row.try_get("first_seen_us")?,
                deadline_us: row.try_get("deadline_us")?,
                is_answered: row.try_get("is_answered")?,
            })
        };
        Ok(rows.iter().map(identity).collect::<sqlx::Result<_>>()?)
    }

    async fn check_schema(&self) -> anyhow::Result<()> {
        let rows =
            self.rows(sqlx::query(NEWEST)).await.map_err(|error| {
                match is_undefined_table(&error) {
                    true => error.context(NO_TABLES),
                    false => error,
                }
            })?;
        TablesVersion::of_newest(&rows)?.ensure_current(&self.server.name)
    }

    pub(super) async fn rows(&self, query: Query<'_>) -> anyhow::Result<Vec<PgRow>> {
        let _permit = self.permits.acquire().await?;
        let idle = self.idle.lock().pop();
        let mut connection = self.server.alive(idle).await?;
        let limit = connection.time_limit();
        // A connection whose query failed or was abandoned is dropped.
        let rows = self.server.within(limit, connection.fetch_all(query)).await?;
        self.idle.lock().push(connection.after_success());
        Ok(rows)
    }
}

fn is_undefined_table(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<AccessError>();
    error.is_some_and(|error| error.code.as_deref() == Some(UNDEFINED_TABLE))
}
