//! From a record to an escalation: what is asked for, or why it cannot be read.
//!
//! Judged in this order: not for us (skipped), malformed (dead letter), invalid (an event
//! whose `ask` is an error: it is answered `rejected`). The deadline is judged later.
//! This file never panics on any bytes, and never calls a bad field good by guessing.

mod fields;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use self::fields::Problems;
use crate::domain::record::{Header, Position, Record};

/// The longest identity (event id, session id) in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// The longest trace header that is continued; W3C asks for 512 bytes of `tracestate`.
const MAX_TRACE_BYTES: usize = 1024;

/// How records are read.
#[derive(Debug, Clone)]
pub struct DecodeRules {
    /// The values of `type` that mean an escalation; empty: any.
    pub types: Vec<String>,
    /// A larger value is malformed.
    pub max_bytes: usize,
    /// The time to live of an event that names no `expires_at`.
    pub time_to_live: Duration,
}

impl DecodeRules {
    /// For records that were accepted before, perhaps under other rules.
    #[must_use]
    pub fn of_accepted(&self) -> Self {
        Self { types: Vec::new(), max_bytes: usize::MAX, ..*self }
    }
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Its type names something else: skip and count.
    NotForUs,
    /// Nobody could be told anything about it: to the dead-letter topic.
    Malformed(Malformed),
    /// A session is known: it gets an outcome.
    Event(Box<Event>),
}

/// Why a record is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The kind of fault, for the header and the metric.
    pub class: MalformedClass,
    /// One sentence for people.
    pub error: String,
}

/// The kinds of malformed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MalformedClass {
    /// A null value (tombstone).
    NullValue,
    /// The value is over the size limit.
    TooLarge,
    /// Not readable as JSON.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// `type` is not text.
    BadType,
    /// No usable `session_id`.
    BadSessionId,
    /// An unusable `id`.
    BadId,
    /// The `id` was used with another session.
    ConflictingId,
}

impl MalformedClass {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NullValue,
        Self::TooLarge,
        Self::NotJson,
        Self::NotAnObject,
        Self::BadType,
        Self::BadSessionId,
        Self::BadId,
        Self::ConflictingId,
    ];

    /// The word in the header `handoff-error-class` and in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::BadType => "bad_type",
            Self::BadSessionId => "bad_session_id",
            Self::BadId => "bad_id",
            Self::ConflictingId => "conflicting_id",
        }
    }
}

/// One escalation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its identity: its own `id`, else the record's position.
    pub id: Arc<str>,
    /// The session to hand over.
    pub session_id: Arc<str>,
    /// The record it came from.
    pub source: Position,
    /// When it began to wait; never later than it was received.
    pub requested_at: Timestamp,
    /// Past this nothing is called any more.
    pub deadline: Timestamp,
    /// The `traceparent` and `tracestate` headers, continued in the outcome.
    pub trace: Vec<Header>,
    /// What is asked for, or the sentence that says which field is wrong.
    pub request: Result<TransferRequest, String>,
}

/// What an escalation asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransferRequest {
    /// Who should take it.
    pub requested_target: RequestedTarget,
    /// Place in the queue: 0 is the highest, 9 the lowest.
    pub priority: Option<u8>,
    /// For routing.
    pub attributes: BTreeMap<String, String>,
    /// The flags of `transfer_to_human`.
    pub options: TransferOptions,
}

/// The event's own target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedTarget {
    /// Agents who may take it.
    pub agents: Vec<String>,
    /// The agent group to pick from.
    pub group: Option<u64>,
    /// Nobody else may take it.
    pub strict: bool,
}

