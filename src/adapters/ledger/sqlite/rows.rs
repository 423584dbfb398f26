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
use crate::domain::memory::{Entry, Stage, Step, What, lengthen};
use crate::domain::outcome::Message;
use crate::domain::record::Position;

/// A row of `handoff_ledger`.
pub(super) fn found(row: &Row<'_>) -> anyhow::Result<Found> {
    let key: Arc<str> = row.get("key")?;
    let entry = entry(row).with_context(|| format!("the row of {key:?} cannot be read"));
    // A look-up asks for real partitions only; a row whose own cannot be read is none of theirs.
    let partition = row.get("partition").unwrap_or(-1);
    Ok(Found { key, partition, entry })
}

fn entry(row: &Row<'_>) -> anyhow::Result<Entry> {
    let source = Position {
        topic: row.get("topic")?,
        partition: row.get("partition")?,
        offset: row.get("offset")?,
    };
    let record = row.get::<_, Option<String>>("record")?;
    let record = record.map(|text| read_record(&text, source.clone())).transpose();
    let record = record.context("its record")?;
    let stage = stage(row)?;
    let answered = matches!(stage, Stage::Settled { .. } | Stage::Published { .. });
    Ok(Entry {
        session_id: row.get("session_id")?,
        source,
        record,
        first_seen: time(row.get("first_seen_us")?)?,
        deadline: row.get::<_, Option<i64>>("deadline_us")?.map(time).transpose()?,
        owner: row.get("owner")?,
        claimed_at: time(row.get("claimed_at_us")?)?,
        version: row.get("version")?,
        steps: steps(row, &stage)?,
        stage,
        memory: row.get("memory")?,
        answer: if answered { Some(answer(row).context("its answer")?.into()) } else { None },
    })
}

fn stage(row: &Row<'_>) -> anyhow::Result<Stage> {
    let times =
        [row.get("parked_until_us")?, row.get("settled_at_us")?, row.get("published_at_us")?];
    let place = row.get::<_, Option<String>>("published_to")?;
    read_stage(&row.get::<_, String>("stage")?, times, place.as_deref())
}

fn steps(row: &Row<'_>, stage: &Stage) -> anyhow::Result<Vec<Step>> {
    let mut steps = match row.get::<_, Option<String>>("steps")? {
        Some(steps) => read_steps(&steps).context("its steps")?,
        None => {
            let at = time(row.get("claimed_at_us")?)?;
            vec![Step { at, what: What::Claimed, owner: row.get("owner")?, note: String::new() }]
        }
    };
    if let Stage::Settled { at } | Stage::Published { settled_at: at, .. } = stage {
        let (owner, note) = (row.get("settled_by")?, row.get("title")?);
        lengthen(&mut steps, Step { at: *at, what: What::Settled, owner, note });
    }
    if let Stage::Published { at, place, .. } = stage {
        let note = place.as_ref().map(ToString::to_string).unwrap_or_default();
        let owner = row.get("published_by")?;
        lengthen(&mut steps, Step { at: *at, what: What::Published, owner, note });
    }
    Ok(steps)
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
