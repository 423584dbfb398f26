//! Readers for the optional fields of an escalation, each with its allowed range.
//!
//! Fields that decide who is asked are strict: a reader returns `None` and records a problem, so
//! that one outcome names every invalid field. In fields that only help, what cannot be read is left
//! out and noted. `null` is the same as absent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::times;
use crate::domain::wire::repair;

/// The number of messages that are spelled out; more would only make the outcome larger.
const MAX_MESSAGES: usize = 10;

/// The longest field name or value that is quoted, in characters.
const MAX_QUOTED_CHARS: usize = 80;

/// What was found wrong so far. Each message names the field, the value and what is allowed.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// The text was repaired first: a login may have lost characters.
    is_repaired: bool,
    /// Of fields that decide who is asked: the escalation is refused.
    refused: Messages,
    /// Of fields that only help: they were left out.
    ignored: Messages,
}

#[derive(Debug, Default)]
struct Messages {
    texts: Vec<String>,
    more: usize,
}

impl Messages {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.texts.len() < MAX_MESSAGES {
            self.texts.push(text());
        } else {
            self.more += 1;
        }
    }

    fn into_texts(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("and {} more", self.more));
        }
        self.texts
    }
}

/// Returns a value as messages quote it: one line, cut to a readable length.
pub(in crate::domain::wire) fn quoted(value: &Value) -> String {
    cut(&value.to_string())
}

/// Returns a text cut to the length at which messages quote it.
pub(in crate::domain::wire) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Problems {
    /// Starts with what was left out already; `is_repaired` says whether the text was repaired before it
    /// was read.
    pub(super) fn new(is_repaired: bool, notes: &[String]) -> Self {
        let mut problems = Self { is_repaired, ..Self::default() };
        for note in notes {
            problems.ignored.add(|| note.clone());
        }
        problems
    }

    /// Returns all problems of strict fields as one sentence, if there are any, and a note for each
    /// value that was left out.
    pub(super) fn into_parts(self) -> (Option<String>, Vec<String>) {
        let refused = self.refused.into_texts();
        let refusal = (!refused.is_empty()).then(|| refused.join("; "));
        (refusal, self.ignored.into_texts())
    }

    fn add<T>(&mut self, field: &str, value: &Value, allowed: &str) -> Option<T> {
        let text = || format!("{} is {}; allowed is {allowed}", cut(field), quoted(value));
        self.refused.add(text);
        None
    }

    fn ignore<T>(&mut self, field: &str, value: &Value, allowed: &str) -> Option<T> {
        let text = || format!("{} ignored: {} is not {allowed}", cut(field), quoted(value));
        self.ignored.add(text);
        None
    }

    /// Reads a text that only helps; a number or a boolean is read as it is written.
    pub(super) fn text(&mut self, field: &str, value: Option<&Value>) -> Option<String> {
        let value = present(value)?;
        scalar(value).or_else(|| self.ignore(field, value, "a text"))
    }

    /// Reads a time; one that cannot be read is left out.
    pub(super) fn time(&mut self, field: &str, value: Option<&Value>) -> Option<Timestamp> {
        let value = present(value)?;
        times::read_time(value).or_else(|| self.ignore(field, value, times::ALLOWED))
    }

    /// Reads a whole number in `range`; digits as text are accepted.
    pub(super) fn number(
        &mut self,
        field: &str,
        value: Option<&Value>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = present(value)?;
        let number = whole(value).filter(|n| range.contains(n));
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        number.or_else(|| self.add(field, value, &allowed()))
    }

    pub(super) fn boolean(&mut self, field: &str, value: Option<&Value>) -> Option<bool> {
        let value = present(value)?;
        value.as_bool().or_else(|| self.add(field, value, "true or false"))
    }

    /// Reads a flag of Desk: a boolean, or 1 and 0 as in Desk's API.
    pub(super) fn flag(&mut self, field: &str, value: Option<&Value>) -> Option<bool> {
        let value = present(value)?;
        let flag = value.as_bool().or_else(|| match value.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        });
        flag.or_else(|| self.add(field, value, "true or false"))
    }

    pub(super) fn object<'v>(
        &mut self,
        field: &str,
        value: Option<&'v Value>,
    ) -> Option<&'v Map<String, Value>> {
        let value = present(value)?;
        value.as_object().or_else(|| self.add(field, value, "an object"))
    }

    /// Reads logins: a list, or a single one outside a list. A whole number counts as text.
    pub(super) fn logins(&mut self, field: &str, value: Option<&Value>) -> Vec<String> {
        let Some(value) = present(value) else { return Vec::new() };
        let logins = match value {
            Value::Array(list) => list.iter().map(login).collect::<Option<Vec<_>>>(),
            // Several logins in one text would be asked for as one agent that does not exist.
            Value::String(text) if text.contains([',', ';', ' ']) => None,
            single => login(single).map(|login| vec![login]),
        };
        // Another login would be asked for than the one that was meant.
        let is_broken = |login: &String| self.is_repaired && login.contains(repair::REPLACEMENT);
        let logins = logins.filter(|logins| !logins.iter().any(is_broken));
        let allowed = "a list of texts, none blank or with half a character";
        logins.or_else(|| self.add(field, value, allowed)).unwrap_or_default()
    }

    /// Reads a flat object of texts; numbers and booleans become text, `null` is left out, and so is,
    /// with a note, what is nested.
    pub(super) fn flat(&mut self, field: &str, value: Option<&Value>) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        let Some(value) = present(value) else { return flat };
        let Some(fields) = value.as_object() else {
            self.ignore::<()>(field, value, "an object");
            return flat;
        };
        for (name, value) in fields {
            let name_of_field = || format!("{field}.{name}");
            let text = match value {
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => {
                    self.ignore(&name_of_field(), value, "a text")
                }
                value => scalar(value),
            };
            flat.extend(text.map(|text| (name.clone(), text)));
        }
        flat
    }
}

fn login(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|v| !v.is_null())
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64().or_else(|| {
            let float = n.as_f64()?;
            // Below 2^53 a float without a fraction is exactly that whole number.
            (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
        }),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(attributes: &str) -> Vec<String> {
        let mut problems = Problems::default();
        problems.flat("attributes", Some(&serde_json::from_str(attributes).unwrap()));
        let (refusal, notes) = problems.into_parts();
        assert_eq!(refusal, None);
        notes
    }

    #[test]
    fn ten_messages_are_spelled_out_and_the_rest_is_counted() {
        let all: Vec<_> = (0..10_000).map(|n| format!("\"a{n:05}\":[]")).collect();
        let ten = notes(&format!("{{{}}}", all[..10].join(",")));
        assert_eq!((ten.len(), &*ten[9]), (10, "attributes.a00009 ignored: [] is not a text"));
        let all = notes(&format!("{{{}}}", all.join(",")));
        assert_eq!((&all[..10], &*all[10]), (&ten[..], "and 9990 more"));
    }

    #[test]
    fn names_and_values_are_cut_to_a_readable_length() {
        let long = "ä".repeat(1000);
        let message = notes(&format!("{{\"{long}\":[\"{long}\"]}}"));
        let (name, value) = (&long[..2 * 69], &long[..2 * 78]);
        assert_eq!(message, [format!("attributes.{name}... ignored: [\"{value}... is not a text")]);
    }
}
