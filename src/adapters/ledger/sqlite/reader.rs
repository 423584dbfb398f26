//! The reading side: connections of its own, so that reads and writes do not block each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::task::spawn_blocking;

use super::super::database::{
    CountedRows, DueRows, IdentityRow, NO_TABLES, ParkedRows, StoredRow, WaitRows,
};
use super::file::{ensure_file, explain, foreign, newer, open_read_only, unreleased};
use super::parked::WaitsCursor;
use super::schema::{self, Schema};
use super::{json, parked, read};
use crate::domain::ledger_entry::key::KeysOfName;
use crate::domain::record::Position;
use crate::ledger::{CountQuery, DueQuery, RecordRange, WaitingQuery};

const ROW: &str = "SELECT * FROM handoff_ledger WHERE key = ?";

const KEYS: &str = "SELECT key FROM handoff_events
WHERE key = ? OR key >= ? AND key < ? OR key >= ? AND key < ? ORDER BY first_seen_us DESC";

const FORGOT: &str = "SELECT EXISTS (SELECT 1 FROM handoff_pruned WHERE published_until_us >= ?)
  AND NOT EXISTS (SELECT 1 FROM handoff_events WHERE key = ?)";

const IDENTITIES: &str = r#"SELECT "offset", recorded_us, key, session_id, first_seen_us, deadline_us,
  EXISTS (SELECT 1 FROM handoff_answers AS a WHERE a.event = e.event) AS is_answered
FROM handoff_events AS e INDEXED BY handoff_events_position
WHERE topic = ? AND partition = ? AND "offset" >= ? AND "offset" < ?
  AND (session_id IS NOT NULL OR is_answered)
ORDER BY "offset""#;

const UNPUBLISHED_BY_STATE: &str = "SELECT state, count(*) FROM handoff_ledger
WHERE state <> 'published' AND topic = ? AND partition IN (SELECT value FROM json_each(?))
GROUP BY state ORDER BY state";

/// A file, open for reading.
pub struct SqliteReader {
    file: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// For lookups of a few microseconds, which must not wait behind longer queries.
    lookups: Arc<Mutex<Connection>>,
}

impl SqliteReader {
    pub(in super::super) async fn open(file: &Path) -> anyhow::Result<Self> {
        ensure_file(file)?;
        let connect = || {
            let connection = open_read_only(file).map_err(|error| match file.exists() {
                true => explain(file, error),
                false => anyhow!(
                    "the ledger {file:?} is not there (yet): the service creates it at its first \
                     start; see that ledger.url names it"
                ),
            });
            connection.map(|connection| Arc::new(Mutex::new(connection)))
        };
        let reader = Self { file: file.to_owned(), connection: connect()?, lookups: connect()? };
        reader.check_schema().await?;
        Ok(reader)
    }

    pub(in super::super) async fn row(&self, key: &str) -> anyhow::Result<Option<StoredRow>> {
        let key = key.to_owned();
        Ok(self.query(move |connection, file| read(connection, file, ROW, [key])).await?.pop())
    }

    pub(in super::super) async fn keys(&self, name: KeysOfName) -> anyhow::Result<Vec<Arc<str>>> {
        self.query(move |connection, file| {
            let keys = || -> rusqlite::Result<_> {
                let KeysOfName { id, at_position: [event, dead_letter] } = &name;
                let mut query = connection.prepare_cached(KEYS)?;
                let ranges = [id, &event.start, &event.end, &dead_letter.start, &dead_letter.end];
                query.query_map(ranges, |row| row.get(0))?.collect()
            };
            keys().map_err(|error| explain(file, error))
        })
        .await
    }

    pub(in super::super) async fn forgot(
        &self,
        key: &Arc<str>,
        recorded_us: i64,
    ) -> anyhow::Result<bool> {
        let key = key.clone();
        self.query(move |connection, file| {
            let forgot = || {
                let mut query = connection.prepare_cached(FORGOT)?;
                query.query_row(params![recorded_us, key], |row| row.get(0))
            };
            forgot().map_err(|error| explain(file, error))
        })
        .await
    }

    pub(in super::super) async fn identities(
        &self,
        range: &RecordRange,
    ) -> anyhow::Result<Vec<IdentityRow>> {
        let range = range.clone();
        self.query(move |connection, file| {
            let identities = || -> rusqlite::Result<_> {
                let RecordRange { topic, partition, offsets } = &range;
                let mut query = connection.prepare_cached(IDENTITIES)?;
                let values = params![topic, partition, offsets.start, offsets.end];
                let rows = query.query_map(values, |row| {
                    Ok(IdentityRow {
                        offset: row.get(0)?,
                        recorded_us: row.get(1)?,
                        key: row.get(2)?,
                        session_id: row.get(3)?,
                        first_seen_us: row.get(4)?,
                        deadline_us: row.get(5)?,
                        is_answered: row.get(6)?,
                    })
                })?;
                rows.collect()
            };
            identities().map_err(|error| explain(file, error))
        })
        .await
    }

