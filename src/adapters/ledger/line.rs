//! An entry as the columns of its row, and back.
//!
//! Records, answers and steps are JSON texts, so that a person with a database tool can read
//! them; bytes that are not UTF-8 are base64 in there. Times are microseconds.
//! This file never guesses: what it cannot read back is an error that names the row.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::domain::memory::{Entry, Stage, Step, What};
use crate::domain::outcome::{Channel, Message};
use crate::domain::record::{Position, Record};

/// The columns; `record` and `answer` are `None` where they were not asked for.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) key: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) stage: Cow<'static, str>,
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
    pub(super) steps: Arc<str>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Other { base64: String },
}

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    timestamp: Option<Timestamp>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Serialize, Deserialize)]
struct StoredMessage {
    channel: String,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Serialize, Deserialize)]
struct StoredStep {
    at: Timestamp,
    what: String,
    by: Arc<str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

impl Line {
    /// The columns of an entry.
    pub(super) fn new(key: &Arc<str>, entry: &Entry) -> Self {
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
            answer: entry.answer.as_ref().map(message_text),
            steps: steps_text(&entry.steps),
            ..Self::default()
        };
        line.at(&entry.stage)
    }

    fn at(self, stage: &Stage) -> Self {
        let us = |at: &Timestamp| Some(at.as_microsecond());
        match stage {
            Stage::Open => Self { stage: "open".into(), ..self },
            Stage::Parked { until } => {
                Self { stage: "parked".into(), parked_until_us: us(until), ..self }
            }
            Stage::Settled { at } => {
                Self { stage: "settled".into(), settled_at_us: us(at), ..self }
            }
            Stage::Published { settled_at, at, place } => Self {
                stage: "published".into(),
                settled_at_us: us(settled_at),
                published_at_us: us(at),
                published_to: place.as_ref().map(|place| place.to_string().into()),
                ..self
            },
        }
    }

    /// It has its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.stage == "settled" || self.stage == "published"
    }

    /// The entry and its key.
    pub(super) fn entry(self) -> anyhow::Result<(Arc<str>, Entry)> {
        let key = self.key.clone();
        let entry = self.read().with_context(|| format!("the row of {key:?} cannot be read"))?;
        Ok((key, entry))
    }

    fn read(self) -> anyhow::Result<Entry> {
        let stage = self.read_stage()?;
        let source = self.source();
        let record = self.record.map(|text| read_record(&text, source.clone())).transpose()?;
        Ok(Entry {
            session_id: self.session_id,
            source,
            record,
            first_seen: time(self.first_seen_us)?,
            deadline: self.deadline_us.map(time).transpose()?,
            owner: self.owner,
            claimed_at: time(self.claimed_at_us)?,
            version: self.version,
            stage,
            memory: self.memory.as_deref().map(str::to_owned),
            answer: self.answer.map(|text| read_message(&text)).transpose()?,
            steps: read_steps(&self.steps)?,
        })
    }

    fn source(&self) -> Position {
        let topic = self.topic.clone();
        Position { topic, partition: self.partition, offset: self.offset }
    }

    fn read_stage(&self) -> anyhow::Result<Stage> {
        let at = |us: Option<i64>| time(us.context("a time is missing")?);
        Ok(match &*self.stage {
            "open" => Stage::Open,
            "parked" => Stage::Parked { until: at(self.parked_until_us)? },
            "settled" => Stage::Settled { at: at(self.settled_at_us)? },
            "published" => Stage::Published {
                settled_at: at(self.settled_at_us)?,
                at: at(self.published_at_us)?,
                place: self.published_to.as_deref().map(read_position).transpose()?,
            },
            other => bail!("unknown stage {other:?}"),
        })
    }
}

/// A text of a row.
pub(super) fn text<'r, R: Row>(row: &'r R, column: &'static str) -> sqlx::Result<Arc<str>>
where
    &'static str: ColumnIndex<R>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(row.try_get::<&str, _>(column)?.into())
}

/// A text of a row that may be missing.
pub(super) fn perhaps<'r, R: Row>(
    row: &'r R,
    column: &'static str,
) -> sqlx::Result<Option<Arc<str>>>
where
    &'static str: ColumnIndex<R>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(row.try_get::<Option<&str>, _>(column)?.map(Into::into))
}

