//! One escalation to be published: made of arguments, and examined with the service's decoder.
//!
//! What the service would skip, dead-letter, answer `rejected` or find expired is a fault here.
//! This file never has an opinion of its own about a field; `domain::event` judges.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::input::Item;
use crate::commands::values::parse_span;
use crate::domain::event::TransferOptions;
use crate::domain::record::{Position, Record};
use crate::domain::wire::escalation::{
    DecodeRules, Decoded, EscalationFields, FIELDS, TARGET_FIELDS, decode,
};

/// An escalation as arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Fields {
    /// The session to hand over
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    /// The identity of this escalation; repeating it asks for nothing new
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Why, in your words
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// An agent who may take it, by login; repeat for more
    #[arg(long = "agent", value_name = "LOGIN")]
    agents: Vec<String>,

    /// The agent group to pick from
    #[arg(long, value_name = "NUMBER")]
    group: Option<i64>,

    /// Nobody but these agents and this group may take it
    #[arg(long)]
    strict: bool,

    /// Place in the queue: 0 is the highest, 9 the lowest
    #[arg(long, value_name = "0-9")]
    priority: Option<i64>,

    /// How long it is worth anything, as 90s or 5m
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,

    /// Until when it is worth anything, as 2026-11-23T10:05:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,

    /// For routing; repeat for more
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<(String, String)>,

    /// A flag of the transfer, as disable_queuing or queue_timeout=600; repeat for more
    #[arg(long = "option", value_name = "NAME[=VALUE]", value_parser = parse_option)]
    options: Vec<(String, Value)>,
}

impl Fields {
    /// The arguments, as clap knows them: none goes with a file.
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

    /// The escalation that was asked for; only what was given is in it.
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
    // What is no number and no truth is text; the decoder says what is allowed.
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((name.to_owned(), value))
}

/// What is not known to the service, and passed over by it: each in a sentence.
pub(super) fn unknown(item: &Item) -> Vec<String> {
    let Ok(Value::Object(written)) = serde_json::from_slice(&item.value) else { return vec![] };
    let inside = |name: &str, known: &[&str]| {
        let fields = written.get(name).and_then(Value::as_object);
        let fields = fields.into_iter().flat_map(Map::keys);
        let unknown = fields.filter(|field| !known.contains(&field.as_str()));
        unknown.map(|field| passed_over(&format!("{name}.{field}"), known)).collect::<Vec<_>>()
    };
    let top = written.keys().filter(|field| !FIELDS.contains(&field.as_str()));
    let top = top.map(|field| passed_over(field, &FIELDS));
    top.chain(inside("target", &TARGET_FIELDS))
        .chain(inside("options", &TransferOptions::NAMES))
        .collect()
}

fn passed_over(field: &str, known: &[&str]) -> String {
    format!("{field} is passed over by the service, which knows {}", known.join(", "))
}

/// What the service will see in an item.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// The line it came from.
    pub(super) line: Option<usize>,
    /// Its session, where one can be read.
    pub(super) session: Option<Arc<str>>,
    /// Its own id, where it has one.
    pub(super) id: Option<Arc<str>>,
    /// Why the service would not ask Desk.
    pub(super) fault: Option<String>,
}

