//! Escalation v1: the JSON of the input topic.
//!
//! [`decode`] judges a record in this order: not for us, malformed, invalid. An invalid escalation
//! is an [`Event`] whose `request` is an error; it gets the outcome `rejected`. The course judges
//! the deadline later. `handoff publish` writes [`EscalationFields`] and checks them with [`decode`].
//!
//! The value is taken out of the envelopes around it ([`unwrap`](mod@super::unwrap)) and becomes
//! [`EscalationFields`] in one of the [`dialects`], where needed after a [`repair`](super::repair) of its text; these become an
//! [`Event`]. Only fields that decide who is asked are strict. What cannot be read in the others is
//! left out, and the event's `notes` say so.

mod cause;
pub(super) mod fields;
mod stored;
mod times;
pub(super) mod written;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use self::stored::{StoredRecord, decode_as, decode_stored, stored_identity};

use super::dialects::{self, DialectInput, Reading, cloudevents};
use super::headers;
use super::input::InputRules;
use super::reading::{ReadingStep, ReadingSteps, Skip, SkipReason};
use super::unwrap::{OTHER_CHANGE, Unwrapped, unwrap};
use crate::domain::event::{Event, Malformed, MalformedClass};
use crate::domain::record::Record;

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
    /// An object with the options of [`TransferOptions`](crate::domain::event::TransferOptions).
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
    /// How records of other systems are read.
    pub input: Arc<InputRules>,
}

impl DecodeRules {
    /// Returns rules for records that were accepted before, perhaps under another configuration:
    /// any type, also of a CloudEvent, and any size.
    #[must_use]
    pub fn of_accepted(&self) -> Self {
        Self {
            types: Vec::new(),
            max_bytes: usize::MAX,
            time_to_live: self.time_to_live,
            input: Arc::new(InputRules {
                cloudevents_types: Vec::new(),
                ..InputRules::clone(&self.input)
            }),
        }
    }
}

/// The result of decoding a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// It is no escalation of this service; the record is skipped and counted.
    NotForUs(Skip),
    /// No session is known that an outcome could name; the record goes to the dead-letter topic.
    Malformed(Malformed),
    /// The session is known; the event gets an outcome.
    Event(Box<Event>),
}

/// Decodes one record that was received at `now`.
pub fn decode(record: &Record, rules: &DecodeRules, now: Timestamp) -> Decoded {
    decode_with(record, rules, now, &mut ReadingSteps::default())
}

/// The same, and reports the steps.
pub fn decode_with(
    record: &Record,
    rules: &DecodeRules,
    now: Timestamp,
    steps: &mut ReadingSteps,
) -> Decoded {
    decode_record(record, rules, now, steps).unwrap_or_else(Decoded::Malformed)
}

fn decode_record(
    record: &Record,
    rules: &DecodeRules,
    now: Timestamp,
    steps: &mut ReadingSteps,
) -> Result<Decoded, Malformed> {
    let is_ours = |kind: &str| rules.types.is_empty() || rules.types.iter().any(|t| t == kind);
    // The header comes first: it skips foreign records without parsing them, even broken ones.
    if let Some(kind) = record.header(headers::TYPE)
        && !std::str::from_utf8(kind).is_ok_and(|kind| is_ours(unquoted(kind)))
    {
        let kind = fields::quoted(&String::from_utf8_lossy(kind).into());
        let name = headers::TYPE;
        let why = format!("the header {name} is {kind}, which is not in escalation.types");
        steps.add(|| ReadingStep::Skipped(why.clone()));
        return Ok(Decoded::NotForUs(Skip::new(SkipReason::OtherType, why)));
    }
    let value = value_of(record, rules.max_bytes)?;
    let Some(Unwrapped { text, is_repaired }) = unwrapped(record, value, &rules.input, steps)?
    else {
        return Ok(Decoded::NotForUs(Skip::new(SkipReason::NoEscalation, OTHER_CHANGE)));
    };
    let input = DialectInput {
        text: &text,
        key: record.key.as_deref(),
        headers: &record.headers,
        types: &rules.types,
    };
    match dialects::read(&input, &rules.input, steps) {
        Reading::Unrecognised(why) => {
            Ok(Decoded::NotForUs(Skip::new(SkipReason::OtherFormat, why)))
        }
        Reading::NotForUs(skip) => Ok(Decoded::NotForUs(skip)),
        Reading::Malformed(malformed) => Err(malformed),
        Reading::Escalation(mut written) => {
            written.is_repaired |= is_repaired;
            let event = written.into_event(record, rules, now)?;
            Ok(Decoded::Event(Box::new(event)))
        }
    }
}

fn value_of(record: &Record, max_bytes: usize) -> Result<&[u8], Malformed> {
    let Some(value) = record.value.as_deref() else {
        let error = "the value is null (a tombstone)".to_owned();
        return Err(Malformed { class: MalformedClass::NullValue, error });
    };
    if value.len() > max_bytes {
        let error =
            format!("the value has {} bytes; escalation.max_bytes allows {max_bytes}", value.len());
        return Err(Malformed { class: MalformedClass::TooLarge, error });
    }
    Ok(value)
}

/// Removes the envelopes around a value. The data of a CloudEvent has rules of its own.
fn unwrapped<'r>(
    record: &Record,
    value: &'r [u8],
    input: &InputRules,
    steps: &mut ReadingSteps,
) -> Result<Option<Unwrapped<'r>>, Malformed> {
    let is_data = input.cloudevents && cloudevents::is_binary(&record.headers);
    if input.unwrap && !is_data {
        unwrap(value, steps)
    } else {
        Ok(Some(Unwrapped::as_it_is(value)))
    }
}

/// Returns a type without blanks around it and without the quotes that a JSON serializer of headers
/// adds, as Spring's does.
fn unquoted(kind: &str) -> &str {
    let kind = kind.trim();
    kind.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(kind)
}

#[cfg(test)]
mod tests;
