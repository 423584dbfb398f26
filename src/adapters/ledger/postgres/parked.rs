//! The queries for recovery and for parked events.
//!
//! With a million parked rows each query may touch only the rows that it returns. So it repeats the
//! predicate of its partial index word for word, and reads each partition by itself (LATERAL): rows
//! of several partitions are not in the order of an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::database::{CountedRows, DueRows, ParkedRows, StoredRow, WaitRows};
use super::connection::Query;
use super::reader::PostgresReader;
use super::row::EventRow;
use crate::domain::ledger_entry::WaitsFor;
use crate::domain::record::Position;
use crate::ledger::{CountQuery, DueQuery, WaitingQuery};

const UNFINISHED: &str = r#"SELECT * FROM handoff_events
WHERE record IS NOT NULL AND waits_for IS NULL AND topic = $1 AND partition = ANY($2)
  AND (state = 'settled' OR state = 'open' AND from_ledger)
ORDER BY partition, "offset""#;

/// Groups that one query finds, of all partitions together; see [`COUNT_ROWS`].
const GROUP_ROWS: usize = 500;

// A loose index scan: each step looks up the first row of the next group, in each partition. GROUP BY
// would read every parked row, from the table itself where it was not vacuumed since. The recursion
// stops when there are as many rows as wanted: an ORDER BY would let it go on to its end.
const GROUPS: &str = "WITH RECURSIVE groups (partition, waits_for, oldest_us, oldest_until_us) AS (
  SELECT p.partition, p.waits_for, NULL::bigint, NULL::bigint
  FROM UNNEST($2::int[], $3::text[]) AS p (partition, waits_for)
  UNION ALL
  SELECT g.partition, n.waits_for, n.first_seen_us, n.parked_until_us
  FROM groups AS g CROSS JOIN LATERAL (
    SELECT e.waits_for, e.first_seen_us, e.parked_until_us FROM handoff_events AS e
    WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = g.partition
      AND e.waits_for > g.waits_for
    ORDER BY e.waits_for, e.first_seen_us, e.parked_until_us LIMIT 1) AS n)
SELECT partition, waits_for, oldest_us, oldest_until_us FROM groups
WHERE oldest_us IS NOT NULL LIMIT $4";

/// Rows that one query counts, of all partitions together: a cold disk may take 5 ms for each, and
/// the query may take 5 s.
const COUNT_ROWS: usize = 500;

// The next rows of each partition after its cursor, with all that share the time of the last one:
// the cursor is that time.
const COUNT: &str = "SELECT p.partition, n.waits_for, count(*) AS events,
  max(n.first_seen_us) AS last_us
FROM UNNEST($2::int[], $3::text[], $4::bigint[]) AS p (partition, waits_for, first_seen_us)
CROSS JOIN LATERAL (
  SELECT e.waits_for, e.first_seen_us FROM handoff_events AS e
  WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = p.partition
    AND (e.waits_for, e.first_seen_us) > (p.waits_for, p.first_seen_us)
    AND e.first_seen_us < $5
  ORDER BY e.waits_for, e.first_seen_us FETCH FIRST ($6::bigint) ROWS WITH TIES) AS n
GROUP BY p.partition, n.waits_for
ORDER BY p.partition, n.waits_for";

// As COUNT. A snapshot is read as text, because one that is no JSON would fail the query. In a text of
// it quotes have a backslash, so these words occur as names of members only; the course is in doubt
// if the member is a word, a verdict has true or false there.
const WAITS: &str = r#"SELECT p.partition, n.waits_for, n.route, n.is_in_doubt, n.found_nobody,
  count(*) AS events, min(n.first_seen_us) AS oldest_us, max(n.first_seen_us) AS last_us
FROM UNNEST($2::int[], $3::text[], $4::bigint[]) AS p (partition, waits_for, first_seen_us)
CROSS JOIN LATERAL (
  SELECT e.waits_for, e.first_seen_us,
    substring(e.snapshot FROM '"route":("(?:[^"\\]|\\.)*")') AS route,
    coalesce(e.snapshot ~ '"in_doubt":"', false) AS is_in_doubt,
    coalesce(e.snapshot ~ '"class":"no_agent"', false) AS found_nobody
  FROM handoff_events AS e
  WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = p.partition
    AND (e.waits_for, e.first_seen_us) > (p.waits_for, p.first_seen_us)
  ORDER BY e.waits_for, e.first_seen_us FETCH FIRST ($5::bigint) ROWS WITH TIES) AS n
