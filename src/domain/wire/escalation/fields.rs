//! Readers for the optional fields of an escalation, each with its allowed range.
//!
//! A reader returns `None` and records a problem where a field is invalid, so that one outcome
//! names every invalid field. `null` is the same as absent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The number of problems that are spelled out; more would only make the outcome larger.
const MAX_MESSAGES: usize = 10;

/// The longest field name or value that is quoted, in characters.
const MAX_QUOTED_CHARS: usize = 80;

/// The problems found so far. Each message names the field, the value and the allowed range.
#[derive(Debug, Default)]
pub(super) struct Problems {
    messages: Vec<String>,
    more: usize,
}

/// Returns a value as error messages quote it: one line, cut to a readable length.
pub(super) fn quoted(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Problems {
    /// Returns `value`, or all problems as one sentence.
    pub(super) fn into_result<T>(mut self, value: T) -> Result<T, String> {
        if self.messages.is_empty() {
            return Ok(value);
        }
        if self.more > 0 {
            self.messages.push(format!("and {} more", self.more));
        }
        Err(self.messages.join("; "))
    }

    fn add<T>(&mut self, field: &str, value: &Value, allowed: &str) -> Option<T> {
        if self.messages.len() < MAX_MESSAGES {
            self.messages.push(format!(
                "{} is {}; allowed is {allowed}",
                cut(field),
                quoted(value)
            ));
        } else {
            self.more += 1;
        }
        None
    }

    pub(super) fn text(&mut self, field: &str, value: Option<&Value>) -> Option<String> {
        match present(value)? {
            Value::String(text) => Some(text.clone()),
            other => self.add(field, other, "text"),
        }
    }

    pub(super) fn time(&mut self, field: &str, value: Option<&Value>) -> Option<Timestamp> {
        let value = present(value)?;
        // Only text is accepted: a number could mean seconds or milliseconds.
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.or_else(|| self.add(field, value, "a time by RFC 3339, as 2026-11-23T10:00:00Z"))
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

    pub(super) fn texts(&mut self, field: &str, value: Option<&Value>) -> Vec<String> {
        let Some(value) = present(value) else { return Vec::new() };
        let text = |v: &Value| v.as_str().filter(|t| !t.trim().is_empty()).map(str::to_owned);
        let texts = value.as_array().and_then(|list| list.iter().map(text).collect());
        texts.or_else(|| self.add(field, value, "a list of texts, none blank")).unwrap_or_default()
    }

    /// Reads a flat object of texts; numbers and booleans become text, `null` is left out.
    pub(super) fn flat(&mut self, field: &str, value: Option<&Value>) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        for (name, value) in self.object(field, value).into_iter().flatten() {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                nested => self.add(&format!("{field}.{name}"), nested, "text, flat"),
            };
            flat.extend(text.map(|text| (name.clone(), text)));
        }
        flat
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

    fn problems(attributes: &str) -> String {
        let mut problems = Problems::default();
        problems.flat("attributes", Some(&serde_json::from_str(attributes).unwrap()));
        problems.into_result(()).unwrap_err()
    }

    #[test]
    fn ten_problems_are_spelled_out_and_the_rest_is_counted() {
        let all: Vec<_> = (0..10_000).map(|n| format!("\"a{n:05}\":[]")).collect();
        let ten = problems(&format!("{{{}}}", all[..10].join(",")));
        assert!(ten.ends_with("attributes.a00009 is []; allowed is text, flat"), "{ten}");
        let all = problems(&format!("{{{}}}", all.join(",")));
        assert_eq!(all, format!("{ten}; and 9990 more"));
    }

    #[test]
    fn names_and_values_are_cut_to_a_readable_length() {
        let long = "ä".repeat(1000);
        let message = problems(&format!("{{\"{long}\":[\"{long}\"]}}"));
        let (name, value) = (&long[..2 * 69], &long[..2 * 78]);
        assert_eq!(
            message,
            format!("attributes.{name}... is [\"{value}...; allowed is text, flat")
        );
    }
}