/// The flags of `transfer_to_human`; `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// Desk tells the user when nobody is online.
    pub send_tip_if_no_agent_online: Option<bool>,
    /// Desk checks the console's working hours first.
    pub check_if_during_working_hours: Option<bool>,
    /// Desk tells the user outside working hours.
    pub send_prompt_not_during_working_hours: Option<bool>,
    /// Desk ends the session when nobody is online.
    pub end_session_when_no_member_online: Option<bool>,
    /// Full agents mean "busy" instead of a place in the queue.
    pub disable_queuing: Option<bool>,
    /// Agents who set themselves busy may be assigned.
    pub allow_assign_busy_member: Option<bool>,
    /// Longest wait in the queue, in seconds.
    pub queue_timeout: Option<u64>,
}

impl TransferOptions {
    /// These, and where they say nothing, the others.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let flag = |of: fn(&Self) -> Option<bool>| of(self).or(of(others));
        Self {
            send_tip_if_no_agent_online: flag(|o| o.send_tip_if_no_agent_online),
            check_if_during_working_hours: flag(|o| o.check_if_during_working_hours),
            send_prompt_not_during_working_hours: flag(|o| o.send_prompt_not_during_working_hours),
            end_session_when_no_member_online: flag(|o| o.end_session_when_no_member_online),
            disable_queuing: flag(|o| o.disable_queuing),
            allow_assign_busy_member: flag(|o| o.allow_assign_busy_member),
            queue_timeout: self.queue_timeout.or(others.queue_timeout),
        }
    }
}

/// The top level as it was written; `context` and unknown fields are passed over.
#[derive(Deserialize)]
struct Draft {
    #[serde(rename = "type")]
    kind: Option<Value>,
    id: Option<Value>,
    session_id: Option<Value>,
    requested_at: Option<Value>,
    expires_at: Option<Value>,
    reason: Option<Value>,
    target: Option<Value>,
    priority: Option<Value>,
    attributes: Option<Value>,
    options: Option<Value>,
}

/// Read one record, received at `now`.
pub fn decode(record: &Record, rules: &DecodeRules, now: Timestamp) -> Decoded {
    match judge(record, rules, now) {
        Ok(Some(event)) => Decoded::Event(Box::new(event)),
        Ok(None) => Decoded::NotForUs,
        Err(malformed) => Decoded::Malformed(malformed),
    }
}

fn judge(record: &Record, rules: &DecodeRules, now: Timestamp) -> Result<Option<Event>, Malformed> {
    let ours = |kind: &str| rules.types.is_empty() || rules.types.iter().any(|t| t == kind);
    if let Some(kind) = record.header("handoff-type")
        && !std::str::from_utf8(kind).is_ok_and(ours)
    {
        return Ok(None);
    }
    let draft = parse(record.value.as_deref(), rules.max_bytes)?;
    match &draft.kind {
        Some(Value::String(kind)) if !ours(kind) => return Ok(None),
        None | Some(Value::String(_)) => {}
        Some(other) => {
            let error = format!("type must be text, got {}", fields::shown(other));
            return Err(Malformed { class: MalformedClass::BadType, error });
        }
    }
    let session_id = identity("session_id", draft.session_id.as_ref())
        .and_then(|id| {
            id.ok_or_else(|| "session_id is missing: name the session to hand over".into())
        })
        .map_err(|error| Malformed { class: MalformedClass::BadSessionId, error })?;
    let id = identity("id", draft.id.as_ref())
        .map_err(|error| Malformed { class: MalformedClass::BadId, error })?
        .unwrap_or_else(|| record.position.to_string());
    let mut problems = Problems::default();
    let times = times(&draft, record.timestamp, &mut problems);
    let ask = ask(&draft, &mut problems);
    let requested_at = times.requested_at.map_or(now, |t| t.min(now));
    let deadline = times.expires_at.unwrap_or_else(|| {
        requested_at.saturating_add(rules.time_to_live).unwrap_or(Timestamp::MAX)
    });
    Ok(Some(Event {
        id: id.into(),
        session_id: session_id.into(),
        source: record.position.clone(),
        requested_at,
        deadline,
        trace: trace(record),
        request: problems.into_result(ask),
    }))
}

