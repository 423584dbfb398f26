//! A format whose fields are where the configuration says: pointers into the value, headers, constants.
//!
//! [`config`](crate::config) compiles `[[mappings]]` to a [`Mapping`]. A pointer is that of RFC 6901; a
//! segment `*` stands for the first element of a list, or member of an object, that has the rest.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{DialectInput, Reading, object};
use crate::domain::record::last_header;
use crate::domain::wire::escalation::EscalationFields;
use crate::domain::wire::escalation::written::{Parsed, SessionHelp, Written};
use crate::domain::wire::reading::{ReadingStep, ReadingSteps};

/// One entry of `[[mappings]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The name by which `input.dialects` switches it on.
    pub name: String,
    /// What a record must have to be recognised: all of them.
    pub conditions: Vec<MappingCondition>,
    /// Where the fields are.
    pub fields: Vec<FieldRule>,
    /// Where the attributes are.
    pub attributes: AttributesRule,
}

/// What a record must have.
#[derive(Debug, Clone, PartialEq)]
pub struct MappingCondition {
    /// Where it is.
    pub source: FieldSource,
    /// What must be there.
    pub expected: Expected,
}

/// What must be at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One of these texts; numbers, `true` and `false` are compared as they are written.
    OneOf(Vec<String>),
    /// Anything but `null`.
    Present,
    /// Nothing, or `null`.
    Absent,
}

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldSource {
    /// In the value of the record.
    Pointer(JsonPointer),
    /// In the header of this name.
    Header(String),
    /// In the record's key, as text.
    Key,
}

/// A place in a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<String>);

/// A field of the escalation and what it is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldRule {
    /// The field, as `session_id`, `target.group` or `options.queue_timeout`.
    pub field: String,
    /// What it is set to.
    pub rule: ValueRule,
}

/// What a field is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueRule {
    /// This value.
    Constant(Value),
    /// What is found in the record.
    Read(Extraction),
}

/// How a value is read from a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// Where it is.
    pub source: FieldSource,
    /// What counts where nothing is there, or `null`.
    pub default: Option<Value>,
    /// Removed from the start of a text that begins with it.
    pub prefix_cut: Option<String>,
    /// Only what follows the last `/` of a text counts.
    pub last_segment: bool,
    /// How a time is written; `None`: as in an escalation.
    pub time: Option<TimeForm>,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// As RFC 3339.
    Rfc3339,
    /// In seconds since 1970.
    EpochSeconds,
    /// In milliseconds since 1970.
    EpochMillis,
}

/// Where the attributes are.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributesRule {
    /// All members of the object at this place; those of an object inside it as `outer.inner`.
    Members(FieldSource),
    /// Each by itself; none if empty.
    Each(Vec<FieldRule>),
}

impl JsonPointer {
    /// Reads a pointer. The error completes "must".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(rest) = text.strip_prefix('/') else { return Err("begin with /") };
        let is_escape = |tail: &str| tail.starts_with('0') || tail.starts_with('1');
        if !rest.split('~').skip(1).all(is_escape) {
            return Err("write ~0 for ~ and ~1 for /");
        }
        Ok(Self(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()))
    }

    fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        find(value, &self.0)
    }
}

fn find<'v>(value: &'v Value, segments: &[String]) -> Option<&'v Value> {
    let Some((first, rest)) = segments.split_first() else {
        return Some(value).filter(|value| !value.is_null());
    };
    match value {
        Value::Array(list) if first == "*" => list.iter().find_map(|item| find(item, rest)),
        Value::Object(members) if first == "*" => {
            members.values().find_map(|member| find(member, rest))
        }
        Value::Array(list) => find(list.get(first.parse::<usize>().ok()?)?, rest),
        Value::Object(members) => find(members.get(first)?, rest),
        _ => None,
    }
}

impl fmt::Display for FieldSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(JsonPointer(segments)) if segments.is_empty() => f.write_str("the value"),
            Self::Pointer(JsonPointer(segments)) => segments
                .iter()
                .try_for_each(|part| write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Key => f.write_str("the record's key"),
        }
    }
}

/// A record while a mapping reads it.
struct MappedRecord<'m> {
    value: &'m Value,
    input: &'m DialectInput<'m>,
}

