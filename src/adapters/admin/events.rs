//! `GET /events`: unfinished events, page by page: first those in memory, the earliest deadline first,
//! then those that only the ledger has, in its order.
//!
//! With PostgreSQL the second part covers the whole group.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::document::{FORMAT, UnfinishedJson};
use super::parked::{ParkedRow, row_of_entry, row_of_event};
use super::reply::AdminRefusal;
use crate::activity::UnfinishedEvent;
use crate::adapters::ledger::{LedgerUrl, ListQuery, Listing};
use crate::domain::problem::Problem;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Pages of the ledger that one request reads: a rare match in a large ledger takes several requests.
const MAX_PAGES: usize = 20;
/// Where the part of the ledger begins.
const LEDGER: &str = "ledger";

/// The filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    problem: Option<String>,
    route: Option<String>,
    /// A part of the event's id or of the session id.
    search: Option<String>,
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// One page.
#[derive(Serialize)]
pub(super) struct EventsPage {
    format: u32,
    as_of: Timestamp,
    covers: &'static str,
    events: Vec<UnfinishedJson>,
    /// For `after`; absent at the end.
    next: Option<String>,
    /// False: the search stopped before the end of the ledger, or the page is full.
    is_complete: bool,
}

/// What is wanted of a page.
struct Wanted {
    filter: EventFilter,
    limit: usize,
}

/// Which events are wanted.
struct EventFilter {
    problem: Option<Problem>,
    route: Option<String>,
    search: String,
}

impl EventFilter {
    fn of(query: &EventsQuery) -> Result<Self, AdminRefusal> {
        let problem = match query.problem.as_deref().filter(|word| !word.is_empty()) {
            None => None,
            Some(word) => Some(Problem::from_word(word).ok_or_else(|| {
                let words = Problem::ALL.map(Problem::as_str).join(", ");
                AdminRefusal::new(StatusCode::BAD_REQUEST, format!("`problem` is one of {words}"))
            })?),
        };
        let route = query.route.clone().filter(|route| !route.is_empty());
        Ok(Self { problem, route, search: query.search.clone().unwrap_or_default() })
    }

    fn accepts(&self, id: &str, session: &str, row: &UnfinishedJson) -> bool {
        self.problem.is_none_or(|problem| problem == row.problem)
            && (self.route.is_none() || self.route == row.route)
            && (id.contains(&self.search) || session.contains(&self.search))
    }
}

/// `GET /events`.
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<EventsPage>, AdminRefusal> {
    let filter = EventFilter::of(&query)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let mut page = EventsPage {
        format: FORMAT,
        as_of: admin.view.clock.now(),
        covers: match admin.view.ledger {
            LedgerUrl::Sqlite(_) => "instance",
            LedgerUrl::Postgres(_) => "group",
        },
        events: vec![],
        next: None,
        is_complete: true,
    };
    let open = admin.view.activity.unfinished_events().all();
    let wanted = Wanted { filter, limit };
    let after = query.after.as_deref().unwrap_or_default();
    if let Some(cursor) = after.strip_prefix(LEDGER) {
        admin.add_from_ledger(&mut page, &open, &wanted, cursor).await?;
    } else {
        admin.add_from_memory(&mut page, &open, &wanted, memory_cursor(after)?);
        if page.next.is_none() {
            admin.add_from_ledger(&mut page, &open, &wanted, "").await?;
        }
    }
    page.is_complete = page.next.is_none();
    Ok(Json(page))
}

/// The deadline and the id of the last event of a page of those in memory.
struct MemoryCursor {
    deadline: Timestamp,
    id: String,
}

fn memory_cursor(text: &str) -> Result<Option<MemoryCursor>, AdminRefusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let cursor = text
        .split_once(' ')
        .and_then(|(at, id)| Some(MemoryCursor { deadline: at.parse().ok()?, id: id.to_owned() }));
    cursor.map(Some).ok_or_else(|| {
        AdminRefusal::new(StatusCode::BAD_REQUEST, "`after` is the `next` of the page before")
    })
}

impl Admin {
    fn add_from_memory(
        &self,
        page: &mut EventsPage,
        open: &[Arc<UnfinishedEvent>],
        wanted: &Wanted,
        after: Option<MemoryCursor>,
    ) {
        let gate = self.gate_view();
        let is_after = |event: &&Arc<UnfinishedEvent>| {
            let Some(MemoryCursor { deadline, id }) = &after else { return true };
            (event.deadline, event.id.as_ref()) > (*deadline, id.as_str())
        };
        let mut events: Vec<_> = open.iter().filter(is_after).collect();
        events.sort_by(|one, other| (one.deadline, &one.id).cmp(&(other.deadline, &other.id)));
        for event in events {
            if page.events.len() == wanted.limit {
                return;
            }
            let row = row_of_event(event, &self.ids, gate);
            if wanted.filter.accepts(&event.id, &event.session_id, &row) {
                page.next = Some(format!("{} {}", event.deadline, event.id));
                page.events.push(row);
            }
        }
        page.next = None;
    }

    async fn add_from_ledger(
        &self,
        page: &mut EventsPage,
        open: &[Arc<UnfinishedEvent>],
        wanted: &Wanted,
        cursor: &str,
    ) -> Result<(), AdminRefusal> {
        let known: HashSet<_> = open.iter().map(|event| event.id.as_ref()).collect();
        let read = self.ledger.read(async |reader| {
            let mut listing = Listing::resume(&reader, ListQuery::default(), cursor);
            for _ in 0..MAX_PAGES {
                let listed = listing.next_page().await?;
                for entry in &listed {
                    let Ok(stored) = &entry.entry else { continue };
                    let Some(ParkedRow { id, row }) = row_of_entry(&entry.key, stored, &self.ids)
                    else {
                        continue;
                    };
                    let session = stored.session_id.as_deref().unwrap_or_default();
                    let is_new = !known.contains(id.as_ref());
                    if is_new && wanted.filter.accepts(&id, session, &row) {
                        page.events.push(row);
                    }
                }
                page.next = listing.cursor().map(|cursor| format!("{LEDGER}{cursor}"));
                // A page of the ledger is not cut: it has at most 200 rows.
                if page.next.is_none() || page.events.len() >= wanted.limit {
                    break;
                }
            }
            Ok(())
        });
        match read.await {
            Ok(()) => Ok(()),
            // What is in memory is shown while the ledger is away.
            Err(_) if !page.events.is_empty() => {
                page.next = Some(format!("{LEDGER}{cursor}"));
                Ok(())
            }
            Err(error) => Err(AdminRefusal::unavailable(&error)),
        }
    }
}
