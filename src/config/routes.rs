//! The list `[[routes]]`: reads the tables of the file and compiles them to checked routes.
//!
//! [`crate::domain::route`] decides whether routes fit together.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::conditions::{self, When};
use super::hours::HoursList;
use super::raw_config::RawConfig;
use super::table_reader::{TEXTS, TableReader, list, read_list, tables_of, text, whole_number};
use crate::domain::event::{OptionSource, TransferOptions};
use crate::domain::route::{NoAgentPolicy, Opening, OutsideHours, RouteConfig, Routes};
use crate::domain::target::Target;

const LIST: &str = "routes";
const GROUPS: RangeInclusive<u64> = 1..=i64::MAX as u64;
const WAITS_MS: RangeInclusive<u64> = 1..=86_400_000;

/// The keys of a route.
pub(super) const KEYS: [&str; 11] = [
    "name",
    "shadow",
    "when",
    "targets",
    "priority",
    "options",
    "default_target",
    "while_nobody_online",
    "retry_ms",
    "hours",
    "outside_hours",
];
const TARGET_KEYS: [&str; 3] = ["agents", "group", "default"];

/// What routes take from the rest of the configuration.
pub(super) struct RouteInput<'c> {
    /// The waits of a route that keeps trying and has none of its own.
    pub(super) park: &'c [Duration],
    pub(super) hours: &'c HoursList,
}

/// Reads the routes; `None` after recording a problem.
pub(super) fn read(raw: &mut RawConfig, input: &RouteInput<'_>) -> Option<Routes> {
    let before = raw.problem_count();
    let (mut indexes, mut configs) = (Vec::new(), Vec::new());
    for (index, table) in read_list(raw, LIST)?.into_iter().enumerate() {
        let before = raw.problem_count();
        let reader = TableReader::new(raw, LIST, "route", index, table.get("name"));
        let config = RouteReader { reader, input }.route(table);
        // Compiling a route that could not be read would report its problems a second time.
        if raw.problem_count() == before {
            indexes.push(index);
            configs.push(config);
        }
    }
    let names: Vec<_> = configs.iter().map(|config| Value::from(config.name.clone())).collect();
    let routes = Routes::compile(configs);
    for problem in routes.as_ref().err().into_iter().flatten() {
        let mut text = problem.text.clone();
        for &cause in &problem.causes {
            let cause = TableReader::new(raw, LIST, "route", indexes[cause], Some(&names[cause]));
            text += &format!("; see {}", cause.description());
        }
        let (index, name) = (indexes[problem.route], &names[problem.route]);
        let mut reader = TableReader::new(raw, LIST, "route", index, Some(name));
        reader.add_fragment(&problem.key, &text);
    }
    routes.ok().filter(|_| raw.problem_count() == before)
}

/// Reads one route and records its problems.
struct RouteReader<'r> {
    reader: TableReader<'r>,
    input: &'r RouteInput<'r>,
}

