//! From the fields of an escalation, in whatever form they were written, to an [`Event`].
//!
//! Every format is read into [`Written`]; nothing behind it knows the difference. Only fields that
//! decide who is asked are strict.

use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::fields::{self, Problems};
use super::{DecodeRules, EscalationFields, TARGET_FIELDS, cause};
use crate::domain::event::{
    Correlation, Event, Malformed, MalformedClass, OptionSource, RequestedTarget, TransferOptions,
    TransferRequest,
};
use crate::domain::record::{Header, Record};
use crate::domain::wire::replay::FirstRecord;
use crate::domain::wire::{headers, repair};

/// The longest event id and session id in bytes.
const MAX_ID_BYTES: usize = 256;

/// The longest trace header that is copied to the outcome; W3C asks for 512 bytes of `tracestate`.
const MAX_TRACE_BYTES: usize = 1024;

/// JSON that was read, where needed after a repair of its text.
pub(in crate::domain::wire) struct Parsed<T> {
    pub(in crate::domain::wire) value: T,
    /// The text was repaired first, so characters of an id may be missing.
    pub(in crate::domain::wire) is_repaired: bool,
}

/// Reads a JSON object.
pub(in crate::domain::wire) fn parse<T: DeserializeOwned>(
    text: &[u8],
    headers: &[Header],
) -> Result<Parsed<T>, Malformed> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(Parsed { value, is_repaired: false });
    }
    let repaired = repair::repaired(text);
    if let Ok(value) = serde_json::from_str(&repaired) {
        return Ok(Parsed { value, is_repaired: true });
    }
    let cause = cause::of_value(text).or_else(|| cause::of_headers(headers));
    let cause = cause.map(|cause| cause + ": ").unwrap_or_default();
    let malformed = |class, error| Err(Malformed { class, error });
    match serde_json::from_str::<IgnoredAny>(&repaired) {
        Ok(_) => malformed(MalformedClass::NotAnObject, format!("{cause}JSON, but not an object")),
        Err(error) => malformed(MalformedClass::NotJson, format!("{cause}not JSON: {error}")),
    }
}

/// The fields of a record as they were written, in any format.
pub(in crate::domain::wire) struct Written<'r> {
    pub(in crate::domain::wire) fields: EscalationFields,
    /// The text was repaired first, so characters of an id may be missing.
    pub(in crate::domain::wire) is_repaired: bool,
    /// Why there may be no session.
    pub(in crate::domain::wire) session_help: SessionHelp<'r>,
    /// What was left out already, a sentence each.
    pub(in crate::domain::wire) notes: Vec<String>,
    /// The trace context of the format, which counts where the record has no headers of these names.
    pub(in crate::domain::wire) trace: Vec<Header>,
    /// What the outcome repeats.
    pub(in crate::domain::wire) correlation: Correlation,
}

/// Why a record has no session.
pub(in crate::domain::wire) enum SessionHelp<'r> {
    /// The fields of this object show it.
    Fields(&'r [u8]),
    /// This sentence says it.
    Sentence(String),
}

impl SessionHelp<'_> {
    /// Adds a sentence.
    pub(in crate::domain::wire) fn add(&mut self, sentence: &str) {
        let before = self.text();
        let text = if before.is_empty() { before } else { before + "; " };
        *self = Self::Sentence(text + sentence);
    }

    fn text(&self) -> String {
        match self {
            Self::Fields(text) => cause::of_missing_session(text).unwrap_or_default(),
            Self::Sentence(sentence) => sentence.clone(),
        }
    }
}

impl<'r> Written<'r> {
    /// Reads escalation v1.
    pub(in crate::domain::wire) fn read(
        text: &'r [u8],
        headers: &[Header],
    ) -> Result<Self, Malformed> {
        let Parsed { value: fields, is_repaired } = parse(text, headers)?;
        Ok(Self { is_repaired, ..Self::new(fields, SessionHelp::Fields(text)) })
    }

    pub(in crate::domain::wire) fn new(
        fields: EscalationFields,
        session_help: SessionHelp<'r>,
    ) -> Self {
        Self {
            fields,
            is_repaired: false,
            session_help,
            notes: Vec::new(),
            trace: Vec::new(),
            correlation: Correlation::default(),
        }
    }

