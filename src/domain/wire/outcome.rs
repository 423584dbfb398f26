//! What is published: the outcome of an escalation, and the dead letter of a malformed record.
//!
//! Both become a `Message`, the bytes and headers as they go to Kafka.
//! This file never decides a status; `course` does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::event::{Event, Malformed};
use crate::domain::plan::Target;
use crate::domain::record::{Header, Position, Record};
use crate::domain::reply::DeskStatus;

/// What became of an escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A human has the session.
    Assigned,
    /// The session waits in Desk's queue.
    Queued,
    /// Nobody suitable is online.
    NoAgentOnline,
    /// It can never succeed.
    Rejected,
    /// Its deadline passed before Desk was asked.
    Expired,
    /// Faults until the end.
    Failed,
}

impl Status {
    /// All statuses, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Assigned,
        Self::Queued,
        Self::NoAgentOnline,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
    ];

    /// The word in the outcome, the header and the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Queued => "queued",
            Self::NoAgentOnline => "no_agent_online",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// Desk's reply to the transfer.
    Reply,
    /// Desk's answer to the question after the session's state.
    SessionState,
}

/// One target of the cascade and what Desk said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Who was asked for.
    pub target: Target,
    /// Desk's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// Outcome v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Derived from the event id and whether it is final.
    pub id: String,
    /// The escalation's identity.
    pub event_id: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// What became of it.
    pub status: Status,
    /// No other outcome follows.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Who got it, where Desk named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The route it took, where one matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Who was asked for last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The cascade, where there was one; the last target too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// Desk's last answer to a transfer, verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desk: Option<DeskStatus>,
    /// How we know, where Desk was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<ConfirmedBy>,
    /// Transfers sent; questions are not counted.
    pub attempts: u32,
    /// From `requested_at` to the decision.
    pub elapsed_ms: u64,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The record it answers.
    pub source: Position,
    /// One sentence for people, in every status but assigned and queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which topic a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The outcome topic.
    Outcomes,
    /// The dead-letter topic.
    DeadLetters,
}

/// A record to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub channel: Channel,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

impl Outcome {
    /// The outcome of an event, final, with nothing known of Desk yet.
    pub fn new(event: &Event, status: Status, now: Timestamp) -> Self {
        let elapsed = now.as_millisecond().saturating_sub(event.requested_at.as_millisecond());
        Self {
            id: format!("{}/final", event.id),
            event_id: event.id.clone(),
            session_id: event.session_id.clone(),
            status,
            is_final: true,
            agent_id: None,
            route: None,
            target: None,
            tried: Vec::new(),
            desk: None,
            confirmed_by: None,
            attempts: 0,
            elapsed_ms: u64::try_from(elapsed).unwrap_or(0),
            decided_at: now,
            source: event.source.clone(),
            reason: None,
        }
    }

    /// From `requested_at` to the decision.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }

    /// The same as an interim outcome: another follows.
    #[must_use]
    pub fn into_interim(self) -> Self {
        Self { id: format!("{}/interim", self.event_id), is_final: false, ..self }
    }

    /// The value for the outcome topic.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }

    /// The record for the outcome topic.
    pub fn to_message(&self, event: &Event) -> Message {
        Message::of_outcome(event, self.status, self.to_json().into_bytes())
    }
}

/// The dead letter of a malformed record: the original untouched, and why.
pub fn dead_letter(record: Record, malformed: &Malformed, first_seen: Timestamp) -> Message {
    let Record { position, timestamp, key, value, mut headers } = record;
    headers.push(text_header("handoff-error-class", malformed.class.as_str()));
    headers.push(text_header("handoff-error", &malformed.error));
    headers.push(text_header("handoff-source-topic", &position.topic));
    headers.push(text_header("handoff-source-partition", &position.partition.to_string()));
    headers.push(text_header("handoff-source-offset", &position.offset.to_string()));
    if let Some(timestamp) = timestamp {
        headers.push(text_header("handoff-source-timestamp", &timestamp.to_string()));
    }
    headers.push(text_header("handoff-first-seen", &first_seen.to_string()));
    Message { channel: Channel::DeadLetters, key, value, headers }
}