impl MappedRecord<'_> {
    /// Returns what is at a place; `None` for nothing and for `null`.
    fn get(&self, source: &FieldSource) -> Option<Value> {
        let text = |bytes: &[u8]| Some(Value::from(std::str::from_utf8(bytes).ok()?));
        match source {
            FieldSource::Pointer(pointer) => pointer.find(self.value).cloned(),
            FieldSource::Header(name) => last_header(self.input.headers, name).and_then(text),
            FieldSource::Key => self.input.key.and_then(text),
        }
    }

    fn meets(&self, condition: &MappingCondition) -> bool {
        let found = self.get(&condition.source);
        match &condition.expected {
            Expected::Present => found.is_some(),
            Expected::Absent => found.is_none(),
            Expected::OneOf(texts) => found.is_some_and(|found| match &found {
                Value::String(text) => texts.contains(text),
                Value::Array(_) | Value::Object(_) => false,
                other => texts.contains(&other.to_string()),
            }),
        }
    }

    fn value_of(&self, rule: &ValueRule) -> Option<Value> {
        let extraction = match rule {
            ValueRule::Constant(value) => return Some(value.clone()),
            ValueRule::Read(extraction) => extraction,
        };
        let Some(found) = self.get(&extraction.source) else { return extraction.default.clone() };
        let cut = match found {
            Value::String(text) => Value::from(extraction.cut(&text)),
            other => other,
        };
        // What is no time in this form stays as it is: the outcome notes that it was left out.
        Some(extraction.time.and_then(|form| form.read(&cut)).unwrap_or(cut))
    }

    fn attributes(&self, rule: &AttributesRule, steps: &mut ReadingSteps) -> Option<Value> {
        let attributes = match rule {
            AttributesRule::Each(rules) => {
                let value = |FieldRule { field, rule }: &FieldRule| {
                    let value = self.value_of(rule);
                    steps.add(|| mapped(format!("attributes.{field}"), rule, value.is_some()));
                    Some((field.clone(), value?))
                };
                rules.iter().filter_map(value).collect()
            }
            AttributesRule::Members(source) => {
                let found = self.get(source);
                steps.add(|| ReadingStep::Mapped {
                    field: "attributes".to_owned(),
                    source: format!("members of {source}"),
                    is_found: found.is_some(),
                });
                match found? {
                    Value::Object(members) => flattened(members),
                    // Not an object: the outcome notes that it was left out.
                    other => return Some(other),
                }
            }
        };
        Some(Value::Object(attributes))
            .filter(|attributes| *attributes != Value::Object(Map::new()))
    }
}

fn mapped(field: String, rule: &ValueRule, is_found: bool) -> ReadingStep {
    let source = match rule {
        ValueRule::Constant(value) => format!("the constant {value}"),
        ValueRule::Read(Extraction { source, default: None, .. }) => source.to_string(),
        ValueRule::Read(Extraction { source, default: Some(value), .. }) => {
            format!("{source}, else {value}")
        }
    };
    ReadingStep::Mapped { field, source, is_found }
}

/// The flat members, and those of objects inside as `outer.inner`; lists and what is deeper is dropped.
fn flattened(members: Map<String, Value>) -> Map<String, Value> {
    let is_flat = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    let mut flat = Map::new();
    for (name, value) in members {
        match value {
            Value::Object(inner) => {
                let inner = inner.into_iter().filter(|(_, value)| is_flat(value));
                flat.extend(inner.map(|(own, value)| (format!("{name}.{own}"), value)));
            }
            value if is_flat(&value) => drop(flat.insert(name, value)),
            _ => {}
        }
    }
    flat
}

impl Extraction {
    fn cut<'t>(&self, text: &'t str) -> &'t str {
        let prefix = self.prefix_cut.as_deref().unwrap_or_default();
        let text = text.strip_prefix(prefix).unwrap_or(text);
        if self.last_segment { text.rsplit('/').next().unwrap_or(text) } else { text }
    }
}

impl TimeForm {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("rfc3339", Self::Rfc3339),
        ("epoch_s", Self::EpochSeconds),
        ("epoch_ms", Self::EpochMillis),
    ];

    /// Reads a time as text of RFC 3339.
    fn read(self, value: &Value) -> Option<Value> {
        let number = || match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let millis = match self {
            Self::Rfc3339 => return value.as_str()?.trim().parse().ok().map(text_of_time),
            Self::EpochSeconds => number()? * 1e3,
            Self::EpochMillis => number()?,
        };
        let is_possible = millis.is_finite() && millis.abs() < 1e15;
        Timestamp::from_millisecond(is_possible.then_some(millis.round() as i64)?)
            .ok()
            .map(text_of_time)
    }
}

