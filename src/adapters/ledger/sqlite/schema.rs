//! The schema of the file: which one it has, and the migrations that create it.
//!
//! `handoff_migrations` lists the migrations that were applied, in the form that sqlx uses for
//! PostgreSQL. Once a version is released its migrations must not change any more.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

/// Name and SQL of the migrations, in their order; the first is number 1.
const MIGRATIONS: [(&str, &str); 1] =
    [("events", include_str!("../../../../migrations/sqlite/0001_events.sql"))];

const CREATE_LIST: &str = "CREATE TABLE IF NOT EXISTS handoff_migrations (
  version BIGINT PRIMARY KEY, description TEXT NOT NULL,
  installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
  checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";

const APPEND_TO_LIST: &str = "INSERT INTO handoff_migrations
  (version, description, success, checksum, execution_time) VALUES (?, ?, 1, x'', 0)";

const NEWEST: &str = "SELECT coalesce(max(version), 0) FROM handoff_migrations";

/// The schema of a file, as this program sees it.
pub(super) enum Schema {
    /// The file has no tables.
    Empty,
    /// The tables are another program's.
    Foreign,
    /// A development build before 0.1.0 created them, by other migrations of the same numbers.
    Unreleased,
    /// Migrations are missing.
    Older,
    /// Every migration is applied.
    Current,
    /// A newer program has applied more of them.
    Newer,
}

fn compare(newest: i64) -> Schema {
    match newest.cmp(&(MIGRATIONS.len() as i64)) {
        Ordering::Less => Schema::Older,
        Ordering::Equal => Schema::Current,
        Ordering::Greater => Schema::Newer,
    }
}

/// Determines the schema without changing the file.
pub(super) fn inspect(connection: &Connection) -> rusqlite::Result<Schema> {
    let exists = "SELECT 1 FROM sqlite_schema WHERE name = 'handoff_migrations'";
    if connection.query_row(exists, (), |_| Ok(())).optional()?.is_none() {
        let count = "SELECT count(*) FROM sqlite_schema";
        let is_empty = connection.query_row(count, (), |row| row.get::<_, i64>(0))? == 0;
        return Ok(if is_empty { Schema::Empty } else { Schema::Foreign });
    }
    let newest = connection.query_row(NEWEST, (), |row| row.get(0))?;
    let table = "SELECT 1 FROM sqlite_schema WHERE name = 'handoff_pruned'";
    let is_released = connection.query_row(table, (), |_| Ok(())).optional()?.is_some();
    let schema = compare(newest);
    Ok(if matches!(schema, Schema::Current) && !is_released { Schema::Unreleased } else { schema })
}

/// Applies the missing migrations in one transaction; leaves a newer schema as it is.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<Schema> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute_batch(CREATE_LIST)?;
    let newest: i64 = change.query_row(NEWEST, (), |row| row.get(0))?;
    let applied = usize::try_from(newest).unwrap_or(0);
    for (number, (name, sql)) in (1_i64..).zip(MIGRATIONS).skip(applied) {
        change.execute_batch(sql)?;
        change.execute(APPEND_TO_LIST, (number, name))?;
    }
    change.commit()?;
    Ok(compare(newest.max(MIGRATIONS.len() as i64)))
}
