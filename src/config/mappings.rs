//! The list `[[mappings]]`: reads the tables of the file and compiles them to checked mappings.
//!
//! [`crate::domain::wire::dialects::mapping`] says what a mapping does with a record.

use ::config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::raw_config::RawConfig;
use super::table_reader::{TableReader, read_list, text};
use crate::domain::event::TransferOptions;
use crate::domain::wire::dialects::mapping::{
    AttributesRule, Expected, Extraction, FieldRule, FieldSource, JsonPointer, Mapping,
    MappingCondition, TimeForm, ValueRule,
};
use crate::domain::wire::escalation::TARGET_FIELDS;

const LIST: &str = "mappings";
const RULE: &str = "a place, as \"/customer/id\", \"header:NAME\" or \"key\", or a table with \
                    `pointer` or `value`";
const EXPECTED: &str =
    "a text, a number, true or false, a list of them, not empty, or { exists = true }";
const RULE_KEYS: [&str; 6] = ["pointer", "value", "default", "prefix_cut", "last_segment", "time"];

/// The fields that must differ from record to record.
const IDENTITIES: [&str; 2] = ["session_id", "id"];

/// The keys of a mapping.
pub(super) const KEYS: [&str; 11] = [
    "name",
    "match",
    "session_id",
    "id",
    "requested_at",
    "expires_at",
    "reason",
    "priority",
    "target",
    "attributes",
    "options",
];

/// Reads the mappings; `None` after recording a problem.
pub(super) fn read(raw: &mut RawConfig) -> Option<Vec<Mapping>> {
    let before = raw.problem_count();
    let mut mappings: Vec<Mapping> = Vec::new();
    for (index, table) in read_list(raw, LIST)?.into_iter().enumerate() {
        let name = table.get("name").cloned();
        let reader = TableReader::new(raw, LIST, "mapping", index, name.as_ref());
        let mut reader = MappingReader { reader };
        let mapping = reader.mapping(table);
        if mappings.iter().any(|earlier| earlier.name == mapping.name) {
            reader.reader.add_fragment("name", "has the name of an earlier one");
        }
        mappings.push(mapping);
    }
    (raw.problem_count() == before).then_some(mappings)
}

/// Reads one mapping and records its problems.
struct MappingReader<'r> {
    reader: TableReader<'r>,
}

