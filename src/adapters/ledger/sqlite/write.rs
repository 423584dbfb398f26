//! Many rows in one statement, each value bound as it is.
//!
//! A statement has room for a power of two of rows; what is left of the room is bound to NULL and
//! left out. So there are few statements, each prepared once, and each is one errand to the thread
//! of the database and a transaction by itself. This file never writes over a version that a row
//! was not made from.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::super::line::{Line, text};

/// Room for 1, 2, 4, .. 512 rows: more than a batch has.
const SIZES: usize = 10;
const COLUMNS: usize = 19;

const BEFORE: &str = r#"INSERT INTO handoff_events (key, session_id, topic, partition, "offset",
  stage, owner, version, first_seen_us, deadline_us, claimed_at_us, parked_until_us,
  settled_at_us, published_at_us, published_to, record, memory, answer, steps)
SELECT * FROM (VALUES "#;

const AFTER: &str = ") WHERE column1 IS NOT NULL
ON CONFLICT (key) DO UPDATE SET
  stage = excluded.stage, owner = excluded.owner, version = excluded.version,
  claimed_at_us = excluded.claimed_at_us, parked_until_us = excluded.parked_until_us,
  settled_at_us = excluded.settled_at_us, published_at_us = excluded.published_at_us,
  published_to = excluded.published_to,
  record = CASE WHEN excluded.stage = 'published' THEN NULL
    ELSE coalesce(excluded.record, record) END,
  memory = coalesce(excluded.memory, memory), answer = coalesce(excluded.answer, answer),
  steps = excluded.steps
WHERE version = excluded.version - 1";

const THERE: &str =
    "SELECT key, steps FROM handoff_events WHERE key IN (SELECT value FROM json_each(?))";

/// The statement for so many rows; there is nothing in it but our own text.
fn sql(size: usize) -> &'static str {
    static STATEMENTS: LazyLock<[String; SIZES]> = LazyLock::new(|| {
        let row = format!("(?{})", ", ?".repeat(COLUMNS - 1));
        std::array::from_fn(|n| format!("{BEFORE}{}{AFTER}", vec![&*row; 1 << n].join(", ")))
    });
    &STATEMENTS[size.trailing_zeros() as usize]
}

/// Which rows were written.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    lines: &[Line],
) -> sqlx::Result<HashSet<Arc<str>>> {
    let mut written = 0;
    for lines in lines.chunks(1 << (SIZES - 1)) {
        let size = lines.len().next_power_of_two();
        let mut values = SqliteArguments::default();
        for line in lines {
            bind(&mut values, line).map_err(sqlx::Error::Encode)?;
        }
        for _ in 0..(size - lines.len()) * COLUMNS {
            values.add(None::<i64>).map_err(sqlx::Error::Encode)?;
        }
        let done = sqlx::query_with(sql(size), values).execute(&mut *connection).await?;
        written += done.rows_affected();
    }
    // As a rule they are counted only: rows that come back cross to another thread one by one.
    if written == lines.len() as u64 {
        return Ok(lines.iter().map(|line| line.key.clone()).collect());
    }
    are_there(connection, lines).await
}

/// Those that stand there as they should: the story of a row is never that of another writing.
async fn are_there(
    connection: &mut SqliteConnection,
    lines: &[Line],
) -> sqlx::Result<HashSet<Arc<str>>> {
    let keys: Vec<_> = lines.iter().map(|line| &*line.key).collect();
    let rows = sqlx::query(THERE).bind(super::json(&keys)).fetch_all(connection).await?;
    let mut there = HashSet::new();
    for row in rows {
        let (key, steps) = (text(&row, "key")?, text(&row, "steps")?);
        if lines.iter().any(|line| line.key == key && line.steps == steps) {
            there.insert(key);
        }
    }
    Ok(there)
}

fn bind(values: &mut SqliteArguments, line: &Line) -> Result<(), BoxDynError> {
    values.add(line.key.clone())?;
    values.add(line.session_id.clone())?;
    values.add(line.topic.clone())?;
    values.add(line.partition)?;
    values.add(line.offset)?;
    values.add(&*line.stage)?;
    values.add(line.owner.clone())?;
    values.add(line.version)?;
    values.add(line.first_seen_us)?;
    values.add(line.deadline_us)?;
    values.add(line.claimed_at_us)?;
    values.add(line.parked_until_us)?;
    values.add(line.settled_at_us)?;
    values.add(line.published_at_us)?;
    values.add(line.published_to.clone())?;
    values.add(line.record.clone())?;
    values.add(line.memory.clone())?;
    values.add(line.answer.clone())?;
    values.add(line.steps.clone())
}
