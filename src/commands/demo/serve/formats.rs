//! An escalation as the systems in front of Kafka write it (docs/formats.md).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::domain::record::Header;

/// What a bot says about a customer.
#[derive(Debug, Clone)]
pub(super) struct WrittenEscalation {
    pub(super) id: String,
    pub(super) session: String,
    pub(super) requested_at: Timestamp,
    pub(super) reason: &'static str,
    pub(super) attributes: Map<String, Value>,
    /// Members of an escalation that only formats which contain a whole one can carry.
    pub(super) extra: Map<String, Value>,
}

/// The system that writes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceFormat {
    Native,
    /// A CloudEvent in structured mode.
    CloudEvent,
    /// A CloudEvent whose attributes are headers.
    BinaryCloudEvent,
    /// The slot `handoff` of Rasa's tracker.
    Rasa,
    /// `handoff.initiate` of the Bot Framework.
    BotFramework,
    /// A mapping of the demo's configuration. Its sessions are numbers.
    Chatwoot,
    /// `{schema, payload}` around an escalation.
    KafkaConnect,
}

/// The value and the headers of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WrittenRecord {
    pub(super) value: Value,
    pub(super) headers: Vec<Header>,
}

const EVENT_TYPE: &str = "com.example.handoff.requested";
const SOURCE: &str = "/bots/web";

impl SourceFormat {
    /// Writes an escalation as this system does.
    pub(super) fn write(self, escalation: &WrittenEscalation) -> WrittenRecord {
        let WrittenEscalation { id, session, requested_at, .. } = escalation;
        let time = requested_at.to_string();
        let value = match self {
            Self::Native => escalation.native(),
            Self::CloudEvent => json!({
                "specversion": "1.0", "id": id, "type": EVENT_TYPE, "source": SOURCE,
                "subject": session, "time": time, "data": escalation.labels(),
            }),
            Self::BinaryCloudEvent => escalation.labels(),
            Self::Rasa => {
                let mut slot = escalation.labels();
                slot["id"] = json!(id);
                json!({
                    "sender_id": session, "event": "slot", "name": "handoff", "value": slot,
                    "timestamp": requested_at.as_millisecond() as f64 / 1000.0,
                })
            }
            Self::BotFramework => json!({
                "type": "event", "name": "handoff.initiate", "id": id, "timestamp": time,
                "channelId": "webchat", "conversation": {"id": session, "isGroup": false},
                "value": escalation.attributes,
            }),
            Self::Chatwoot => json!({
                "event": "conversation_status_changed", "status": "open",
                "id": session.parse::<u64>().unwrap_or_default(),
                "timestamp": requested_at.as_second(), "custom_attributes": escalation.attributes,
            }),
            Self::KafkaConnect => {
                let schema = json!({"type": "struct", "optional": false, "fields": []});
                json!({"schema": schema, "payload": escalation.native()})
            }
        };
        let text = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let headers = match self {
            Self::CloudEvent => vec![text("content-type", "application/cloudevents+json")],
            Self::BinaryCloudEvent => vec![
                text("ce_specversion", "1.0"),
                text("ce_id", id),
                text("ce_type", EVENT_TYPE),
                text("ce_source", SOURCE),
                text("ce_subject", session),
                text("ce_time", &time),
                text("content-type", "application/json"),
            ],
            _ => Vec::new(),
        };
        WrittenRecord { value, headers }
    }
}

impl WrittenEscalation {
    fn native(&self) -> Value {
        let mut value = self.labels();
        value["id"] = json!(self.id);
        value["session_id"] = json!(self.session);
        value["requested_at"] = json!(self.requested_at.to_string());
        value
    }

    /// Everything but identity, session and time, which most formats have places of their own for.
    fn labels(&self) -> Value {
        let mut value = self.extra.clone();
        value.insert("reason".into(), json!(self.reason));
        value.insert("attributes".into(), json!(self.attributes));
        Value::Object(value)
    }
}
