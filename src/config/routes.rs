//! The list `[[routes]]`: reads the tables of the file and compiles them to checked routes.
//!
//! A list of tables has no dotted keys, so it is read here and not by the getters of
//! [`RawConfig`]; problems are recorded there, with the route's number and name. The environment
//! cannot hold a list of tables. [`crate::domain::route`] decides whether routes fit together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::origins::{Origin, RawValue};
use super::raw_config::{RawConfig, Tables, is_plain, shown, wanted_whole};
use super::suggestions::nearest;
use crate::domain::event::{OptionSource, TransferOptions};
use crate::domain::route::{NoAgentPolicy, RouteConfig, Routes};
use crate::domain::target::Target;

const LIST: &str = "routes";
const TEXTS: &str = "a list of texts, at least one, none of them empty";
const GROUPS: RangeInclusive<u64> = 1..=i64::MAX as u64;
const WAITS_MS: RangeInclusive<u64> = 1..=86_400_000;

/// The keys of a route.
pub(super) const KEYS: [&str; 8] = [
    "name",
    "when",
    "targets",
    "priority",
    "options",
    "default_target",
    "while_nobody_online",
    "retry_ms",
];
const TARGET_KEYS: [&str; 3] = ["agents", "group", "default"];

/// Reads the routes; `None` after recording a problem. `park` has the waits of a route that keeps
/// trying and has none of its own.
pub(super) fn read(raw: &mut RawConfig, park: &[Duration]) -> Option<Routes> {
    let list = route_tables(raw)?;
    let before = raw.problem_count();
    let (mut numbers, mut drafts) = (Vec::new(), Vec::new());
    for (number, value) in list.tables.into_iter().enumerate() {
        let ValueKind::Table(table) = value.kind else {
            raw.add_problem(LIST, format!("`{LIST}` {}: {NOT_A_LIST}", list.origin));
            return None;
        };
        let before = raw.problem_count();
        let label = label_in_table(number, table.get("name"));
        let draft = RouteReader { label, origin: &list.origin, raw }.route(table, park);
        // Compiling a route that could not be read would report its problems a second time.
        if raw.problem_count() == before {
            numbers.push(number);
            drafts.push(draft);
        }
    }
    let names: Vec<_> = drafts.iter().map(|draft| draft.name.clone()).collect();
    let routes = Routes::compile(drafts);
    for problem in routes.as_ref().err().into_iter().flatten() {
        let label = label(numbers[problem.route], &names[problem.route]);
        raw.add_problem(LIST, format!("{label} {} {}", list.origin, problem.text));
    }
    routes.ok().filter(|_| raw.problem_count() == before)
}

const NOT_A_LIST: &str = "must be a list of tables: begin each route with the line [[routes]]";

/// The list as it was written, and where, in words.
#[derive(Default)]
struct RouteTables {
    tables: Vec<Value>,
    origin: String,
}

/// The tables, empty if there are none; `None` after recording a problem.
fn route_tables(raw: &mut RawConfig) -> Option<RouteTables> {
    let Tables { list, section } = raw.tables(LIST);
    // `[routes]` in place of `[[routes]]` is the likeliest mistake.
    if let Some((_, value)) = section.first() {
        reject_list(raw, value);
        return None;
    }
    let Some(value) = list else { return Some(RouteTables::default()) };
    match value.kind {
        ValueKind::Array(tables) if value.origin != Origin::Environment => {
            Some(RouteTables { tables, origin: raw.describe(value.origin) })
        }
        _ => {
            reject_list(raw, &value);
            None
        }
    }
}

fn reject_list(raw: &mut RawConfig, value: &RawValue) {
    let origin = raw.describe(value.origin);
    let text = match value.origin {
        Origin::Environment => "a variable cannot hold them: write [[routes]] in a file",
        _ => NOT_A_LIST,
    };
    raw.add_problem(LIST, format!("`{LIST}` {origin}: {text}"));
}

fn label_in_table(number: usize, name: Option<&Value>) -> String {
    match name.map(|name| &name.kind) {
        Some(ValueKind::String(name)) => label(number, name),
        _ => label(number, ""),
    }
}

/// A route in a message: its number, counted from 1, and its name if it has one.
fn label(number: usize, name: &str) -> String {
    let number = number + 1;
    if name.is_empty() { format!("route {number}") } else { format!("route {number} ({name:?})") }
}

