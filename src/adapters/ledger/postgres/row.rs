//! Rows of `handoff_events` as entries, and back.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::columns::{
    StateColumns, format_history, format_message, format_record, is_from_ledger, parse_history,
    parse_message, parse_record, parse_time,
};
use super::super::database::StoredRow;
use crate::domain::ledger_entry::{EntryState, LedgerEntry};
use crate::domain::record::Position;

/// The columns of a row; `record` and `answer` are `None` also where they were not selected.
#[derive(Debug, Default)]
pub(super) struct EventRow {
    pub(super) key: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) recorded_us: Option<i64>,
    pub(super) state: Cow<'static, str>,
    pub(super) owner: Arc<str>,
    pub(super) version: i64,
    pub(super) first_seen_us: i64,
    pub(super) deadline_us: Option<i64>,
    pub(super) claimed_at_us: i64,
    pub(super) from_ledger: bool,
    pub(super) parked_until_us: Option<i64>,
    pub(super) waits_for: Option<Arc<str>>,
    pub(super) settled_at_us: Option<i64>,
    pub(super) published_at_us: Option<i64>,
    pub(super) published_to: Option<Arc<str>>,
    pub(super) record: Option<Arc<str>>,
    pub(super) snapshot: Option<Arc<str>>,
    pub(super) answer: Option<Arc<str>>,
    pub(super) history: Arc<str>,
}

impl EventRow {
    pub(super) fn from_entry(key: &Arc<str>, entry: &LedgerEntry) -> Self {
        let row = Self {
            key: key.clone(),
            session_id: entry.session_id.clone(),
            topic: entry.source.topic.clone(),
            partition: entry.source.partition,
            offset: entry.source.offset,
            recorded_us: entry.recorded_at.map(Timestamp::as_microsecond),
            state: entry.state.as_str().into(),
            owner: entry.owner.clone(),
            version: entry.version,
            first_seen_us: entry.first_seen.as_microsecond(),
            deadline_us: entry.deadline.map(Timestamp::as_microsecond),
            claimed_at_us: entry.claimed_at.as_microsecond(),
            from_ledger: is_from_ledger(&entry.state),
            record: entry.record.as_ref().map(format_record),
            snapshot: entry.snapshot.as_deref().map(Arc::from),
            answer: entry.answer.as_deref().map(format_message),
            history: format_history(&entry.history),
            ..Self::default()
        };
        row.with_times_of(&entry.state)
    }

    fn with_times_of(self, state: &EntryState) -> Self {
        let us = |at: &Timestamp| Some(at.as_microsecond());
        match state {
            EntryState::Open { .. } => self,
            EntryState::Parked { until, waits_for } => Self {
                parked_until_us: us(until),
                waits_for: Some(waits_for.to_string().into()),
                ..self
            },
            EntryState::Settled { at } => Self { settled_at_us: us(at), ..self },
            EntryState::Published { settled_at, at, position } => Self {
                settled_at_us: us(settled_at),
                published_at_us: us(at),
                published_to: position.as_ref().map(|position| position.to_string().into()),
                ..self
            },
        }
    }

    pub(super) fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            key: text(row, "key")?,
            session_id: optional_text(row, "session_id")?,
            topic: text(row, "topic")?,
            partition: row.try_get("partition")?,
            offset: row.try_get("offset")?,
            recorded_us: row.try_get("recorded_us")?,
            state: row.try_get::<String, _>("state")?.into(),
            owner: text(row, "owner")?,
            version: row.try_get("version")?,
            first_seen_us: row.try_get("first_seen_us")?,
            deadline_us: row.try_get("deadline_us")?,
            claimed_at_us: row.try_get("claimed_at_us")?,
            from_ledger: row.try_get("from_ledger")?,
            parked_until_us: row.try_get("parked_until_us")?,
            waits_for: optional_text(row, "waits_for")?,
            settled_at_us: row.try_get("settled_at_us")?,
            published_at_us: row.try_get("published_at_us")?,
            published_to: optional_text(row, "published_to")?,
            record: optional_text(row, "record")?,
            snapshot: optional_text(row, "snapshot")?,
            answer: optional_text(row, "answer")?,
            history: text(row, "history")?,
        })
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state == "settled" || self.state == "published"
    }

    pub(super) fn into_stored_row(self) -> StoredRow {
        let (key, partition) = (self.key.clone(), self.partition);
        let entry = self.into_entry().with_context(|| format!("the row of {key:?} cannot be read"));
        StoredRow { key, partition, entry }
    }

    fn into_entry(self) -> anyhow::Result<LedgerEntry> {
        let state = StateColumns {
            state: &self.state,
            from_ledger: self.from_ledger,
            parked_until_us: self.parked_until_us,
            waits_for: self.waits_for.as_deref(),
            settled_at_us: self.settled_at_us,
            published_at_us: self.published_at_us,
            published_to: self.published_to.as_deref(),
        };
        let state = state.parse()?;
        let source = Position { topic: self.topic, partition: self.partition, offset: self.offset };
        let record = self.record.map(|text| parse_record(&text, source.clone())).transpose();
        let record = record.context("its record")?;
        let answer = self.answer.map(|text| parse_message(&text).map(Arc::new)).transpose();
        Ok(LedgerEntry {
            session_id: self.session_id,
            source,
            recorded_at: self.recorded_us.map(parse_time).transpose()?,
            record,
            first_seen: parse_time(self.first_seen_us)?,
            deadline: self.deadline_us.map(parse_time).transpose()?,
            owner: self.owner,
            claimed_at: parse_time(self.claimed_at_us)?,
            version: self.version,
            state,
            snapshot: self.snapshot.as_deref().map(str::to_owned),
            answer: answer.context("its answer")?,
            history: parse_history(&self.history).context("its history")?,
        })
    }
}

pub(super) fn text(row: &PgRow, column: &'static str) -> sqlx::Result<Arc<str>> {
    Ok(row.try_get::<&str, _>(column)?.into())
}

pub(super) fn optional_text(row: &PgRow, column: &'static str) -> sqlx::Result<Option<Arc<str>>> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(Into::into))
}