GROUP BY p.partition, n.waits_for, n.route, n.is_in_doubt, n.found_nobody
ORDER BY p.partition, n.waits_for, last_us"#;

const OVERDUE: &str = "SELECT e.* FROM UNNEST($2::int[]) AS p (partition) CROSS JOIN LATERAL (
  SELECT * FROM handoff_events AS e
  WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = p.partition
    AND e.deadline_us <= $3
  ORDER BY e.deadline_us LIMIT $4) AS e
ORDER BY e.deadline_us LIMIT $4";

// An overdue event is not wanted here. If there are fewer of them than `overdue` may return, this
// window contains every event that `due` may return; otherwise the next read finds the rest. Without
// a window a million overdue events would be skipped at every read.
//
// Woken events that are too early have an earlier time than those that are due since. They are not
// read, so that they take no place in the window.
const DUE: &str = r#"SELECT e.* FROM UNNEST($2::int[], $6::bigint[]) AS p (partition, woken_up_to)
CROSS JOIN LATERAL (
  (SELECT * FROM handoff_events AS e
  WHERE e.waits_for = 'time' AND e.topic = $1 AND e.partition = p.partition
    AND e.parked_until_us <= $3
  ORDER BY e.parked_until_us LIMIT $4)
  UNION ALL
  (SELECT * FROM handoff_events AS e
  WHERE e.waits_for = 'session' AND e.parked_until_us < e.deadline_us
    AND e.topic = $1 AND e.partition = p.partition AND e."offset" <= p.woken_up_to
    AND e.parked_until_us <= $3
  ORDER BY e."offset" LIMIT $4)) AS e
WHERE e.deadline_us IS NULL OR e.deadline_us > $3
ORDER BY e.parked_until_us LIMIT $5"#;

// Three queries with LIMIT 1 for each partition: min() over all of them would read every row.
const NEXT: &str = r#"SELECT min(d.deadline_us) AS next_deadline_us, min(u.until_us) AS next_due_us,
  count(w."offset") > 0 AS has_early
FROM UNNEST($2::int[], $4::bigint[]) AS p (partition, woken_up_to)
LEFT JOIN LATERAL (
  SELECT e.deadline_us FROM handoff_events AS e
  WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = p.partition
    AND e.deadline_us > $3
  ORDER BY e.deadline_us LIMIT 1) AS d ON TRUE
LEFT JOIN LATERAL (
  SELECT e.parked_until_us AS until_us FROM handoff_events AS e
  WHERE e.waits_for = 'time' AND e.topic = $1 AND e.partition = p.partition
    AND e.parked_until_us > $3
  ORDER BY e.parked_until_us LIMIT 1) AS u ON TRUE
LEFT JOIN LATERAL (
  SELECT e."offset" FROM handoff_events AS e
  WHERE e.waits_for = 'session' AND e.parked_until_us < e.deadline_us
    AND e.topic = $1 AND e.partition = p.partition AND e."offset" > p.woken_up_to
  ORDER BY e."offset" LIMIT 1) AS w ON TRUE"#;

const WAITING: &str = "SELECT e.* FROM UNNEST($2::int[]) AS p (partition) CROSS JOIN LATERAL (
  SELECT * FROM handoff_events AS e
  WHERE e.waits_for <> 'redelivery' AND e.topic = $1 AND e.partition = p.partition
    AND e.waits_for = $3
  ORDER BY e.first_seen_us LIMIT $4) AS e
ORDER BY e.first_seen_us LIMIT $4";

const IS_SESSION_PARKED: &str = r#"SELECT EXISTS (SELECT 1 FROM handoff_events
  WHERE record IS NOT NULL
    AND session_id = $1 AND topic = $2 AND partition = $3 AND "offset" < $4
    AND (waits_for <> 'redelivery' OR state = 'open' AND from_ledger AND "offset" <> ALL($5))) AS found"#;