impl RouteReader<'_> {
    fn route(&mut self, mut table: Map<String, Value>) -> RouteConfig {
        let reader = &mut self.reader;
        reader.check_keys(&table, &KEYS, "");
        let name = reader.value(&mut table, "name", "text, not empty", text).unwrap_or_default();
        let when = reader.table(&mut table, "when");
        let when = when.map(|when| conditions::read(reader, when, self.input.hours));
        let When { conditions, hours: when_hours } = when.unwrap_or_default();
        let tables = reader.value(&mut table, "targets", "a list of tables", tables_of);
        let tables = tables.into_iter().flatten().enumerate();
        let targets = tables.filter_map(|(index, table)| target(reader, index, table)).collect();
        let options =
            reader.table(&mut table, "options").map(|options| read_options(reader, options));
        let priority = reader.whole(&mut table, "priority", 0..=9);
        let default_target = reader.flag(&mut table, "default_target").unwrap_or(true);
        let shadow = reader.flag(&mut table, "shadow").unwrap_or(false);
        RouteConfig {
            name,
            when: conditions,
            when_hours,
            targets,
            priority: priority.and_then(|priority| u8::try_from(priority).ok()),
            options: options.unwrap_or_default(),
            default_target,
            while_nobody_online: self.no_agent_policy(&mut table),
            opening: self.opening(&mut table),
            shadow,
        }
    }

    fn no_agent_policy(&mut self, table: &mut Map<String, Value>) -> NoAgentPolicy {
        let (reader, park) = (&mut self.reader, self.input.park);
        let wanted = "\"answer\" or \"keep_trying\"";
        let key = "while_nobody_online";
        let keeps_trying = reader.value(table, key, wanted, |kind| match kind {
            ValueKind::String(word) if word == "answer" => Some(false),
            ValueKind::String(word) if word == "keep_trying" => Some(true),
            _ => None,
        });
        let within = format!("from {} to {}", WAITS_MS.start(), WAITS_MS.end());
        let wanted = format!("a list of whole numbers, at least one, each {within}");
        let waits = reader.value(table, "retry_ms", &wanted, durations);
        match (keeps_trying, waits) {
            (Some(true), Some(waits)) => NoAgentPolicy::KeepTrying(waits),
            (Some(true), None) => {
                if park.is_empty() {
                    let text = "keeps trying, and needs `retry_ms`: `retry.park_ms` is empty";
                    reader.add_problem(key, text);
                }
                NoAgentPolicy::KeepTrying(park.to_vec())
            }
            (_, None) => NoAgentPolicy::Answer,
            (_, Some(_)) => {
                let text = "`retry_ms` is for `while_nobody_online` = \"keep_trying\" only";
                reader.add_problem("retry_ms", text);
                NoAgentPolicy::Answer
            }
        }
    }

    fn opening(&mut self, table: &mut Map<String, Value>) -> Option<Opening> {
        let reader = &mut self.reader;
        let wanted = "\"answer\" or \"park_until_open\"";
        let outside = reader.value(table, "outside_hours", wanted, |kind| match kind {
            ValueKind::String(word) if word == "answer" => Some(OutsideHours::Answer),
            ValueKind::String(word) if word == "park_until_open" => {
                Some(OutsideHours::ParkUntilOpen)
            }
            _ => None,
        });
        if outside.is_some() && !table.contains_key("hours") {
            let text = "`outside_hours` needs `hours` of the route itself: outside of `when.hours` \
                        the route does not match";
            reader.add_problem("outside_hours", text);
        }
        let name = reader.value(table, "hours", "the name of [[hours]]", text)?;
        let hours = self.input.hours.find(reader, "hours", &name)?;
        Some(Opening { hours, outside: outside.unwrap_or(OutsideHours::Answer) })
    }
}

fn target(
    reader: &mut TableReader<'_>,
    index: usize,
    mut table: Map<String, Value>,
) -> Option<Target> {
    let before = reader.problem_count();
    let mut reader = reader.inside(&format!("targets[{index}]"));
    reader.check_keys(&table, &TARGET_KEYS, "targets.");
    let agents = reader.value(&mut table, "agents", TEXTS, texts).unwrap_or_default();
    let group = reader.whole(&mut table, "group", GROUPS);
    let default = reader.flag(&mut table, "default");
    let named = !agents.is_empty() || group.is_some();
    match default {
        _ if reader.problem_count() > before => None,
        Some(true) if !named => Some(Target::Default),
        None if named => Some(Target::Named { agents, group }),
        // `default = false` says nothing about whom to ask, so it is rejected as well.
        _ => {
            let text =
                "a target must have `agents`, `group`, or both; or else only `default` = true";
            reader.add_problem("", text);
            None
        }
    }
}

fn read_options(reader: &mut TableReader<'_>, mut table: Map<String, Value>) -> TransferOptions {
    let mut reader = reader.inside("options");
    reader.check_keys(&table, &TransferOptions::NAMES, "options.");
    TransferOptions::read(&mut RouteOptions { reader, table: &mut table })
}

/// The options of one route.
struct RouteOptions<'a, 'r> {
    reader: TableReader<'r>,
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

fn texts(kind: &ValueKind) -> Option<Vec<String>> {
    list(kind, text)
}

fn durations(kind: &ValueKind) -> Option<Vec<Duration>> {
    list(kind, |item| whole_number(item, &WAITS_MS).map(Duration::from_millis))
}
