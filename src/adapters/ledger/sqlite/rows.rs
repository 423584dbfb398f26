//! Rows of the view `handoff_ledger` as entries.
//!
//! The history of an event is stored in three tables: up to the answer, the answer, and the
//! acknowledgement. An event that was claimed once has no stored history, only its row.

use std::sync::Arc;

use anyhow::Context as _;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::columns::{
    StateColumns, parse_channel, parse_headers, parse_history, parse_record, parse_time,
};
use super::super::database::StoredRow;
use crate::domain::ledger_entry::{
    EntryState, HistoryItem, HistoryKind, LedgerEntry, append_history,
};
use crate::domain::record::Position;
use crate::domain::wire::Message;

pub(super) fn stored_row(row: &Row<'_>) -> anyhow::Result<StoredRow> {
    let key: Arc<str> = row.get("key")?;
    let entry = entry(row).with_context(|| format!("the row of {key:?} cannot be read"));
    // Recovery asks for real partitions only, so a row with an unreadable one matches none.
    let partition = row.get("partition").unwrap_or(-1);
    Ok(StoredRow { key, partition, entry })
}

fn entry(row: &Row<'_>) -> anyhow::Result<LedgerEntry> {
    let source = Position {
        topic: row.get("topic")?,
        partition: row.get("partition")?,
        offset: row.get("offset")?,
    };
    let record = row.get::<_, Option<String>>("record")?;
    let record = record.map(|text| parse_record(&text, source.clone())).transpose();
    let record = record.context("its record")?;
    let state = state(row)?;
    let is_settled = matches!(state, EntryState::Settled { .. } | EntryState::Published { .. });
    Ok(LedgerEntry {
        session_id: row.get("session_id")?,
        source,
        recorded_at: row.get::<_, Option<i64>>("recorded_us")?.map(parse_time).transpose()?,
        record,
        first_seen: parse_time(row.get("first_seen_us")?)?,
        deadline: row.get::<_, Option<i64>>("deadline_us")?.map(parse_time).transpose()?,
        owner: row.get("owner")?,
        claimed_at: parse_time(row.get("claimed_at_us")?)?,
        version: row.get("version")?,
        history: history(row, &state)?,
        state,
        snapshot: row.get("snapshot")?,
        answer: if is_settled { Some(answer(row).context("its answer")?.into()) } else { None },
    })
}

fn state(row: &Row<'_>) -> anyhow::Result<EntryState> {
    let state: String = row.get("state")?;
    let (waits_for, published_to): (Option<String>, Option<String>) =
        (row.get("waits_for")?, row.get("published_to")?);
    let columns = StateColumns {
        state: &state,
        parked_until_us: row.get("parked_until_us")?,
        from_ledger: row.get("from_ledger")?,
        waits_for: waits_for.as_deref(),
        settled_at_us: row.get("settled_at_us")?,
        published_at_us: row.get("published_at_us")?,
        published_to: published_to.as_deref(),
    };
    columns.parse()
}

fn history(row: &Row<'_>, state: &EntryState) -> anyhow::Result<Vec<HistoryItem>> {
    let mut history = match row.get::<_, Option<String>>("history")? {
        Some(history) => parse_history(&history).context("its history")?,
        None => vec![HistoryItem {
            at: parse_time(row.get("claimed_at_us")?)?,
            kind: HistoryKind::Claimed,
            owner: row.get("owner")?,
            note: String::new(),
        }],
    };
    if let EntryState::Settled { at } | EntryState::Published { settled_at: at, .. } = state {
        let (at, kind) = (*at, HistoryKind::Settled);
        let (owner, note) = (row.get("settled_by")?, row.get("label")?);
        append_history(&mut history, HistoryItem { at, kind, owner, note });
    }
    if let EntryState::Published { at, position, .. } = state {
        let (at, kind) = (*at, HistoryKind::Published);
        let note = position.as_ref().map(ToString::to_string).unwrap_or_default();
        let owner = row.get("published_by")?;
        append_history(&mut history, HistoryItem { at, kind, owner, note });
    }
    Ok(history)
}

fn answer(row: &Row<'_>) -> anyhow::Result<Message> {
    Ok(Message {
        channel: parse_channel(&row.get::<_, String>("channel")?)?,
        key: bytes(row.get_ref("answer_key")?)?,
        value: bytes(row.get_ref("answer_value")?)?,
        headers: parse_headers(&row.get::<_, String>("answer_headers")?)?,
    })
}

fn bytes(value: ValueRef<'_>) -> anyhow::Result<Option<Vec<u8>>> {
    Ok(value.as_bytes_or_null()?.map(<[u8]>::to_vec))
}
