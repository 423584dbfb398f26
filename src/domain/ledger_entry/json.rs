//! An entry for programs.
//!
//! The record itself is not shown: it holds what the customer wrote. The course's snapshot is JSON
//! of this or another version of `handoff`, so it is taken as it is, and one that is not JSON is
//! named as unreadable.

use serde_json::{Value, json};

use super::{EntryState, LedgerEntry};
use crate::domain::wire::{Channel, Message};

/// The entry for programs.
pub fn entry_json(key: &str, entry: &LedgerEntry) -> Value {
    let history = entry.history.iter().map(|item| {
        json!({
            "at": item.at, "what": item.kind.as_str(), "owner": item.owner, "note": item.note,
        })
    });
    let (parked_until, settled_at, published_at, published_to) = match &entry.state {
        EntryState::Open { .. } => (None, None, None, None),
        EntryState::Parked { until, .. } => (Some(*until), None, None, None),
        EntryState::Settled { at } => (None, Some(*at), None, None),
        EntryState::Published { settled_at, at, position } => {
            (None, Some(*settled_at), Some(*at), position.as_ref())
        }
    };
    let waits_for = match &entry.state {
        EntryState::Parked { waits_for, .. } => Some(waits_for.to_string()),
        _ => None,
    };
    json!({
        "key": key,
        "state": entry.state.as_str(),
        "session_id": entry.session_id,
        "source": entry.source,
        "owner": entry.owner,
        "first_seen": entry.first_seen,
        "deadline": entry.deadline,
        "claimed_at": entry.claimed_at,
        "parked_until": parked_until,
        "waits_for": waits_for,
        "settled_at": settled_at,
        "published_at": published_at,
        "published_to": published_to,
        "course": snapshot_of(entry),
        "outcome": entry.answer.as_deref().and_then(outcome_of),
        "dead_letter": entry.answer.as_deref().filter(|a| a.channel == Channel::DeadLetters)
            .map(Message::label),
        "unreadable": unreadable_parts(entry),
        "history": history.collect::<Vec<_>>(),
    })
}

/// The course as it was stored last, where it can be read.
pub fn snapshot_of(entry: &LedgerEntry) -> Option<Value> {
    serde_json::from_str(entry.snapshot.as_deref()?).ok()
}

/// The outcome in an answer, where it is one that can be read.
pub fn outcome_of(answer: &Message) -> Option<Value> {
    let value = answer.value.as_deref().filter(|_| answer.channel == Channel::Outcomes)?;
    serde_json::from_slice(value).ok()
}

/// The parts that are stored and cannot be read.
pub fn unreadable_parts(entry: &LedgerEntry) -> Vec<&'static str> {
    let course = entry.snapshot.is_some() && snapshot_of(entry).is_none();
    let is_lost =
        |answer: &Message| answer.channel == Channel::Outcomes && outcome_of(answer).is_none();
    let outcome = entry.answer.as_deref().is_some_and(is_lost);
    let parts = [("course", course), ("outcome", outcome)];
    parts.into_iter().filter_map(|(part, is_lost)| is_lost.then_some(part)).collect()
}
