//! Escalation v1: the JSON of the input topic.
//!
//! [`decode`] judges a record in this order: not for us, malformed, invalid. An invalid escalation
//! is an [`Event`] whose `request` is an error; it gets the outcome `rejected`. The course judges
//! the deadline later. `handoff publish` writes [`EscalationFields`] and checks them with [`decode`].

mod fields;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::fields::Problems;
use super::headers;
use crate::domain::event::{
    Event, Malformed, MalformedClass, OptionSource, RequestedTarget, TransferOptions,
    TransferRequest,
};
use crate::domain::record::{Header, Record};

/// The longest event id and session id in bytes.
const MAX_ID_BYTES: usize = 256;

/// The longest trace header that is copied to the outcome; W3C asks for 512 bytes of `tracestate`.
const MAX_TRACE_BYTES: usize = 1024;

/// The fields of an escalation. The service does not read `context`, which belongs to the
/// publisher.
pub const FIELDS: [&str; 11] = [
    "type",
    "id",
    "session_id",
    "requested_at",
    "expires_at",
    "reason",
    "target",
    "priority",
    "attributes",
    "options",
    "context",
];

/// The fields of `target`.
pub const TARGET_FIELDS: [&str; 3] = ["agents", "group", "strict"];

/// The top level of an escalation. Its values are not checked yet; [`decode`] does that, so that
/// one outcome can name every invalid field.
///
/// `context` is missing here because parsing it would cost memory and limit its depth.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EscalationFields {
    /// The type, for topics that carry other events too.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Value>,
    /// The identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// The session to transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Value>,
    /// When the customer began to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Value>,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Value>,
    /// Why the chatbot escalates, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Value>,
    /// An object with [`TARGET_FIELDS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Value>,
    /// Position in Desk's queue, 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Value>,
    /// A flat object for routing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
    /// An object with [`TransferOptions::NAMES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// The configured part of decoding.
#[derive(Debug, Clone)]
pub struct DecodeRules {
    /// The values of `type` that mean an escalation; empty: any.
    pub types: Vec<String>,
    /// The longest value in bytes; a longer one is malformed.
    pub max_bytes: usize,
    /// The time from `requested_at` to the deadline of an escalation without `expires_at`.
    pub time_to_live: Duration,
}

impl DecodeRules {
    /// Returns rules for records that were accepted before, perhaps under another configuration:
    /// any type, any size.
    #[must_use]
    pub fn of_accepted(&self) -> Self {
        Self { types: Vec::new(), max_bytes: usize::MAX, ..*self }
    }
}

/// The result of decoding a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// The type names something else; the record is skipped and counted.
    NotForUs,
    /// No session is known that an outcome could name; the record goes to the dead-letter topic.
    Malformed(Malformed),
    /// The session is known; the event gets an outcome.
    Event(Box<Event>),
}

/// Decodes one record that was received at `now`.
pub fn decode(record: &Record, rules: &DecodeRules, now: Timestamp) -> Decoded {
    match decode_event(record, rules, now) {
        Ok(Some(event)) => Decoded::Event(Box::new(event)),
        Ok(None) => Decoded::NotForUs,
        Err(malformed) => Decoded::Malformed(malformed),
    }
}

fn decode_event(
    record: &Record,
    rules: &DecodeRules,
    now: Timestamp,
) -> Result<Option<Event>, Malformed> {
    let is_ours = |kind: &str| rules.types.is_empty() || rules.types.iter().any(|t| t == kind);
    // The header comes first: it skips foreign records without parsing them, even broken ones.
    if let Some(kind) = record.header(headers::TYPE)
        && !std::str::from_utf8(kind).is_ok_and(is_ours)
    {
        return Ok(None);
    }
    let fields = parse(record.value.as_deref(), rules.max_bytes)?;
    match &fields.kind {
        Some(Value::String(kind)) if !is_ours(kind) => return Ok(None),
        None | Some(Value::String(_)) => {}
        Some(other) => {
            let error = format!("type must be text, got {}", fields::quoted(other));
            return Err(Malformed { class: MalformedClass::BadType, error });
        }
    }
    let session_id = identity("session_id", fields.session_id.as_ref())
        .and_then(|id| {
            id.ok_or_else(|| "session_id is missing: name the session to transfer".into())
        })
        .map_err(|error| Malformed { class: MalformedClass::BadSessionId, error })?;
    let id = identity("id", fields.id.as_ref())
        .map_err(|error| Malformed { class: MalformedClass::BadId, error })?
        .unwrap_or_else(|| record.position.to_string());
    let mut problems = Problems::default();
    let requested_at = problems.time("requested_at", fields.requested_at.as_ref());
    let expires_at = problems.time("expires_at", fields.expires_at.as_ref());
    let request = transfer_request(&fields, &mut problems);
    // A time in the future would extend the time to live, so it counts as now.
    let requested_at = requested_at.or(record.timestamp).map_or(now, |t| t.min(now));
    let deadline = expires_at.unwrap_or_else(|| {
        requested_at.saturating_add(rules.time_to_live).unwrap_or(Timestamp::MAX)
    });
    Ok(Some(Event {
        id: id.into(),
        session_id: session_id.into(),
        source: record.position.clone(),
        requested_at,
        deadline,
        trace: trace(record),
        request: problems.into_result(request),
    }))
}

