//! PostgreSQL: all of its SQL.
//!
//! The writer has one connection, each reading takes one for its time, two at once at most. Many
//! rows go in one statement, as arrays. Nothing is locked while it is decided: a row is written
//! only as the next version of what was read, so another instance's change is never lost.
//! This file never waits for ever: a server that is silent for a while counts as gone.

mod line;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::line::{Line, line, perhaps, text};
use super::writer::{Change, Decide, Found, PRUNE_ROWS, Store as StorePort, Wanted};

const CONNECT: Duration = Duration::from_secs(10);
const STATEMENTS: Duration = Duration::from_secs(15);
/// Another instance may be busy with the same.
const MIGRATION: Duration = Duration::from_secs(300);
const READERS: usize = 2;

const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, parked_until_us, settled_at_us, published_at_us,
  published_to, NULL AS record, memory, NULL AS answer, history
FROM handoff_events WHERE key = ANY($1)"#;

const ANSWERS: &str = "SELECT key, answer FROM handoff_events WHERE key = ANY($1)";

const WRITE: &str = r#"INSERT INTO handoff_events AS e (key, session_id, topic, partition,
  "offset", state, owner, version, first_seen_us, deadline_us, claimed_at_us, parked_until_us,
  settled_at_us, published_at_us, published_to, record, memory, answer, history)
SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::text[],
  $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
  $13::bigint[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
ON CONFLICT (key) DO UPDATE SET
  state = excluded.state, owner = excluded.owner, version = excluded.version,
  claimed_at_us = excluded.claimed_at_us, parked_until_us = excluded.parked_until_us,
  settled_at_us = excluded.settled_at_us, published_at_us = excluded.published_at_us,
  published_to = excluded.published_to,
  record = CASE WHEN excluded.state = 'published' THEN NULL
    ELSE coalesce(excluded.record, e.record) END,
  memory = coalesce(excluded.memory, e.memory), answer = coalesce(excluded.answer, e.answer),
  history = excluded.history
WHERE e.version = excluded.version - 1
RETURNING e.key"#;

const PRUNE: &str = "DELETE FROM handoff_events WHERE key IN (
  SELECT key FROM handoff_events WHERE state = 'published' AND published_at_us < $1
  ORDER BY published_at_us LIMIT $2 FOR UPDATE SKIP LOCKED)";

const STORY: &str = "SELECT * FROM handoff_events WHERE key = $1";

const UNFINISHED: &str = r#"SELECT * FROM handoff_events
WHERE state <> 'published' AND record IS NOT NULL AND topic = $1 AND partition = ANY($2)
ORDER BY partition, "offset""#;

const STAGES: &str = "SELECT state, count(*) AS count FROM handoff_events
WHERE state <> 'published' AND topic = $1 AND partition = ANY($2)
GROUP BY state ORDER BY state";

