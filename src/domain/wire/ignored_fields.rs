//! The fields of an escalation that the service ignores, because it does not know them.

use std::fmt;

use serde_json::{Map, Value};

use crate::domain::event::TransferOptions;
use crate::domain::wire::escalation::{FIELDS, TARGET_FIELDS};
use crate::domain::wire::reading::{FormatResult, ReadingStep};
use crate::domain::wire::repair::repaired;

/// A field that is ignored.
#[derive(Debug)]
pub struct IgnoredField {
    /// Its name, as `target.agent`.
    pub name: String,
    /// The names that are known in its place.
    pub known: &'static [&'static str],
}

impl fmt::Display for IgnoredField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, known } = self;
        write!(f, "{name} is ignored by the service, which knows {}", known.join(", "))
    }
}

/// Returns the ignored fields of a value that was read with these steps. Other formats than
/// `native`, and values in an envelope, have fields that are none of an escalation: for them it
/// returns nothing.
pub fn ignored_fields(value: &[u8], steps: &[ReadingStep]) -> Vec<IgnoredField> {
    let is_native = |step: &ReadingStep| match step {
        ReadingStep::Tried { format, result: FormatResult::Recognised } => format == "native",
        ReadingStep::Tried { result, .. } => matches!(result, FormatResult::Unrecognised(_)),
        _ => false,
    };
    if !steps.iter().all(is_native) {
        return vec![];
    }
    let Ok(Value::Object(written)) = serde_json::from_str(&repaired(value)) else {
        return vec![];
    };
    let unknown = |prefix: &str, fields: &Map<_, _>, known: &'static [&'static str]| {
        let names = fields.keys().filter(|name| !known.contains(&name.as_str()));
        let named = |name| IgnoredField { name: format!("{prefix}{name}"), known };
        names.map(named).collect::<Vec<_>>()
    };
    let mut ignored = unknown("", &written, &FIELDS);
    if let Some(Value::Object(target)) = written.get("target") {
        ignored.extend(unknown("target.", target, &TARGET_FIELDS));
    }
    if let Some(Value::Object(options)) = written.get("options") {
        ignored.extend(unknown("options.", options, &TransferOptions::NAMES));
    }
    ignored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str, steps: &[ReadingStep]) -> Vec<String> {
        ignored_fields(value.as_bytes(), steps).into_iter().map(|field| field.name).collect()
    }

    fn tried(format: &str, result: FormatResult) -> ReadingStep {
        ReadingStep::Tried { format: format.into(), result }
    }

    #[test]
    fn only_a_native_escalation_without_envelope_has_ignored_fields() {
        let value = r#"{"session_id":"s","tier":1,"target":{"agent":"a"},"options":{"x":1}}"#;
        let other = tried("rasa", FormatResult::Unrecognised("other".into()));
        let native = tried("native", FormatResult::Recognised);
        let envelope = ReadingStep::Unwrapped("Kafka Connect".into());
        let ignored = ["tier", "target.agent", "options.x"];
        assert_eq!(names(value, &[other, native.clone()]), ignored);
        let known = r#"{"session_id":"s","id":"e"}"#;
        assert_eq!(names(known, std::slice::from_ref(&native)), [""; 0]);
        assert_eq!(names(value, &[envelope, native]), [""; 0]);
        assert_eq!(names(value, &[tried("rasa", FormatResult::Recognised)]), [""; 0]);
    }
}