/// Reads one route and records its problems.
struct RouteReader<'r> {
    label: String,
    origin: &'r str,
    raw: &'r mut RawConfig,
}

impl RouteReader<'_> {
    fn route(&mut self, mut table: Map<String, Value>, park: &[Duration]) -> RouteConfig {
        self.check_keys(&table, &KEYS, "");
        let name = self.value(&mut table, "name", "text, not empty", text).unwrap_or_default();
        let when = self.table(&mut table, "when").map(|when| self.when(when)).unwrap_or_default();
        let tables = self.value(&mut table, "targets", "a list of tables", tables_of);
        let targets = tables.into_iter().flatten().filter_map(|target| self.target(target));
        let targets = targets.collect();
        let options = self.table(&mut table, "options").map(|options| self.options(options));
        let priority = self.whole(&mut table, "priority", 0..=9);
        let default_target = self.flag(&mut table, "default_target").unwrap_or(true);
        let while_nobody_online = self.no_agent_policy(&mut table, park);
        RouteConfig {
            name,
            when,
            targets,
            priority: priority.and_then(|priority| u8::try_from(priority).ok()),
            options: options.unwrap_or_default(),
            default_target,
            while_nobody_online,
        }
    }

    fn when(&mut self, when: Map<String, Value>) -> BTreeMap<String, Vec<String>> {
        let wanted = "a text, a number, true or false, or a list of them, not empty";
        let mut conditions = BTreeMap::new();
        let mut when: Vec<_> = when.into_iter().collect();
        // A map has no order. Sorted, the messages are the same in every run.
        when.sort_by(|one, other| one.0.cmp(&other.0));
        for (attribute, value) in when {
            let values = match &value.kind {
                ValueKind::Array(values) if values.is_empty() => None,
                ValueKind::Array(values) => {
                    values.iter().map(|v| attribute_value(&v.kind)).collect()
                }
                single => attribute_value(single).map(|value| vec![value]),
            };
            match values {
                Some(values) => drop(conditions.insert(attribute, values)),
                None => self.reject(&format!("when.{attribute}"), &value.kind, wanted),
            }
        }
        conditions
    }

    fn target(&mut self, mut target: Map<String, Value>) -> Option<Target> {
        let before = self.raw.problem_count();
        self.check_keys(&target, &TARGET_KEYS, "targets.");
        let agents = self.value(&mut target, "agents", TEXTS, texts).unwrap_or_default();
        let group = self.whole(&mut target, "group", GROUPS);
        let default = self.flag(&mut target, "default");
        let named = !agents.is_empty() || group.is_some();
        match default {
            _ if self.raw.problem_count() > before => None,
            Some(true) if !named => Some(Target::Default),
            None if named => Some(Target::Named { agents, group }),
            // `default = false` says nothing about whom to ask, so it is rejected as well.
            _ => {
                self.add_problem(
                    "a target must have `agents`, `group`, or both; or else only `default` = true",
                );
                None
            }
        }
    }

    fn options(&mut self, mut table: Map<String, Value>) -> TransferOptions {
        self.check_keys(&table, &TransferOptions::NAMES, "options.");
        TransferOptions::read(&mut RouteOptions { reader: self, table: &mut table })
    }

    fn no_agent_policy(
        &mut self,
        table: &mut Map<String, Value>,
        park: &[Duration],
    ) -> NoAgentPolicy {
        let wanted = "\"answer\" or \"keep_trying\"";
        let keeps_trying = self.value(table, "while_nobody_online", wanted, |kind| match kind {
            ValueKind::String(word) if word == "answer" => Some(false),
            ValueKind::String(word) if word == "keep_trying" => Some(true),
            _ => None,
        });
        let wanted = format!("a list of whole numbers, at least one, each {}", within(&WAITS_MS));
        let waits = self.value(table, "retry_ms", &wanted, durations);
        match (keeps_trying, waits) {
            (Some(true), Some(waits)) => NoAgentPolicy::KeepTrying(waits),
            (Some(true), None) => {
                if park.is_empty() {
                    self.add_problem(
                        "keeps trying, and needs `retry_ms`: `retry.park_ms` is empty",
                    );
                }
                NoAgentPolicy::KeepTrying(park.to_vec())
            }
            (_, None) => NoAgentPolicy::Answer,
            (_, Some(_)) => {
                let text = "`retry_ms` is for `while_nobody_online` = \"keep_trying\" only";
                self.add_problem(text);
                NoAgentPolicy::Answer
            }
        }
    }

    fn check_keys(&mut self, table: &Map<String, Value>, keys: &[&str], inside: &str) {
        let mut unknown: Vec<_> =
            table.keys().filter(|key| !keys.contains(&key.as_str())).collect();
        unknown.sort();
        for key in unknown {
            let advice = match nearest(key, keys) {
                Some(real) => format!("did you mean `{inside}{real}`?"),
                None => format!("there are {}", keys.join(", ")),
            };
            let (label, origin) = (&self.label, self.origin);
            let text = format!("unknown key `{inside}{key}` of {label} {origin}: {advice}");
            self.raw.add_problem(LIST, text);
        }
    }

    fn value<T>(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&ValueKind) -> Option<T>,
    ) -> Option<T> {
        let value = table.remove(key)?;
        let read = read(&value.kind);
        if read.is_none() {
            self.reject(key, &value.kind, wanted);
        }
        read
    }

    fn table(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<Map<String, Value>> {
        let read = |kind: &ValueKind| match kind {
            ValueKind::Table(table) => Some(table.clone()),
            _ => None,
        };
        self.value(table, key, "a table, as { name = \"value\" }", read)
    }

    fn whole(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let wanted = wanted_whole(&range);
        self.value(table, key, &wanted, |kind| number(kind, &range))
    }

    fn flag(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<bool> {
        self.value(table, key, "true or false", |kind| match kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => None,
        })
    }

    fn reject(&mut self, key: &str, kind: &ValueKind, wanted: &str) {
        let (label, origin, value) = (&self.label, self.origin, shown(kind));
        let text = format!("`{key}` = {value} of {label} {origin}: must be {wanted}");
        self.raw.add_problem(LIST, text);
    }

    fn add_problem(&mut self, text: &str) {
        let text = format!("{} {}: {text}", self.label, self.origin);
        self.raw.add_problem(LIST, text);
    }
}

