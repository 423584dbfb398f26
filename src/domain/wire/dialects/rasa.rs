//! Rasa's tracker events, in the classic envelope: `{"sender_id": .., "event": .., ..}`.
//!
//! Nearly all records of such a topic are not for us: most are skipped by a search for the signal's
//! name, and of the others the few members that decide are borrowed from the text before anything else
//! is read. The newer envelope is in [`mantle`]. An action has no slots, so the session to transfer must
//! be the `sender_id`; a slot can carry a whole escalation.

use std::fmt;

use memchr::{memchr2, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{DialectInput, Reading, mantle, native};
use crate::domain::wire::escalation::EscalationFields;
use crate::domain::wire::escalation::written::{Parsed, SessionHelp, Written, parse};

/// What a record is that this dialect recognises.
pub(super) const SHAPE: &str = "event of Rasa: it has neither `event` and `sender_id` nor \
                               `conversation_id` and `event_id`";

/// Why a record is not of this dialect, and why it is not for us.
pub(super) const NO_EVENT: &str =
    "no event of Rasa: neither `event` with `sender_id` nor `conversation_id` with `event_id`";
pub(super) const OTHER_EVENT: &str = "another event of Rasa than the one of input.rasa_signal";

/// The event by which a bot asks for a human. Exactly one, or a customer is transferred twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RasaSignal {
    /// The action of this name has run.
    Action(String),
    /// The slot of this name is set: to an escalation, to the reason, or to `true`.
    Slot(String),
    /// The flow of this id has started. Classic envelope only.
    Flow(String),
    /// The skill of this id was activated. Newer envelope only.
    Skill(String),
    /// The tool of this name was executed; its arguments are an escalation. Newer envelope only.
    Tool(String),
    /// The bot was paused, so that a human takes over. Classic envelope only.
    Pause,
}

impl RasaSignal {
    /// What [`parse`](Self::parse) reads, for messages.
    pub const ALLOWED: &'static str =
        "\"action:NAME\", \"slot:NAME\", \"flow:ID\", \"skill:ID\", \"tool:NAME\" or \"pause\"";

    fn name(&self) -> &str {
        match self {
            Self::Action(name)
            | Self::Slot(name)
            | Self::Flow(name)
            | Self::Skill(name)
            | Self::Tool(name) => name,
            Self::Pause => "pause",
        }
    }

    /// Reads a signal as the configuration writes it.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "pause" {
            return Some(Self::Pause);
        }
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        let name = name.to_owned();
        match kind {
            "action" => Some(Self::Action(name)),
            "slot" => Some(Self::Slot(name)),
            "flow" => Some(Self::Flow(name)),
            "skill" => Some(Self::Skill(name)),
            "tool" => Some(Self::Tool(name)),
            _ => None,
        }
    }
}

impl fmt::Display for RasaSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(name) => write!(f, "action:{name}"),
            Self::Slot(name) => write!(f, "slot:{name}"),
            Self::Flow(id) => write!(f, "flow:{id}"),
            Self::Skill(id) => write!(f, "skill:{id}"),
            Self::Tool(name) => write!(f, "tool:{name}"),
            Self::Pause => f.write_str("pause"),
        }
    }
}

/// The members that decide, as they are written.
#[derive(Deserialize)]
struct ClassicEvent<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    sender_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    flow_id: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation_id: Option<&'a RawValue>,
}

/// Reads an event of either envelope.
pub(super) fn read<'r>(input: &DialectInput<'r>, signal: &RasaSignal) -> Reading<'r> {
    if cannot_be(input.text, signal) {
        return Reading::not_for_us(OTHER_EVENT);
    }
    // A struct is read from a list, too.
    if !input.text.trim_ascii_start().starts_with(b"{") {
        return Reading::unrecognised("no JSON object");
    }
    if let Ok(event) = serde_json::from_slice(input.text) {
        return of_event(&event, input, signal);
    }
    // A doubled member or text to repair: rare enough to be read twice.
    let Ok(Parsed { value, is_repaired }) = parse::<Map<String, Value>>(input.text, input.headers)
    else {
        return Reading::unrecognised("no JSON object");
    };
    let text = Value::Object(value).to_string();
    let again = DialectInput { text: text.as_bytes(), headers: &[], ..*input };
    let Ok(event) = serde_json::from_str(&text) else { return Reading::unrecognised(NO_EVENT) };
    match of_event(&event, &again, signal) {
        Reading::Escalation(mut written) => {
            written.is_repaired |= is_repaired;
            Reading::escalation(written.detached())
        }
        Reading::Unrecognised(why) => Reading::Unrecognised(why),
        Reading::NotForUs(skip) => Reading::NotForUs(skip),
        Reading::Malformed(malformed) => Reading::Malformed(malformed),
    }
}