fn parse(value: Option<&[u8]>, max_bytes: usize) -> Result<Draft, Malformed> {
    let fault = |class, error: String| Err(Malformed { class, error });
    let Some(value) = value else {
        return fault(MalformedClass::NullValue, "the value is null (a tombstone)".into());
    };
    if value.len() > max_bytes {
        let error = format!("the value has {} bytes; the limit is {max_bytes}", value.len());
        return fault(MalformedClass::TooLarge, error);
    }
    let object = value.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !object {
        return match serde_json::from_slice::<serde::de::IgnoredAny>(value) {
            Ok(_) => fault(MalformedClass::NotAnObject, "JSON, but not an object".into()),
            Err(error) => fault(MalformedClass::NotJson, format!("not JSON: {error}")),
        };
    }
    serde_json::from_slice(value)
        .or_else(|error| fault(MalformedClass::NotJson, format!("not JSON: {error}")))
}

/// An id as text: a whole number is harmless, blank or unprintable is not.
fn identity(name: &str, value: Option<&Value>) -> Result<Option<String>, String> {
    let text = match value {
        None => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => n.to_string(),
        Some(other) => return Err(format!("{name} must be text, got {}", fields::shown(other))),
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

struct Times {
    requested_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

fn times(draft: &Draft, recorded_at: Option<Timestamp>, problems: &mut Problems) -> Times {
    let requested_at = problems.time("requested_at", draft.requested_at.as_ref());
    let expires_at = problems.time("expires_at", draft.expires_at.as_ref());
    Times { requested_at: requested_at.or(recorded_at), expires_at }
}

fn ask(draft: &Draft, problems: &mut Problems) -> TransferRequest {
    problems.text("reason", draft.reason.as_ref());
    TransferRequest {
        requested_target: requested_target(draft.target.as_ref(), problems),
        priority: problems.number("priority", draft.priority.as_ref(), 0..=9).map(|n| n as u8),
        attributes: problems.flat("attributes", draft.attributes.as_ref()),
        options: options(draft.options.as_ref(), problems),
    }
}

fn requested_target(target: Option<&Value>, problems: &mut Problems) -> RequestedTarget {
    let Some(target) = problems.object("target", target) else { return RequestedTarget::default() };
    RequestedTarget {
        agents: problems.texts("target.agents", target.get("agents")),
        group: problems.number("target.group", target.get("group"), 1..=i64::MAX as u64),
        strict: problems.truth("target.strict", target.get("strict")).unwrap_or(false),
    }
}

fn options(options: Option<&Value>, problems: &mut Problems) -> TransferOptions {
    let Some(options) = problems.object("options", options) else {
        return TransferOptions::default();
    };
    let mut flag = |name: &str| problems.flag(&format!("options.{name}"), options.get(name));
    TransferOptions {
        send_tip_if_no_agent_online: flag("send_tip_if_no_agent_online"),
        check_if_during_working_hours: flag("check_if_during_working_hours"),
        send_prompt_not_during_working_hours: flag("send_prompt_not_during_working_hours"),
        end_session_when_no_member_online: flag("end_session_when_no_member_online"),
        disable_queuing: flag("disable_queuing"),
        allow_assign_busy_member: flag("allow_assign_busy_member"),
        queue_timeout: problems.number(
            "options.queue_timeout",
            options.get("queue_timeout"),
            0..=u64::from(u32::MAX),
        ),
    }
}

/// The first header of each name; what is longer than any real one is not continued.
fn trace(record: &Record) -> Vec<Header> {
    let first = |name| record.headers.iter().find(|(own, _)| own == name);
    let real = |(_, value): &&Header| value.as_ref().is_none_or(|v| v.len() <= MAX_TRACE_BYTES);
    ["traceparent", "tracestate"].into_iter().filter_map(first).filter(real).cloned().collect()
}

#[cfg(test)]
mod tests;
