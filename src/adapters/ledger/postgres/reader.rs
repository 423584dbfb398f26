//! The reading side: at most two connections at once, because the server's connections are shared by
//! many instances. They are kept for the next read, because a lookup may be needed for each record.

use std::time::Duration;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use secrecy::SecretString;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::database::{NO_TABLES, StoredRow};
use super::row::EventRow;
use super::server::{PostgresServer, STATEMENT_TIMEOUT};
use super::{migrator, newer, unreleased};

const MAX_CONNECTIONS: usize = 2;

/// A connection that was idle for longer is pinged before it is used: the server or a firewall may
/// have closed it.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// SQLSTATE of a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

const ROW: &str = "SELECT * FROM handoff_events WHERE key = $1";

const UNPUBLISHED_BY_STATE: &str = "SELECT state, count(*) AS count FROM handoff_events
WHERE state <> 'published' AND topic = $1 AND partition = ANY($2)
GROUP BY state ORDER BY state";

const NEWEST: &str =
    "SELECT version, checksum FROM handoff_migrations ORDER BY version DESC LIMIT 1";

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// A server, for reading.
pub struct PostgresReader {
    server: PostgresServer,
    permits: Semaphore,
    idle: Mutex<Vec<IdleConnection>>,
}

struct IdleConnection {
    connection: PgConnection,
    since: Instant,
}

impl PostgresReader {
    pub(in super::super) async fn open(url: &SecretString) -> anyhow::Result<Self> {
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

    async fn check_schema(&self) -> anyhow::Result<()> {
        let rows =
            self.rows(sqlx::query(NEWEST)).await.map_err(|error| {
                match is_undefined_table(&error) {
                    true => error.context(NO_TABLES),
                    false => error,
                }
            })?;
        let newest = rows.first().context("no version")?;
        let version: i64 = newest.try_get("version")?;
        let migrator = migrator();
        match migrator.iter().find(|migration| migration.version == version) {
            None => bail!(newer(&self.server.name)),
            Some(known) if *known.checksum != *newest.try_get::<&[u8], _>("checksum")? => {
                bail!(unreleased(&self.server.name))
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) async fn rows(&self, query: Query<'_>) -> anyhow::Result<Vec<PgRow>> {
        let _permit = self.permits.acquire().await?;
        let mut connection = self.take_connection().await?;
        let fetch = query.fetch_all(&mut connection);
        // A connection that failed, or whose query was abandoned, is dropped.
        let rows = self.server.within(STATEMENT_TIMEOUT, fetch).await?;
        self.idle.lock().push(IdleConnection { connection, since: Instant::now() });
        Ok(rows)
    }

    async fn take_connection(&self) -> anyhow::Result<PgConnection> {
        let idle = self.idle.lock().pop();
        if let Some(IdleConnection { mut connection, since }) = idle {
            let is_trusted = since.elapsed() < TRUSTED_FOR;
            if is_trusted || self.server.within(PING_TIMEOUT, connection.ping()).await.is_ok() {
                return Ok(connection);
            }
        }
        self.server.connect().await
    }
}

fn is_undefined_table(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.is_some_and(|error| error.code().as_deref() == Some(UNDEFINED_TABLE))
}