fn time(us: i64) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

fn read_position(text: &str) -> anyhow::Result<Position> {
    let mut parts = text.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
    let missing = || anyhow!("{text:?} is not topic/partition/offset");
    Ok(Position {
        topic: topic.ok_or_else(missing)?.into(),
        partition: partition.ok_or_else(missing)?.parse()?,
        offset: offset.ok_or_else(missing)?.parse()?,
    })
}

fn json(value: &impl Serialize) -> Arc<str> {
    serde_json::to_string(value).expect("texts are always JSON").into()
}

fn pack(bytes: &[u8]) -> Bytes {
    match std::str::from_utf8(bytes) {
        Ok(text) => Bytes::Text(text.to_owned()),
        Err(_) => Bytes::Other { base64: BASE64.encode(bytes) },
    }
}

fn unpack(bytes: Bytes) -> anyhow::Result<Vec<u8>> {
    Ok(match bytes {
        Bytes::Text(text) => text.into_bytes(),
        Bytes::Other { base64 } => BASE64.decode(base64)?,
    })
}

fn pack_all(bytes: Option<&Vec<u8>>) -> Option<Bytes> {
    bytes.map(|bytes| pack(bytes))
}

fn pack_headers(headers: &[(String, Option<Vec<u8>>)]) -> Vec<(String, Option<Bytes>)> {
    headers.iter().map(|(name, value)| (name.clone(), pack_all(value.as_ref()))).collect()
}

fn unpack_headers(
    headers: Vec<(String, Option<Bytes>)>,
) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    let read =
        |(name, value): (String, Option<Bytes>)| anyhow::Ok((name, value.map(unpack).transpose()?));
    headers.into_iter().map(read).collect()
}

fn record_text(record: &Record) -> Arc<str> {
    json(&StoredRecord {
        timestamp: record.timestamp,
        key: pack_all(record.key.as_ref()),
        value: pack_all(record.value.as_ref()),
        headers: pack_headers(&record.headers),
    })
}

fn read_record(text: &str, position: Position) -> anyhow::Result<Record> {
    let stored: StoredRecord = serde_json::from_str(text)?;
    Ok(Record {
        position,
        timestamp: stored.timestamp,
        key: stored.key.map(unpack).transpose()?,
        value: stored.value.map(unpack).transpose()?,
        headers: unpack_headers(stored.headers)?,
    })
}

fn message_text(message: &Message) -> Arc<str> {
    let channel = match message.channel {
        Channel::Outcomes => "outcomes",
        Channel::DeadLetters => "dead_letters",
    };
    json(&StoredMessage {
        channel: channel.into(),
        key: pack_all(message.key.as_ref()),
        value: pack_all(message.value.as_ref()),
        headers: pack_headers(&message.headers),
    })
}

fn read_message(text: &str) -> anyhow::Result<Message> {
    let stored: StoredMessage = serde_json::from_str(text)?;
    let channel = match stored.channel.as_str() {
        "outcomes" => Channel::Outcomes,
        "dead_letters" => Channel::DeadLetters,
        other => bail!("unknown channel {other:?}"),
    };
    Ok(Message {
        channel,
        key: stored.key.map(unpack).transpose()?,
        value: stored.value.map(unpack).transpose()?,
        headers: unpack_headers(stored.headers)?,
    })
}

fn steps_text(steps: &[Step]) -> Arc<str> {
    let stored = |step: &Step| {
        let (by, note) = (step.owner.clone(), step.note.clone());
        StoredStep { at: step.at, what: step.what.as_str().into(), by, note }
    };
    json(&steps.iter().map(stored).collect::<Vec<_>>())
}

fn read_steps(text: &str) -> anyhow::Result<Vec<Step>> {
    let stored: Vec<StoredStep> = serde_json::from_str(text)?;
    let read = |StoredStep { at, what, by, note }| {
        let known = What::ALL.into_iter().find(|known| known.as_str() == what);
        let what = known.with_context(|| format!("unknown step {what:?}"))?;
        Ok(Step { at, what, owner: by, note })
    };
    stored.into_iter().map(read).collect()
}
