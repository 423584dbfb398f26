//! One ledger entry, as lines for people.
//!
//! The record itself is not shown: it holds what the customer wrote. The course's snapshot is JSON
//! of this or another version of `handoff`, so it is read field by field: a missing field is left
//! out, and a snapshot that is not JSON is named as unreadable.

use anstyle::Style;
use jiff::Timestamp;
use serde_json::Value;

use crate::commands::lines::{sanitize, styled};
use crate::commands::table::{Cell, Table, TableRow};
use crate::commands::values::time_and_distance;
use crate::domain::ledger_entry::{
    EntryState, HistoryItem, LedgerEntry, outcome_of, snapshot_of, state_text, unreadable_parts,
};
use crate::domain::wire::{Channel, Message};

const HISTORY_COLUMNS: &[&str] = &["TIME", "WHAT", "BY", "NOTE"];

/// The entry for people.
pub(super) fn text_lines(id: &str, entry: &LedgerEntry, now: Timestamp) -> Vec<String> {
    let mut fields = FieldLines(vec![]);
    fields.put("event", id);
    fields.put("state", &state_text(entry));
    fields.put("session", entry.session_id.as_deref().unwrap_or_default());
    fields.put("source", &entry.source.to_string());
    fields.put("owner", &entry.owner);
    fields.put("first seen", &time_and_distance(entry.first_seen, now));
    if let Some(deadline) = entry.deadline {
        fields.put("deadline", &time_and_distance(deadline, now));
    }
    match &entry.answer {
        Some(answer) => put_answer(&mut fields, answer),
        // The answer repeats what the snapshot says, so only one of them is shown.
        None => put_snapshot(&mut fields, entry),
    }
    for part in unreadable_parts(entry) {
        fields.put(part, "cannot be read: damaged, or of another version of handoff");
    }
    if let EntryState::Published { at, position: Some(_), .. } = &entry.state {
        fields.put("published", &time_and_distance(*at, now));
    }
    let mut lines = fields.0;
    let rows: Vec<TableRow> = entry.history.iter().map(history_row).collect();
    let mut table = Table::new(HISTORY_COLUMNS);
    if let Some(head) = table.fit(rows.iter()) {
        lines.extend([String::new(), head]);
    }
    lines.extend(rows.iter().map(|row| table.line(row)));
    lines
}

/// Lines of a name and a text; empty texts are left out.
struct FieldLines(Vec<String>);

impl FieldLines {
    fn put(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            let name = styled(Style::new().bold(), &format!("{name:<12}"));
            self.0.push(format!("{name}{}", sanitize(text)));
        }
    }
}

fn put_snapshot(fields: &mut FieldLines, entry: &LedgerEntry) {
    let Some(snapshot) = snapshot_of(entry) else { return };
    fields.put("attempts", &text(&snapshot["attempts"]));
    fields.put("tried", &tried(&snapshot["tried"]));
    fields.put("last", &text(&snapshot["last_verdict"]["text"]));
    fields.put("desk reply", &desk(&snapshot["last_answer"]));
    if !snapshot["in_doubt"].is_null() {
        fields
            .put("in doubt", "a call may have taken effect: its state is queried before the next");
    }
}

fn put_answer(fields: &mut FieldLines, answer: &Message) {
    if answer.channel == Channel::DeadLetters {
        return fields.put("dead letter", answer.label());
    }
    let Some(outcome) = outcome_of(answer) else { return };
    let agent = match outcome["agent_id"].as_str() {
        Some(agent) => format!(" to {agent}"),
        None => String::new(),
    };
    fields.put("outcome", &format!("{}{agent}", text(&outcome["status"])));
    fields.put("reason", &text(&outcome["reason"]));
    fields.put("confirmed", &text(&outcome["confirmed_by"]));
    fields.put("attempts", &text(&outcome["attempts"]));
    fields.put("tried", &tried(&outcome["tried"]));
    fields.put("desk reply", &desk(&outcome["desk"]));
    fields.put("decided", &text(&outcome["decided_at"]));
}

fn history_row(item: &HistoryItem) -> TableRow {
    vec![
        Cell::new(format!("{:.3}", item.at)),
        Cell::new(item.kind.as_str()),
        Cell::new(&item.owner),
        Cell::new(&item.note),
    ]
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
        code => format!("{}: {code}", tried["target"]),
    };
    let targets = tried.as_array().map(|targets| targets.iter().map(one).collect::<Vec<_>>());
    targets.map(|targets| targets.join(", ")).unwrap_or_default()
}

fn desk(desk: &Value) -> String {
    match (&desk["code"], text(&desk["info"])) {
        (Value::Null, _) => String::new(),
        (code, info) if info.is_empty() => code.to_string(),
        (code, info) => format!("{code} {info}"),
    }
}
