//! The list `[[routes]]`: tables of a file become drafts, and drafts become checked routes.
//!
//! A list of tables has no dotted keys, so it is read here and not by the getters of `raw`; what
//! is wrong is noted there, with the route's number and name. The environment cannot hold one.
//! This file never judges how routes go together: `domain::route` does.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::layers::{Layer, Leaf};
use super::misspelt::nearest;
use super::raw::{Raw, is_plain, shown, whole_wanted};
use crate::domain::event::{OptionSource, TransferOptions};
use crate::domain::plan::Target;
use crate::domain::route::{Draft, NoAgentPolicy, Routes};

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

/// The routes, or `None` after noting why not; `park` is the pace where a route has none.
pub(super) fn read(raw: &mut Raw, park: &[Duration]) -> Option<Routes> {
    let (tables, place) = tables(raw)?;
    let before = raw.noted();
    let (mut numbers, mut drafts) = (Vec::new(), Vec::new());
    for (number, value) in tables.into_iter().enumerate() {
        let ValueKind::Table(table) = value.kind else {
            raw.note(LIST, format!("`{LIST}` {place}: {ADVICE}"));
            return None;
        };
        let noted = raw.noted();
        let name = named(number, table.get("name"));
        let draft = Reader { name, place: &place, raw }.draft(table, park);
        // What could not be read is noted, and would only be noted again.
        if raw.noted() == noted {
            numbers.push(number);
            drafts.push(draft);
        }
    }
    let names: Vec<_> = drafts.iter().map(|draft| draft.name.clone()).collect();
    let routes = Routes::compile(drafts);
    for problem in routes.as_ref().err().into_iter().flatten() {
        let name = shown_name(numbers[problem.route], &names[problem.route]);
        raw.note(LIST, format!("{name} {place} {}", problem.text));
    }
    routes.ok().filter(|_| raw.noted() == before)
}

const ADVICE: &str = "must be a list of tables: begin each route with the line [[routes]]";

/// The list as it was written, and where.
fn tables(raw: &mut Raw) -> Option<(Vec<Value>, String)> {
    let (list, inside) = raw.tables(LIST);
    if let Some((_, leaf)) = inside.first() {
        refuse(raw, leaf);
        return None;
    }
    let Some(leaf) = list else { return Some((Vec::new(), String::new())) };
    match leaf.kind {
        ValueKind::Array(tables) if leaf.layer != Layer::Environment => {
            Some((tables, raw.place(leaf.layer)))
        }
        _ => {
            refuse(raw, &leaf);
            None
        }
    }
}

fn refuse(raw: &mut Raw, leaf: &Leaf) {
    let place = raw.place(leaf.layer);
    let text = match leaf.layer {
        Layer::Environment => "a variable cannot hold them: write [[routes]] in a file",
        _ => ADVICE,
    };
    raw.note(LIST, format!("`{LIST}` {place}: {text}"));
}

fn named(number: usize, name: Option<&Value>) -> String {
    match name.map(|name| &name.kind) {
        Some(ValueKind::String(name)) => shown_name(number, name),
        _ => shown_name(number, ""),
    }
}

fn shown_name(number: usize, name: &str) -> String {
    let number = number + 1;
    if name.is_empty() { format!("route {number}") } else { format!("route {number} ({name:?})") }
}

/// Reads one route and notes what is wrong in it.
struct Reader<'r> {
    name: String,
    place: &'r str,
    raw: &'r mut Raw,
}

