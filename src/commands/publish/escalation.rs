//! One escalation to publish: built from arguments, and examined with the service's decoder.
//!
//! Everything that would keep the service from calling Desk is a fault here: a skipped type, a
//! dead letter, the outcome `rejected`, a deadline in the past. Only [`decode`] decides that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::input::InputItem;
use crate::commands::values::parse_span;
use crate::domain::event::TransferOptions;
use crate::domain::record::{Position, Record};
use crate::domain::wire::escalation::{
    DecodeRules, Decoded, EscalationFields, FIELDS, TARGET_FIELDS, decode,
};

/// The arguments that make up an escalation.
#[derive(Debug, clap::Args)]
pub(super) struct EscalationArgs {
    /// The session to transfer
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    /// The identity of this escalation; publishing it again has no effect
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Why the session is escalated
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// The login of an agent who may take it; repeatable
    #[arg(long = "agent", value_name = "LOGIN")]
    agents: Vec<String>,

    /// The group whose agents may take it
    #[arg(long, value_name = "NUMBER")]
    group: Option<i64>,

    /// Only these agents and this group may take it
    #[arg(long)]
    strict: bool,

    /// Position in Desk's queue: 0 is the highest, 9 the lowest
    #[arg(long, value_name = "0-9")]
    priority: Option<i64>,

    /// Deadline, counted from now: 90s, 5m
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,

    /// Deadline: 2026-11-23T10:05:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,

    /// An attribute for routing; repeat for more
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<(String, String)>,

    /// An option of the transfer, as disable_queuing or queue_timeout=600; repeat for more
    #[arg(long = "option", value_name = "NAME[=VALUE]", value_parser = parse_option)]
    options: Vec<(String, Value)>,
}

impl EscalationArgs {
    /// The names of the arguments in clap; all of them conflict with a file.
    pub(super) const IDS: [&str; 11] = [
        "session",
        "id",
        "reason",
        "agents",
        "group",
        "strict",
        "priority",
        "expires_in",
        "expires_at",
        "attributes",
        "options",
    ];

    /// Returns the JSON of the escalation, with only the fields that were given.
    pub(super) fn to_json(&self, now: Timestamp) -> Vec<u8> {
        let expires_at = self.expires_at.or_else(|| {
            self.expires_in.map(|span| now.saturating_add(span).unwrap_or(Timestamp::MAX))
        });
        let fields = EscalationFields {
            id: self.id.as_ref().map(|id| json!(id)),
            session_id: self.session.as_ref().map(|session| json!(session)),
            expires_at: expires_at.map(|time| json!(time.to_string())),
            reason: self.reason.as_ref().map(|reason| json!(reason)),
            target: self.target(),
            priority: self.priority.map(|priority| json!(priority)),
            attributes: object(self.attributes.iter().map(|(name, text)| (name, json!(text)))),
            options: object(self.options.iter().map(|(name, value)| (name, value.clone()))),
            ..EscalationFields::default()
        };
        json!(fields).to_string().into_bytes()
    }

    fn target(&self) -> Option<Value> {
        let values = [
            (!self.agents.is_empty()).then(|| json!(self.agents)),
            self.group.map(|group| json!(group)),
            self.strict.then_some(Value::Bool(true)),
        ];
        let fields = TARGET_FIELDS.into_iter().zip(values);
        object(fields.filter_map(|(name, value)| Some((name, value?))))
    }
}

