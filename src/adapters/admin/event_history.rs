//! `GET /events/ID`: everything that is known of one event: where it is now, its ledger entry with the
//! history, its outcome, and why its record is read and routed as it is.
//!
//! ID is an event's id, or the position of its record as TOPIC/PARTITION/OFFSET.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::collect::last_outcome;
use super::document::{FORMAT, LastOutcome, RecordJson, UnfinishedJson};
use super::parked::{GateView, row_of_entry, row_of_event};
use super::reply::AdminRefusal;
use crate::activity::{RecentOutcome, UnfinishedEvent};
use crate::domain::explanation::RecordToExplain;
use crate::domain::ledger_entry::{LedgerEntry, entry_json, key};
use crate::domain::record::{Position, Record};

/// What is known of one event, and what became of it.
#[derive(Serialize)]
pub(super) struct EventHistory {
    format: u32,
    as_of: Timestamp,
    event: String,
    session: Option<String>,
    record: Option<RecordJson>,
    unfinished: Option<UnfinishedJson>,
    outcome: Option<LastOutcome>,
    entry: Option<Value>,
    explanation: Option<Value>,
    commands: Vec<String>,
    actions: Vec<&'static str>,
}

/// What is known of an event.
struct KnownEvent {
    id: Arc<str>,
    unfinished: Option<Arc<UnfinishedEvent>>,
    outcome: Option<RecentOutcome>,
    entry: Option<(Arc<str>, LedgerEntry)>,
}

/// `GET /events/ID`.
pub(super) async fn event_history(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<EventHistory>, AdminRefusal> {
    let entries = admin.ledger.read(async |reader| reader.entries(&name).await).await;
    let mut known = admin.known(name.into());
    known.entry = match entries {
        Ok(entries) => entries.into_iter().next(),
        // What is in memory is shown while the ledger is away.
        Err(_) if known.unfinished.is_some() || known.outcome.is_some() => None,
        Err(error) => return Err(AdminRefusal::unavailable(&error)),
    };
    if known.unfinished.is_none() && known.outcome.is_none() && known.entry.is_none() {
        return Err(no_such_event());
    }
    Ok(Json(admin.history_of(&known)))
}

pub(super) fn no_such_event() -> AdminRefusal {
    let text = "no such event: its record was not read yet, was skipped for its type, or was \
                answered more than ledger.retention_days ago";
    AdminRefusal::new(StatusCode::NOT_FOUND, text)
}

impl Admin {
    /// The event in memory with this id, or at this position.
    pub(super) fn unfinished_event(&self, id: &str) -> Option<Arc<UnfinishedEvent>> {
        let unfinished = self.view.activity.unfinished_events().all();
        unfinished.into_iter().find(|event| *event.id == *id || event.source.to_string() == id)
    }

    fn known(&self, id: Arc<str>) -> KnownEvent {
        let is_it =
            |outcome: &RecentOutcome| outcome.event_id == id || outcome.source.to_string() == *id;
        let outcome = self.view.activity.find_outcome(is_it);
        KnownEvent { unfinished: self.unfinished_event(&id), id, outcome, entry: None }
    }

    fn history_of(&self, known: &KnownEvent) -> EventHistory {
        let KnownEvent { id, unfinished, outcome, entry } = known;
        let entry = entry.as_ref();
        // It may be named by its position.
        let id: &str = (unfinished.as_ref().map(|event| &*event.id))
            .or_else(|| outcome.as_ref().map(|outcome| &*outcome.event_id))
            .or_else(|| entry.map(|(key, _)| key::name_of(key)))
            .unwrap_or(id);
        let session = (unfinished.as_ref().map(|event| event.session_id.clone()))
            .or_else(|| outcome.as_ref().map(|outcome| outcome.session_id.clone()))
            .or_else(|| entry.and_then(|(_, entry)| entry.session_id.clone()));
        let full = session.as_deref().unwrap_or_default();
        let hidden = |mut document: Value| {
            self.ids.hide(&mut document, full);
            document
        };
        let source = (unfinished.as_ref().map(|event| &event.source))
            .or_else(|| outcome.as_ref().map(|outcome| &outcome.source))
            .or_else(|| entry.map(|(_, entry)| &entry.source));
        let is_settled = entry.is_some_and(|(_, entry)| entry.is_settled());
        let row = match (unfinished, entry) {
            (Some(event), _) => Some(row_of_event(event, &self.ids, self.gate_view())),
            (None, Some((key, entry))) if !entry.is_settled() => {
                row_of_entry(key, entry, &self.ids).map(|parked| parked.row)
            }
            _ => None,
        };
        let has_actions = entry.is_some() && row.is_some() && !is_settled && self.guard.has_token();
        EventHistory {
            format: FORMAT,
            as_of: self.view.clock.now(),
            event: self.ids.event(id, full),
            session: session.as_deref().map(|session| self.ids.session(session)),
            record: source.map(RecordJson::from),
            unfinished: row,
            outcome: outcome.as_ref().map(|outcome| last_outcome(outcome, &self.ids)),
            entry: entry.map(|(key, entry)| hidden(entry_json(key, entry))),
            explanation: entry
                .and_then(|(_, entry)| entry.record.as_ref())
                .map(|record| hidden(self.explained(record))),
            commands: commands(Some(id).filter(|id| self.ids.event(id, full) == *id), source),
            actions: if has_actions { vec!["retry", "give-up"] } else { vec![] },
        }
    }

    pub(super) fn gate_view(&self) -> GateView {
        let gate = self.view.gate.status();
        let now = self.view.clock.now();
        let next_probe_at = gate.next_probe_in.and_then(|wait| now.saturating_add(wait).ok());
        GateView { is_held: gate.stage.is_held(), next_probe_at }
    }

    fn explained(&self, record: &Record) -> Value {
        let now = self.view.clock.now();
        self.view.explanation(&RecordToExplain { record: record.clone(), has_position: true, now })
    }
}

/// Commands that say more, for a terminal. The id is known if it is shown in full: no command takes a
/// shortened one, and most take the position of the record as well.
fn commands(id: Option<&str>, source: Option<&Position>) -> Vec<String> {
    let id = id.map(quoted);
    let position = source.map(|source| quoted(&source.to_string()));
    let show = id.as_ref().or(position.as_ref()).map(|it| format!("handoff events show {it}"));
    let explain = position.as_ref().map(|position| format!("handoff explain --at {position}"));
    let outcomes = id.as_ref().map(|id| format!("handoff outcomes --event {id}"));
    [show, explain, outcomes].into_iter().flatten().collect()
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_record_where_the_id_is_shortened() {
        let source = Position { topic: "t".into(), partition: 1, offset: 2 };
        let all =
            ["handoff events show e", "handoff explain --at t/1/2", "handoff outcomes --event e"];
        assert_eq!(commands(Some("e"), Some(&source)), all);
        let by_record = ["handoff events show t/1/2", "handoff explain --at t/1/2"];
        assert_eq!(commands(None, Some(&source)), by_record);
    }

    #[test]
    fn an_id_is_one_word_of_a_shell() {
        assert_eq!(quoted("evt-1"), "evt-1");
        assert_eq!(quoted("t/1/2"), "t/1/2");
        assert_eq!(quoted("a b'; rm -rf"), r"'a b'\''; rm -rf'");
        assert_eq!(quoted("--help"), "'--help'");
        assert_eq!(quoted(""), "''");
    }
}