    /// The same without a borrowed text.
    pub(in crate::domain::wire) fn detached(self) -> Written<'static> {
        let Self { fields, is_repaired, notes, trace, correlation, session_help } = self;
        let session_help = match session_help {
            SessionHelp::Sentence(sentence) => SessionHelp::Sentence(sentence),
            SessionHelp::Fields(_) if fields.session_id.is_some() => {
                SessionHelp::Sentence(String::new())
            }
            SessionHelp::Fields(_) => SessionHelp::Sentence(session_help.text()),
        };
        Written { fields, is_repaired, session_help, notes, trace, correlation }
    }

    pub(in crate::domain::wire) fn into_event(
        self,
        record: &Record,
        rules: &DecodeRules,
        now: Timestamp,
    ) -> Result<Event, Malformed> {
        // A replayed record stands for the one that was read first.
        let first = FirstRecord::of(record);
        let malformed = |class| move |error| Malformed { class, error };
        let session_id = self
            .identity("session_id", self.fields.session_id.as_ref())
            .and_then(|id| id.ok_or_else(|| self.without_session()))
            .map_err(malformed(MalformedClass::BadSessionId))?;
        let id = self
            .identity("id", self.fields.id.as_ref())
            .map_err(malformed(MalformedClass::BadId))?
            // The id of a session in this header tells no two escalations apart.
            .or_else(|| header_id(record, rules).filter(|id| *id != session_id))
            .unwrap_or_else(|| first.position.to_string());
        let mut problems = Problems::new(self.is_repaired, &self.notes);
        let requested_at = problems.time("requested_at", self.fields.requested_at.as_ref());
        let expires_at = problems.time("expires_at", self.fields.expires_at.as_ref());
        let request = transfer_request(&self.fields, &mut problems);
        // A time in the future would extend the time to live, so it counts as now.
        let requested_at = requested_at.or(first.timestamp).map_or(now, |t| t.min(now));
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
            trace: trace(record, &self.trace),
            request: refusal.map_or(Ok(request), Err),
            notes,
            correlation: self.correlation,
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
        let cause = self.session_help.text();
        let cause = if cause.is_empty() { cause } else { format!("; {cause}") };
        format!("session_id is missing: name the session to transfer{cause}")
    }
}

/// Returns the identity that a header names, such as that of Debezium's outbox, where it can be used.
fn header_id(record: &Record, rules: &DecodeRules) -> Option<String> {
    let id = record.header(rules.input.id_header.as_deref()?)?;
    let id = Value::from(super::unquoted(std::str::from_utf8(id).ok()?));
    identity("id", Some(&id)).ok().flatten()
}

/// Returns an identity of two parts, `SCOPE ID`. Two pairs have the same identity only if they are equal:
/// where a blank in the scope could be taken for the one between the parts, and where the text would be
/// too long, it is the hash of both parts and of the first one's length.
pub(in crate::domain::wire) fn joined_identity(scope: &str, id: &str) -> String {
    let identity = format!("{scope} {id}");
    if identity.len() <= MAX_ID_BYTES && !scope.contains(' ') {
        return identity;
    }
    let parts = format!("{} {identity}", scope.len());
    Sha256::digest(parts).iter().map(|byte| format!("{byte:02x}")).collect()
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
    // Read first: the notes name the fields in this order.
    let reason = problems.text("reason", fields.reason.as_ref());
    TransferRequest {
        reason,
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

/// Returns the first trace header of each name, else what the escalation's format has instead. A header longer than any real one is dropped,
/// because the outcome must fit its topic; one that is not ASCII, because readers of the outcome
/// would fail to decode what no tracing library has written.
pub(super) fn trace(record: &Record, of_format: &[Header]) -> Vec<Header> {
    let first = |name| {
        let named = |(own, _): &&Header| own == name;
        record.headers.iter().find(named).or_else(|| of_format.iter().find(named))
    };
    let is_sound = |value: &Vec<u8>| value.len() <= MAX_TRACE_BYTES && value.is_ascii();
    let fits = |(_, value): &&Header| value.as_ref().is_none_or(is_sound);
    [headers::TRACEPARENT, headers::TRACESTATE]
        .into_iter()
        .filter_map(first)
        .filter(fits)
        .cloned()
        .collect()
}