fn migrator() -> Migrator {
    let sql = include_str!("../../../../migrations/postgres/0001_events.sql").into_sql_str();
    let first = Migration::new(1, "events".into(), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.dangerous_set_table_name("handoff_migrations");
    migrator
}

/// The parameters that the library knows; it would print an unknown one with its value, which may be
/// a secret. `options[NAME]` is one too.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// The URL, understood; the error never quotes it.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, String> {
    let is_known = |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[");
    // What is no URL is told below.
    if let Ok(url) = reqwest::Url::parse(url)
        && url.query_pairs().any(|(name, _)| !is_known(&name))
    {
        let known = PARAMETERS.join(", ");
        return Err(format!("has an unknown parameter; there are {known}"));
    }
    let options: PgConnectOptions = url.parse().map_err(|error| match error {
        sqlx::Error::Configuration(cause) => format!("is not a PostgreSQL URL: {cause}"),
        _ => "is not a PostgreSQL URL".to_owned(),
    })?;
    let named = options.get_application_name().is_some();
    let options = if named { options } else { options.application_name("handoff") };
    Ok(options.disable_statement_logging())
}

/// The URL without user, password and parameters.
pub(super) fn describe(url: &str) -> String {
    match options(url) {
        Ok(options) => {
            let database = options.get_database().unwrap_or_default();
            format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
        }
        Err(_) => "postgres://".into(),
    }
}

/// A way to the server.
struct Server {
    options: PgConnectOptions,
    name: String,
}

impl Server {
    fn new(url: &SecretString) -> anyhow::Result<Self> {
        let url = url.expose_secret();
        let options = options(url).map_err(|what| anyhow!("the ledger's URL {what}"))?;
        Ok(Self { options, name: describe(url) })
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connection = self.within(CONNECT, self.options.connect()).await?;
        Ok(connection)
    }

    /// At most so long; any failure names the server.
    async fn within<T>(
        &self,
        limit: Duration,
        what: impl Future<Output = sqlx::Result<T>>,
    ) -> anyhow::Result<T> {
        match timeout(limit, what).await {
            Ok(done) => done.with_context(|| format!("the ledger {} failed", self.name)),
            Err(_) => bail!("the ledger {} did not answer in {limit:?}", self.name),
        }
    }
}

/// The writing side.
pub(super) struct Store {
    server: Server,
    /// Taken out while it is in use: one that failed is not used again.
    connection: Option<PgConnection>,
}

impl Store {
    /// Connect and bring the tables up to date.
    pub(super) async fn open(url: &SecretString) -> anyhow::Result<Self> {
        let server = Server::new(url)?;
        let mut connection = server.connect().await?;
        let name = &server.name;
        let (migrator, limit) = (migrator(), MIGRATION);
        let migration = migrator.run_direct(None, &mut connection, false);
        match timeout(limit, migration).await {
            Ok(Ok(())) => Ok(Self { server, connection: Some(connection) }),
            Ok(Err(MigrateError::VersionMissing(_))) => bail!(newer(name)),
            Ok(Err(error)) => {
                Err(anyhow!(error).context(format!("failed to set up the ledger {name}")))
            }
            Err(_) => bail!("the ledger {name} was not set up in {limit:?}: who holds its lock?"),
        }
    }

    async fn take(&mut self) -> anyhow::Result<PgConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.server.connect().await,
        }
    }
}

impl StorePort for Store {
    async fn advance(&mut self, changes: &[Change]) -> anyhow::Result<Vec<bool>> {
        let mut connection = self.take().await?;
        let written = self.server.within(STATEMENTS, write(&mut connection, changes)).await?;
        self.connection = Some(connection);
        Ok(written)
    }

