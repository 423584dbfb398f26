//! Reads one table of a list such as `[[routes]]`.
//!
//! A list of tables has no dotted keys, so the getters of [`RawConfig`] cannot read it. Problems are
//! recorded there, with the name and the line of the table.

use std::ops::RangeInclusive;

use ::config::{Map, Value, ValueKind};

use super::origins::{Origin, RawValue};
use super::raw_config::{RawConfig, Tables, is_plain, shown, wanted_whole};
use super::suggestions::nearest;

/// What a list of texts must be.
pub(super) const TEXTS: &str = "a list of texts, at least one, none of them empty";

/// The tables of this list, empty if there is none; `None` after recording a problem.
pub(super) fn read_list(
    raw: &mut RawConfig,
    list: &'static str,
) -> Option<Vec<Map<String, Value>>> {
    let Tables { list: value, section } = raw.tables(list);
    // `[routes]` in place of `[[routes]]` is the likeliest mistake.
    if let Some((_, value)) = section.first() {
        reject_list(raw, list, value);
        return None;
    }
    let Some(value) = value else { return Some(Vec::new()) };
    let tables = Some(&value).filter(|value| value.origin != Origin::Environment);
    let tables = tables.and_then(|value| tables_of(&value.kind));
    if tables.is_none() {
        reject_list(raw, list, &value);
    }
    tables
}

fn reject_list(raw: &mut RawConfig, list: &str, value: &RawValue) {
    let place = raw.place(value.origin, list);
    let text = match value.origin {
        Origin::Environment => {
            format!("a variable cannot hold them: write [[{list}]] in a file")
        }
        _ => format!("must be a list of tables: begin each with the line [[{list}]]"),
    };
    raw.add_problem(list, format!("`{list}` {place}: {text}"));
}

/// One table.
pub(super) struct TableReader<'r> {
    /// The list.
    list: &'static str,
    /// The table in a message: `route 1 ("vip")`.
    label: String,
    /// Where it is, for its lines: `routes[0]`.
    path: String,
    raw: &'r mut RawConfig,
}

impl<'r> TableReader<'r> {
    /// The table with this index; `kind` is its name in messages.
    pub(super) fn new(
        raw: &'r mut RawConfig,
        list: &'static str,
        kind: &str,
        index: usize,
        name: Option<&Value>,
    ) -> Self {
        let name = match name.map(|name| &name.kind) {
            Some(ValueKind::String(name)) => name.as_str(),
            _ => "",
        };
        let number = index + 1;
        let label = match name {
            "" => format!("{kind} {number}"),
            name => format!("{kind} {number} ({name:?})"),
        };
        Self { list, label, path: format!("{list}[{index}]"), raw }
    }

    /// The reader of what is inside, for its lines.
    pub(super) fn inside(&mut self, key: &str) -> TableReader<'_> {
        let path = format!("{}.{key}", self.path);
        TableReader { list: self.list, label: self.label.clone(), path, raw: &mut *self.raw }
    }

    /// How many problems were found so far, in the whole configuration.
    pub(super) fn problem_count(&self) -> usize {
        self.raw.problem_count()
    }

    /// Report each key that is none of `keys`; `inside` goes before it in the message.
    pub(super) fn check_keys(&mut self, table: &Map<String, Value>, keys: &[&str], inside: &str) {
        let mut unknown: Vec<_> =
            table.keys().filter(|key| !keys.contains(&key.as_str())).collect();
        // A map has no order. Sorted, the messages are the same in every run.
        unknown.sort();
        for key in unknown {
            let advice = match nearest(key, keys) {
                Some(real) => format!("did you mean `{inside}{real}`?"),
                None => format!("there are {}", keys.join(", ")),
            };
            let (label, place) = (&self.label, self.place(key));
            let text = format!("unknown key `{inside}{key}` of {label} {place}: {advice}");
            self.raw.add_problem(self.list, text);
        }
    }

    /// Remove a value that `read` accepts; `None` without it, or after recording a problem.
    pub(super) fn value<T>(
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

    /// A table inside the table.
    pub(super) fn table(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
    ) -> Option<Map<String, Value>> {
        let read = |kind: &ValueKind| match kind {
            ValueKind::Table(table) => Some(table.clone()),
            _ => None,
        };
        self.value(table, key, "a table, as { name = \"value\" }", read)
    }

    /// A whole number.
    pub(super) fn whole(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let wanted = wanted_whole(&range);
        self.value(table, key, &wanted, |kind| whole_number(kind, &range))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, table: &mut Map<String, Value>, key: &str) -> Option<bool> {
        self.value(table, key, "true or false", |kind| match kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Record that the value of a key is not what is wanted.
    pub(super) fn reject(&mut self, key: &str, kind: &ValueKind, wanted: &str) {
        self.reject_as(key, key, kind, wanted);
    }

    /// The same for a key that has another name in messages, `when.tier` for example.
    pub(super) fn reject_as(&mut self, name: &str, key: &str, kind: &ValueKind, wanted: &str) {
        let (label, place, value) = (&self.label, self.place(key), shown(kind));
        let text = format!("`{name}` = {value} of {label} {place}: must be {wanted}");
        self.raw.add_problem(self.list, text);
    }

    /// Record a problem; `key` says where it is, and may be empty.
    pub(super) fn add_problem(&mut self, key: &str, text: &str) {
        let text = format!("{} {}: {text}", self.label, self.place(key));
        self.raw.add_problem(self.list, text);
    }

    /// The same with a text that goes on after the place.
    pub(super) fn add_fragment(&mut self, key: &str, text: &str) {
        let text = format!("{} {} {text}", self.label, self.place(key));
        self.raw.add_problem(self.list, text);
    }

    /// Which table it is, and where: `route 1 ("vip") in handoff.toml:12`.
    pub(super) fn description(&self) -> String {
        format!("{} {}", self.label, self.place(""))
    }

    fn place(&self, key: &str) -> String {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.raw.place(Origin::File, &path)
    }
}

/// Text that is not empty.
pub(super) fn text(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) if is_plain(text) => Some(text.clone()),
        _ => None,
    }
}

/// A whole number in this range.
pub(super) fn whole_number(kind: &ValueKind, range: &RangeInclusive<u64>) -> Option<u64> {
    match kind {
        ValueKind::I64(number) => u64::try_from(*number).ok().filter(|n| range.contains(n)),
        _ => None,
    }
}

/// A list of items that `item` accepts, at least one.
pub(super) fn list<T>(kind: &ValueKind, item: impl Fn(&ValueKind) -> Option<T>) -> Option<Vec<T>> {
    match kind {
        ValueKind::Array(values) if !values.is_empty() => {
            values.iter().map(|value| item(&value.kind)).collect()
        }
        _ => None,
    }
}

/// A list of tables; it may be empty.
pub(super) fn tables_of(kind: &ValueKind) -> Option<Vec<Map<String, Value>>> {
    let ValueKind::Array(values) = kind else { return None };
    let table = |value: &Value| match &value.kind {
        ValueKind::Table(table) => Some(table.clone()),
        _ => None,
    };
    values.iter().map(table).collect()
}