fn text_of_time(time: Timestamp) -> Value {
    Value::from(time.to_string())
}

impl Mapping {
    pub(super) fn read<'r>(
        &self,
        input: &DialectInput<'_>,
        steps: &mut ReadingSteps,
    ) -> Reading<'r> {
        let Some(Parsed { value, is_repaired }) = object(input) else {
            return Reading::unrecognised("no JSON object");
        };
        let value = Value::Object(value);
        let record = MappedRecord { value: &value, input };
        if let Some(MappingCondition { source, .. }) =
            self.conditions.iter().find(|condition| !record.meets(condition))
        {
            return Reading::unrecognised(format!("`match` does not hold for {source}"));
        }
        let mut fields = EscalationFields::default();
        for FieldRule { field, rule } in &self.fields {
            let value = record.value_of(rule);
            steps.add(|| mapped(field.clone(), rule, value.is_some()));
            if let Some(value) = value {
                set(&mut fields, field, value);
            }
        }
        fields.attributes = record.attributes(&self.attributes, steps);
        let help = SessionHelp::Sentence(format!(
            "the record has nothing where the mapping {:?} looks for it",
            self.name
        ));
        Reading::escalation(Written { is_repaired, ..Written::new(fields, help) })
    }

    /// The fields that can be mapped, beside `attributes` and those of `target` and `options`.
    pub const FIELDS: [&'static str; 6] =
        ["session_id", "id", "requested_at", "expires_at", "reason", "priority"];
}

/// Sets a field, where it is inside `target` or `options` in that object.
fn set(fields: &mut EscalationFields, field: &str, value: Value) {
    let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
    let place = match outer {
        "session_id" => &mut fields.session_id,
        "id" => &mut fields.id,
        "requested_at" => &mut fields.requested_at,
        "expires_at" => &mut fields.expires_at,
        "reason" => &mut fields.reason,
        "priority" => &mut fields.priority,
        "target" => &mut fields.target,
        "options" => &mut fields.options,
        _ => return,
    };
    if inner.is_empty() {
        *place = Some(value);
        return;
    }
    let object = place.get_or_insert_with(|| Value::Object(Map::new()));
    if let Some(object) = object.as_object_mut() {
        object.insert(inner.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(pointer: &str) -> Option<Value> {
        let value = json!({
            "a": {"b/c": 1, "m~n": 2, "": 3},
            "list": [{"x": null}, {"y": {"z": "first"}}, {"y": {"z": "second"}}],
            "map": {"k1": {"q": null}, "k2": {"q": 7}},
        });
        JsonPointer::parse(pointer).unwrap().find(&value).cloned()
    }

    #[test]
    fn a_pointer_is_that_of_rfc_6901_with_a_star_for_the_first_that_has_the_rest() {
        assert_eq!(found("/a/b~1c"), Some(json!(1)));
        assert_eq!(found("/a/m~0n"), Some(json!(2)));
        assert_eq!(found("/a/"), Some(json!(3)));
        assert_eq!(found("/list/2/y/z"), Some(json!("second")));
        assert_eq!(found("/list/*/y/z"), Some(json!("first")));
        assert_eq!(found("/map/*/q"), Some(json!(7)));
        assert_eq!(found("/list/*/x"), None, "null is the same as absent");
        assert_eq!(found("/list/9/y"), None);
        assert_eq!(found("/a/b~1c/d"), None);
        assert!(found("").unwrap().is_object());
        for wrong in ["a", "a/b", "/~", "/~2", "/a~/b"] {
            assert!(JsonPointer::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_read_in_its_form_only() {
        let read = |form: TimeForm, value: Value| form.read(&value).map(|time| time.to_string());
        let time = Some("\"2026-11-27T18:00:00Z\"".to_owned());
        assert_eq!(read(TimeForm::EpochSeconds, json!(1_795_802_400)), time);
        assert_eq!(read(TimeForm::EpochSeconds, json!("1795802400")), time);
        assert_eq!(read(TimeForm::EpochMillis, json!(1_795_802_400_000_i64)), time);
        assert_eq!(read(TimeForm::Rfc3339, json!("2026-11-27T18:00:00Z")), time);
        for (form, value) in [
            (TimeForm::Rfc3339, json!(1_795_802_400)),
            (TimeForm::EpochSeconds, json!("soon")),
            (TimeForm::EpochSeconds, json!(1e300)),
            (TimeForm::EpochMillis, json!([])),
        ] {
            assert_eq!(read(form, value.clone()), None, "{value}");
        }
    }
}
