//! The reading side. Reads are rare, so each one opens a connection for itself; at most two at
//! once, because the server's connections are shared by many instances.

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, Row as _};
use tokio::sync::Semaphore;

use super::super::database::{NO_TABLES, StoredRow};
use super::row::EventRow;
use super::server::{CONNECT_TIMEOUT, PostgresServer, STATEMENT_TIMEOUT};
use super::{migrator, newer};

const MAX_CONNECTIONS: usize = 2;

/// SQLSTATE of a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

const ROW: &str = "SELECT * FROM handoff_events WHERE key = $1";

const UNFINISHED: &str = r#"SELECT * FROM handoff_events
WHERE state <> 'published' AND record IS NOT NULL AND topic = $1 AND partition = ANY($2)
ORDER BY partition, "offset""#;

const UNPUBLISHED_BY_STATE: &str = "SELECT state, count(*) AS count FROM handoff_events
WHERE state <> 'published' AND topic = $1 AND partition = ANY($2)
GROUP BY state ORDER BY state";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// A server, for reading.
pub struct PostgresReader {
    server: PostgresServer,
    connections: Semaphore,
}

impl PostgresReader {
    pub(in super::super) async fn open(url: &SecretString) -> anyhow::Result<Self> {
        let (server, connections) = (PostgresServer::new(url)?, Semaphore::new(MAX_CONNECTIONS));
        let reader = Self { server, connections };
        reader.check_schema().await?;
        Ok(reader)
    }

    pub(in super::super) async fn row(&self, key: &str) -> anyhow::Result<Option<StoredRow>> {
        let rows = self.rows(sqlx::query(ROW).bind(key)).await?;
        rows.first().map(|row| Ok(EventRow::from_row(row)?.into_stored_row())).transpose()
    }

    pub(in super::super) async fn unfinished(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<StoredRow>> {
        let rows = self.rows(sqlx::query(UNFINISHED).bind(topic).bind(partitions)).await?;
        rows.iter().map(|row| Ok(EventRow::from_row(row)?.into_stored_row())).collect()
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

    async fn check_schema(&self) -> anyhow::Result<()> {
        let newest = sqlx::query("SELECT max(version) AS version FROM handoff_migrations");
        let rows = self.rows(newest).await.map_err(|error| match is_undefined_table(&error) {
            true => error.context(NO_TABLES),
            false => error,
        })?;
        let version: Option<i64> = rows.first().context("no version")?.try_get("version")?;
        let known = migrator().iter().map(|migration| migration.version).max();
        if version > known {
            bail!(newer(&self.server.name));
        }
        Ok(())
    }

    async fn rows(&self, query: Query<'_>) -> anyhow::Result<Vec<PgRow>> {
        let _permit = self.connections.acquire().await?;
        let mut connection = self.server.connect().await?;
        let fetch = query.fetch_all(&mut connection);
        let rows = self.server.within(STATEMENT_TIMEOUT, fetch).await?;
        self.server.within(CONNECT_TIMEOUT, connection.close()).await?;
        Ok(rows)
    }
}

fn is_undefined_table(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.is_some_and(|error| error.code().as_deref() == Some(UNDEFINED_TABLE))
}
