//! Values as they are stored in columns, and back.
//!
//! Structured values are JSON, so that a person with a database tool can read them; in them, bytes
//! that are not UTF-8 are base64. Parsing never guesses: a value of an unexpected form is an error.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ledger_entry::{EntryState, HistoryItem, HistoryKind, RecordOrigin, WaitsFor};
use crate::domain::record::{Header, Position, Record};
use crate::domain::wire::{Channel, Message};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum JsonBytes {
    Text(String),
    Other { base64: String },
}

type JsonHeaders = Vec<(String, Option<JsonBytes>)>;

#[derive(Serialize, Deserialize)]
struct JsonRecord {
    timestamp: Option<Timestamp>,
    key: Option<JsonBytes>,
    value: Option<JsonBytes>,
    headers: JsonHeaders,
}

#[derive(Serialize, Deserialize)]
struct JsonMessage {
    channel: String,
    key: Option<JsonBytes>,
    value: Option<JsonBytes>,
    headers: JsonHeaders,
}

#[derive(Serialize, Deserialize)]
struct JsonHistoryItem {
    at: Timestamp,
    what: String,
    owner: Arc<str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

/// Microseconds since 1970.
pub(super) fn parse_time(us: i64) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

/// The columns that depend on the state of an entry.
pub(super) struct StateColumns<'a> {
    pub(super) state: &'a str,
    pub(super) from_ledger: bool,
    pub(super) parked_until_us: Option<i64>,
    pub(super) waits_for: Option<&'a str>,
    pub(super) settled_at_us: Option<i64>,
    pub(super) published_at_us: Option<i64>,
    pub(super) published_to: Option<&'a str>,
}

impl StateColumns<'_> {
    pub(super) fn parse(&self) -> anyhow::Result<EntryState> {
        let at = |us: Option<i64>| parse_time(us.context("a time is missing")?);
        Ok(match self.state {
            "open" => EntryState::Open {
                origin: if self.from_ledger { RecordOrigin::Ledger } else { RecordOrigin::Kafka },
            },
            "parked" => EntryState::Parked {
                until: at(self.parked_until_us)?,
                waits_for: parse_waits_for(
                    self.waits_for.context("what it waits for is missing")?,
                )?,
            },
            "settled" => EntryState::Settled { at: at(self.settled_at_us)? },
            "published" => EntryState::Published {
                settled_at: at(self.settled_at_us)?,
                at: at(self.published_at_us)?,
                position: self.published_to.map(parse_position).transpose()?,
            },
            other => bail!("unknown state {other:?}"),
        })
    }
}

/// Whether the record of an open entry was read in the ledger.
pub(super) fn is_from_ledger(state: &EntryState) -> bool {
    matches!(state, EntryState::Open { origin: RecordOrigin::Ledger })
}

/// The way back from its `Display`.
pub(super) fn parse_waits_for(text: &str) -> anyhow::Result<WaitsFor> {
    Ok(match text {
        "time" => WaitsFor::Time,
        "session" => WaitsFor::Session,
        "redelivery" => WaitsFor::Redelivery,
        other => match other.strip_prefix("agent:") {
            Some(room) => WaitsFor::Agent(room.into()),
            None => bail!("it waits for something unknown: {other:?}"),
        },
    })
}

/// The way back from its `Display`.
pub(super) fn parse_position(text: &str) -> anyhow::Result<Position> {
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

fn to_json_bytes(bytes: Option<&Vec<u8>>) -> Option<JsonBytes> {
    bytes.map(|bytes| match std::str::from_utf8(bytes) {
        Ok(text) => JsonBytes::Text(text.to_owned()),
        Err(_) => JsonBytes::Other { base64: BASE64.encode(bytes) },
    })
}

fn from_json_bytes(bytes: Option<JsonBytes>) -> anyhow::Result<Option<Vec<u8>>> {
    Ok(match bytes {
        None => None,
        Some(JsonBytes::Text(text)) => Some(text.into_bytes()),
        Some(JsonBytes::Other { base64 }) => Some(BASE64.decode(base64)?),
    })
}

fn to_json_headers(headers: &[Header]) -> JsonHeaders {
    headers.iter().map(|(name, value)| (name.clone(), to_json_bytes(value.as_ref()))).collect()
}

fn from_json_headers(headers: JsonHeaders) -> anyhow::Result<Vec<Header>> {
    headers.into_iter().map(|(name, value)| Ok((name, from_json_bytes(value)?))).collect()
}

pub(super) fn format_record(record: &Record) -> Arc<str> {
    json(&JsonRecord {
        timestamp: record.timestamp,
        key: to_json_bytes(record.key.as_ref()),
        value: to_json_bytes(record.value.as_ref()),
        headers: to_json_headers(&record.headers),
    })
}

pub(super) fn parse_record(text: &str, position: Position) -> anyhow::Result<Record> {
    let stored: JsonRecord = serde_json::from_str(text)?;
    Ok(Record {
        position,
        timestamp: stored.timestamp,
        key: from_json_bytes(stored.key)?,
        value: from_json_bytes(stored.value)?,
        headers: from_json_headers(stored.headers)?,
    })
}

pub(super) fn format_channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Outcomes => "outcomes",
        Channel::DeadLetters => "dead_letters",
    }
}

pub(super) fn parse_channel(word: &str) -> anyhow::Result<Channel> {
    match word {
        "outcomes" => Ok(Channel::Outcomes),
        "dead_letters" => Ok(Channel::DeadLetters),
        other => bail!("unknown channel {other:?}"),
    }
}

pub(super) fn format_headers(headers: &[Header]) -> Arc<str> {
    json(&to_json_headers(headers))
}

pub(super) fn parse_headers(text: &str) -> anyhow::Result<Vec<Header>> {
    from_json_headers(serde_json::from_str(text)?)
}

pub(super) fn format_message(message: &Message) -> Arc<str> {
    json(&JsonMessage {
        channel: format_channel(message.channel).into(),
        key: to_json_bytes(message.key.as_ref()),
        value: to_json_bytes(message.value.as_ref()),
        headers: to_json_headers(&message.headers),
    })
}

pub(super) fn parse_message(text: &str) -> anyhow::Result<Message> {
    let stored: JsonMessage = serde_json::from_str(text)?;
    Ok(Message {
        channel: parse_channel(&stored.channel)?,
        key: from_json_bytes(stored.key)?,
        value: from_json_bytes(stored.value)?,
        headers: from_json_headers(stored.headers)?,
    })
}

pub(super) fn format_history(history: &[HistoryItem]) -> Arc<str> {
    let stored = |item: &HistoryItem| JsonHistoryItem {
        at: item.at,
        what: item.kind.as_str().into(),
        owner: item.owner.clone(),
        note: item.note.clone(),
    };
    json(&history.iter().map(stored).collect::<Vec<_>>())
}

pub(super) fn parse_history(text: &str) -> anyhow::Result<Vec<HistoryItem>> {
    let stored: Vec<JsonHistoryItem> = serde_json::from_str(text)?;
    let parse = |JsonHistoryItem { at, what, owner, note }| {
        let kind = HistoryKind::ALL.into_iter().find(|kind| kind.as_str() == what);
        let kind = kind.with_context(|| format!("unknown kind {what:?}"))?;
        Ok(HistoryItem { at, kind, owner, note })
    };
    stored.into_iter().map(parse).collect()
}
