//! An outcome as the audit compares it: identities and hashes instead of texts and bytes.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::domain::record::{Position, Record};
use crate::domain::wire::outcome::{OutcomeRecord, Status};

/// An outcome with what the audit compares.
#[derive(Debug, Clone)]
pub(crate) struct AuditedOutcome {
    /// The identity of the escalation.
    pub event_id: String,
    /// The session.
    pub session_id: String,
    /// The status, where this version knows it.
    pub status: Option<Status>,
    /// The agent; empty where none is named.
    pub agent_id: String,
    /// No other outcome follows.
    pub is_final: bool,
    /// The time of the decision, where it can be read.
    pub decided_at: Option<Timestamp>,
    /// The position of the escalation's record, where it can be read.
    pub source: Option<Position>,
    /// The position of the outcome itself.
    pub position: Position,
    /// A hash of status and agent.
    pub(super) meaning: u32,
    /// A hash of the decision: its time with status and agent. Of an outcome without that time, which is
    /// none of ours, a hash of all its bytes.
    pub(super) decision: u32,
}

impl AuditedOutcome {
    /// Reads a record of the outcome topic. The error says why it is not an outcome; it is a
    /// fragment without a subject.
    pub(crate) fn read(record: &Record) -> Result<Self, String> {
        let Some(value) = record.value.as_deref() else { return Err("the value is null".into()) };
        let outcome = OutcomeRecord::parse(value).map_err(|error| error.to_string())?;
        // Identities are required here: an outcome without them cannot be matched.
        let (status, decided_at) = (outcome.known_status(), outcome.decided_at());
        let agent_id = outcome.agent_id.unwrap_or_default();
        let meaning = [outcome.status.as_bytes(), agent_id.as_bytes()];
        let decided = decided_at.map(|at| at.as_nanosecond().to_be_bytes());
        let decision = match &decided {
            Some(decided) => short_hash(&[meaning[0], meaning[1], decided]),
            None => hash_of_bytes(record),
        };
        Ok(Self {
            meaning: short_hash(&meaning),
            decision,
            status,
            agent_id,
            event_id: outcome.event_id.ok_or("missing field `event_id`")?,
            session_id: outcome.session_id.ok_or("missing field `session_id`")?,
            is_final: outcome.is_final,
            decided_at,
            source: outcome.source,
            position: record.position.clone(),
        })
    }
}

/// Shortens an identity to 16 bytes. Publishers choose identities, so the hash must resist
/// collisions that are made on purpose.
pub(super) fn identity_key(id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    u128::from_be_bytes(*digest.first_chunk().expect("a digest is longer than 16 bytes"))
}

/// Hashes the parts to 4 bytes. That is enough to compare two records of the same identity.
pub(super) fn short_hash(parts: &[&[u8]]) -> u32 {
    let mut hash = Sha256::new();
    for part in parts {
        // With the length, ["ab", "c"] and ["a", "bc"] differ.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    u32::from_be_bytes(*digest.first_chunk().expect("a digest is longer than 4 bytes"))
}

fn hash_of_bytes(record: &Record) -> u32 {
    fn bytes(part: Option<&Vec<u8>>) -> &[u8] {
        part.map_or(&[], Vec::as_slice)
    }
    let mut parts = vec![bytes(record.key.as_ref()), bytes(record.value.as_ref())];
    for (name, value) in &record.headers {
        parts.extend([name.as_bytes(), bytes(value.as_ref())]);
    }
    short_hash(&parts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decision(decided_at: &str, tried: &Value) -> u32 {
        let value = json!({"id": "e/final", "event_id": "e", "session_id": "s", "final": true,
            "status": "assigned", "agent_id": "a", "decided_at": decided_at, "tried": tried});
        let position = Position { topic: "out".into(), partition: 0, offset: 0 };
        let value = Some(value.to_string().into_bytes());
        let record = Record { position, timestamp: None, key: None, value, headers: vec![] };
        AuditedOutcome::read(&record).unwrap().decision
    }

    #[test]
    fn an_outcome_that_was_truncated_once_is_the_same_decision() {
        let whole = decision("2026-11-23T10:00:00.5Z", &json!([{"target": {"default": true}}]));
        assert_eq!(decision("2026-11-23T10:00:00.5Z", &json!([])), whole);
        assert_ne!(decision("2026-11-23T10:00:00.6Z", &json!([])), whole);
    }
}
