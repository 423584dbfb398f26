//! Many rows in one statement, each value bound as it is.
//!
//! A statement has room for a power of two of rows; what is left of the room is bound to NULL and
//! matches nothing. So there are few statements, each prepared once, and each is one errand to the
//! thread of the database. This file never reads, and never writes over a version it was not
//! made from.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::super::line::Line;

/// Room for 1, 2, 4, .. 512 rows: more than a batch has.
const SIZES: usize = 10;

/// Rows that are new, and rows that are changed.
#[derive(Clone, Copy)]
enum Kind {
    Fresh,
    Changed,
}

/// Which rows were written; none of them counts where one was not. They are counted only: rows
/// that come back cross to another thread one by one.
pub(super) async fn write(
    change: &mut SqliteConnection,
    lines: &[Line],
) -> sqlx::Result<HashSet<String>> {
    let (fresh, changed): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|l| l.version == 1);
    let mut written = 0;
    for (kind, lines) in [(Kind::Fresh, fresh), (Kind::Changed, changed)] {
        for lines in lines.chunks(1 << (SIZES - 1)) {
            written += kind.write(change, lines).await?;
        }
    }
    let all = written == lines.len() as u64;
    Ok(lines.iter().filter(|_| all).map(|line| line.key.clone()).collect())
}

impl Kind {
    async fn write(self, change: &mut SqliteConnection, lines: &[&Line]) -> sqlx::Result<u64> {
        let size = lines.len().next_power_of_two();
        let sql = self.sql(size);
        let mut values = SqliteArguments::default();
        for line in lines {
            match self {
                Self::Fresh => bind_fresh(&mut values, line),
                Self::Changed => bind_changed(&mut values, line),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        for _ in 0..(size - lines.len()) * self.columns() {
            values.add(None::<i64>).map_err(sqlx::Error::Encode)?;
        }
        let query = sqlx::query_with(sql, values);
        Ok(query.execute(change).await?.rows_affected())
    }

    fn columns(self) -> usize {
        match self {
            Self::Fresh => 10,
            Self::Changed => 13,
        }
    }

    /// The statement for so many rows; there is nothing in it but our own text.
    fn sql(self, size: usize) -> &'static str {
        static STATEMENTS: LazyLock<[[String; SIZES]; 2]> = LazyLock::new(|| {
            [Kind::Fresh, Kind::Changed].map(|kind| std::array::from_fn(|n| kind.new_sql(1 << n)))
        });
        &STATEMENTS[self as usize][size.trailing_zeros() as usize]
    }

    fn new_sql(self, size: usize) -> String {
        let (before, after) = match self {
            Self::Fresh => (FRESH, FRESH_END),
            Self::Changed => (CHANGED, CHANGED_END),
        };
        let row = format!("(?{})", ", ?".repeat(self.columns() - 1));
        format!("{before}{}{after}", vec![row; size].join(", "))
    }
}

const FRESH: &str = r#"INSERT INTO handoff_events (key, session_id, topic, partition, "offset",
  stage, owner, version, first_seen_us, deadline_us, claimed_at_us, steps)
SELECT column1, column2, column3, column4, column5, 'open', column6, 1, column7, column8,
  column9, column10
FROM (VALUES "#;

const FRESH_END: &str = ") WHERE column1 IS NOT NULL ON CONFLICT (key) DO NOTHING";

fn bind_fresh(values: &mut SqliteArguments, line: &Line) -> Result<(), BoxDynError> {
    values.add(line.key.clone())?;
    values.add(line.session_id.clone())?;
    values.add(line.topic.clone())?;
    values.add(line.partition)?;
    values.add(line.offset)?;
    values.add(line.owner.clone())?;
    values.add(line.first_seen_us)?;
    values.add(line.deadline_us)?;
    values.add(line.claimed_at_us)?;
    values.add(line.steps.clone())
}

const CHANGED: &str = "UPDATE handoff_events AS e SET
  stage = v.column3, owner = v.column4, version = v.column2, claimed_at_us = v.column5,
  parked_until_us = v.column6, settled_at_us = v.column7, published_at_us = v.column8,
  published_to = v.column9, memory = coalesce(v.column10, e.memory),
  answer = coalesce(v.column11, e.answer), steps = v.column12,
  record = CASE WHEN v.column3 = 'published' THEN NULL
    ELSE coalesce(v.column13, e.record) END
FROM (VALUES ";

const CHANGED_END: &str = ") AS v WHERE e.key = v.column1 AND e.version = v.column2 - 1";

fn bind_changed(values: &mut SqliteArguments, line: &Line) -> Result<(), BoxDynError> {
    values.add(line.key.clone())?;
    values.add(line.version)?;
    values.add(line.stage.clone())?;
    values.add(line.owner.clone())?;
    values.add(line.claimed_at_us)?;
    values.add(line.parked_until_us)?;
    values.add(line.settled_at_us)?;
    values.add(line.published_at_us)?;
    values.add(line.published_to.clone())?;
    values.add(line.memory.clone())?;
    values.add(line.answer.clone())?;
    values.add(line.steps.clone())?;
    values.add(line.record.clone())
}
