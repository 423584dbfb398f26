//! The list `[[hours]]`: opening hours that routes refer to by name.

use std::sync::Arc;

use ::config::{Map, Value, ValueKind};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::raw_config::RawConfig;
use super::suggestions::nearest;
use super::table_reader::{TableReader, read_list, text};
use crate::domain::hours::{DayTime, Hours};

const LIST: &str = "hours";
/// The keys of hours.
pub(super) const KEYS: [&str; 4] = ["name", "zone", "weekly", "closed"];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const TIMES: &str =
    "a list of times, as [\"09:00-12:00\", \"22:00-06:00\"]; the end of a day is 24:00";

/// The hours of the configuration.
#[derive(Debug, Default)]
pub(super) struct HoursList {
    hours: Vec<Arc<Hours>>,
    /// The names of those that have a problem: a route that refers to them has none.
    faulty: Vec<String>,
}

impl HoursList {
    /// The hours of this name; `None` after recording a problem, of the hours or of this reference.
    pub(super) fn find(
        &self,
        reader: &mut TableReader<'_>,
        key: &str,
        name: &str,
    ) -> Option<Arc<Hours>> {
        let found = self.hours.iter().find(|hours| hours.name == name).cloned();
        if found.is_none() && !self.faulty.iter().any(|faulty| faulty == name) {
            let names: Vec<_> = self.hours.iter().map(|hours| hours.name.as_str()).collect();
            let advice = match nearest(name, &names) {
                Some(real) => format!("did you mean {real:?}?"),
                None if names.is_empty() => "there are no [[hours]]".to_owned(),
                None => format!("there are {}", names.join(", ")),
            };
            reader.add_problem(key, &format!("no [[hours]] have the name {name:?}: {advice}"));
        }
        found
    }
}

/// Reads the hours. Those with a problem, which is recorded, are left out.
pub(super) fn read(raw: &mut RawConfig) -> HoursList {
    let mut read = HoursList::default();
    for (index, table) in read_list(raw, LIST).into_iter().flatten().enumerate() {
        let before = raw.problem_count();
        let mut reader = TableReader::new(raw, LIST, "hours", index, table.get("name"));
        let name = table.get("name").and_then(|name| text(&name.kind)).unwrap_or_default();
        if read.hours.iter().any(|hours| hours.name == name) || read.faulty.contains(&name) {
            reader.add_problem("name", "has the name of an earlier one");
        }
        let hours = one(&mut reader, table);
        match hours.filter(|_| raw.problem_count() == before) {
            Some(hours) => read.hours.push(Arc::new(hours)),
            None => read.faulty.push(name),
        }
    }
    read
}

/// `None` after recording a problem.
fn one(reader: &mut TableReader<'_>, mut table: Map<String, Value>) -> Option<Hours> {
    let has = |key: &str| table.contains_key(key);
    let missing: Vec<_> = KEYS[..3].iter().filter(|key| !has(key)).copied().collect();
    reader.check_keys(&table, &KEYS, "");
    if !missing.is_empty() {
        reader.add_problem("", &format!("lacks {}", missing.join(", ")));
    }
    let name = reader.value(&mut table, "name", "text, not empty", text);
    let zone = zone(reader, &mut table);
    let weekly = reader.table(&mut table, "weekly").map(|weekly| week(reader, weekly));
    let closed = reader.value(
        &mut table,
        "closed",
        "a list of days, as [\"2026-12-25\"]",
        |kind| match kind {
            ValueKind::Array(days) => days.iter().map(|day| date(&day.kind)).collect(),
            _ => None,
        },
    );
    let (name, zone, weekly) = (name?, zone?, weekly?);
    let hours = Hours::new(name, zone, weekly, closed.unwrap_or_default());
    if hours.is_none() {
        reader.add_problem("weekly", "never opens: no day of `weekly` has a time");
    }
    hours
}

fn zone(reader: &mut TableReader<'_>, table: &mut Map<String, Value>) -> Option<TimeZone> {
    let value = table.remove("zone")?;
    let name = text(&value.kind);
    let zone = name.as_deref().and_then(|name| TimeZone::get(name).ok());
    if zone.is_none() {
        let names: Vec<_> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let advice = name.as_deref().and_then(|name| nearest(name, &names));
        let advice = advice.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        let wanted = format!("the IANA name of a time zone, as \"Europe/Berlin\"{advice}");
        reader.reject("zone", &value.kind, &wanted);
    }
    zone
}

/// The times of each day; a day with a problem, which is recorded, has none.
fn week(reader: &mut TableReader<'_>, weekly: Map<String, Value>) -> [Vec<DayTime>; 7] {
    let mut week: [Option<Vec<DayTime>>; 7] = Default::default();
    let mut weekly: Vec<_> = weekly.into_iter().collect();
    // A map has no order. Sorted, the messages are the same in every run.
    weekly.sort_by(|one, other| one.0.cmp(&other.0));
    for (key, value) in weekly {
        let path = format!("weekly.{key}");
        let Some(days) = days(&key) else {
            let wanted = format!("unknown day `{path}`: days are {}, or mon-fri", DAYS.join(", "));
            reader.add_problem(&path, &wanted);
            continue;
        };
        // An empty list says that the day is closed.
        let times: Option<Vec<DayTime>> = match &value.kind {
            ValueKind::Array(times) => {
                times.iter().map(|time| DayTime::read(&text(&time.kind)?)).collect()
            }
            _ => None,
        };
        if times.is_none() {
            reader.reject_as(&path, &path, &value.kind, TIMES);
        }
        for day in days {
            if week[day].is_some() {
                reader.add_problem(&path, &format!("`weekly` has {} twice", DAYS[day]));
            }
            week[day] = Some(times.clone().unwrap_or_default());
        }
    }
    week.map(Option::unwrap_or_default)
}

/// Reads `sat` or `mon-fri`, also `sat-mon`.
fn days(key: &str) -> Option<Vec<usize>> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let (first, last) = key.split_once('-').unwrap_or((key, key));
    let (first, last) = (day(first)?, day(last)?);
    let count = (last + 7 - first) % 7 + 1;
    Some((0..count).map(|after| (first + after) % 7).collect())
}

/// A day, with or without quotes.
fn date(kind: &ValueKind) -> Option<Date> {
    let is_day = |text: &String| text.len() == "2026-12-25".len();
    text(kind).filter(is_day).and_then(|text| text.parse().ok())
}