/// Read it as the service will, received now.
pub(super) fn examine(item: &Item, rules: &DecodeRules, now: Timestamp) -> Examined {
    let nowhere = Position { topic: "".into(), partition: -1, offset: -1 };
    let record = Record {
        position: nowhere.clone(),
        timestamp: Some(now),
        key: None,
        value: Some(item.value.clone()),
        headers: Vec::new(),
    };
    let line = item.line;
    let faulty = |fault: String| Examined { line, fault: Some(fault), ..Examined::default() };
    let event = match decode(&record, rules, now) {
        Decoded::NotForUs => {
            let types = rules.types.join(", ");
            return faulty(format!("its type is not one of escalation.types ({types}): skipped"));
        }
        Decoded::Malformed(malformed) => return faulty(malformed.error),
        Decoded::Event(event) => event,
    };
    let fault = match &event.request {
        Err(problems) => Some(problems.clone()),
        Ok(_) if event.deadline <= now => {
            Some(format!("its deadline is over since {}", event.deadline))
        }
        Ok(_) => None,
    };
    let has_id = *event.id != *nowhere.to_string();
    Examined { line, session: Some(event.session_id), id: has_id.then_some(event.id), fault }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn fields(words: &[&str]) -> Result<Fields, clap::Error> {
        let command = Fields::augment_args(clap::Command::new("publish"));
        let words = ["publish"].iter().chain(words);
        command.try_get_matches_from(words).and_then(|found| Fields::from_arg_matches(&found))
    }

    fn check_json(words: &[&str], expected: &str) {
        let json = fields(words).unwrap().to_json(NOW.parse().unwrap());
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn only_what_was_given_is_written() {
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
    fn a_misspelt_option_is_no_option() {
        let error = fields(&["--session", "s", "--option", "disable_queueing"]).unwrap_err();
        assert!(error.to_string().contains("there are send_tip_if_no_agent_online, "), "{error}");
        assert!(fields(&["--session", "s", "--attribute", "lang"]).is_err());
    }

    #[test]
    fn every_option_is_one_of_the_decoder() {
        for name in TransferOptions::NAMES {
            let value = format!(r#"{{"session_id":"s","options":{{"{name}":"no"}}}}"#);
            check(&value, (Some("s"), None), Some(&format!("options.{name} is \"no\"; ")));
        }
    }

    #[test]
    fn every_field_is_one_of_the_decoder_and_others_are_named() {
        for name in FIELDS.into_iter().filter(|name| *name != "context") {
            let item =
                Item { line: None, value: format!(r#"{{"session_id":"s","{name}":[[]]}}"#).into() };
            let examined = examine(&item, &rules(), NOW.parse().unwrap());
            assert!(examined.fault.is_some_and(|fault| fault.contains(name)), "{name}");
        }
        let json = r#"{"sesion_id":"s","context":{"a":1},"target":{"agent":"a","strict":true},
            "options":{"disable_queueing":true},"attributes":{"any":"1"}}"#;
        let item = Item { line: None, value: json.into() };
        let named: Vec<_> =
            unknown(&item).iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(named, ["sesion_id", "target.agent", "options.disable_queueing"]);
    }

    fn rules() -> DecodeRules {
        DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 1_000,
            time_to_live: Duration::from_secs(600),
        }
    }

    fn check(value: &str, ids: (Option<&str>, Option<&str>), fault: Option<&str>) {
        let item = Item { line: Some(1), value: value.as_bytes().to_vec() };
        let examined = examine(&item, &rules(), NOW.parse().unwrap());
        assert_eq!((examined.session.as_deref(), examined.id.as_deref()), ids, "{value}");
        let text = examined.fault.as_deref();
        let is_expected = match (text, fault) {
            (Some(text), Some(fault)) => text.starts_with(fault),
            (text, fault) => text.is_none() && fault.is_none(),
        };
        assert!(is_expected, "{value}: {text:?}");
    }

    #[test]
    fn a_fault_is_whatever_keeps_desk_from_being_asked() {
        check(r#"{"session_id":"s"}"#, (Some("s"), None), None);
        check(r#"{"session_id":7,"id":"e"}"#, (Some("7"), Some("e")), None);
        check(r#"{"session_id":"s","priority":11}"#, (Some("s"), None), Some("priority is 11; "));
        check("{}", (None, None), Some("session_id is missing"));
        check("[]", (None, None), Some("JSON, but not an object"));
        check("{", (None, None), Some("not JSON: "));
        check(r#"{"type":"x","session_id":"s"}"#, (None, None), Some("its type is not one of "));
        let old = r#"{"session_id":"s","expires_at":"2026-11-23T09:00:00Z"}"#;
        check(old, (Some("s"), None), Some("its deadline is over since 2026-11-23T09:00:00Z"));
        let old = r#"{"session_id":"s","requested_at":"2026-11-23T09:00:00Z"}"#;
        check(old, (Some("s"), None), Some("its deadline is over since 2026-11-23T09:10:00Z"));
    }
}
