//! Outcomes: what became of each escalation.
//!
//! The service writes an [`Outcome`]; `outcomes`, `audit` and `demo` read an [`OutcomeRecord`],
//! which accepts outcomes of older and newer versions. A new field goes into both and into the
//! snapshot at the end of this file. The [`course`](crate::domain::course) decides the status.

use std::fmt;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::headers::{self, text_header};
use super::message::{Channel, Message};
use super::outcome_format::{FormattedOutcome, OutcomeFormat, outcome_inside};
use super::repair;
use crate::domain::event::Event;
use crate::domain::record::Position;
use crate::domain::reply::DeskStatus;
use crate::domain::target::Target;

/// What became of an escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// An agent has the session.
    Assigned,
    /// The session waits in Desk's queue.
    Queued,
    /// No suitable agent is online.
    NoAgentOnline,
    /// The escalation can never succeed.
    Rejected,
    /// The deadline passed before any transfer took effect: no call was made, or the session's
    /// state shows that the call had none.
    Expired,
    /// Faults used up the attempts or the time, or the effect of a call is unknown.
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

    /// Returns the status with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The reply that an outcome rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// Desk's reply to the transfer.
    Reply,
    /// Desk's reply to a state query.
    SessionState,
}

/// One target of the cascade and Desk's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The target.
    pub target: Target,
    /// Desk's error code, where Desk answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// Outcome v1, as the service writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The same for each copy of an outcome, so that consumers can drop duplicates.
    pub id: String,
    /// The identity of the escalation.
    pub event_id: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// What became of the escalation.
    pub status: Status,
    /// No other outcome follows; false in an interim outcome.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The agent who was assigned, where Desk named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The route, where one matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The last target that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Every target of the cascade, the last one included; empty with a single target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// Desk's last answer to a transfer, verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desk: Option<DeskStatus>,
    /// The reply that the status rests on, where Desk was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<ConfirmedBy>,
    /// The number of transfers sent; state queries are not counted.
    pub attempts: u32,
    /// Milliseconds from `requested_at` to the decision.
    pub elapsed_ms: u64,
    /// The time of the decision.
    pub decided_at: Timestamp,
    /// The position of the escalation's record.
    pub source: Position,
    /// One sentence for people, in every status but `assigned` and `queued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the route opens again, where its hours are the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// What of the escalation could not be read and was left out, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Outcome {
    /// Builds a final outcome without any reply from Desk.
    pub fn new(event: &Event, status: Status, now: Timestamp) -> Self {
        let elapsed = now.as_millisecond().saturating_sub(event.requested_at.as_millisecond());
        Self {
            // Derived, not random: an outcome that is published twice keeps its id.
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
            opens_at: None,
            notes: event.notes.clone(),
        }
    }

    /// The time from `requested_at` to the decision.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }

    /// Turns this into an interim outcome, which announces that another one follows.
    #[must_use]
    pub fn into_interim(self) -> Self {
        Self { id: format!("{}/interim", self.event_id), is_final: false, ..self }
    }

    /// Returns the value for the outcome topic.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }

    /// Builds the record for the outcome topic.
    pub fn to_message(&self, event: &Event, format: &OutcomeFormat) -> Message {
        Message::of_outcome(event, self.status, format.write(event, self.to_json()))
    }
}

impl Message {
    /// Reads the route of an outcome, where it names one.
    pub(crate) fn route(&self) -> Option<String> {
        let value = self.value.as_deref().filter(|_| self.channel == Channel::Outcomes)?;
        OutcomeRecord::parse(value).ok()?.route
    }

    /// Builds the record for the outcome topic. The headers continue the trace of the event.
    pub(crate) fn of_outcome(event: &Event, status: Status, outcome: FormattedOutcome) -> Self {
        let FormattedOutcome { content_type, value } = outcome;
        let mut headers = vec![
            text_header(headers::CONTENT_TYPE, &content_type),
            text_header(headers::STATUS, status.as_str()),
            text_header(headers::EVENT_ID, &event.id),
        ];
        headers.extend(event.trace.iter().cloned());
        Self {
            channel: Channel::Outcomes,
            // The outcomes of one session stay in order.
            key: Some(event.session_id.as_bytes().to_vec()),
            value: Some(value.into_bytes()),
            headers,
        }
    }
}

/// An outcome as it is found in the topic. Another version or another program may have written
/// it: only `status` is required, unknown fields are ignored, and a detail that cannot be read
/// counts as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct OutcomeRecord {
    /// The identity of the escalation.
    pub event_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The status as it is written; see [`known_status`](Self::known_status).
    pub status: String,
    /// No other outcome follows. A missing `final` counts as true.
    #[serde(rename = "final", default = "yes", deserialize_with = "true_unless_false")]
    pub is_final: bool,
    /// The agent who was assigned.
    pub agent_id: Option<String>,
    /// The route, where one matched.
    #[serde(default, deserialize_with = "lenient")]
    pub route: Option<String>,
    /// The cascade.
    #[serde(default, deserialize_with = "lenient")]
    pub tried: Vec<Tried>,
    /// A word of [`ConfirmedBy`].
    #[serde(default, deserialize_with = "lenient")]
    pub confirmed_by: Option<String>,
    /// The number of transfers sent.
    #[serde(default, deserialize_with = "lenient")]
    pub attempts: Option<u64>,
    /// Milliseconds from `requested_at` to the decision.
    #[serde(default, deserialize_with = "lenient")]
    pub elapsed_ms: Option<u64>,
    /// The time of the decision as it is written; see [`decided_at`](Self::decided_at()).
    pub decided_at: Option<String>,
    /// The position of the escalation's record.
    #[serde(default, deserialize_with = "lenient")]
    pub source: Option<Position>,
    /// One sentence for people.
    #[serde(default, deserialize_with = "lenient")]
    pub reason: Option<String>,
    /// When the route opens again.
    #[serde(default, deserialize_with = "lenient")]
    pub opens_at: Option<Timestamp>,
    /// What of the escalation was left out.
    #[serde(default, deserialize_with = "lenient")]
    pub notes: Vec<String>,
}

