//! From the columns of the view to an entry. Times are microseconds.
//!
//! The story of an event stands in three places: what came before its answer, the answer, the
//! acknowledgement; an event that was claimed once has no story but its row.
//! This file never guesses: what it cannot read back is an error that names the row.

use std::sync::Arc;

use anyhow::Context as _;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::texts::{read_channel, read_headers, read_record, read_stage, read_steps, time};
use super::super::writer::Found;
use crate::domain::ledger_entry::{
    EntryState, HistoryItem, HistoryKind, LedgerEntry, append_history,
};
use crate::domain::record::Position;
use crate::domain::wire::outcome::Message;

/// A row of `handoff_ledger`.
pub(super) fn found(row: &Row<'_>) -> anyhow::Result<Found> {
    let key: Arc<str> = row.get("key")?;
    let entry = entry(row).with_context(|| format!("the row of {key:?} cannot be read"));
    // A look-up asks for real partitions only; a row whose own cannot be read is none of theirs.
    let partition = row.get("partition").unwrap_or(-1);
    Ok(Found { key, partition, entry })
}

fn entry(row: &Row<'_>) -> anyhow::Result<LedgerEntry> {
    let source = Position {
        topic: row.get("topic")?,
        partition: row.get("partition")?,
        offset: row.get("offset")?,
    };
    let record = row.get::<_, Option<String>>("record")?;
    let record = record.map(|text| read_record(&text, source.clone())).transpose();
    let record = record.context("its record")?;
    let state = state(row)?;
    let answered = matches!(state, EntryState::Settled { .. } | EntryState::Published { .. });
    Ok(LedgerEntry {
        session_id: row.get("session_id")?,
        source,
        record,
        first_seen: time(row.get("first_seen_us")?)?,
        deadline: row.get::<_, Option<i64>>("deadline_us")?.map(time).transpose()?,
        owner: row.get("owner")?,
        claimed_at: time(row.get("claimed_at_us")?)?,
        version: row.get("version")?,
        history: history(row, &state)?,
        state,
        memory: row.get("memory")?,
        answer: if answered { Some(answer(row).context("its answer")?.into()) } else { None },
    })
}

fn state(row: &Row<'_>) -> anyhow::Result<EntryState> {
    let times =
        [row.get("parked_until_us")?, row.get("settled_at_us")?, row.get("published_at_us")?];
    let place = row.get::<_, Option<String>>("published_to")?;
    read_stage(&row.get::<_, String>("state")?, times, place.as_deref())
}

fn history(row: &Row<'_>, state: &EntryState) -> anyhow::Result<Vec<HistoryItem>> {
    let mut history = match row.get::<_, Option<String>>("history")? {
        Some(history) => read_steps(&history).context("its history")?,
        None => {
            let at = time(row.get("claimed_at_us")?)?;
            vec![HistoryItem {
                at,
                what: HistoryKind::Claimed,
                owner: row.get("owner")?,
                note: String::new(),
            }]
        }
    };
    if let EntryState::Settled { at } | EntryState::Published { settled_at: at, .. } = state {
        let (owner, note) = (row.get("settled_by")?, row.get("title")?);
        append_history(
            &mut history,
            HistoryItem { at: *at, what: HistoryKind::Settled, owner, note },
        );
    }
    if let EntryState::Published { at, place, .. } = state {
        let note = place.as_ref().map(ToString::to_string).unwrap_or_default();
        let owner = row.get("published_by")?;
        append_history(
            &mut history,
            HistoryItem { at: *at, what: HistoryKind::Published, owner, note },
        );
    }
    Ok(history)
}

fn answer(row: &Row<'_>) -> anyhow::Result<Message> {
    Ok(Message {
        channel: read_channel(&row.get::<_, String>("channel")?)?,
        key: bytes(row.get_ref("answer_key")?)?,
        value: bytes(row.get_ref("answer_value")?)?,
        headers: read_headers(&row.get::<_, String>("answer_headers")?)?,
    })
}

fn bytes(value: ValueRef<'_>) -> anyhow::Result<Option<Vec<u8>>> {
    Ok(value.as_bytes_or_null()?.map(<[u8]>::to_vec))
}