impl Reader<'_> {
    fn draft(&mut self, mut table: Map<String, Value>, park: &[Duration]) -> Draft {
        self.known(&table, &KEYS, "");
        let name = self.value(&mut table, ("name", "text, not empty"), text).unwrap_or_default();
        let when = self.table(&mut table, "when").map(|when| self.when(when)).unwrap_or_default();
        let tables = self.value(&mut table, ("targets", "a list of tables"), tables_of);
        let targets = tables.into_iter().flatten().filter_map(|target| self.target(target));
        let targets = targets.collect();
        let options = self.table(&mut table, "options").map(|options| self.options(options));
        let priority = self.whole(&mut table, "priority", 0..=9);
        let default_target = self.flag(&mut table, "default_target").unwrap_or(true);
        let while_nobody_online = self.patience(&mut table, park);
        Draft {
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
        when.sort_by(|one, other| one.0.cmp(&other.0));
        for (attribute, value) in when {
            let values = match &value.kind {
                ValueKind::Array(values) if values.is_empty() => None,
                ValueKind::Array(values) => values.iter().map(|v| word(&v.kind)).collect(),
                single => word(single).map(|word| vec![word]),
            };
            match values {
                Some(values) => drop(conditions.insert(attribute, values)),
                None => self.refuse(&format!("when.{attribute}"), &value.kind, wanted),
            }
        }
        conditions
    }

    fn target(&mut self, mut target: Map<String, Value>) -> Option<Target> {
        let noted = self.raw.noted();
        self.known(&target, &TARGET_KEYS, "targets.");
        let agents = self.value(&mut target, ("agents", TEXTS), texts).unwrap_or_default();
        let group = self.whole(&mut target, "group", GROUPS);
        let default = self.flag(&mut target, "default");
        let named = !agents.is_empty() || group.is_some();
        match default {
            _ if self.raw.noted() > noted => None,
            Some(true) if !named => Some(Target::Default),
            None if named => Some(Target::Named { agents, group }),
            _ => {
                let what = "a target has agents, a group, or both, or else `default` = true";
                self.note(&format!("{what}; one"), "has not");
                None
            }
        }
    }

    fn options(&mut self, mut table: Map<String, Value>) -> TransferOptions {
        self.known(&table, &TransferOptions::NAMES, "options.");
        TransferOptions::read(&mut RouteOptions { reader: self, table: &mut table })
    }

    fn patience(&mut self, table: &mut Map<String, Value>, park: &[Duration]) -> NoAgentPolicy {
        let wanted = "\"answer\" or \"keep_trying\"";
        let keeps_trying = self.value(table, ("while_nobody_online", wanted), |kind| match kind {
            ValueKind::String(word) if word == "answer" => Some(false),
            ValueKind::String(word) if word == "keep_trying" => Some(true),
            _ => None,
        });
        let wanted = format!("a list of whole numbers, at least one, each {}", within(&WAITS_MS));
        let waits = self.value(table, ("retry_ms", &wanted), waits);
        match (keeps_trying, waits) {
            (Some(true), Some(waits)) => NoAgentPolicy::KeepTrying(waits),
            (Some(true), None) => {
                if park.is_empty() {
                    self.note("keeps trying, and", "needs `retry_ms`: `retry.park_ms` is empty");
                }
                NoAgentPolicy::KeepTrying(park.to_vec())
            }
            (_, None) => NoAgentPolicy::Answer,
            (_, Some(_)) => {
                let what = "is for `while_nobody_online` = \"keep_trying\" only";
                self.note("`retry_ms`", what);
                NoAgentPolicy::Answer
            }
        }
    }

    fn known(&mut self, table: &Map<String, Value>, keys: &[&str], inside: &str) {
        let mut unknown: Vec<_> =
            table.keys().filter(|key| !keys.contains(&key.as_str())).collect();
        unknown.sort();
        for key in unknown {
            let advice = match nearest(key, keys) {
                Some(real) => format!("did you mean `{inside}{real}`?"),
                None => format!("there are {}", keys.join(", ")),
            };
            let text =
                format!("unknown key `{inside}{key}` of {} {}: {advice}", self.name, self.place);
            self.raw.note(LIST, text);
        }
    }

    fn value<T>(
        &mut self,
        table: &mut Map<String, Value>,
        (key, wanted): (&str, &str),
        read: impl FnOnce(&ValueKind) -> Option<T>,
    ) -> Option<T> {
        let value = table.remove(key)?;
        let read = read(&value.kind);
        if read.is_none() {
            self.refuse(key, &value.kind, wanted);
        }
        read
    }

    fn table(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<Map<String, Value>> {
        let read = |kind: &ValueKind| match kind {
            ValueKind::Table(table) => Some(table.clone()),
            _ => None,
        };
        self.value(table, (key, "a table, as { name = \"value\" }"), read)
    }

    fn whole(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let wanted = whole_wanted(&range);
        self.value(table, (key, &wanted), |kind| number(kind, &range))
    }

    fn flag(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<bool> {
        self.value(table, (key, "true or false"), |kind| match kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => None,
        })
    }

    fn refuse(&mut self, key: &str, kind: &ValueKind, wanted: &str) {
        let (name, place, value) = (&self.name, self.place, shown(kind));
        let text = format!("`{key}` = {value} of {name} {place}: must be {wanted}");
        self.raw.note(LIST, text);
    }

    fn note(&mut self, what: &str, is: &str) {
        let text = format!("{} {}: {what} {is}", self.name, self.place);
        self.raw.note(LIST, text);
    }
}

/// The options of one route.
struct RouteOptions<'a, 'r> {
    reader: &'a mut Reader<'r>,
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

/// A value as attributes have it: everything is text there.
fn word(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) => Some(text.clone()),
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

/// A list that is not empty, of what `item` accepts.
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

fn waits(kind: &ValueKind) -> Option<Vec<Duration>> {
    list(kind, |item| number(item, &WAITS_MS).map(Duration::from_millis))
}

/// The tables of a list, which may be empty: that is judged later.
fn tables_of(kind: &ValueKind) -> Option<Vec<Map<String, Value>>> {
    let ValueKind::Array(values) = kind else { return None };
    let table = |value: &Value| match &value.kind {
        ValueKind::Table(table) => Some(table.clone()),
        _ => None,
    };
    values.iter().map(table).collect()
}