impl OutcomeRecord {
    /// Parses the value of a record of the outcome topic, where needed after a repair of its text.
    ///
    /// Reads every [`OutcomeFormat`].
    pub fn parse(value: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(value).or_else(|error| {
            // By way of a map, the last of two doubled fields counts.
            let mut record: Map<String, Value> =
                serde_json::from_str(&repair::repaired(value)).map_err(|_| error)?;
            serde_json::from_str(&Value::Object(take(outcome_inside(&mut record))).to_string())
        })
    }

    /// Returns the status, or `None` for a word that this version does not know.
    pub fn known_status(&self) -> Option<Status> {
        Status::from_word(&self.status)
    }

    /// Returns the time of the decision, or `None` where it is missing or not RFC 3339.
    pub fn decided_at(&self) -> Option<Timestamp> {
        self.decided_at.as_deref().and_then(|text| text.parse().ok())
    }
}

fn yes() -> bool {
    true
}

fn true_unless_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(true))
}

/// Reads a detail, or its default where the value has an unexpected form.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: de::DeserializeOwned + Default,
{
    // The raw text is borrowed: the audit reads millions of outcomes, most without an odd field.
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Correlation, TransferRequest};

    fn position() -> Position {
        Position { topic: "handoff.escalations".into(), partition: 3, offset: 42 }
    }

    fn event(at: Timestamp) -> Event {
        Event {
            id: "evt-1".into(),
            session_id: "s-1".into(),
            source: position(),
            requested_at: at,
            deadline: at,
            trace: vec![("traceparent".into(), Some(b"00-abc".to_vec()))],
            request: Ok(TransferRequest::default()),
            notes: vec![],
            correlation: Correlation::default(),
        }
    }

    fn headers(message: &Message) -> Vec<String> {
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().unwrap()).unwrap();
        message.headers.iter().map(|(n, v)| format!("{n}: {}", text(v))).collect()
    }

    #[test]
    fn outcome_v1_is_written_byte_for_byte_as_documented() {
        let at: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let event = event(at);
        let later = at + Duration::from_millis(812);
        let outcome = Outcome {
            agent_id: Some("a@x".into()),
            target: Some(Target::Default),
            desk: Some(DeskStatus { code: 0, info: String::new(), action_status: "OK".into() }),
            confirmed_by: Some(ConfirmedBy::Reply),
            attempts: 3,
            ..Outcome::new(&event, Status::Assigned, later)
        };
        let message = outcome.to_message(&event, &OutcomeFormat::Native);
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
    fn an_outcome_is_read_as_it_was_written() {
        let at: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let event = event(at);
        let group = Target::Named { agents: vec![], group: Some(7) };
        let outcome = Outcome {
            route: Some("vip-de".into()),
            tried: vec![Tried { target: group, code: Some(141_001) }],
            confirmed_by: Some(ConfirmedBy::SessionState),
            reason: Some("nobody".into()),
            opens_at: Some(at),
            notes: vec!["reason ignored: {} is not a text".into()],
            ..Outcome::new(&event, Status::NoAgentOnline, at)
        };
        let read = OutcomeRecord::parse(outcome.into_interim().to_json().as_bytes()).unwrap();
        let expected = OutcomeRecord {
            event_id: Some("evt-1".into()),
            session_id: Some("s-1".into()),
            status: "no_agent_online".into(),
            is_final: false,
            route: Some("vip-de".into()),
            agent_id: None,
            tried: vec![Tried {
                target: Target::Named { agents: vec![], group: Some(7) },
                code: Some(141_001),
            }],
            confirmed_by: Some("session_state".into()),
            attempts: Some(0),
            elapsed_ms: Some(0),
            decided_at: Some("2026-11-23T10:00:00Z".into()),
            source: Some(position()),
            reason: Some("nobody".into()),
            opens_at: Some(at),
            notes: vec!["reason ignored: {} is not a text".into()],
        };
        assert_eq!(read, expected);
        assert_eq!(read.known_status(), Some(Status::NoAgentOnline));
        assert_eq!(read.decided_at(), Some(at));
    }

    #[test]
    fn an_outcome_of_another_program_needs_only_a_status() {
        let least = OutcomeRecord::parse(br#"{"status":"new","final":null}"#).unwrap();
        assert_eq!((least.known_status(), least.is_final, least.event_id), (None, true, None));
        let odd = r#"{"status":"failed","tried":7,"attempts":"x","elapsed_ms":-1,"source":[],
            "reason":{},"confirmed_by":0,"decided_at":"soon"}"#;
        let odd = OutcomeRecord::parse(odd.as_bytes()).unwrap();
        assert_eq!((&odd.tried, odd.attempts, &odd.source), (&vec![], None, &None));
        assert_eq!((odd.known_status(), odd.decided_at()), (Some(Status::Failed), None));
        for odd in ["\u{feff}{\"status\":\"failed\"}", r#"{"status":"new","status":"failed"}"#] {
            let odd = OutcomeRecord::parse(odd.as_bytes()).unwrap();
            assert_eq!(odd.known_status(), Some(Status::Failed));
        }
        for wrong in ["", "[]", "{}", r#"{"status":5}"#, r#"{"status":"failed","event_id":5}"#] {
            assert!(OutcomeRecord::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
