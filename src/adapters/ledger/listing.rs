//! Reads all entries, page by page: memory holds one page, whatever the ledger holds.
//!
//! Each page is a query of its own, so an entry that changes meanwhile may be listed as it was or as
//! it is. Records are not read: they hold what the customer wrote.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::database::StoredRow;
use super::reader::LedgerReader;
use crate::domain::ledger_entry::LedgerEntry;

/// Entries that one query reads.
pub(super) const PAGE_ROWS: i64 = 200;

/// The entries to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only those in this state; `None`: all that are not published.
    pub state: Option<ListedState>,
    /// Only those of this session.
    pub session_id: Option<Arc<str>>,
}

/// A state that entries can be listed by; the words are those of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedState {
    /// Claimed: a call may be in flight.
    Open,
    /// Waits for its next attempt.
    Parked,
    /// Answered, and not known to be published.
    Settled,
    /// Its answer is published.
    Published,
}

impl ListedState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Parked, Self::Settled, Self::Published];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Parked => "parked",
            Self::Settled => "settled",
            Self::Published => "published",
        }
    }
}

/// An entry in a list.
#[derive(Debug)]
pub struct ListedEntry {
    /// Its key.
    pub key: Arc<str>,
    /// The entry, or why it cannot be read.
    pub entry: anyhow::Result<LedgerEntry>,
}

/// A list that is read.
pub struct Listing<'a> {
    reader: &'a LedgerReader,
    query: ListQuery,
    after: Option<ListCursor>,
    is_complete: bool,
}

/// The last entry of a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ListCursor {
    /// A number of SQLite's table.
    Row(i64),
    /// The order of PostgreSQL: the record's position, or when the answer was published, and the key.
    Indexed { topic: String, partition: i32, offset: i64, published_at_us: i64, key: Arc<str> },
}

/// What one query returns.
#[derive(Default)]
pub(super) struct ListPage {
    pub(super) rows: Vec<StoredRow>,
    /// `None`: this is the last page.
    pub(super) next: Option<ListCursor>,
}

impl<'a> Listing<'a> {
    /// Begins a list.
    pub fn new(reader: &'a LedgerReader, query: ListQuery) -> Self {
        Self { reader, query, after: None, is_complete: false }
    }

    /// Goes on where another list of the same query has stopped; `cursor`: as that one gave it, or ""
    /// for the beginning. One that cannot be read counts as the beginning.
    pub fn resume(reader: &'a LedgerReader, query: ListQuery, cursor: &str) -> Self {
        Self { after: serde_json::from_str(cursor).ok(), ..Self::new(reader, query) }
    }

    /// Where [`Self::resume`] goes on; `None` at the end of the list.
    pub fn cursor(&self) -> Option<String> {
        let after = self.after.as_ref().filter(|_| !self.is_complete)?;
        serde_json::to_string(after).ok()
    }

    /// The next entries; none at the end of the list.
    pub async fn next_page(&mut self) -> anyhow::Result<Vec<ListedEntry>> {
        if self.is_complete {
            return Ok(vec![]);
        }
        let page = match self.reader {
            LedgerReader::Sqlite(reader) => {
                reader.list(self.query.clone(), self.after.clone()).await?
            }
            LedgerReader::Postgres(reader) => reader.list(&self.query, self.after.as_ref()).await?,
        };
        self.is_complete = page.next.is_none();
        self.after = page.next;
        let listed = |StoredRow { key, entry, .. }| ListedEntry { key, entry };
        Ok(page.rows.into_iter().map(listed).collect())
    }
}
