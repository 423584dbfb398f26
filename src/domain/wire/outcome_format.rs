//! How outcomes are written in their topic: as outcome v1, as a CloudEvent around it, or as the event
//! `handoff.status` of the Bot Framework.
//!
//! Outcome v1 is inside each of them, so that [`OutcomeRecord`] reads them all, also after the
//! configuration has changed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::outcome::{OutcomeRecord, Status};
use crate::domain::event::Event;

/// The media type of a CloudEvent in structured mode.
const CLOUDEVENT: &str = "application/cloudevents+json; charset=UTF-8";

/// The form of the records in the outcome topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OutcomeFormat {
    /// Outcome v1.
    #[default]
    Native,
    /// A CloudEvent in structured mode with outcome v1 as its data.
    CloudEvents {
        /// Its `type`.
        kind: String,
        /// Its `source`.
        source: String,
    },
    /// The event `handoff.status` with outcome v1 in its `channelData`.
    HandoffStatus,
}

/// The value of a record and its media type. The ledger stores it with an interim outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormattedOutcome {
    #[serde(default = "json_type")]
    pub(super) content_type: Cow<'static, str>,
    pub(super) value: String,
}

fn json_type() -> Cow<'static, str> {
    "application/json".into()
}

#[derive(Serialize)]
struct OutcomeCloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'static str,
    /// The `id` of the CloudEvent that asked; of another escalation its identity.
    causationid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    data: &'a RawValue,
}

impl OutcomeFormat {
    /// Whether the form can say that nobody is online yet. `handoff.status` is final only.
    pub(crate) fn has_interim(&self) -> bool {
        *self != Self::HandoffStatus
    }

    /// Writes outcome v1 in this form.
    pub(crate) fn write(&self, event: &Event, outcome: String) -> FormattedOutcome {
        let written = match self {
            Self::Native => None,
            Self::CloudEvents { kind, source } => cloudevent(event, &outcome, kind, source),
            Self::HandoffStatus => handoff_status(event, &outcome),
        };
        match (written, self) {
            (Some(value), Self::CloudEvents { .. }) => {
                FormattedOutcome { content_type: CLOUDEVENT.into(), value }
            }
            (Some(value), _) => FormattedOutcome { content_type: json_type(), value },
            (None, _) => FormattedOutcome { content_type: json_type(), value: outcome },
        }
    }
}

/// The members of outcome v1 that the forms repeat.
#[derive(Deserialize)]
struct OutcomeHead {
    id: String,
    decided_at: String,
}

fn cloudevent(event: &Event, outcome: &str, kind: &str, source: &str) -> Option<String> {
    let head: OutcomeHead = serde_json::from_str(outcome).ok()?;
    let own = &event.correlation;
    let cloudevent = OutcomeCloudEvent {
        specversion: "1.0",
        id: &head.id,
        source,
        kind,
        subject: &event.session_id,
        time: Some(&head.decided_at),
        datacontenttype: "application/json",
        causationid: own.cloudevent_id.as_deref().unwrap_or(&event.id),
        correlationid: own.correlation_id.as_deref(),
        data: serde_json::from_str(outcome).ok()?,
    };
    serde_json::to_string(&cloudevent).ok()
}

#[derive(Serialize)]
struct StatusActivity<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    id: &'a str,
    timestamp: &'a str,
    conversation: Value,
    value: Value,
    #[serde(rename = "channelData")]
    channel_data: ChannelData<'a>,
}

#[derive(Serialize)]
struct ChannelData<'a> {
    outcome: &'a RawValue,
}

fn handoff_status(event: &Event, outcome: &str) -> Option<String> {
    let head: OutcomeHead = serde_json::from_str(outcome).ok()?;
    let record = OutcomeRecord::parse(outcome.as_bytes()).ok()?;
    let value = match record.known_status() {
        Some(Status::Assigned | Status::Queued) => json!({"state": "accepted"}),
        _ => json!({"state": "failed", "message": record.reason.unwrap_or(record.status)}),
    };
    let conversation = event.correlation.conversation.clone();
    let activity = StatusActivity {
        kind: "event",
        name: "handoff.status",
        id: &head.id,
        timestamp: &head.decided_at,
        conversation: conversation.unwrap_or_else(|| json!({"id": event.session_id})),
        value,
        channel_data: ChannelData { outcome: serde_json::from_str(outcome).ok()? },
    };
    serde_json::to_string(&activity).ok()
}