impl MappingReader<'_> {
    /// What is wrong is left out: the mapping is used only if there is no problem.
    fn mapping(&mut self, mut table: Map<String, Value>) -> Mapping {
        let reader = &mut self.reader;
        reader.check_keys(&table, &KEYS, "");
        if !table.contains_key("name") {
            reader.add_fragment("", "has no name: `input.dialects` switches it on by its name");
        }
        let name = reader.value(&mut table, "name", "text, not empty", text).unwrap_or_default();
        let conditions = reader.table(&mut table, "match").unwrap_or_default();
        let conditions = sorted(conditions)
            .into_iter()
            .filter_map(|(place, value)| self.condition(&place, &value.kind));
        let conditions = conditions.collect();
        if !table.contains_key("session_id") {
            let text = "has no `session_id`: say where the session to transfer is";
            self.reader.add_fragment("", text);
        }
        let mut fields = Vec::new();
        for field in Mapping::FIELDS {
            if let Some(value) = table.remove(field) {
                fields.extend(self.field(field, &value.kind));
            }
        }
        for (outer, known) in [("target", &TARGET_FIELDS[..]), ("options", &TransferOptions::NAMES)]
        {
            let inner = self.reader.table(&mut table, outer).unwrap_or_default();
            self.reader.inside(outer).check_keys(&inner, known, &format!("{outer}."));
            for (name, value) in sorted(inner) {
                fields.extend(self.field(&format!("{outer}.{name}"), &value.kind));
            }
        }
        let attributes = self.attributes(table.remove("attributes"));
        Mapping { name, conditions, fields, attributes }
    }

    fn condition(&mut self, place: &str, kind: &ValueKind) -> Option<MappingCondition> {
        let source = self.source("match", place);
        let expected = match kind {
            ValueKind::Array(values) if !values.is_empty() => {
                values.iter().map(|value| text_of(&value.kind)).collect()
            }
            ValueKind::Table(table) => return self.existence(place, source?, table),
            single => text_of(single).map(|text| vec![text]),
        };
        match expected {
            Some(texts) => {
                Some(MappingCondition { source: source?, expected: Expected::OneOf(texts) })
            }
            None => {
                self.reader.reject(&format!("match.{place}"), kind, EXPECTED);
                None
            }
        }
    }

    fn existence(
        &mut self,
        place: &str,
        source: FieldSource,
        table: &Map<String, Value>,
    ) -> Option<MappingCondition> {
        match table.get("exists").map(|exists| &exists.kind) {
            Some(ValueKind::Boolean(exists)) if table.len() == 1 => {
                let expected = if *exists { Expected::Present } else { Expected::Absent };
                Some(MappingCondition { source, expected })
            }
            _ => {
                let kind = ValueKind::Table(table.clone());
                self.reader.reject(&format!("match.{place}"), &kind, EXPECTED);
                None
            }
        }
    }

    fn attributes(&mut self, value: Option<Value>) -> AttributesRule {
        match value.map(|value| value.kind) {
            None => AttributesRule::Each(Vec::new()),
            Some(ValueKind::String(place)) => match self.source("attributes", &place) {
                Some(source) => AttributesRule::Members(source),
                None => AttributesRule::Each(Vec::new()),
            },
            Some(ValueKind::Table(table)) => {
                let rule = |(name, value): (String, Value)| {
                    let rule = self.field(&format!("attributes.{name}"), &value.kind)?;
                    Some(FieldRule { field: name, ..rule })
                };
                AttributesRule::Each(sorted(table).into_iter().filter_map(rule).collect())
            }
            Some(other) => {
                let wanted = "the place of an object, or a table from names to places";
                self.reader.reject("attributes", &other, wanted);
                AttributesRule::Each(Vec::new())
            }
        }
    }

    fn field(&mut self, field: &str, kind: &ValueKind) -> Option<FieldRule> {
        let rule = match kind {
            ValueKind::String(place) => ValueRule::Read(plain(self.source(field, place)?)),
            ValueKind::Table(table) => self.rule(field, table)?,
            other => {
                self.reader.reject(field, other, RULE);
                return None;
            }
        };
        Some(FieldRule { field: field.to_owned(), rule })
    }

    fn rule(&mut self, field: &str, table: &Map<String, Value>) -> Option<ValueRule> {
        let before = self.reader.problem_count();
        for key in ["value", "default"] {
            if IDENTITIES.contains(&field) && table.contains_key(key) {
                let text = format!(
                    "`{field}.{key}` would give several records the same {field}: it can only be read \
                     from the record, by `pointer`"
                );
                self.reader.add_problem(&format!("{field}.{key}"), &text);
                return None;
            }
        }
        self.reader.inside(field).check_keys(table, &RULE_KEYS, &format!("{field}."));
        let get = |key: &str| table.get(key).map(|value| &value.kind);
        let rule = match (get("pointer"), get("value")) {
            (Some(ValueKind::String(place)), None) => {
                let source = self.source(field, place)?;
                ValueRule::Read(self.extraction(field, table, source))
            }
            (None, Some(value)) if table.len() == 1 => match json(value) {
                Some(value) => ValueRule::Constant(value),
                None => {
                    self.reader.reject(
                        &format!("{field}.value"),
                        value,
                        "a text, a number, true or false, or a list",
                    );
                    return None;
                }
            },
            _ => {
                self.reader.reject(field, &ValueKind::Table(table.clone()), RULE);
                return None;
            }
        };
        (self.reader.problem_count() == before).then_some(rule)
    }

    fn extraction(
        &mut self,
        field: &str,
        table: &Map<String, Value>,
        source: FieldSource,
    ) -> Extraction {
        let get = |key: &str| table.get(key).map(|value| &value.kind);
        let mut extraction = plain(source);
        for (key, wanted) in [
            ("default", "a text, a number, true or false, or a list"),
            ("prefix_cut", "text, not empty"),
            ("last_segment", "true or false"),
            ("time", "\"rfc3339\", \"epoch_s\" or \"epoch_ms\""),
        ] {
            let Some(kind) = get(key) else { continue };
            let is_good = match (key, kind) {
                ("default", kind) => {
                    extraction.default = json(kind);
                    extraction.default.is_some()
                }
                ("prefix_cut", ValueKind::String(prefix)) if !prefix.is_empty() => {
                    extraction.prefix_cut = Some(prefix.clone());
                    true
                }
                ("last_segment", ValueKind::Boolean(flag)) => {
                    extraction.last_segment = *flag;
                    true
                }
                ("time", ValueKind::String(word)) => {
                    let form = TimeForm::WORDS.into_iter().find(|(own, _)| own == word);
                    extraction.time = form.map(|(_, form)| form);
                    form.is_some()
                }
                _ => false,
            };
            if !is_good {
                self.reader.reject(&format!("{field}.{key}"), kind, wanted);
            }
        }
        extraction
    }

    fn source(&mut self, field: &str, place: &str) -> Option<FieldSource> {
        if place == "key" {
            return Some(FieldSource::Key);
        }
        if let Some(name) = place.strip_prefix("header:").filter(|name| !name.is_empty()) {
            return Some(FieldSource::Header(name.to_owned()));
        }
        match JsonPointer::parse(place) {
            Ok(pointer) => Some(FieldSource::Pointer(pointer)),
            Err(rule) => {
                let text = format!(
                    "the place {place:?} of `{field}` must {rule}; a header is \"header:NAME\", the \
                     record's key \"key\""
                );
                self.reader.add_problem(field, &text);
                None
            }
        }
    }
}

fn plain(source: FieldSource) -> Extraction {
    Extraction { source, default: None, prefix_cut: None, last_segment: false, time: None }
}

/// A map has no order. Sorted, the messages are the same in every run.
fn sorted(table: Map<String, Value>) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    entries
}

/// A value as a condition compares it.
fn text_of(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::Array(_) => None,
        kind => json(kind).map(|value| match value {
            Json::String(text) => text,
            other => other.to_string(),
        }),
    }
}

/// A constant as JSON.
fn json(kind: &ValueKind) -> Option<Json> {
    match kind {
        ValueKind::String(text) => Some(text.as_str().into()),
        ValueKind::Boolean(flag) => Some((*flag).into()),
        ValueKind::I64(number) => Some((*number).into()),
        ValueKind::Float(number) => serde_json::Number::from_f64(*number).map(Json::Number),
        ValueKind::Array(values) => {
            values.iter().map(|value| json(&value.kind)).collect::<Option<Vec<_>>>().map(Json::from)
        }
        _ => None,
    }
}
