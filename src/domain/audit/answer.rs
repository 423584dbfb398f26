//! What is in the outcome and dead-letter topics, as far as the audit needs it.
//!
//! An outcome may have been written by another version or by somebody else; what is missing is
//! treated as unknown. Texts become hashes as soon as possible.
//! This file never panics on any bytes.

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::domain::record::{Position, Record};
use crate::domain::wire::outcome::Status;

/// An outcome.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The escalation it answers.
    pub event_id: String,
    /// The session it names.
    pub session_id: String,
    /// What became of it, where it is one of the known ones.
    pub status: Option<Status>,
    /// Who got it; empty where nobody is named.
    pub agent_id: String,
    /// No other outcome follows.
    pub is_final: bool,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// The record it answers.
    pub source: Option<Position>,
    /// Where it stands itself.
    pub place: Position,
    /// What it says: status and agent.
    pub(super) meaning: u32,
    /// All its bytes.
    pub(super) bytes: u32,
}

#[derive(Deserialize)]
struct Draft {
    event_id: String,
    session_id: String,
    status: String,
    #[serde(rename = "final", default = "yes")]
    is_final: bool,
    agent_id: Option<String>,
    decided_at: Option<String>,
    source: Option<Source>,
}

#[derive(Deserialize)]
struct Source {
    topic: String,
    partition: i32,
    offset: i64,
}

fn yes() -> bool {
    true
}

impl Answer {
    /// Read a record of the outcome topic; the error is a fragment for people.
    pub fn read(record: &Record) -> Result<Self, String> {
        let Some(value) = record.value.as_deref() else { return Err("the value is null".into()) };
        let draft: Draft = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let agent = draft.agent_id.unwrap_or_default();
        let source = draft.source.map(|source| Position {
            topic: source.topic.into(),
            partition: source.partition,
            offset: source.offset,
        });
        Ok(Self {
            meaning: short(&[draft.status.as_bytes(), agent.as_bytes()]),
            bytes: bytes(record),
            status: Status::ALL.into_iter().find(|status| status.as_str() == draft.status),
            agent_id: agent,
            event_id: draft.event_id,
            session_id: draft.session_id,
            is_final: draft.is_final,
            decided_at: draft.decided_at.and_then(|text| text.parse().ok()),
            source,
            place: record.position.clone(),
        })
    }
}

/// Where the record of a dead letter stood; `None`: it does not say so.
pub fn letter_source(letter: &Record) -> Option<Position> {
    let text = |name: &str| std::str::from_utf8(letter.header(name)?).ok();
    Some(Position {
        topic: text("handoff-source-topic")?.into(),
        partition: text("handoff-source-partition")?.parse().ok()?,
        offset: text("handoff-source-offset")?.parse().ok()?,
    })
}

/// An identity in 16 bytes: two that differ never meet, whoever chose them.
pub(super) fn key(id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    u128::from_be_bytes(*digest.first_chunk().expect("it is longer"))
}

/// Parts in four bytes, to compare two records of the same identity.
pub(super) fn short(parts: &[&[u8]]) -> u32 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    u32::from_be_bytes(*digest.first_chunk().expect("it is longer"))
}

fn bytes(record: &Record) -> u32 {
    fn bytes(part: Option<&Vec<u8>>) -> &[u8] {
        part.map_or(&[], Vec::as_slice)
    }
    let mut parts = vec![bytes(record.key.as_ref()), bytes(record.value.as_ref())];
    for (name, value) in &record.headers {
        parts.extend([name.as_bytes(), bytes(value.as_ref())]);
    }
    short(&parts)
}