    async fn exchange(
        &mut self,
        wanted: &[Wanted<'_>],
        decide: Decide<'_>,
    ) -> anyhow::Result<Vec<bool>> {
        let mut connection = self.take().await?;
        let lines = self.server.within(STATEMENTS, read(&mut connection, wanted)).await?;
        let changes = decide(lines.into_iter().map(Line::entry).collect());
        let written = self.server.within(STATEMENTS, write(&mut connection, &changes)).await?;
        self.connection = Some(connection);
        Ok(written)
    }

    async fn prune(&mut self, before: Timestamp) -> anyhow::Result<u64> {
        let mut connection = self.take().await?;
        let prune = sqlx::query(PRUNE).bind(before.as_microsecond()).bind(PRUNE_ROWS);
        let done = self.server.within(STATEMENTS, prune.execute(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(done.rows_affected())
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        let mut connection = self.take().await?;
        self.server.within(STATEMENTS, connection.ping()).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = self.server.within(CONNECT, connection.close()).await
        {
            tracing::debug!("the ledger was not closed in good order: {error:#}");
        }
    }
}

/// The reading side.
pub struct Reader {
    server: Server,
    turns: Semaphore,
}

impl Reader {
    pub(super) async fn open(url: &SecretString) -> anyhow::Result<Self> {
        let reader = Self { server: Server::new(url)?, turns: Semaphore::new(READERS) };
        reader.check_form().await?;
        Ok(reader)
    }

    pub(super) async fn story(&self, key: &str) -> anyhow::Result<Option<Found>> {
        let rows = self.rows(sqlx::query(STORY).bind(key)).await?;
        rows.first().map(|row| Ok(line(row)?.entry())).transpose()
    }

    pub(super) async fn recover(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<Found>> {
        let rows = self.rows(sqlx::query(UNFINISHED).bind(topic).bind(partitions)).await?;
        rows.iter().map(|row| Ok(line(row)?.entry())).collect()
    }

    pub(super) async fn stages(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        let rows = self.rows(sqlx::query(STAGES).bind(topic).bind(partitions)).await?;
        let state = |row: &PgRow| Ok((row.try_get("state")?, row.try_get("count")?));
        Ok(rows.iter().map(state).collect::<sqlx::Result<_>>()?)
    }

    /// It has the tables this program knows.
    async fn check_form(&self) -> anyhow::Result<()> {
        let newest = sqlx::query("SELECT max(version) AS version FROM handoff_migrations");
        let rows = self.rows(newest).await.map_err(|error| match is_undefined_table(&error) {
            true => error.context(super::NOT_YET),
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
        let _turn = self.turns.acquire().await?;
        let mut connection = self.server.connect().await?;
        let rows = self.server.within(STATEMENTS, query.fetch_all(&mut connection)).await?;
        self.server.within(CONNECT, connection.close()).await?;
        Ok(rows)
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn is_undefined_table(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

fn newer(name: &str) -> String {
    format!("the ledger {name} was written by a newer handoff; start that one, or a newer one")
}

async fn read(connection: &mut PgConnection, wanted: &[Wanted<'_>]) -> sqlx::Result<Vec<Line>> {
    let keys: Vec<_> = wanted.iter().map(|wanted| wanted.key).collect();
    let rows = sqlx::query(ROWS).bind(&keys).fetch_all(&mut *connection).await?;
    let mut lines: Vec<_> = rows.iter().map(line).collect::<sqlx::Result<_>>()?;
    let settled = need_answers(&lines, wanted);
    if settled.is_empty() {
        return Ok(lines);
    }
    let settled: Vec<_> = settled.iter().map(|key| &**key).collect();
    for row in sqlx::query(ANSWERS).bind(settled).fetch_all(connection).await? {
        let key = text(&row, "key")?;
        if let Some(line) = lines.iter_mut().find(|line| line.key == key) {
            line.answer = perhaps(&row, "answer")?;
        }
    }
    Ok(lines)
}

/// The keys whose answers are to be read as well: they are claimed, and settled.
fn need_answers(lines: &[Line], wanted: &[Wanted<'_>]) -> Vec<Arc<str>> {
    let claimed: HashSet<_> = wanted.iter().filter(|w| w.claimed).map(|w| w.key).collect();
    let settled = lines.iter().filter(|line| line.is_settled());
    settled.filter(|line| claimed.contains(&*line.key)).map(|line| line.key.clone()).collect()
}

/// One statement is one transaction.
async fn write(connection: &mut PgConnection, changes: &[Change]) -> sqlx::Result<Vec<bool>> {
    fn column<'l, T>(lines: &'l [Line], of: impl Fn(&'l Line) -> T) -> Vec<T> {
        lines.iter().map(of).collect()
    }
    if changes.is_empty() {
        return Ok(vec![]);
    }
    let lines: Vec<_> = changes.iter().map(|change| Line::new(&change.key, &change.next)).collect();
    let lines = &*lines;
    let query = sqlx::query(WRITE)
        .bind(column(lines, |line| &*line.key))
        .bind(column(lines, |line| line.session_id.as_deref()))
        .bind(column(lines, |line| &*line.topic))
        .bind(column(lines, |line| line.partition))
        .bind(column(lines, |line| line.offset))
        .bind(column(lines, |line| &*line.state))
        .bind(column(lines, |line| &*line.owner))
        .bind(column(lines, |line| line.version))
        .bind(column(lines, |line| line.first_seen_us))
        .bind(column(lines, |line| line.deadline_us))
        .bind(column(lines, |line| line.claimed_at_us))
        .bind(column(lines, |line| line.parked_until_us))
        .bind(column(lines, |line| line.settled_at_us))
        .bind(column(lines, |line| line.published_at_us))
        .bind(column(lines, |line| line.published_to.as_deref()))
        .bind(column(lines, |line| line.record.as_deref()))
        .bind(column(lines, |line| line.memory.as_deref()))
        .bind(column(lines, |line| line.answer.as_deref()))
        .bind(column(lines, |line| &*line.history));
    let rows = query.fetch_all(connection).await?;
    let written: HashSet<Arc<str>> =
        rows.iter().map(|row| text(row, "key")).collect::<sqlx::Result<_>>()?;
    Ok(changes.iter().map(|change| written.contains(&change.key)).collect())
}
