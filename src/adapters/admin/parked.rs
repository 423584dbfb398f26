//! Unfinished events as rows: those in memory, and those that the ledger holds.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::document::UnfinishedJson;
use super::ids::Ids;
use crate::activity::{UnfinishedEvent, UnfinishedState};
use crate::domain::codes::VerdictClass;
use crate::domain::ledger_entry::{EntryState, LedgerEntry, key, snapshot_of};
use crate::domain::problem::Problem;

/// How the gate is, as far as events depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GateView {
    pub(super) is_held: bool,
    pub(super) next_probe_at: Option<Timestamp>,
}

/// The row of an entry of the ledger.
#[derive(Debug, Clone)]
pub(super) struct ParkedRow {
    /// Its id, in full.
    pub(super) id: Arc<str>,
    pub(super) row: UnfinishedJson,
}

/// The row of an event in memory.
pub(super) fn row_of_event(event: &UnfinishedEvent, ids: &Ids, gate: GateView) -> UnfinishedJson {
    let state = event.state();
    let problem = state.problem(gate.is_held);
    let next_at = if problem == Problem::GateShut { gate.next_probe_at } else { state.next_at() };
    let UnfinishedState { received_at, route, attempts, last, .. } = state;
    UnfinishedJson {
        event: ids.event(&event.id, &event.session_id),
        session: ids.session(&event.session_id),
        problem,
        received_at,
        deadline_at: Some(event.deadline),
        route,
        attempts,
        last: last.map(|last| ids.text(&last, &event.session_id)),
        next: problem.next(),
        next_at,
        record: (&event.source).into(),
    }
}

/// The row of an unfinished entry; `None` for a dead letter.
pub(super) fn row_of_entry(key: &str, entry: &LedgerEntry, ids: &Ids) -> Option<ParkedRow> {
    let session = entry.session_id.as_deref()?;
    let course = snapshot_of(entry).unwrap_or_default();
    let (problem, next_at) = problem_of_entry(entry, &course);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let id = key::name_of(key);
    let row = UnfinishedJson {
        event: ids.event(id, session),
        session: ids.session(session),
        problem,
        received_at: entry.first_seen,
        deadline_at: entry.deadline,
        route: text(&course["route"]),
        attempts: course["attempts"]
            .as_u64()
            .and_then(|attempts| attempts.try_into().ok())
            .unwrap_or(0),
        last: text(&course["last_verdict"]["text"]).map(|last| ids.text(&last, session)),
        next: problem.next(),
        next_at,
        record: (&entry.source).into(),
    };
    Some(ParkedRow { id: id.into(), row })
}

fn problem_of_entry(entry: &LedgerEntry, course: &Value) -> (Problem, Option<Timestamp>) {
    match &entry.state {
        EntryState::Parked { until, waits_for } => {
            let class = course["last_verdict"]["class"].as_str();
            let is_no_agent = class == Some(VerdictClass::NoAgent.as_str());
            let last = is_no_agent.then_some(VerdictClass::NoAgent);
            let problem = Problem::of_parked(waits_for, !course["in_doubt"].is_null(), last);
            // Behind its session it is parked until its deadline, and woken before.
            let next_at = (problem != Problem::BehindInSession).then_some(*until);
            (problem, next_at)
        }
        // Another instance has claimed it: a call is in flight, or follows.
        EntryState::Open { .. } => (Problem::Calling, None),
        EntryState::Settled { .. } | EntryState::Published { .. } => (Problem::Unpublished, None),
    }
}