const IS_BEHIND_UNPUBLISHED: &str = r#"SELECT EXISTS (SELECT 1 FROM handoff_events
  WHERE state <> 'published' AND topic = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4
    AND session_id = $5 AND state = 'settled') AS found"#;

impl PostgresReader {
    pub(in super::super) async fn unfinished(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<StoredRow>> {
        self.stored_rows(sqlx::query(UNFINISHED).bind(topic).bind(partitions)).await
    }

    pub(in super::super) async fn groups(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<ParkedRows>> {
        let mut cursors: BTreeMap<i32, String> =
            partitions.iter().map(|partition| (*partition, String::new())).collect();
        let mut groups: Vec<ParkedRows> = Vec::new();
        loop {
            let partitions: Vec<i32> = cursors.keys().copied().collect();
            let after: Vec<&str> = cursors.values().map(String::as_str).collect();
            let query = sqlx::query(GROUPS).bind(topic).bind(partitions).bind(after);
            let rows = self.rows(query.bind(GROUP_ROWS as i64)).await?;
            for row in &rows {
                let found = parked_rows(row)?;
                // The groups of one partition come in their order.
                cursors.insert(found.partition, found.waits_for.clone());
                groups.push(found);
            }
            if rows.len() < GROUP_ROWS {
                return Ok(groups);
            }
        }
    }

    pub(in super::super) async fn count_parked(
        &self,
        query: &CountQuery,
    ) -> anyhow::Result<Vec<CountedRows>> {
        let CountQuery { topic, partitions, seen_before } = query;
        let seen_before = seen_before.as_microsecond();
        let mut cursors = start_cursors(partitions);
        let mut counts = Vec::new();
        while !cursors.is_empty() {
            let (count, limit) = behind(COUNT, topic, cursors);
            let rows = self.rows(count.bind(seen_before).bind(limit)).await?;
            // A partition that is not among them has no more rows.
            cursors = BTreeMap::new();
            for row in &rows {
                let (partition, waits_for) = (row.try_get("partition")?, row.try_get("waits_for")?);
                let (events, us) = (row.try_get("events")?, row.try_get("last_us")?);
                let cursor = Cursor { waits_for, us };
                counts.push(CountedRows { partition, waits_for: cursor.waits_for.clone(), events });
                cursors.insert(partition, cursor);
            }
        }
        counts.sort_by(|one, other| {
            (one.partition, &one.waits_for).cmp(&(other.partition, &other.waits_for))
        });
        Ok(counts)
    }

    pub(in super::super) async fn parked_waits(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<WaitRows>> {
        let mut cursors = start_cursors(partitions);
        let mut waits = Vec::new();
        while !cursors.is_empty() {
            let (query, limit) = behind(WAITS, topic, cursors);
            let rows = self.rows(query.bind(limit)).await?;
            // A partition that is not among them has no more rows; its last one is where it ended.
            cursors = BTreeMap::new();
            for row in &rows {
                let found = wait_rows(row)?;
                let (waits_for, us) = (found.waits_for.clone(), row.try_get("last_us")?);
                cursors.insert(found.partition, Cursor { waits_for, us });
                waits.push(found);
            }
        }
        Ok(waits)
    }

    pub(in super::super) async fn due(&self, query: &DueQuery) -> anyhow::Result<DueRows> {
        let DueQuery { topic, partitions, now, overdue_limit, due_limit } = query;
        let (topic, now) = (&**topic, now.as_microsecond());
        let woken_up_to: Vec<i64> = partitions.iter().map(|one| one.woken_up_to).collect();
        let partitions: Vec<i32> = partitions.iter().map(|one| one.partition).collect();
        let [overdue_limit, due_limit] = [*overdue_limit, *due_limit].map(|limit| limit as i64);
        let overdue = sqlx::query(OVERDUE).bind(topic).bind(&partitions).bind(now);
        let overdue = self.stored_rows(overdue.bind(overdue_limit)).await?;
        let due = if due_limit > 0 {
            let window = overdue_limit.saturating_add(due_limit);
            let due = sqlx::query(DUE).bind(topic).bind(&partitions).bind(now);
            self.stored_rows(due.bind(window).bind(due_limit).bind(&woken_up_to)).await?
        } else {
            vec![]
        };
        let next = sqlx::query(NEXT).bind(topic).bind(&partitions).bind(now).bind(&woken_up_to);
        let next = self.rows(next).await?;
        let time = |column| next.first().map(|row| row.try_get::<Option<i64>, _>(column));
        let next_deadline_us = time("next_deadline_us").transpose()?.flatten();
        let next_due_us = time("next_due_us").transpose()?.flatten();
        let has_early = next.first().context("no row")?.try_get("has_early")?;
        Ok(DueRows { overdue, due, next_deadline_us, next_due_us, has_early })
    }

    pub(in super::super) async fn waiting(
        &self,
        query: &WaitingQuery,
    ) -> anyhow::Result<Vec<StoredRow>> {
        let WaitingQuery { topic, partitions, room, limit } = query;
        let waits_for = WaitsFor::Agent(room.clone()).to_string();
        let query = sqlx::query(WAITING).bind(&**topic).bind(partitions).bind(waits_for);
        self.stored_rows(query.bind(*limit as i64)).await
    }

    pub(in super::super) async fn is_session_parked(
        &self,
        session_id: &Arc<str>,
        before: &Position,
        in_memory: &[i64],
    ) -> anyhow::Result<bool> {
        let Position { topic, partition, offset } = before;
        let query = sqlx::query(IS_SESSION_PARKED).bind(&**session_id).bind(&**topic);
        let rows = self.rows(query.bind(partition).bind(offset).bind(in_memory)).await?;
        Ok(rows.first().context("no row")?.try_get("found")?)
    }

    pub(in super::super) async fn is_behind_unpublished(
        &self,
        session_id: &Arc<str>,
        position: &Position,
        from: i64,
    ) -> anyhow::Result<bool> {
        let Position { topic, partition, offset } = position;
        let query = sqlx::query(IS_BEHIND_UNPUBLISHED).bind(&**topic).bind(partition).bind(from);
        let rows = self.rows(query.bind(offset).bind(&**session_id)).await?;
        Ok(rows.first().context("no row")?.try_get("found")?)
    }

    async fn stored_rows(&self, query: Query<'_>) -> anyhow::Result<Vec<StoredRow>> {
        let rows = self.rows(query).await?;
        rows.iter().map(|row| Ok(EventRow::from_row(row)?.into_stored_row())).collect()
    }
}

/// Up to where the rows of a partition have been counted.
struct Cursor {
    waits_for: String,
    us: i64,
}

fn start_cursors(partitions: &[i32]) -> BTreeMap<i32, Cursor> {
    let start = |partition: &i32| (*partition, Cursor { waits_for: String::new(), us: i64::MIN });
    partitions.iter().map(start).collect()
}

/// A query of the rows behind the cursors, and how many of each partition it reads.
fn behind<'q>(
    sql: &'static str,
    topic: &'q str,
    cursors: BTreeMap<i32, Cursor>,
) -> (Query<'q>, i64) {
    let limit = COUNT_ROWS.div_ceil(cursors.len()) as i64;
    let partitions: Vec<i32> = cursors.keys().copied().collect();
    let (waits_for, times): (Vec<_>, Vec<_>) =
        cursors.into_values().map(|cursor| (cursor.waits_for, cursor.us)).unzip();
    (sqlx::query(sql).bind(topic).bind(partitions).bind(waits_for).bind(times), limit)
}

fn wait_rows(row: &PgRow) -> sqlx::Result<WaitRows> {
    let route: Option<String> = row.try_get("route")?;
    Ok(WaitRows {
        partition: row.try_get("partition")?,
        waits_for: row.try_get("waits_for")?,
        route: route.and_then(|json| serde_json::from_str(&json).ok()),
        is_in_doubt: row.try_get("is_in_doubt")?,
        found_nobody: row.try_get("found_nobody")?,
        events: row.try_get("events")?,
        oldest_us: row.try_get("oldest_us")?,
    })
}

fn parked_rows(row: &PgRow) -> sqlx::Result<ParkedRows> {
    Ok(ParkedRows {
        partition: row.try_get("partition")?,
        waits_for: row.try_get("waits_for")?,
        oldest_us: row.try_get("oldest_us")?,
        oldest_until_us: row.try_get("oldest_until_us")?,
    })
}
