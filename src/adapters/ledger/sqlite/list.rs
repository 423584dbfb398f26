//! The list of all entries, in the order in which they were first seen.

use std::path::Path;

use rusqlite::{Connection, params};

use super::super::listing::{ListCursor, ListPage, ListQuery, ListedState, PAGE_ROWS};
use super::file::explain;
use super::reader::SqliteReader;
use super::rows::stored_row;

/// Without the records, which may be large. A query reads on until its page is full.
const LIST: &str = r#"SELECT event, key, session_id, topic, partition, "offset", recorded_us, state, owner,
  version, first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for,
  settled_at_us, published_at_us, published_to, NULL AS record, snapshot, channel, answer_key,
  answer_value, answer_headers, history, settled_by, label, published_by
FROM handoff_ledger WHERE event > ?1 AND (state = ?2 OR ?2 IS NULL AND state <> 'published')
  AND (session_id = ?3 OR ?3 IS NULL)
ORDER BY event LIMIT ?4"#;

impl SqliteReader {
    pub(in super::super) async fn list(
        &self,
        query: ListQuery,
        after: Option<ListCursor>,
    ) -> anyhow::Result<ListPage> {
        let after = match after {
            Some(ListCursor::Row(event)) => event,
            _ => i64::MIN,
        };
        self.query(move |connection, file| page(connection, file, &query, after)).await
    }
}

fn page(
    connection: &Connection,
    file: &Path,
    query: &ListQuery,
    after: i64,
) -> anyhow::Result<ListPage> {
    let explain = |error| explain(file, error);
    let state = query.state.map(ListedState::as_str);
    let mut list = connection.prepare_cached(LIST).map_err(explain)?;
    let mut found =
        list.query(params![after, state, query.session_id, PAGE_ROWS]).map_err(explain)?;
    let mut page = ListPage::default();
    let mut last = None;
    while let Some(row) = found.next().map_err(explain)? {
        last = Some(row.get("event").map_err(explain)?);
        page.rows.push(stored_row(row)?);
    }
    if page.rows.len() as i64 == PAGE_ROWS {
        page.next = last.map(ListCursor::Row);
    }
    Ok(page)
}