/// Returns outcome v1 inside a record of any form; the record itself where it is none of the others.
pub(super) fn outcome_inside(record: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let is_cloudevent = record.contains_key("specversion");
    let path: &[&str] = if is_cloudevent { &["data"] } else { &["channelData", "outcome"] };
    let is_inside = path.iter().try_fold(&*record, |object, name| object.get(*name)?.as_object());
    if is_inside.is_none() {
        return record;
    }
    path.iter().fold(record, |object, name| {
        object[*name].as_object_mut().expect("it was an object a moment ago")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::domain::event::{Correlation, TransferRequest};
    use crate::domain::record::{Position, Record};
    use crate::domain::wire::Message;
    use crate::domain::wire::dialects::Dialect;
    use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
    use crate::domain::wire::input::InputRules;
    use crate::domain::wire::outcome::Outcome;

    const NOW: &str = "2026-11-27T18:00:00Z";

    fn event(correlation: Correlation) -> Event {
        let now = NOW.parse().unwrap();
        Event {
            id: "/bots/web 1234".into(),
            session_id: "s-1".into(),
            source: Position { topic: "t".into(), partition: 3, offset: 7 },
            requested_at: now,
            deadline: now,
            trace: vec![],
            request: Ok(TransferRequest::default()),
            notes: vec![],
            correlation,
        }
    }

    fn message(format: &OutcomeFormat, correlation: Correlation, status: Status) -> Message {
        let event = event(correlation);
        let reason = (status == Status::Rejected).then(|| "the session is unknown".to_owned());
        let outcome = Outcome { reason, ..Outcome::new(&event, status, NOW.parse().unwrap()) };
        outcome.to_message(&event, format)
    }

    fn value(message: &Message) -> String {
        String::from_utf8(message.value.clone().unwrap()).unwrap()
    }

    fn cloudevents() -> OutcomeFormat {
        let (kind, source) = ("com.example.handoff.outcome.v1".into(), "/handoff/g".into());
        OutcomeFormat::CloudEvents { kind, source }
    }

    #[test]
    fn an_outcome_is_a_cloudevent_that_names_the_one_that_asked() {
        let correlation = Correlation {
            cloudevent_id: Some("1234".into()),
            correlation_id: Some("order-7".into()),
            conversation: None,
        };
        let message = message(&cloudevents(), correlation, Status::Assigned);
        insta::assert_snapshot!(value(&message), @r#"{"specversion":"1.0","id":"/bots/web 1234/final","source":"/handoff/g","type":"com.example.handoff.outcome.v1","subject":"s-1","time":"2026-11-27T18:00:00Z","datacontenttype":"application/json","causationid":"1234","correlationid":"order-7","data":{"id":"/bots/web 1234/final","event_id":"/bots/web 1234","session_id":"s-1","status":"assigned","final":true,"attempts":0,"elapsed_ms":0,"decided_at":"2026-11-27T18:00:00Z","source":{"topic":"t","partition":3,"offset":7}}}"#);
        let content_type = message.headers[0].1.as_deref().unwrap();
        assert_eq!(content_type, CLOUDEVENT.as_bytes());
        assert_eq!(message.label(), "assigned");
    }

    #[test]
    fn an_outcome_is_the_status_of_the_conversation() {
        let conversation = Some(json!({"id": "s-1", "isGroup": false}));
        let correlation = Correlation { conversation, ..Correlation::default() };
        let accepted = message(&OutcomeFormat::HandoffStatus, correlation, Status::Queued);
        insta::assert_snapshot!(value(&accepted), @r#"{"type":"event","name":"handoff.status","id":"/bots/web 1234/final","timestamp":"2026-11-27T18:00:00Z","conversation":{"id":"s-1","isGroup":false},"value":{"state":"accepted"},"channelData":{"outcome":{"id":"/bots/web 1234/final","event_id":"/bots/web 1234","session_id":"s-1","status":"queued","final":true,"attempts":0,"elapsed_ms":0,"decided_at":"2026-11-27T18:00:00Z","source":{"topic":"t","partition":3,"offset":7}}}}"#);
        let format = OutcomeFormat::HandoffStatus;
        let failed = value(&message(&format, Correlation::default(), Status::Rejected));
        let failed: Value = serde_json::from_str(&failed).unwrap();
        let expected = json!({"state": "failed", "message": "the session is unknown"});
        assert_eq!((&failed["value"], &failed["conversation"]), (&expected, &json!({"id": "s-1"})));
    }

    #[test]
    fn every_form_is_read_as_the_outcome_in_it_and_truncated_there() {
        let native = message(&OutcomeFormat::Native, Correlation::default(), Status::Rejected);
        let expected = OutcomeRecord::parse(value(&native).as_bytes()).unwrap();
        assert_eq!(expected.session_id.as_deref(), Some("s-1"));
        for format in [cloudevents(), OutcomeFormat::HandoffStatus] {
            let event = event(Correlation::default());
            let mut message = message(&format, Correlation::default(), Status::Rejected);
            let read = OutcomeRecord::parse(value(&message).as_bytes()).unwrap();
            assert_eq!(read, expected, "{format:?}");
            assert!(!message.truncate(), "nothing to spare");
            let now = NOW.parse().unwrap();
            let long = Outcome {
                reason: Some("x".repeat(2000)),
                notes: vec!["n".into()],
                ..Outcome::new(&event, Status::Rejected, now)
            };
            let mut long = long.to_message(&event, &format);
            assert!(long.truncate());
            let length = long.value.as_ref().unwrap().len();
            assert!(length < 3 * 1024, "{format:?} repeats a long text: {length} bytes");
            let read = OutcomeRecord::parse(value(&long).as_bytes()).unwrap();
            assert_eq!((read.reason.map(|r| r.len()), read.notes.len()), (Some(1024), 0));
        }
    }

    #[test]
    fn no_record_makes_an_outcome_that_stays_long() {
        let long = "x".repeat(100_000);
        let rules = DecodeRules {
            types: vec![],
            max_bytes: usize::MAX,
            time_to_live: Duration::from_secs(600),
            input: Arc::new(InputRules {
                dialects: vec![Dialect::BotFramework, Dialect::Native],
                ..InputRules::default()
            }),
        };
        for value in [
            json!({"session_id": "s-1", "reason": long, "priority": long, "target": long}),
            json!({
                "type": "event", "name": "handoff.initiate", "id": long, "locale": long,
                "conversation": {"id": "s-1", "name": long}, "value": {"va_AgentMessage": long},
            }),
            json!({
                "specversion": "1.0", "id": long, "type": "t", "source": long,
                "correlationid": long, "data": {"session_id": "s-1"},
            }),
        ] {
            let now = NOW.parse().unwrap();
            let record = Record {
                position: Position { topic: "t".into(), partition: 3, offset: 7 },
                timestamp: Some(now),
                key: None,
                value: Some(value.to_string().into_bytes()),
                headers: vec![],
            };
            let Decoded::Event(event) = decode(&record, &rules, now) else { panic!() };
            for format in [OutcomeFormat::Native, cloudevents(), OutcomeFormat::HandoffStatus] {
                let reason = Some(long.clone());
                let outcome = Outcome { reason, ..Outcome::new(&event, Status::Rejected, now) };
                let mut message = outcome.to_message(&event, &format);
                while message.truncate() {}
                let length = message.value.as_ref().unwrap().len();
                assert!(length < 8 * 1024, "{format:?}: {length} bytes");
            }
        }
    }
}
