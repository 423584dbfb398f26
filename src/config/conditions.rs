//! The conditions of a route (`when`): values and operators.

use std::sync::Arc;

use ::config::{Map, Value, ValueKind};

use super::hours::HoursList;
use super::table_reader::{TEXTS, TableReader, list, text};
use crate::domain::hours::Hours;
use crate::domain::route::{ComparedValue, Condition, HoursCondition, Number, Operator, Subject};

/// The operators of a condition.
pub(super) const OPERATORS: [&str; 5] = ["not", "min", "max", "prefix", "exists"];

/// What a value may be compared with.
const VALUES: &str = "a text, a number, true or false, or a list of them, not empty";
const CONDITION: &str = "a text, a number, true or false, a list of them, not empty, or a table of \
                         operators, as { min = 3 }";
const NUMBER: &str = "a number";

/// The conditions of a route.
#[derive(Default)]
pub(super) struct When {
    pub(super) conditions: Vec<Condition>,
    pub(super) hours: Option<HoursCondition>,
}

/// Reads `when`; a condition with a problem is left out.
pub(super) fn read(
    reader: &mut TableReader<'_>,
    when: Map<String, Value>,
    hours: &HoursList,
) -> When {
    let mut read = When::default();
    let mut when: Vec<_> = when.into_iter().collect();
    // A map has no order. Sorted, the messages are the same in every run.
    when.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, value) in when {
        if name == "hours" {
            read.hours = hours_condition(reader, &value.kind, hours);
            continue;
        }
        let operators = match &value.kind {
            ValueKind::Table(table) => operators(reader, &name, table.clone()),
            kind => {
                let values = values(kind).map(|values| vec![Operator::OneOf(values)]);
                if values.is_none() {
                    reader.reject_as(
                        &format!("when.{name}"),
                        &format!("when.{name}"),
                        kind,
                        CONDITION,
                    );
                }
                values
            }
        };
        let subject = match name.as_str() {
            "reason" => Subject::Reason,
            _ => Subject::Attribute(name),
        };
        read.conditions.extend(operators.map(|operators| Condition { subject, operators }));
    }
    read
}

/// `None` after recording a problem.
fn operators(
    reader: &mut TableReader<'_>,
    name: &str,
    mut table: Map<String, Value>,
) -> Option<Vec<Operator>> {
    let path = format!("when.{name}");
    let before = reader.problem_count();
    if table.is_empty() {
        reader.reject_as(&path, &path, &ValueKind::Table(table), CONDITION);
        return None;
    }
    let mut inside = reader.inside(&path);
    inside.check_keys(&table, &OPERATORS, &format!("{path}."));
    let mut operators = Vec::new();
    let mut read = |key: &str, wanted: &str, read: fn(&ValueKind) -> Option<Operator>| {
        let Some(value) = table.remove(key) else { return };
        match read(&value.kind) {
            Some(operator) => operators.push(operator),
            None => inside.reject_as(&format!("{path}.{key}"), key, &value.kind, wanted),
        }
    };
    read("not", VALUES, |kind| values(kind).map(Operator::Not));
    read("min", NUMBER, |kind| number(kind).map(Operator::Min));
    read("max", NUMBER, |kind| number(kind).map(Operator::Max));
    read("prefix", &format!("a text, not empty, or {TEXTS}"), |kind| {
        one_or_more(kind, prefix).map(Operator::Prefix)
    });
    read("exists", "true or false", |kind| match kind {
        ValueKind::Boolean(flag) => Some(Operator::Exists(*flag)),
        _ => None,
    });
    (reader.problem_count() == before).then_some(operators)
}

/// `None` after recording a problem.
fn hours_condition(
    reader: &mut TableReader<'_>,
    kind: &ValueKind,
    hours: &HoursList,
) -> Option<HoursCondition> {
    let key = "when.hours";
    let wanted = "the name of [[hours]], a list of such names, or { not = .. } with one of both";
    let (names, is_open) = match kind {
        ValueKind::Table(table) if table.len() == 1 => match table.get("not") {
            Some(value) => (one_or_more(&value.kind, text), false),
            None => (None, false),
        },
        kind => (one_or_more(kind, text), true),
    };
    let Some(names) = names else {
        reader.reject_as(key, key, kind, wanted);
        return None;
    };
    let found: Vec<Option<Arc<Hours>>> =
        names.iter().map(|name| hours.find(reader, key, name)).collect();
    let found = found.into_iter().collect::<Option<Vec<_>>>()?;
    Some(if is_open { HoursCondition::Open(found) } else { HoursCondition::Closed(found) })
}

fn values(kind: &ValueKind) -> Option<Vec<ComparedValue>> {
    one_or_more(kind, |kind| match kind {
        ValueKind::String(text) => Some(ComparedValue::Text(text.clone())),
        ValueKind::Boolean(flag) => Some(ComparedValue::Text(flag.to_string())),
        kind => number(kind).map(ComparedValue::Number),
    })
}

fn number(kind: &ValueKind) -> Option<Number> {
    match kind {
        ValueKind::I64(number) => Some(Number::Whole(i128::from(*number))),
        ValueKind::Float(number) if number.is_finite() => Some(Number::Decimal(*number)),
        _ => None,
    }
}

/// A text that is not empty: each value would begin with that.
fn prefix(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn one_or_more<T>(kind: &ValueKind, item: impl Fn(&ValueKind) -> Option<T>) -> Option<Vec<T>> {
    match kind {
        ValueKind::Array(_) => list(kind, item),
        single => item(single).map(|item| vec![item]),
    }
}
