//! Records, messages and stories as texts, for the columns of a database, and back.
//!
//! They are JSON, so that a person with a database tool can read them; bytes that are not UTF-8
//! are base64 in there.
//! This file never guesses: what it cannot read back is an error.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ledger_entry::{EntryState, HistoryItem, HistoryKind};
use crate::domain::record::{Header, Position, Record};
use crate::domain::wire::outcome::{Channel, Message};

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
struct StoredHistoryItem {
    at: Timestamp,
    what: String,
    by: Arc<str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

pub(super) fn time(us: i64) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

/// How far an event is, from the word for it and its columns.
pub(super) fn read_stage(
    word: &str,
    [parked_until_us, settled_at_us, published_at_us]: [Option<i64>; 3],
    published_to: Option<&str>,
) -> anyhow::Result<EntryState> {
    let at = |us: Option<i64>| time(us.context("a time is missing")?);
    Ok(match word {
        "open" => EntryState::Open,
        "parked" => EntryState::Parked { until: at(parked_until_us)? },
        "settled" => EntryState::Settled { at: at(settled_at_us)? },
        "published" => EntryState::Published {
            settled_at: at(settled_at_us)?,
            at: at(published_at_us)?,
            place: published_to.map(read_position).transpose()?,
        },
        other => bail!("unknown state {other:?}"),
    })
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

/// Bytes from their JSON; null is none.
pub(super) fn read_bytes(json: &str) -> anyhow::Result<Option<Vec<u8>>> {
    serde_json::from_str::<Option<Bytes>>(json)?.map(unpack).transpose()
}

fn pack_all(bytes: Option<&Vec<u8>>) -> Option<Bytes> {
    bytes.map(|bytes| pack(bytes))
}

fn pack_headers(headers: &[Header]) -> Vec<(String, Option<Bytes>)> {
    headers.iter().map(|(name, value)| (name.clone(), pack_all(value.as_ref()))).collect()
}

fn unpack_headers(headers: Vec<(String, Option<Bytes>)>) -> anyhow::Result<Vec<Header>> {
    let read =
        |(name, value): (String, Option<Bytes>)| anyhow::Ok((name, value.map(unpack).transpose()?));
    headers.into_iter().map(read).collect()
}

pub(super) fn record_text(record: &Record) -> Arc<str> {
    json(&StoredRecord {
        timestamp: record.timestamp,
        key: pack_all(record.key.as_ref()),
        value: pack_all(record.value.as_ref()),
        headers: pack_headers(&record.headers),
    })
}

pub(super) fn read_record(text: &str, position: Position) -> anyhow::Result<Record> {
    let stored: StoredRecord = serde_json::from_str(text)?;
    Ok(Record {
        position,
        timestamp: stored.timestamp,
        key: stored.key.map(unpack).transpose()?,
        value: stored.value.map(unpack).transpose()?,
        headers: unpack_headers(stored.headers)?,
    })
}

/// A channel as a word.
pub(super) fn channel_word(channel: Channel) -> &'static str {
    match channel {
        Channel::Outcomes => "outcomes",
        Channel::DeadLetters => "dead_letters",
    }
}

/// And back.
pub(super) fn read_channel(word: &str) -> anyhow::Result<Channel> {
    match word {
        "outcomes" => Ok(Channel::Outcomes),
        "dead_letters" => Ok(Channel::DeadLetters),
        other => bail!("unknown channel {other:?}"),
    }
}

/// Headers as a JSON text.
pub(super) fn headers_text(headers: &[Header]) -> Arc<str> {
    json(&pack_headers(headers))
}

/// And back.
pub(super) fn read_headers(text: &str) -> anyhow::Result<Vec<Header>> {
    unpack_headers(serde_json::from_str(text)?)
}

pub(super) fn message_text(message: &Message) -> Arc<str> {
    json(&StoredMessage {
        channel: channel_word(message.channel).into(),
        key: pack_all(message.key.as_ref()),
        value: pack_all(message.value.as_ref()),
        headers: pack_headers(&message.headers),
    })
}

pub(super) fn read_message(text: &str) -> anyhow::Result<Message> {
    let stored: StoredMessage = serde_json::from_str(text)?;
    Ok(Message {
        channel: read_channel(&stored.channel)?,
        key: stored.key.map(unpack).transpose()?,
        value: stored.value.map(unpack).transpose()?,
        headers: unpack_headers(stored.headers)?,
    })
}

pub(super) fn steps_text(history: &[HistoryItem]) -> Arc<str> {
    let stored = |step: &HistoryItem| {
        let (by, note) = (step.owner.clone(), step.note.clone());
        StoredHistoryItem { at: step.at, what: step.what.as_str().into(), by, note }
    };
    json(&history.iter().map(stored).collect::<Vec<_>>())
}

pub(super) fn read_steps(text: &str) -> anyhow::Result<Vec<HistoryItem>> {
    let stored: Vec<StoredHistoryItem> = serde_json::from_str(text)?;
    let read = |StoredHistoryItem { at, what, by, note }| {
        let known = HistoryKind::ALL.into_iter().find(|known| known.as_str() == what);
        let what = known.with_context(|| format!("unknown step {what:?}"))?;
        Ok(HistoryItem { at, what, owner: by, note })
    };
    stored.into_iter().map(read).collect()
}