/// Whether a text is an event of Rasa and has the signal's name nowhere. Searching is ten times faster
/// than parsing, and Rasa escapes no character of such a name. Rasa writes the members that show its
/// events before any object; other texts are parsed.
fn cannot_be(text: &[u8], signal: &RasaSignal) -> bool {
    let marks = if text.starts_with(b"{\"sender_id\"") {
        ["sender_id", "event"]
    } else if text.starts_with(b"{\"conversation_id\"") {
        ["conversation_id", "event_id"]
    } else {
        return false;
    };
    let name = signal.name();
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    name.chars().all(is_plain)
        && marks.iter().all(|mark| early_member(text, mark).is_some_and(|v| v.starts_with(b"\"")))
        && memmem::find(text, name.as_bytes()).is_none()
}

/// Returns the text from the value of a member on, if the member stands before any object or list.
fn early_member<'t>(text: &'t [u8], name: &str) -> Option<&'t [u8]> {
    let mut rest = text.strip_prefix(b"{")?;
    loop {
        let (own, after) = string(rest.trim_ascii_start())?;
        let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if own == name.as_bytes() {
            return Some(value);
        }
        let after = match string(value) {
            Some((_, after)) => after.trim_ascii_start(),
            None => &value[value.iter().position(|byte| b",}{[".contains(byte))?..],
        };
        rest = after.strip_prefix(b",")?;
    }
}

/// Splits a string at the start of a text into what is in it, as it is written, and what follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b'\\', inside.get(from..)?)?;
        if inside[at] == b'"' {
            return Some((&inside[..at], &inside[at + 1..]));
        }
        from = at + 2;
    }
}

fn of_event<'r>(
    event: &ClassicEvent<'_>,
    input: &DialectInput<'r>,
    signal: &RasaSignal,
) -> Reading<'r> {
    let kind = event.event.filter(|kind| kind.get().starts_with('"'));
    let (Some(kind), Some(sender)) = (kind, event.sender_id) else {
        return match event.conversation_id {
            Some(_) => mantle::read(input, signal),
            None => Reading::unrecognised(NO_EVENT),
        };
    };
    let is_signal = |expected, member: Option<&RawValue>, name: &str| {
        is_text(Some(kind), expected) && is_text(member, name)
    };
    let details = match signal {
        RasaSignal::Action(name) if is_signal("action", event.name, name) => Details::default(),
        RasaSignal::Flow(id) if is_signal("flow_started", event.flow_id, id) => Details::default(),
        RasaSignal::Pause if is_text(Some(kind), "pause") => Details::default(),
        RasaSignal::Slot(name) if is_signal("slot", event.name, name) => {
            match Details::of_slot(event.value) {
                Some(details) => details,
                None => return Reading::not_for_us("the slot was reset"),
            }
        }
        _ => return Reading::not_for_us(OTHER_EVENT),
    };
    details.into_reading(RasaEnvelope { session: sender, time: event.timestamp, id: None }, input)
}

/// What the envelope says of an escalation that does not say it itself.
pub(super) struct RasaEnvelope<'a> {
    pub(super) session: &'a RawValue,
    pub(super) time: Option<&'a RawValue>,
    pub(super) id: Option<&'a RawValue>,
}

/// What a signal says of the escalation.
#[derive(Default)]
pub(super) struct Details {
    fields: EscalationFields,
    is_repaired: bool,
}

impl Details {
    /// Reads the value of a slot. `None`: it was reset.
    pub(super) fn of_slot(value: Option<&RawValue>) -> Option<Self> {
        Self::of_json(value?.get())
    }

