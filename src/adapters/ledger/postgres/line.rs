//! An entry as the columns of its row, and back. Times are microseconds.
//!
//! This file never guesses: what it cannot read back is an error that names the row.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::texts::{
    message_text, read_message, read_record, read_stage, read_steps, record_text, steps_text, time,
};
use super::super::writer::Found;
use crate::domain::ledger_entry::{EntryState, LedgerEntry};
use crate::domain::record::Position;

/// The columns; `record` and `answer` are `None` where they were not asked for.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) key: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) state: Cow<'static, str>,
    pub(super) owner: Arc<str>,
    pub(super) version: i64,
    pub(super) first_seen_us: i64,
    pub(super) deadline_us: Option<i64>,
    pub(super) claimed_at_us: i64,
    pub(super) parked_until_us: Option<i64>,
    pub(super) settled_at_us: Option<i64>,
    pub(super) published_at_us: Option<i64>,
    pub(super) published_to: Option<Arc<str>>,
    pub(super) record: Option<Arc<str>>,
    pub(super) memory: Option<Arc<str>>,
    pub(super) answer: Option<Arc<str>>,
    pub(super) history: Arc<str>,
}

impl Line {
    /// The columns of an entry.
    pub(super) fn new(key: &Arc<str>, entry: &LedgerEntry) -> Self {
        let line = Self {
            key: key.clone(),
            session_id: entry.session_id.clone(),
            topic: entry.source.topic.clone(),
            partition: entry.source.partition,
            offset: entry.source.offset,
            owner: entry.owner.clone(),
            version: entry.version,
            first_seen_us: entry.first_seen.as_microsecond(),
            deadline_us: entry.deadline.map(Timestamp::as_microsecond),
            claimed_at_us: entry.claimed_at.as_microsecond(),
            record: entry.record.as_ref().map(record_text),
            memory: entry.memory.as_deref().map(Arc::from),
            answer: entry.answer.as_deref().map(message_text),
            history: steps_text(&entry.history),
            ..Self::default()
        };
        line.at(&entry.state)
    }

    fn at(self, state: &EntryState) -> Self {
        let us = |at: &Timestamp| Some(at.as_microsecond());
        match state {
            EntryState::Open => Self { state: "open".into(), ..self },
            EntryState::Parked { until } => {
                Self { state: "parked".into(), parked_until_us: us(until), ..self }
            }
            EntryState::Settled { at } => {
                Self { state: "settled".into(), settled_at_us: us(at), ..self }
            }
            EntryState::Published { settled_at, at, place } => Self {
                state: "published".into(),
                settled_at_us: us(settled_at),
                published_at_us: us(at),
                published_to: place.as_ref().map(|place| place.to_string().into()),
                ..self
            },
        }
    }

    /// It has its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.state == "settled" || self.state == "published"
    }

    /// The row, if it can be read.
    pub(super) fn entry(self) -> Found {
        let (key, partition) = (self.key.clone(), self.partition);
        let entry = self.read().with_context(|| format!("the row of {key:?} cannot be read"));
        Found { key, partition, entry }
    }

    fn read(self) -> anyhow::Result<LedgerEntry> {
        let times = [self.parked_until_us, self.settled_at_us, self.published_at_us];
        let state = read_stage(&self.state, times, self.published_to.as_deref())?;
        let source = self.source();
        let record = self.record.map(|text| read_record(&text, source.clone())).transpose();
        let record = record.context("its record")?;
        Ok(LedgerEntry {
            session_id: self.session_id,
            source,
            record,
            first_seen: time(self.first_seen_us)?,
            deadline: self.deadline_us.map(time).transpose()?,
            owner: self.owner,
            claimed_at: time(self.claimed_at_us)?,
            version: self.version,
            state,
            memory: self.memory.as_deref().map(str::to_owned),
            answer: self
                .answer
                .map(|text| read_message(&text).map(Arc::new))
                .transpose()
                .context("its answer")?,
            history: read_steps(&self.history).context("its history")?,
        })
    }

    fn source(&self) -> Position {
        let topic = self.topic.clone();
        Position { topic, partition: self.partition, offset: self.offset }
    }
}

/// A text of a row.
pub(super) fn text(row: &PgRow, column: &'static str) -> sqlx::Result<Arc<str>> {
    Ok(row.try_get::<&str, _>(column)?.into())
}

/// A text of a row that may be missing.
pub(super) fn perhaps(row: &PgRow, column: &'static str) -> sqlx::Result<Option<Arc<str>>> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(Into::into))
}

/// The row of these columns.
pub(super) fn line(row: &PgRow) -> sqlx::Result<Line> {
    Ok(Line {
        key: text(row, "key")?,
        session_id: perhaps(row, "session_id")?,
        topic: text(row, "topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
        state: row.try_get::<String, _>("state")?.into(),
        owner: text(row, "owner")?,
        version: row.try_get("version")?,
        first_seen_us: row.try_get("first_seen_us")?,
        deadline_us: row.try_get("deadline_us")?,
        claimed_at_us: row.try_get("claimed_at_us")?,
        parked_until_us: row.try_get("parked_until_us")?,
        settled_at_us: row.try_get("settled_at_us")?,
        published_at_us: row.try_get("published_at_us")?,
        published_to: perhaps(row, "published_to")?,
        record: perhaps(row, "record")?,
        memory: perhaps(row, "memory")?,
        answer: perhaps(row, "answer")?,
        history: text(row, "history")?,
    })
}
