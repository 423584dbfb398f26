//! The form of the file, and how it came to be so.
//!
//! Which history were taken stands in `handoff_migrations`, in a form that earlier programs read too.
//! This file never changes a step that was once shipped.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::super::texts::read_bytes;

/// The history, in their order; the first is number 1.
const STEPS: [(&str, &str); 2] = [
    ("events", include_str!("../../../../migrations/sqlite/0001_events.sql")),
    ("append", include_str!("../../../../migrations/sqlite/0002_append.sql")),
];

const STEPS_TAKEN: &str = "CREATE TABLE IF NOT EXISTS handoff_migrations (
  version BIGINT PRIMARY KEY, description TEXT NOT NULL,
  installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
  checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";

const TAKE: &str = "INSERT INTO handoff_migrations
  (version, description, success, checksum, execution_time) VALUES (?, ?, 1, x'', 0)";

const NEWEST: &str = "SELECT coalesce(max(version), 0) FROM handoff_migrations";

/// What a file is for this program.
pub(super) enum Form {
    /// Without any table.
    None,
    /// Somebody else's.
    Foreign,
    /// Of an earlier program.
    Older,
    /// As this program knows it.
    Ours,
    /// Of a later program.
    Newer,
}

fn form(newest: i64) -> Form {
    match newest.cmp(&(STEPS.len() as i64)) {
        std::cmp::Ordering::Less => Form::Older,
        std::cmp::Ordering::Equal => Form::Ours,
        std::cmp::Ordering::Greater => Form::Newer,
    }
}

/// The form of a file that is only looked at.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Form> {
    let there = "SELECT 1 FROM sqlite_schema WHERE name = 'handoff_migrations'";
    if connection.query_row(there, (), |_| Ok(())).optional()?.is_none() {
        let any = "SELECT count(*) FROM sqlite_schema";
        let is_empty = connection.query_row(any, (), |row| row.get::<_, i64>(0))? == 0;
        return Ok(if is_empty { Form::None } else { Form::Foreign });
    }
    Ok(form(connection.query_row(NEWEST, (), |row| row.get(0))?))
}

/// Bring it up to date, all or nothing; a newer form stays as it is.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<Form> {
    connection.create_scalar_function(
        "handoff_bytes",
        1,
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC,
        bytes,
    )?;
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute_batch(STEPS_TAKEN)?;
    let newest: i64 = change.query_row(NEWEST, (), |row| row.get(0))?;
    let taken = usize::try_from(newest).unwrap_or(0);
    for (number, (name, sql)) in (1_i64..).zip(STEPS).skip(taken) {
        change.execute_batch(sql)?;
        change.execute(TAKE, (number, name))?;
    }
    change.commit()?;
    Ok(form(newest.max(STEPS.len() as i64)))
}

/// Bytes of the first form, as they stand in the second.
fn bytes(context: &Context<'_>) -> rusqlite::Result<Value> {
    let json = context.get::<Option<String>>(0)?;
    let bytes = json.map(|json| read_bytes(&json)).transpose();
    let bytes = bytes.map_err(|error| rusqlite::Error::UserFunctionError(error.into()))?;
    Ok(super::write::bytes(bytes.flatten().as_deref()).try_into()?)
}