    /// Reads a member that is JSON in a string. `None`: there is nothing in it.
    pub(super) fn of_json_text(member: Option<&RawValue>) -> Option<Self> {
        let text = parse::<String>(member?.get().as_bytes(), &[]).ok()?.value;
        Self::of_json(&text)
    }

    fn of_json(json: &str) -> Option<Self> {
        let Parsed { value, is_repaired } = parse::<Value>(json.as_bytes(), &[]).ok()?;
        let fields = match value {
            Value::Null | Value::Bool(false) => return None,
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(fields) => fields,
                Err(_) => EscalationFields { reason: Some(text.into()), ..Default::default() },
            },
            object @ Value::Object(_) => serde_json::from_value(object).unwrap_or_default(),
            _ => EscalationFields::default(),
        };
        Some(Self { fields, is_repaired })
    }

    /// Completes the escalation by its envelope.
    pub(super) fn into_reading<'r>(
        self,
        envelope: RasaEnvelope<'_>,
        input: &DialectInput<'_>,
    ) -> Reading<'r> {
        let mut fields = self.fields;
        let id = envelope.id.and_then(value);
        fields.session_id = fields.session_id.or_else(|| value(envelope.session));
        fields.id = fields.id.or(id);
        // As text, because a float has not all digits of a number of seconds.
        let time = envelope.time.map(|time| Value::from(time.get().trim_matches('"')));
        fields.requested_at = fields.requested_at.or(time);
        let help = SessionHelp::Sentence("the event of Rasa names no conversation".to_owned());
        let written = Written { is_repaired: self.is_repaired, ..Written::new(fields, help) };
        native::of_type(written, input.types)
    }
}

fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok().filter(|value: &Value| !value.is_null())
}

/// Whether a member is this text.
pub(super) fn is_text(member: Option<&RawValue>, text: &str) -> bool {
    let Some(written) = member.map(RawValue::get) else { return false };
    let plain = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => plain == text,
        Some(_) => serde_json::from_str::<String>(written).is_ok_and(|written| written == text),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_an_event_is_skipped_unread() {
        let signal = RasaSignal::Action("action_human_handoff".to_owned());
        for skipped in [
            r#"{"sender_id":"u","event":"user","text":"hi"}"#,
            r#"{"sender_id": "u\"\\", "user_id": null , "n":1.5, "event" : "user"}"#,
            r#"{"conversation_id":"c","timestamp":1.5,"metadata":"{\"a\":\"{\"}","event_id":"e"}"#,
        ] {
            assert!(cannot_be(skipped.as_bytes(), &signal), "{skipped}");
        }
        for parsed in [
            r#"{"sender_id":"u","session_id":"s"}"#,
            r#"{"sender_id":"u","session_id":"\"event\":\"x\""}"#,
            r#"{"sender_id":"u","session_id":"s","context":{"event":"x"}}"#,
            r#"{"sender_id":"u","a":[],"event":"x"}"#,
            r#"{"sender_id":"u","event":null}"#,
            r#"{"sender_id":null,"event":"x"}"#,
            r#"{"conversation_id":"c","session_id":"s","event":"x"}"#,
            r#"{"conversation_id":"c","session_id":"s","event_id":5}"#,
            r#"{"session_id":"s","sender_id":"u","event":"x"}"#,
            r#"{"sender_id":"u","event":"action","name":"action_human_handoff"}"#,
            r#"{"sender_id":"u","event"#,
            r#"{"sender_id":"u\"#,
            r#"{"sender_id""#,
        ] {
            assert!(!cannot_be(parsed.as_bytes(), &signal), "{parsed}");
        }
    }

    #[test]
    fn a_signal_is_read_as_it_is_written() {
        for text in
            ["action:action_human_handoff", "slot:a:b", "flow:x", "skill:x", "tool:x", "pause"]
        {
            assert_eq!(
                RasaSignal::parse(text).map(|signal| signal.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in ["", "action", "action:", "intent:handoff", "Pause"] {
            assert_eq!(RasaSignal::parse(text), None, "{text}");
        }
    }
}
