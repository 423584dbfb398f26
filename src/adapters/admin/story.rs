//! `GET /events/ID`: everything that is known of one event: where it is now, its ledger entry with the
//! history, its outcome, and why its record is read and routed as it is.
//!
//! ID is an event's id, the position of its record as TOPIC/PARTITION/OFFSET, or a ref.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::collect::last_outcome;
use super::document::{FORMAT, LastOutcome, OpenEventJson, RecordJson};
use super::parked::{GateView, row_of_entry, row_of_event};
use super::reply::AdminRefusal;
use crate::activity::{OpenEvent, RecentOutcome};
use crate::domain::explanation::RecordToExplain;
use crate::domain::ledger_entry::{LedgerEntry, entry_json};
use crate::domain::record::{Position, Record};

/// The story of one event.
#[derive(Serialize)]
pub(super) struct EventStory {
    format: u32,
    as_of: Timestamp,
    event: String,
    #[serde(rename = "ref")]
    reference: String,
    session: Option<String>,
    record: Option<RecordJson>,
    open: Option<OpenEventJson>,
    outcome: Option<LastOutcome>,
    entry: Option<Value>,
    explanation: Option<Value>,
    commands: Vec<String>,
    actions: Vec<&'static str>,
}

/// What is known of an event.
struct KnownEvent {
    id: Arc<str>,
    open: Option<Arc<OpenEvent>>,
    outcome: Option<RecentOutcome>,
    entry: Option<(Arc<str>, LedgerEntry)>,
}

/// `GET /events/ID`.
pub(super) async fn story(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<EventStory>, AdminRefusal> {
    let id = admin.id_of(&name)?;
    let entries = admin.ledger.read(async |reader| reader.entries(&id).await).await;
    let mut known = admin.known(id);
    known.entry = match entries {
        Ok(entries) => entries.into_iter().next(),
        // What is in memory is shown while the ledger is away.
        Err(_) if known.open.is_some() || known.outcome.is_some() => None,
        Err(error) => return Err(AdminRefusal::unavailable(&error)),
    };
    if known.open.is_none() && known.outcome.is_none() && known.entry.is_none() {
        return Err(no_such_event());
    }
    Ok(Json(admin.story_of(&known)))
}

pub(super) fn no_such_event() -> AdminRefusal {
    let text = "no such event: its record was not read yet, was skipped for its type, or was \
                answered more than ledger.retention_days ago";
    AdminRefusal::new(StatusCode::NOT_FOUND, text)
}

impl Admin {
    /// The id of an event that is named by its id, its position or a ref.
    pub(super) fn id_of(&self, name: &str) -> Result<Arc<str>, AdminRefusal> {
        if !name.starts_with('~') {
            return Ok(name.into());
        }
        let is_it = |id: &str| self.ids.reference(id) == name;
        let open = self.view.activity.open_events().all();
        if let Some(event) = open.iter().find(|event| is_it(&event.id)) {
            return Ok(event.id.clone());
        }
        let outcome = self.view.activity.find_outcome(|outcome| is_it(&outcome.event_id));
        if let Some(outcome) = outcome {
            return Ok(outcome.event_id);
        }
        self.ids.remembered(name).ok_or_else(no_such_event)
    }

    /// The event in memory with this id, or at this position.
    pub(super) fn open_event(&self, id: &str) -> Option<Arc<OpenEvent>> {
        let open = self.view.activity.open_events().all();
        open.into_iter().find(|event| *event.id == *id || event.source.to_string() == id)
    }

    fn known(&self, id: Arc<str>) -> KnownEvent {
        let is_it =
            |outcome: &RecentOutcome| outcome.event_id == id || outcome.source.to_string() == *id;
        let outcome = self.view.activity.find_outcome(is_it);
        KnownEvent { open: self.open_event(&id), id, outcome, entry: None }
    }

    fn story_of(&self, known: &KnownEvent) -> EventStory {
        let KnownEvent { id, open, outcome, entry } = known;
        let entry = entry.as_ref();
        let id = open.as_ref().map(|event| &event.id).unwrap_or(id);
        let session = (open.as_ref().map(|event| event.session_id.clone()))
            .or_else(|| outcome.as_ref().map(|outcome| outcome.session_id.clone()))
            .or_else(|| entry.and_then(|(_, entry)| entry.session_id.clone()));
        let full = session.as_deref().unwrap_or_default();
        let hidden = |mut document: Value| {
            self.ids.hide(&mut document, full);
            document
        };
        let source = (open.as_ref().map(|event| &event.source))
            .or_else(|| outcome.as_ref().map(|outcome| &outcome.source))
            .or_else(|| entry.map(|(_, entry)| &entry.source));
        let is_settled = entry.is_some_and(|(_, entry)| entry.is_settled());
        let row = match (open, entry) {
            (Some(event), _) => Some(row_of_event(event, &self.ids, self.gate_view())),
            (None, Some((key, entry))) if !entry.is_settled() => {
                row_of_entry(key, entry, &self.ids).map(|parked| parked.row)
            }
            _ => None,
        };
        let has_actions = entry.is_some() && row.is_some() && !is_settled && self.guard.has_token();
        EventStory {
            format: FORMAT,
            as_of: self.view.clock.now(),
            event: self.ids.event(id, full),
            reference: self.ids.reference(id),
            session: session.as_deref().map(|session| self.ids.session(session)),
            record: source.map(RecordJson::from),
            open: row,
            outcome: outcome.as_ref().map(|outcome| last_outcome(outcome, &self.ids)),
            entry: entry.map(|(key, entry)| hidden(entry_json(key, entry))),
            explanation: entry
                .and_then(|(_, entry)| entry.record.as_ref())
                .map(|record| hidden(self.explained(record))),
            commands: commands(Some(&**id).filter(|id| self.ids.event(id, full) == *id), source),
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
