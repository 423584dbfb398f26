//! The story of one escalation, in lines for people or as one JSON object.
//!
//! What a course remembers is a JSON text of this or another version: what is not in it is not
//! shown, and what cannot be read is named.
//! This file never shows the record itself: what the user wrote is nobody's business here.

use anstyle::Style;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::state;
use crate::commands::lines::{sanitize, styled};
use crate::commands::table::{Cell, Table, TableRow};
use crate::domain::ledger_entry::{EntryState, HistoryItem, LedgerEntry};
use crate::domain::wire::outcome::{Channel, Message};

const COLUMNS: &[&str] = &["TIME", "WHAT", "BY", "NOTE"];

/// For people.
pub(super) fn lines(id: &str, entry: &LedgerEntry, now: Timestamp) -> Vec<String> {
    let mut told = Told(vec![]);
    told.put("event", id);
    told.put("state", &state(entry));
    told.put("session", entry.session_id.as_deref().unwrap_or_default());
    told.put("source", &entry.source.to_string());
    told.put("owner", &entry.owner);
    told.put("first seen", &moment(entry.first_seen, now));
    if let Some(deadline) = entry.deadline {
        told.put("deadline", &moment(deadline, now));
    }
    course(&mut told, entry);
    if let Some(answer) = &entry.answer {
        outcome(&mut told, answer);
    }
    for part in unreadable(entry) {
        told.put(part, "cannot be read: damaged, or of another version of handoff");
    }
    if let EntryState::Published { at, place: Some(_), .. } = &entry.state {
        told.put("published", &moment(*at, now));
    }
    let mut lines = told.0;
    let rows: Vec<TableRow> = entry.history.iter().map(row).collect();
    let mut table = Table::new(COLUMNS);
    if let Some(head) = table.fit(rows.iter()) {
        lines.extend([String::new(), head]);
    }
    lines.extend(rows.iter().map(|row| table.line(row)));
    lines
}

/// As JSON.
pub(super) fn object(key: &str, entry: &LedgerEntry) -> Value {
    let history: Vec<_> = entry
        .history
        .iter()
        .map(|step| json!({"at": step.at, "what": step.what.as_str(), "owner": step.owner, "note": step.note}))
        .collect();
    let (parked_until, settled_at, published_at, published_to) = match &entry.state {
        EntryState::Open => (None, None, None, None),
        EntryState::Parked { until } => (Some(*until), None, None, None),
        EntryState::Settled { at } => (None, Some(*at), None, None),
        EntryState::Published { settled_at, at, place } => {
            (None, Some(*settled_at), Some(*at), place.as_ref())
        }
    };
    json!({
        "key": key,
        "state": state_word(&entry.state),
        "session_id": entry.session_id,
        "source": entry.source,
        "owner": entry.owner,
        "first_seen": entry.first_seen,
        "deadline": entry.deadline,
        "claimed_at": entry.claimed_at,
        "parked_until": parked_until,
        "settled_at": settled_at,
        "published_at": published_at,
        "published_to": published_to,
        "course": memory(entry),
        "outcome": entry.answer.as_deref().and_then(value),
        "dead_letter": entry.answer.as_deref().filter(|a| a.channel == Channel::DeadLetters)
            .map(Message::label),
        "unreadable": unreadable(entry),
        "history": history,
    })
}

fn state_word(state: &EntryState) -> &'static str {
    match state {
        EntryState::Open => "open",
        EntryState::Parked { .. } => "parked",
        EntryState::Settled { .. } => "settled",
        EntryState::Published { .. } => "published",
    }
}

struct Told(Vec<String>);

impl Told {
    fn put(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            let name = styled(Style::new().bold(), &format!("{name:<12}"));
            self.0.push(format!("{name}{}", sanitize(text)));
        }
    }
}

/// What it remembers, until there is an outcome that says it better.
fn course(told: &mut Told, entry: &LedgerEntry) {
    let Some(memory) = memory(entry).filter(|_| entry.answer.is_none()) else { return };
    told.put("attempts", &text(&memory["attempts"]));
    told.put("tried", &tried(&memory["asked"]));
    told.put("last", &text(&memory["last"]["text"]));
    told.put("Desk said", &desk(&memory["desk"]));
    if !memory["doubt"].is_null() {
        told.put("doubt", "a call may have taken effect: Desk is asked before it is called again");
    }
}

fn outcome(told: &mut Told, answer: &Message) {
    if answer.channel == Channel::DeadLetters {
        return told.put("dead letter", answer.label());
    }
    let Some(value) = value(answer) else { return };
    let agent = match value["agent_id"].as_str() {
        Some(agent) => format!(" to {agent}"),
        None => String::new(),
    };
    told.put("outcome", &format!("{}{agent}", text(&value["status"])));
    told.put("reason", &text(&value["reason"]));
    told.put("known by", &text(&value["confirmed_by"]));
    told.put("attempts", &text(&value["attempts"]));
    told.put("tried", &tried(&value["tried"]));
    told.put("Desk said", &desk(&value["desk"]));
    told.put("decided", &text(&value["decided_at"]));
}

fn row(step: &HistoryItem) -> TableRow {
    vec![
        Cell::new(format!("{:.3}", step.at)),
        Cell::new(step.what.as_str()),
        Cell::new(&step.owner),
        Cell::new(&step.note),
    ]
}

fn memory(entry: &LedgerEntry) -> Option<Value> {
    serde_json::from_str(entry.memory.as_deref()?).ok()
}

fn value(answer: &Message) -> Option<Value> {
    let value = answer.value.as_deref().filter(|_| answer.channel == Channel::Outcomes)?;
    serde_json::from_slice(value).ok()
}

/// What is there, and is not shown because it cannot be read.
fn unreadable(entry: &LedgerEntry) -> Vec<&'static str> {
    let course = entry.memory.is_some() && memory(entry).is_none();
    let is_lost = |answer: &Message| answer.channel == Channel::Outcomes && value(answer).is_none();
    let outcome = entry.answer.as_deref().is_some_and(is_lost);
    let parts = [("course", course), ("outcome", outcome)];
    parts.into_iter().filter_map(|(part, is_lost)| is_lost.then_some(part)).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn tried(tried: &Value) -> String {
    let one = |tried: &Value| match &tried["code"] {
        Value::Null => tried["target"].to_string(),
        code => format!("{} said {code}", tried["target"]),
    };
    tried
        .as_array()
        .map(|all| all.iter().map(one).collect::<Vec<_>>().join(", "))
        .unwrap_or_default()
}

fn desk(desk: &Value) -> String {
    match (&desk["code"], text(&desk["info"])) {
        (Value::Null, _) => String::new(),
        (code, info) if info.is_empty() => code.to_string(),
        (code, info) => format!("{code} {info}"),
    }
}

/// A time, and how far it is from now.
fn moment(time: Timestamp, now: Timestamp) -> String {
    let away = time.duration_since(now);
    let away = away.round(Unit::Second).unwrap_or(away);
    let span = away.unsigned_abs();
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    if away.is_negative() {
        format!("{time:.3} ({span:#} ago)")
    } else {
        format!("{time:.3} (in {span:#})")
    }
}
