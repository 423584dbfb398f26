//! One escalation to publish, built from arguments.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::commands::values::{parse_span, parse_timestamp};
use crate::domain::event::TransferOptions;
use crate::domain::wire::escalation::{EscalationFields, TARGET_FIELDS};

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
    #[arg(long, value_name = "NUMBER", value_parser = parse_group)]
    group: Option<i64>,

    /// Only these agents and this group may take it
    #[arg(long)]
    strict: bool,

    /// Position in Desk's queue: 0 is the highest, 9 the lowest
    #[arg(long, value_name = "0-9", value_parser = parse_priority)]
    priority: Option<i64>,

    /// Deadline, counted from now: 90s, 5m
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,

    /// Deadline: 2026-11-23T10:05:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
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

    /// Refuses arguments of which one would be lost.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let attributes = self.attributes.iter().map(|(name, _)| name.as_str());
        ensure_distinct("--attribute", attributes)?;
        ensure_distinct("--option", self.options.iter().map(|(name, _)| name.as_str()))?;
        let has_target = !self.agents.is_empty() || self.group.is_some();
        ensure!(has_target || !self.strict, "--strict needs a target: add --agent or --group");
        Ok(())
    }

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

fn ensure_distinct<'a>(option: &str, names: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        ensure!(seen.insert(name), "{option} {name} is given twice: keep one of them");
    }
    Ok(())
}

// Their ranges are the decoder's: with --unchecked a number outside is published too.
fn parse_group(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("a group is a whole number from 1 to {}", i64::MAX))
}

fn parse_priority(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "a priority is a whole number from 0 to 9".to_owned())
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
    fn arguments_of_which_one_would_be_lost_are_refused() {
        let check = |words: &[&str], expected: &str| {
            let words = [&["--session", "s"], words].concat();
            let error = fields(&words).unwrap().check().err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(text, expected, "{words:?}");
        };
        check(&["--attribute", "a=1", "--attribute", "b=1", "--strict", "--group", "7"], "");
        let twice = "--attribute a is given twice: keep one of them";
        check(&["--attribute", "a=1", "--attribute", "a=2"], twice);
        let twice = "--option disable_queuing is given twice: keep one of them";
        check(&["--option", "disable_queuing", "--option", "disable_queuing=0"], twice);
        check(&["--strict"], "--strict needs a target: add --agent or --group");
        let error = fields(&["--session", "s", "--priority", "high"]).unwrap_err().to_string();
        assert!(error.contains("a priority is a whole number from 0 to 9"), "{error}");
    }
}