    pub(in super::super) async fn unfinished(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<StoredRow>> {
        let (topic, partitions) = (topic.to_owned(), partitions.to_vec());
        self.query(move |connection, file| {
            parked::unfinished(connection, file, &topic, &partitions)
        })
        .await
    }

    pub(in super::super) async fn groups(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<ParkedRows>> {
        let mut groups = Vec::new();
        // One query for each partition, so that other reads come between.
        for &partition in partitions {
            let topic = topic.to_owned();
            let found = self.query(move |connection, file| {
                let found = parked::groups(connection, &topic, partition);
                found.map_err(|error| explain(file, error))
            });
            groups.append(&mut found.await?);
        }
        Ok(groups)
    }

    pub(in super::super) async fn count_parked(
        &self,
        query: &CountQuery,
    ) -> anyhow::Result<Vec<CountedRows>> {
        let mut counts = Vec::new();
        // One query for each partition, so that other reads come between.
        for &partition in &query.partitions {
            let query = query.clone();
            let found = self.query(move |connection, file| {
                let found = parked::count(connection, &query, partition);
                found.map_err(|error| explain(file, error))
            });
            counts.append(&mut found.await?);
        }
        Ok(counts)
    }

    pub(in super::super) async fn parked_waits(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<WaitRows>> {
        let mut waits = Vec::new();
        for &partition in partitions {
            let mut next = Some(WaitsCursor::START);
            while let Some(after) = next {
                let topic = topic.to_owned();
                let page = self.query(move |connection, file| {
                    let page = parked::waits(connection, &topic, partition, &after);
                    page.map_err(|error| explain(file, error))
                });
                let (mut rows, end) = page.await?;
                waits.append(&mut rows);
                next = end;
            }
        }
        Ok(waits)
    }

    pub(in super::super) async fn due(&self, query: &DueQuery) -> anyhow::Result<DueRows> {
        let query = query.clone();
        self.query(move |connection, file| parked::due(connection, file, &query)).await
    }

    pub(in super::super) async fn waiting(
        &self,
        query: &WaitingQuery,
    ) -> anyhow::Result<Vec<StoredRow>> {
        let query = query.clone();
        self.query(move |connection, file| parked::waiting(connection, file, &query)).await
    }

    pub(in super::super) async fn is_session_parked(
        &self,
        session_id: &Arc<str>,
        before: &Position,
        in_memory: &[i64],
    ) -> anyhow::Result<bool> {
        let (session_id, before) = (session_id.clone(), before.clone());
        let in_memory = in_memory.to_vec();
        self.look_up(move |connection| {
            parked::is_session_parked(connection, &session_id, &before, &in_memory)
        })
        .await
    }

    pub(in super::super) async fn is_behind_unpublished(
        &self,
        session_id: &Arc<str>,
        position: &Position,
        from: i64,
    ) -> anyhow::Result<bool> {
        let (session_id, position) = (session_id.clone(), position.clone());
        self.look_up(move |connection| {
            parked::is_behind_unpublished(connection, &session_id, &position, from)
        })
        .await
    }

    /// A short query that no long one delays.
    async fn look_up(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<bool> + Send + 'static,
    ) -> anyhow::Result<bool> {
        let (connection, file) = (self.lookups.clone(), self.file.clone());
        spawn_blocking(move || query(&connection.lock()).map_err(|error| explain(&file, error)))
            .await?
    }

    pub(in super::super) async fn unpublished_by_state(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        let parameters = (topic.to_owned(), json(partitions));
        self.query(move |connection, file| {
            let counts = || -> rusqlite::Result<_> {
                let mut query = connection.prepare_cached(UNPUBLISHED_BY_STATE)?;
                query.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            counts().map_err(|error| explain(file, error))
        })
        .await
    }

    async fn check_schema(&self) -> anyhow::Result<()> {
        self.query(|connection, file| match schema::inspect(connection) {
            Ok(Schema::Current) => Ok(()),
            Ok(Schema::Empty) => {
                bail!(anyhow!("{file:?} has no such tables").context(NO_TABLES))
            }
            Ok(Schema::Older) => bail!(
                "the ledger {file:?} was written by an older handoff; start the service once, it \
                 brings it up to date"
            ),
            Ok(Schema::Newer) => bail!(newer(file)),
            Ok(Schema::Foreign) => bail!(foreign(file)),
            Ok(Schema::Unreleased) => bail!(unreleased(file)),
            Err(error) => Err(explain(file, error)),
        })
        .await
    }

    /// Runs a query in a thread that may block.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Path) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (connection, file) = (self.connection.clone(), self.file.clone());
        spawn_blocking(move || query(&connection.lock(), &file)).await?
    }
}