fn parse(value: Option<&[u8]>, max_bytes: usize) -> Result<EscalationFields, Malformed> {
    let malformed = |class, error: String| Err(Malformed { class, error });
    let Some(value) = value else {
        return malformed(MalformedClass::NullValue, "the value is null (a tombstone)".into());
    };
    if value.len() > max_bytes {
        let error = format!("the value has {} bytes; the limit is {max_bytes}", value.len());
        return malformed(MalformedClass::TooLarge, error);
    }
    // Serde would read an array as a struct whose fields come in order.
    let is_object = value.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !is_object {
        return match serde_json::from_slice::<serde::de::IgnoredAny>(value) {
            Ok(_) => malformed(MalformedClass::NotAnObject, "JSON, but not an object".into()),
            Err(error) => malformed(MalformedClass::NotJson, format!("not JSON: {error}")),
        };
    }
    serde_json::from_slice(value)
        .or_else(|error| malformed(MalformedClass::NotJson, format!("not JSON: {error}")))
}

/// Reads an id as text. A whole number is accepted as its digits; `None` where the field is absent.
fn identity(name: &str, value: Option<&Value>) -> Result<Option<String>, String> {
    let text = match value {
        None => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => n.to_string(),
        Some(other) => return Err(format!("{name} must be text, got {}", fields::quoted(other))),
    };
    let allowed = format!("allowed are 1 to {MAX_ID_BYTES} bytes without control characters");
    if text.trim().is_empty() {
        Err(format!("{name} is blank; {allowed}"))
    } else if text.len() > MAX_ID_BYTES {
        Err(format!("{name} has {} bytes; {allowed}", text.len()))
    } else if text.chars().any(char::is_control) {
        Err(format!("{name} has a control character; {allowed}"))
    } else {
        Ok(Some(text))
    }
}

fn transfer_request(fields: &EscalationFields, problems: &mut Problems) -> TransferRequest {
    problems.text("reason", fields.reason.as_ref());
    TransferRequest {
        requested_target: requested_target(fields.target.as_ref(), problems),
        priority: problems.number("priority", fields.priority.as_ref(), 0..=9).map(|n| n as u8),
        attributes: problems.flat("attributes", fields.attributes.as_ref()),
        options: options(fields.options.as_ref(), problems),
    }
}

fn requested_target(target: Option<&Value>, problems: &mut Problems) -> RequestedTarget {
    let Some(target) = problems.object("target", target) else { return RequestedTarget::default() };
    let [agents, group, strict] = TARGET_FIELDS.map(|name| target.get(name));
    RequestedTarget {
        agents: problems.texts("target.agents", agents),
        group: problems.number("target.group", group, 1..=i64::MAX as u64),
        strict: problems.boolean("target.strict", strict).unwrap_or(false),
    }
}

fn options(options: Option<&Value>, problems: &mut Problems) -> TransferOptions {
    let Some(options) = problems.object("options", options) else {
        return TransferOptions::default();
    };
    TransferOptions::read(&mut WrittenOptions { options, problems })
}

struct WrittenOptions<'a> {
    options: &'a Map<String, Value>,
    problems: &'a mut Problems,
}

impl OptionSource for WrittenOptions<'_> {
    fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.problems.flag(&format!("options.{name}"), self.options.get(name))
    }

    fn seconds(&mut self, name: &'static str) -> Option<u64> {
        let range = 0..=u64::from(u32::MAX);
        self.problems.number(&format!("options.{name}"), self.options.get(name), range)
    }
}

/// Returns the first trace header of each name. A header longer than any real one is dropped,
/// because the outcome must fit its topic.
fn trace(record: &Record) -> Vec<Header> {
    let first = |name| record.headers.iter().find(|(own, _)| own == name);
    let fits = |(_, value): &&Header| value.as_ref().is_none_or(|v| v.len() <= MAX_TRACE_BYTES);
    [headers::TRACEPARENT, headers::TRACESTATE]
        .into_iter()
        .filter_map(first)
        .filter(fits)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
