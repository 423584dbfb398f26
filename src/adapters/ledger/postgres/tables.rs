//! The tables: creating them, and whether they are those of this version.
//!
//! sqlx's own migrator does not work behind a pooler: its lock outlives the transaction, and so may
//! end on another connection than it began on. So its parts are used here in one transaction.

use anyhow::{Context as _, bail};
use sqlx::migrate::{Migration, MigrationType};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use super::connection::PostgresConnection;

/// The newest migration that was applied.
pub(super) const NEWEST: &str =
    "SELECT version, checksum FROM handoff_migrations ORDER BY version DESC LIMIT 1";

/// Instances that start at the same time wait for each other. The number is arbitrary.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4713820650146302081)";

/// Another instance may be migrating; the caller has its own time limit.
const NO_LIMIT: &str = "SET LOCAL statement_timeout = 0";

/// Without CREATE, which needs a right that the service may lose once the tables exist.
const IS_MIGRATED: &str = "SELECT to_regclass('handoff_migrations') IS NOT NULL AS found";

const CREATE: &str = "CREATE TABLE handoff_migrations (
  version BIGINT PRIMARY KEY, description TEXT NOT NULL,
  installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL,
  checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL)";

/// Which version wrote the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TablesVersion {
    Current,
    Newer,
    Unreleased,
}

impl TablesVersion {
    /// Refuses tables that this version must not use.
    pub(super) fn ensure_current(self, name: &str) -> anyhow::Result<()> {
        match self {
            Self::Current => Ok(()),
            Self::Newer => bail!(
                "the ledger {name} was written by a newer handoff; start that one, or a newer one"
            ),
            Self::Unreleased => bail!(
                "the ledger {name} was written by a development build of handoff: drop its tables \
                 (handoff_events, handoff_pruned, handoff_migrations), or name another database"
            ),
        }
    }

    fn of(applied: &PgRow) -> sqlx::Result<Self> {
        let version: i64 = applied.try_get("version")?;
        let checksum: Vec<u8> = applied.try_get("checksum")?;
        Ok(match migrations().into_iter().find(|migration| migration.version == version) {
            None => Self::Newer,
            Some(known) if *known.checksum != *checksum => Self::Unreleased,
            Some(_) => Self::Current,
        })
    }

    /// Of the newest migration, as [`NEWEST`] returns it.
    pub(super) fn of_newest(rows: &[PgRow]) -> anyhow::Result<Self> {
        Ok(Self::of(rows.first().context("no version")?)?)
    }
}

fn migrations() -> Vec<Migration> {
    let sql = include_str!("../../../../migrations/postgres/0001_events.sql").into_sql_str();
    vec![Migration::new(1, "events".into(), MigrationType::Simple, sql, false)]
}

/// Creates the tables where they are missing, in one transaction.
pub(super) async fn migrate(connection: &mut PostgresConnection) -> sqlx::Result<TablesVersion> {
    connection.begin().await?;
    connection.fetch_raw(NO_LIMIT).await?;
    connection.fetch_raw(LOCK).await?;
    let found = connection.fetch_raw(IS_MIGRATED).await?;
    if !found.first().ok_or(sqlx::Error::RowNotFound)?.try_get::<bool, _>("found")? {
        connection.fetch_raw(CREATE).await?;
    }
    let applied = "SELECT version, checksum FROM handoff_migrations ORDER BY version";
    let applied = connection.fetch_raw(applied).await?;
    for row in &applied {
        let version = TablesVersion::of(row)?;
        if version != TablesVersion::Current {
            return Ok(version);
        }
    }
    for Migration { version, description, sql, checksum, .. } in
        migrations().into_iter().skip(applied.len())
    {
        connection.fetch_raw(sql).await?;
        let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        let insert = format!(
            "INSERT INTO handoff_migrations (version, description, success, checksum, execution_time)
             VALUES ({version}, '{description}', true, decode('{checksum}', 'hex'), 0)"
        );
        connection.fetch_raw(AssertSqlSafe(insert)).await?;
    }
    connection.commit().await?;
    Ok(TablesVersion::Current)
}
