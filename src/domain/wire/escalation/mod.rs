//! Escalation v1: the JSON of the input topic.
//!
//! [`decode`] judges a record in this order: not for us, malformed, invalid. An invalid escalation
//! is an [`Event`] whose `request` is an error; it gets the outcome `rejected`. The course judges
//! the deadline later. `handoff publish` writes [`EscalationFields`] and checks them with [`decode`].
//!
//! A record becomes [`EscalationFields`] first, where needed after a [`repair`] of its text, and these
//! become an [`Event`]. Only fields that decide who is asked are strict. What cannot be read in the
//! others is left out, and the event's `notes` say so.

mod cause;
mod fields;
mod times;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use self::fields::Problems;
use super::{headers, repair};
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
#[derive(Debug, Default, Serialize)]
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

/// The name of a field while it is read; reading it takes no allocation.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum FieldName {
    Type,
    Id,
    SessionId,
    RequestedAt,
    ExpiresAt,
    Reason,
    Target,
    Priority,
    Attributes,
    Options,
    #[serde(other)]
    Unknown,
}

/// Written by hand because a derived reader refuses a doubled field; here the last one counts, as in
/// most JSON libraries.
impl<'de> Deserialize<'de> for EscalationFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = EscalationFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EscalationFields, A::Error> {
        let mut fields = EscalationFields::default();
        while let Some(name) = map.next_key()? {
            let field = match name {
                FieldName::Type => &mut fields.kind,
                FieldName::Id => &mut fields.id,
                FieldName::SessionId => &mut fields.session_id,
                FieldName::RequestedAt => &mut fields.requested_at,
                FieldName::ExpiresAt => &mut fields.expires_at,
                FieldName::Reason => &mut fields.reason,
                FieldName::Target => &mut fields.target,
                FieldName::Priority => &mut fields.priority,
                FieldName::Attributes => &mut fields.attributes,
                FieldName::Options => &mut fields.options,
                FieldName::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = map.next_value()?;
        }
        Ok(fields)
    }
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
        && !std::str::from_utf8(kind).is_ok_and(|kind| is_ours(unquoted(kind)))
    {
        return Ok(None);
    }
    let written = Written::read(record.value.as_deref(), rules.max_bytes)?;
    match &written.fields.kind {
        Some(Value::String(kind)) if !is_ours(kind) => return Ok(None),
        None | Some(Value::String(_)) => {}
        Some(other) => {
            let error = format!("type must be text, got {}", fields::quoted(other));
            return Err(Malformed { class: MalformedClass::BadType, error });
        }
    }
    written.into_event(record, rules, now).map(Some)
}

/// The fields of a record as they were written.
struct Written<'r> {
    fields: EscalationFields,
    /// The text was repaired first, so characters of an id may be missing.
    is_repaired: bool,
    /// The text that was parsed.
    value: &'r [u8],
}

impl<'r> Written<'r> {
    fn read(value: Option<&'r [u8]>, max_bytes: usize) -> Result<Self, Malformed> {
        let malformed = |class, error: String| Err(Malformed { class, error });
        let Some(value) = value else {
            return malformed(MalformedClass::NullValue, "the value is null (a tombstone)".into());
        };
        if value.len() > max_bytes {
            let error = format!("the value has {} bytes; the limit is {max_bytes}", value.len());
            return malformed(MalformedClass::TooLarge, error);
        }
        let text = repair::trimmed(value);
        if let Ok(fields) = serde_json::from_slice(text) {
            return Ok(Self { fields, is_repaired: false, value: text });
        }
        let repaired = repair::repaired(text);
        if let Ok(fields) = serde_json::from_str(&repaired) {
            return Ok(Self { fields, is_repaired: true, value: text });
        }
        let cause = cause::of_value(value).map(|cause| cause + ": ").unwrap_or_default();
        match serde_json::from_str::<IgnoredAny>(&repaired) {
            Ok(_) => {
                malformed(MalformedClass::NotAnObject, format!("{cause}JSON, but not an object"))
            }
            Err(error) => malformed(MalformedClass::NotJson, format!("{cause}not JSON: {error}")),
        }
    }

    fn into_event(
        self,
        record: &Record,
        rules: &DecodeRules,
        now: Timestamp,
    ) -> Result<Event, Malformed> {
        let malformed = |class| move |error| Malformed { class, error };
        let session_id = self
            .identity("session_id", self.fields.session_id.as_ref())
            .and_then(|id| id.ok_or_else(|| self.without_session()))
            .map_err(malformed(MalformedClass::BadSessionId))?;
        let id = self
            .identity("id", self.fields.id.as_ref())
            .map_err(malformed(MalformedClass::BadId))?
            .unwrap_or_else(|| record.position.to_string());
        let mut problems = Problems::new(self.is_repaired);
        let requested_at = problems.time("requested_at", self.fields.requested_at.as_ref());
        let expires_at = problems.time("expires_at", self.fields.expires_at.as_ref());
        let request = transfer_request(&self.fields, &mut problems);
        // A time in the future would extend the time to live, so it counts as now.
        let requested_at = requested_at.or(record.timestamp).map_or(now, |t| t.min(now));
        let deadline = expires_at.unwrap_or_else(|| {
            requested_at.saturating_add(rules.time_to_live).unwrap_or(Timestamp::MAX)
        });
        let (refusal, notes) = problems.into_parts();
        Ok(Event {
            id: id.into(),
            session_id: session_id.into(),
            source: record.position.clone(),
            requested_at,
            deadline,
            trace: trace(record),
            request: refusal.map_or(Ok(request), Err),
            notes,
        })
    }

    /// Reads an id. One with a repaired character is refused: two ids that differ only there would
    /// become one, and the second event would count as a duplicate.
    fn identity(&self, name: &str, value: Option<&Value>) -> Result<Option<String>, String> {
        let id = identity(name, value)?;
        match &id {
            Some(id) if self.is_repaired && id.contains(repair::REPLACEMENT) => {
                let shown = fields::quoted(&id.as_str().into());
                Err(format!("{name} has half a character or broken UTF-8: {shown}"))
            }
            _ => Ok(id),
        }
    }

    fn without_session(&self) -> String {
        let cause = cause::of_missing_session(self.value);
        let cause = cause.map(|cause| format!("; {cause}")).unwrap_or_default();
        format!("session_id is missing: name the session to transfer{cause}")
    }
}

/// Returns a type without blanks around it and without the quotes that a JSON serializer of headers
/// adds, as Spring's does.
fn unquoted(kind: &str) -> &str {
    let kind = kind.trim();
    kind.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(kind)
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
        agents: problems.logins("target.agents", agents),
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
/// because the outcome must fit its topic; one that is not ASCII, because readers of the outcome
/// would fail to decode what no tracing library has written.
fn trace(record: &Record) -> Vec<Header> {
    let first = |name| record.headers.iter().find(|(own, _)| own == name);
    let is_sound = |value: &Vec<u8>| value.len() <= MAX_TRACE_BYTES && value.is_ascii();
    let fits = |(_, value): &&Header| value.as_ref().is_none_or(is_sound);
    [headers::TRACEPARENT, headers::TRACESTATE]
        .into_iter()
        .filter_map(first)
        .filter(fits)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