impl Message {
    /// The record for the outcome topic, continuing the event's trace.
    pub fn of_outcome(event: &Event, status: Status, value: Vec<u8>) -> Self {
        let mut headers = vec![
            text_header("content-type", "application/json"),
            text_header("handoff-status", status.as_str()),
            text_header("handoff-event-id", &event.id),
        ];
        headers.extend(event.trace.iter().cloned());
        Self {
            channel: Channel::Outcomes,
            key: Some(event.session_id.as_bytes().to_vec()),
            value: Some(value),
            headers,
        }
    }

    /// One word for people: the outcome's status, or the dead letter's class of error.
    pub fn label(&self) -> &str {
        let name = match self.channel {
            Channel::Outcomes => "handoff-status",
            Channel::DeadLetters => "handoff-error-class",
        };
        let value =
            self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_ref());
        value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

pub(super) fn text_header(name: &str, value: &str) -> Header {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{MalformedClass, TransferRequest};

    fn position() -> Position {
        Position { topic: "handoff.escalations".into(), partition: 3, offset: 42 }
    }

    fn headers(message: &Message) -> Vec<String> {
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().unwrap()).unwrap();
        message.headers.iter().map(|(n, v)| format!("{n}: {}", text(v))).collect()
    }

    #[test]
    fn outcome_v1() {
        let at: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let event = Event {
            id: "evt-1".into(),
            session_id: "s-1".into(),
            source: position(),
            requested_at: at,
            deadline: at,
            trace: vec![("traceparent".into(), Some(b"00-abc".to_vec()))],
            request: Ok(TransferRequest::default()),
        };
        let later = at + Duration::from_millis(812);
        let outcome = Outcome {
            agent_id: Some("a@x".into()),
            target: Some(Target::Default),
            desk: Some(DeskStatus { code: 0, info: String::new(), action_status: "OK".into() }),
            confirmed_by: Some(ConfirmedBy::Reply),
            attempts: 3,
            ..Outcome::new(&event, Status::Assigned, later)
        };
        let message = outcome.to_message(&event);
        insta::assert_snapshot!(
            String::from_utf8(message.value.clone().unwrap()).unwrap(),
            @r#"{"id":"evt-1/final","event_id":"evt-1","session_id":"s-1","status":"assigned","final":true,"agent_id":"a@x","target":{"default":true},"desk":{"code":0,"info":"","action_status":"OK"},"confirmed_by":"reply","attempts":3,"elapsed_ms":812,"decided_at":"2026-11-23T10:00:00.812Z","source":{"topic":"handoff.escalations","partition":3,"offset":42}}"#
        );
        insta::assert_debug_snapshot!(headers(&message), @r#"
        [
            "content-type: application/json",
            "handoff-status: assigned",
            "handoff-event-id: evt-1",
            "traceparent: 00-abc",
        ]
        "#);
    }

    #[test]
    fn a_dead_letter_keeps_the_original_and_adds_its_provenance() {
        let record = Record {
            position: position(),
            timestamp: Some("2026-11-23T10:00:00Z".parse().unwrap()),
            key: None,
            value: Some(vec![0xff, 0x00]),
            headers: vec![("own".into(), Some(b"kept".to_vec()))],
        };
        let class = MalformedClass::NotJson;
        let malformed = Malformed { class, error: "not JSON".into() };
        let letter = dead_letter(record, &malformed, "2026-11-23T10:00:01Z".parse().unwrap());
        assert_eq!((&letter.key, &letter.value), (&None, &Some(vec![0xff, 0x00])));
        insta::assert_debug_snapshot!(headers(&letter), @r#"
        [
            "own: kept",
            "handoff-error-class: not_json",
            "handoff-error: not JSON",
            "handoff-source-topic: handoff.escalations",
            "handoff-source-partition: 3",
            "handoff-source-offset: 42",
            "handoff-source-timestamp: 2026-11-23T10:00:00Z",
            "handoff-first-seen: 2026-11-23T10:00:01Z",
        ]
        "#);
    }
}
