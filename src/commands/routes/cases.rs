//! The file of cases.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::domain::target::Target;

/// An example, and what is expected of it.
pub(super) struct RouteCase {
    /// Its number and name.
    pub(super) label: String,
    pub(super) line: usize,
    /// `None`: now.
    pub(super) at: Option<Timestamp>,
    /// An escalation with a session.
    pub(super) event: Value,
    /// The name of the route; empty: none.
    pub(super) route: String,
    pub(super) targets: Option<Vec<Target>>,
    pub(super) shadows: Option<Vec<String>>,
    pub(super) opening: Option<ExpectedOpening>,
}

/// Whether a route is expected to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedOpening {
    Open,
    OpensAt(Timestamp),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    cases: Vec<Spanned<CaseTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTable {
    #[serde(default)]
    name: String,
    at: Option<toml::Value>,
    event: toml::Table,
    route: String,
    targets: Option<Vec<TargetTable>>,
    shadows: Option<Vec<String>>,
    opens_at: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    #[serde(default)]
    agents: Vec<String>,
    group: Option<u64>,
    default: Option<bool>,
}

/// Reads the file; an error if it has no cases.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<RouteCase>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?;
    parse(&text).with_context(|| format!("failed to read {name}"))
}

fn parse(text: &str) -> anyhow::Result<Vec<RouteCase>> {
    let file: CaseFile = toml::from_str(text)?;
    ensure!(!file.cases.is_empty(), "it has no [[cases]]");
    let cases = file.cases.into_iter().enumerate();
    let case = |(index, table): (usize, Spanned<CaseTable>)| {
        let line = text[..table.span().start].matches('\n').count() + 1;
        let table = table.into_inner();
        let number = index + 1;
        let label = match table.name.as_str() {
            "" => format!("case {number}"),
            name => format!("case {number} ({name:?})"),
        };
        case_of(table, label.clone(), line).with_context(|| format!("{label}, line {line}"))
    };
    cases.map(case).collect()
}

fn case_of(table: CaseTable, label: String, line: usize) -> anyhow::Result<RouteCase> {
    let CaseTable { at, event, route, targets, shadows, opens_at, .. } = table;
    let mut event = object(event);
    event.entry("session_id").or_insert(json!("case"));
    let targets = targets.map(|targets| targets.into_iter().map(target).collect());
    let opening = match opens_at {
        Some(toml::Value::String(text)) if text.is_empty() => Some(ExpectedOpening::Open),
        Some(value) => Some(ExpectedOpening::OpensAt(time("opens_at", &value)?)),
        None => None,
    };
    Ok(RouteCase {
        label,
        line,
        at: at.map(|at| time("at", &at)).transpose()?,
        event: Value::Object(event),
        route,
        targets: targets.transpose()?,
        shadows,
        opening,
    })
}

fn target(table: TargetTable) -> anyhow::Result<Target> {
    match table {
        TargetTable { agents, group: None, default: Some(true) } if agents.is_empty() => {
            Ok(Target::Default)
        }
        TargetTable { agents, group, default: None } if !agents.is_empty() || group.is_some() => {
            Ok(Target::Named { agents, group })
        }
        _ => bail!("a target has `agents`, `group`, or both; or else only `default` = true"),
    }
}

fn time(key: &str, value: &toml::Value) -> anyhow::Result<Timestamp> {
    let text = match json_of(value.clone()) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let wanted = "a time with its offset, as \"2026-11-30T09:00:00+01:00\"";
    text.parse().map_err(|_| anyhow::anyhow!("`{key}` = {text} must be {wanted}"))
}

fn object(table: toml::Table) -> Map<String, Value> {
    table.into_iter().map(|(name, value)| (name, json_of(value))).collect()
}

fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => Value::Object(object(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        parse(text).err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn a_case_is_read_with_its_line_and_an_event_like_json() {
        let cases = parse(
            "# two\n[[cases]]\nevent = {}\nroute = \"\"\n\n[[cases]]\nname = \"n\"\n\
             at = 2026-11-30T09:00:00+01:00\nroute = \"r\"\nopens_at = \"\"\n\
             event.attributes = { n = 5, f = 1.5, b = true, l = [1] }\n\
             event.requested_at = 2026-11-30T08:00:00Z\nevent.session_id = \"s\"\n\
             targets = [{ group = 1 }, { default = true }]\n",
        )
        .unwrap();
        let labels: Vec<_> = cases.iter().map(|case| (case.label.as_str(), case.line)).collect();
        assert_eq!(labels, [("case 1", 2), ("case 2 (\"n\")", 6)]);
        assert_eq!(cases[0].event, json!({"session_id": "case"}));
        let event = json!({
            "attributes": {"n": 5, "f": 1.5, "b": true, "l": [1]},
            "requested_at": "2026-11-30T08:00:00Z",
            "session_id": "s",
        });
        assert_eq!(cases[1].event, event);
        assert_eq!(cases[1].at, "2026-11-30T08:00:00Z".parse().ok());
        assert_eq!(cases[1].opening, Some(ExpectedOpening::Open));
        let group = Target::Named { agents: vec![], group: Some(1) };
        assert_eq!(cases[1].targets.as_deref(), Some(&[group, Target::Default][..]));
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place() {
        let case = "[[cases]]\nevent = {}\n";
        for (text, expected) in [
            ("", "it has no [[cases]]"),
            ("[[case]]\n", "unknown field `case`"),
            (case, "missing field `route`"),
            ("[[cases]]\nroute = \"\"\n", "missing field `event`"),
            (&format!("{case}route = \"\"\nrout = 1\n"), "line 4"),
            (
                &format!("{case}route = \"\"\nat = \"9:00\"\n"),
                "case 1, line 1: `at` = 9:00 must be",
            ),
            (&format!("{case}route = \"\"\ntargets = [{{}}]\n"), "case 1, line 1: a target has"),
            (
                &format!("{case}route = \"\"\ntargets = [{{ agent = [] }}]\n"),
                "unknown field `agent`",
            ),
        ] {
            assert!(error_of(text).contains(expected), "{text}\n{}", error_of(text));
        }
    }
}
