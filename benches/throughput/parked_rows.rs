//! Copies of one parked event in the ledger: a million of them in seconds.
//!
//! The service has parked the event itself ([`TEMPLATE`]), so a copy is what it would have written, with
//! an id, a session and a position of its own. Columns that this file does not name are copied.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The id and the session of the event that is parked first and then copied.
pub(crate) const TEMPLATE: &str = "template";

/// Copies the row so often, over all partitions; returns how many were written.
pub(crate) async fn copy(url: &str, count: usize, partitions: i32) -> Result<u64> {
    match url.strip_prefix("sqlite://") {
        Some(file) => copy_in_sqlite(file, count, partitions),
        None => copy_in_postgres(url, count, partitions).await,
    }
}

fn copy_in_sqlite(file: &str, count: usize, partitions: i32) -> Result<u64> {
    let connection = rusqlite::Connection::open(file)?;
    let mut names = connection.prepare("SELECT name FROM pragma_table_info('handoff_events')")?;
    let names = names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let insert = insert(&names, partitions);
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers \
         WHERE n + 1 < {count}) {insert}"
    );
    Ok(connection.execute(&sql, [])? as u64)
}

async fn copy_in_postgres(url: &str, count: usize, partitions: i32) -> Result<u64> {
    let mut connection = PgConnection::connect(url).await?;
    let names = sqlx::query_scalar::<_, String>(
        "SELECT column_name::text FROM information_schema.columns \
         WHERE table_name = 'handoff_events' AND table_schema = current_schema()",
    );
    let names = names.fetch_all(&mut connection).await?;
    let insert = insert(&names, partitions);
    let sql =
        format!("WITH numbers (n) AS (SELECT generate_series(0, {count}::bigint - 1)) {insert}");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    sqlx::raw_sql("ANALYZE handoff_events").execute(&mut connection).await?;
    connection.close().await.context("the connection does not close")?;
    Ok(done.rows_affected())
}

/// Reads the numbers from 0 on from `numbers (n)`.
fn insert(names: &[String], partitions: i32) -> String {
    // SQLite numbers the rows itself.
    let names: Vec<_> = names.iter().filter(|name| *name != "event").collect();
    let value = |name: &&String| match name.as_str() {
        "key" | "session_id" | "record" => {
            format!("replace({name}, '{TEMPLATE}', 'parked-' || n)")
        }
        "partition" => format!("n % {partitions}"),
        "offset" => format!("n / {partitions}"),
        "first_seen_us" | "parked_until_us" => format!("{name} + n"),
        _ => format!("\"{name}\""),
    };
    let values = names.iter().map(value).collect::<Vec<_>>().join(", ");
    let names = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO handoff_events ({names}) SELECT {values} FROM handoff_events, numbers \
         WHERE key = 'id:{TEMPLATE}'"
    )
}