/// Returns an object of these fields; `None` where there are none.
fn object(fields: impl Iterator<Item = (impl Into<String>, Value)>) -> Option<Value> {
    let object: Map<_, _> = fields.map(|(name, value)| (name.into(), value)).collect();
    (!object.is_empty()).then_some(Value::Object(object))
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

fn parse_option(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    if !TransferOptions::NAMES.contains(&name) {
        return Err(format!(
            "there is no option {name:?}; there are {}",
            TransferOptions::NAMES.join(", ")
        ));
    }
    // Anything but a number or a boolean is text; the decoder says what is allowed.
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((name.to_owned(), value))
}

/// Returns a warning for each field that the service ignores because it does not know it.
pub(super) fn unknown_fields(item: &InputItem) -> Vec<String> {
    let Ok(Value::Object(written)) = serde_json::from_slice(&item.value) else { return vec![] };
    let inside = |name: &str, known: &[&str]| {
        let fields = written.get(name).and_then(Value::as_object);
        let fields = fields.into_iter().flat_map(Map::keys);
        let unknown = fields.filter(|field| !known.contains(&field.as_str()));
        unknown.map(|field| ignored(&format!("{name}.{field}"), known)).collect::<Vec<_>>()
    };
    let top = written.keys().filter(|field| !FIELDS.contains(&field.as_str()));
    let top = top.map(|field| ignored(field, &FIELDS));
    top.chain(inside("target", &TARGET_FIELDS))
        .chain(inside("options", &TransferOptions::NAMES))
        .collect()
}

fn ignored(field: &str, known: &[&str]) -> String {
    format!("{field} is ignored by the service, which knows {}", known.join(", "))
}

/// What the service will make of an item.
#[derive(Debug, Default)]
pub(super) struct Examination {
    /// The line of the input; `None` for arguments.
    pub(super) line: Option<usize>,
    /// The session, where it can be read.
    pub(super) session_id: Option<Arc<str>>,
    /// The escalation's own id, where it has one.
    pub(super) event_id: Option<Arc<str>>,
    /// Why the service would not call Desk.
    pub(super) fault: Option<String>,
}

/// Decodes an item as the service will, as if it were received now.
pub(super) fn examine(item: &InputItem, rules: &DecodeRules, now: Timestamp) -> Examination {
    // The record has no position yet. An event whose id is this position has no id of its own.
    let nowhere = Position { topic: "".into(), partition: -1, offset: -1 };
    let record = Record {
        position: nowhere.clone(),
        timestamp: Some(now),
        key: None,
        value: Some(item.value.clone()),
        headers: Vec::new(),
    };
    let line = item.line;
    let with_fault =
        |fault: String| Examination { line, fault: Some(fault), ..Examination::default() };
    let event = match decode(&record, rules, now) {
        Decoded::NotForUs => {
            let types = rules.types.join(", ");
            return with_fault(format!(
                "its type is not one of escalation.types ({types}): skipped"
            ));
        }
        Decoded::Malformed(malformed) => return with_fault(malformed.error),
        Decoded::Event(event) => event,
    };
    let fault = match &event.request {
        Err(problems) => Some(problems.clone()),
        Ok(_) if event.deadline <= now => {
            Some(format!("its deadline has passed: {}", event.deadline))
        }
        Ok(_) => None,
    };
    let has_id = *event.id != *nowhere.to_string();
    Examination {
        line,
        session_id: Some(event.session_id),
        event_id: has_id.then_some(event.id),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn fields(words: &[&str]) -> Result<EscalationArgs, clap::Error> {
        let command = EscalationArgs::augment_args(clap::Command::new("publish"));
        let words = ["publish"].iter().chain(words);
        command
            .try_get_matches_from(words)
            .and_then(|found| EscalationArgs::from_arg_matches(&found))
    }

    fn check_json(words: &[&str], expected: &str) {
        let json = fields(words).unwrap().to_json(NOW.parse().unwrap());
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn only_the_given_fields_are_written() {
        check_json(&["--session", "s"], r#"{"session_id":"s"}"#);
        check_json(
            &[
                "--session",
                "s",
                "--id",
                "e",
                "--reason",
                "r",
                "--agent",
                "a@x",
                "--agent",
                "b@x",
                "--group",
                "7",
                "--strict",
                "--priority",
                "0",
                "--expires-in",
                "90s",
                "--attribute",
                "lang=de",
                "--attribute",
                "sum=1=2",
                "--option",
                "disable_queuing",
                "--option",
                "queue_timeout=600",
                "--option",
                "allow_assign_busy_member=0",
            ],
            r#"{"attributes":{"lang":"de","sum":"1=2"},"expires_at":"2026-11-23T10:01:30Z","id":"e","options":{"allow_assign_busy_member":0,"disable_queuing":true,"queue_timeout":600},"priority":0,"reason":"r","session_id":"s","target":{"agents":["a@x","b@x"],"group":7,"strict":true}}"#,
        );
    }

    #[test]
    fn a_misspelt_option_is_refused() {
        let error = fields(&["--session", "s", "--option", "disable_queueing"]).unwrap_err();
        assert!(error.to_string().contains("there are send_tip_if_no_agent_online, "), "{error}");
        assert!(fields(&["--session", "s", "--attribute", "lang"]).is_err());
    }

    #[test]
    fn the_decoder_knows_every_option() {
        for name in TransferOptions::NAMES {
            let value = format!(r#"{{"session_id":"s","options":{{"{name}":"no"}}}}"#);
            check(&value, S, Some(&format!("options.{name} is \"no\"; ")));
        }
    }

    #[test]
    fn the_decoder_knows_every_field_and_other_fields_are_reported() {
        for name in FIELDS.into_iter().filter(|name| *name != "context") {
            let item = InputItem {
                line: None,
                value: format!(r#"{{"session_id":"s","{name}":[[]]}}"#).into(),
            };
            let examined = examine(&item, &rules(), NOW.parse().unwrap());
            assert!(examined.fault.is_some_and(|fault| fault.contains(name)), "{name}");
        }
        let json = r#"{"sesion_id":"s","context":{"a":1},"target":{"agent":"a","strict":true},
            "options":{"disable_queueing":true},"attributes":{"any":"1"}}"#;
        let item = InputItem { line: None, value: json.into() };
        let named: Vec<_> = unknown_fields(&item)
            .iter()
            .map(|text| text.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(named, ["sesion_id", "target.agent", "options.disable_queueing"]);
    }

    fn rules() -> DecodeRules {
        DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 1_000,
            time_to_live: Duration::from_secs(600),
        }
    }

    #[derive(Debug, Default, PartialEq)]
    struct ExpectedIds<'a> {
        session: Option<&'a str>,
        event: Option<&'a str>,
    }

    const NONE: ExpectedIds<'_> = ExpectedIds { session: None, event: None };
    const S: ExpectedIds<'_> = ExpectedIds { session: Some("s"), event: None };

    fn check(value: &str, ids: ExpectedIds<'_>, fault: Option<&str>) {
        let item = InputItem { line: Some(1), value: value.as_bytes().to_vec() };
        let examined = examine(&item, &rules(), NOW.parse().unwrap());
        let (session, event) = (examined.session_id.as_deref(), examined.event_id.as_deref());
        assert_eq!(ExpectedIds { session, event }, ids, "{value}");
        let text = examined.fault.as_deref();
        let is_expected = match (text, fault) {
            (Some(text), Some(fault)) => text.starts_with(fault),
            (text, fault) => text.is_none() && fault.is_none(),
        };
        assert!(is_expected, "{value}: {text:?}");
    }

    #[test]
    fn everything_that_prevents_a_call_is_a_fault() {
        check(r#"{"session_id":"s"}"#, S, None);
        check(
            r#"{"session_id":7,"id":"e"}"#,
            ExpectedIds { session: Some("7"), event: Some("e") },
            None,
        );
        check(r#"{"session_id":"s","priority":11}"#, S, Some("priority is 11; "));
        check("{}", NONE, Some("session_id is missing"));
        check("[]", NONE, Some("JSON, but not an object"));
        check("{", NONE, Some("not JSON: "));
        check(r#"{"type":"x","session_id":"s"}"#, NONE, Some("its type is not one of "));
        let old = r#"{"session_id":"s","expires_at":"2026-11-23T09:00:00Z"}"#;
        check(old, S, Some("its deadline has passed: 2026-11-23T09:00:00Z"));
        let old = r#"{"session_id":"s","requested_at":"2026-11-23T09:00:00Z"}"#;
        check(old, S, Some("its deadline has passed: 2026-11-23T09:10:00Z"));
    }
}