/// The options of one route.
struct RouteOptions<'a, 'r> {
    reader: &'a mut RouteReader<'r>,
    table: &'a mut Map<String, Value>,
}

impl OptionSource for RouteOptions<'_, '_> {
    fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.reader.flag(self.table, name)
    }

    fn seconds(&mut self, name: &'static str) -> Option<u64> {
        self.reader.whole(self.table, name, 0..=u64::from(u32::MAX))
    }
}

fn within(range: &RangeInclusive<u64>) -> String {
    format!("from {} to {}", range.start(), range.end())
}

fn text(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) if is_plain(text) => Some(text.clone()),
        _ => None,
    }
}

/// A value in the form that attributes have in an escalation: text.
fn attribute_value(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) => Some(text.clone()),
        // `when = { floor = 2 }` must match an attribute, and those are text.
        ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_) => Some(kind.to_string()),
        _ => None,
    }
}

fn number(kind: &ValueKind, range: &RangeInclusive<u64>) -> Option<u64> {
    match kind {
        ValueKind::I64(number) => u64::try_from(*number).ok().filter(|n| range.contains(n)),
        _ => None,
    }
}

/// A list of items that `item` accepts, at least one.
fn list<T>(kind: &ValueKind, item: impl Fn(&ValueKind) -> Option<T>) -> Option<Vec<T>> {
    match kind {
        ValueKind::Array(values) if !values.is_empty() => {
            values.iter().map(|value| item(&value.kind)).collect()
        }
        _ => None,
    }
}

fn texts(kind: &ValueKind) -> Option<Vec<String>> {
    list(kind, text)
}

fn durations(kind: &ValueKind) -> Option<Vec<Duration>> {
    list(kind, |item| number(item, &WAITS_MS).map(Duration::from_millis))
}

/// The tables of a list. It may be empty: `Routes::compile` reports a route without targets.
fn tables_of(kind: &ValueKind) -> Option<Vec<Map<String, Value>>> {
    let ValueKind::Array(values) = kind else { return None };
    let table = |value: &Value| match &value.kind {
        ValueKind::Table(table) => Some(table.clone()),
        _ => None,
    };
    values.iter().map(table).collect()
}
