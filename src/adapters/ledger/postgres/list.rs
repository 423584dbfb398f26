//! The list of all entries. Each page reads an index in its order from where the last one ended, so
//! that millions of published entries cost a list of the others nothing.

use sqlx::Row as _;

use super::super::listing::{ListCursor, ListPage, ListQuery, ListedState, PAGE_ROWS};
use super::reader::PostgresReader;
use super::row::EventRow;

// Both repeat the predicate of their index word for word.
const UNFINISHED: &str = r#"SELECT key, session_id, topic, partition, "offset", recorded_us, state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for, settled_at_us,
  published_at_us, published_to, NULL AS record, snapshot, answer, history
FROM handoff_events
WHERE state <> 'published' AND (topic, partition, "offset", key) > ($1, $2, $3, $4)
  AND ($5::text IS NULL OR state = $5) AND ($6::text IS NULL OR session_id = $6)
ORDER BY topic, partition, "offset", key LIMIT $7"#;

const PUBLISHED: &str = r#"SELECT key, session_id, topic, partition, "offset", recorded_us, state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for, settled_at_us,
  published_at_us, published_to, NULL AS record, snapshot, answer, history
FROM handoff_events
WHERE state = 'published' AND (published_at_us, key) > ($1, $2)
  AND ($3::text IS NULL OR session_id = $3)
ORDER BY published_at_us, key LIMIT $4"#;

impl PostgresReader {
    pub(in super::super) async fn list(
        &self,
        query: &ListQuery,
        after: Option<&ListCursor>,
    ) -> anyhow::Result<ListPage> {
        let start = ListCursor::Indexed {
            topic: String::new(),
            partition: i32::MIN,
            offset: i64::MIN,
            published_at_us: i64::MIN,
            key: "".into(),
        };
        let ListCursor::Indexed { topic, partition, offset, published_at_us, key } =
            after.unwrap_or(&start)
        else {
            return Ok(ListPage::default());
        };
        let session = query.session_id.as_deref();
        let found = if query.state == Some(ListedState::Published) {
            let list = sqlx::query(PUBLISHED).bind(published_at_us).bind(&**key);
            self.rows(list.bind(session).bind(PAGE_ROWS)).await?
        } else {
            let list = sqlx::query(UNFINISHED).bind(topic).bind(partition).bind(offset);
            let list = list.bind(&**key).bind(query.state.map(ListedState::as_str)).bind(session);
            self.rows(list.bind(PAGE_ROWS)).await?
        };
        let mut page = ListPage::default();
        if found.len() as i64 == PAGE_ROWS
            && let Some(last) = found.last()
        {
            page.next = Some(ListCursor::Indexed {
                topic: last.try_get("topic")?,
                partition: last.try_get("partition")?,
                offset: last.try_get("offset")?,
                published_at_us: last.try_get::<Option<i64>, _>("published_at_us")?.unwrap_or(0),
                key: last.try_get::<&str, _>("key")?.into(),
            });
        }
        for row in &found {
            page.rows.push(EventRow::from_row(row)?.into_stored_row());
        }
        Ok(page)
    }
}
