//! Typed access to the merged values, and the list of problems.
//!
//! A getter removes its key and records what is wrong with the value, so that one run finds all
//! problems. Keys that nobody has asked for in the end do not exist: the reading code is itself
//! the list of known keys. A getter returns `None` only after recording a problem, so callers read
//! all their keys first and use `?` afterwards.

use std::ops::RangeInclusive;

use ::config::ValueKind;
use secrecy::SecretString;

use super::lines::Lines;
use super::origins::{self, ConfigFile, Origin, RawValue, RawValues};
use super::suggestions::KnownKeys;

/// The values that nobody has read yet, and the problems found so far.
#[derive(Clone)]
pub(super) struct RawConfig {
    values: RawValues,
    file_name: String,
    lines: Lines,
    keys: KnownKeys,
    /// The names of all variables: one that sets nothing may have been meant to.
    variables: Vec<String>,
    problems: Vec<ConfigProblem>,
}

#[derive(Clone)]
struct ConfigProblem {
    key: String,
    text: String,
}

/// A value and where it was written.
#[derive(Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// A list of tables, and the keys of a section with the same name, which is a mistake.
pub(super) struct Tables {
    pub(super) list: Option<RawValue>,
    pub(super) section: Vec<(String, RawValue)>,
}

impl RawConfig {
    /// Reads the three sources.
    pub(super) fn read(
        file: Option<&ConfigFile>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let env: Vec<_> = env.into_iter().collect();
        let variables = env.iter().map(|(name, _)| name.clone()).collect();
        let values = origins::read(file, env)?;
        let lines = file.map(|file| Lines::of(&file.text)).unwrap_or_default();
        let file_name = file.map(|file| file.name.clone()).unwrap_or_default();
        let (keys, problems) = (KnownKeys::default(), vec![]);
        Ok(Self { values, file_name, lines, keys, variables, problems })
    }

    /// The values that nobody has read yet.
    pub(super) fn values(&self) -> &RawValues {
        &self.values
    }

    /// The same file with other values.
    pub(super) fn with_values(self, values: RawValues) -> Self {
        Self { values, ..self }
    }

    /// A whole number in this range.
    pub(super) fn whole(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let raw = self.required(key)?;
        let number = whole_number(&raw.kind, raw.origin).filter(|number| range.contains(number));
        if number.is_none() {
            self.reject(key, &raw, &wanted_whole(&range));
        }
        number
    }

    /// A number in this range, perhaps with decimals.
    pub(super) fn fraction(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let raw = self.required(key)?;
        let number = fraction(&raw.kind, raw.origin).filter(|number| range.contains(number));
        if number.is_none() {
            self.reject(key, &raw, &format!("a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let raw = self.required(key)?;
        let flag = match &raw.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            // Variables are text. In a file `"true"` with quotes is a mistake, so it is reported.
            ValueKind::String(text) if raw.origin == Origin::Environment => {
                text.trim().to_lowercase().parse().ok()
            }
            _ => None,
        };
        if flag.is_none() {
            self.reject(key, &raw, "true or false");
        }
        flag
    }

    /// Text that is not empty, see [`is_plain`].
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, PLAIN_TEXT, |text| is_plain(text).then(|| text.to_owned()))
    }

    /// Text that `parse` accepts; `wanted` describes it and completes "must be".
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let raw = self.required(key)?;
        let parsed = match &raw.kind {
            ValueKind::String(text) => parse(text),
            _ => None,
        };
        if parsed.is_none() {
            self.reject(key, &raw, wanted);
        }
        parsed
    }

    /// A list of texts, not empty.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let wanted = "a list of texts, at least one, none of them empty";
        let texts = self.list(key, wanted, plain_text)?;
        if texts.is_empty() {
            self.add_problem(key, format!("`{key}` is an empty list: must be {wanted}"));
            return None;
        }
        Some(texts)
    }

    /// A list of texts; it may be empty.
    pub(super) fn texts_or_none(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.list(key, "a list of texts, none of them empty", plain_text)
    }

    /// A list of whole numbers in this range; it may be empty.
    pub(super) fn wholes(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Vec<u64>> {
        let wanted = format!("a list of whole numbers from {} to {}", range.start(), range.end());
        self.list(key, &wanted, |item, origin| {
            whole_number(item, origin).filter(|number| range.contains(number))
        })
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        item: impl Fn(&ValueKind, Origin) -> Option<T>,
    ) -> Option<Vec<T>> {
        let raw = self.required(key)?;
        let is_variable = raw.origin == Origin::Environment;
        let items: Option<Vec<T>> = match &raw.kind {
            ValueKind::Array(values) => {
                values.iter().map(|value| item(&value.kind, raw.origin)).collect()
            }
            // An empty variable is the only way to write an empty list there.
            ValueKind::String(text) if text.trim().is_empty() && is_variable => Some(vec![]),
            ValueKind::String(text) if is_variable => text
                .split(',')
                .map(|part| item(&ValueKind::from(part.trim()), raw.origin))
                .collect(),
            _ => None,
        };
        if items.is_none() {
            self.reject(key, &raw, wanted);
        }
        items
    }

    /// Text that may be absent; empty text counts as absent.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Located<String>> {
        let raw = self.take(key)?;
        match raw.kind {
            // `KEY=` in the environment removes the value that the file sets.
            ValueKind::String(text) if text.is_empty() => None,
            ValueKind::String(text) if is_plain(&text) => {
                Some(Located { value: text, origin: raw.origin })
            }
            _ => {
                self.reject(key, &raw, PLAIN_TEXT);
                None
            }
        }
    }

    /// As [`RawConfig::optional`], for a secret: no message shows its value.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Located<SecretString>> {
        let raw = self.take(key)?;
        match raw.kind {
            ValueKind::String(text) if text.is_empty() => None,
            ValueKind::String(text) if is_plain(&text) => {
                Some(Located { value: SecretString::from(text), origin: raw.origin })
            }
            _ => {
                let place = self.place(raw.origin, key);
                self.add_problem(key, format!("`{key}` {place}: must be {PLAIN_TEXT}"));
                None
            }
        }
    }

    /// Everything in an open section, one that accepts any key.
    pub(super) fn section(&mut self, section: &'static str) -> Vec<(String, RawValue)> {
        self.keys.open_sections.push(section);
        self.take_inside(section)
    }

    /// A list of tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Tables {
        Tables { list: self.take(key), section: self.take_inside(key) }
    }

    fn take_inside(&mut self, section: &str) -> Vec<(String, RawValue)> {
        let is_inside = |key: &str| key.strip_prefix(section).is_some_and(|k| k.starts_with('.'));
        let keys: Vec<String> = self.values.keys().filter(|key| is_inside(key)).cloned().collect();
        let named = |key: String| (key[section.len() + 1..].to_owned(), self.values.remove(&key));
        let taken: Vec<_> = keys.into_iter().map(named).collect();
        taken.into_iter().filter_map(|(name, raw)| Some((name, raw?))).collect()
    }

    /// Checks that the lower of two numbers is not above the higher, if both are known.
    pub(super) fn check_order(
        &mut self,
        low_key: &str,
        low: Option<u64>,
        high_key: &str,
        high: Option<u64>,
    ) {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let text = format!("`{low_key}` = {low} must not be above `{high_key}` = {high}");
            self.add_problem(low_key, text);
        }
    }

    /// Whether this key has a problem.
    pub(super) fn has_problem(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// How many problems were found so far.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Records a problem of this key. The same text is recorded once: a section may be read twice.
    pub(super) fn add_problem(&mut self, key: &str, text: String) {
        if !self.problems.iter().any(|problem| problem.text == text) {
            self.problems.push(ConfigProblem { key: key.to_owned(), text });
        }
    }

    /// Records that this value is not what is wanted.
    pub(super) fn reject(&mut self, key: &str, raw: &RawValue, wanted: &str) {
        let (value, place) = (shown(&raw.kind), self.place(raw.origin, key));
        self.add_problem(key, format!("`{key}` = {value} {place}: must be {wanted}"));
    }

    /// The origin in words, as in "`key` in the environment".
    pub(super) fn describe(&self, origin: Origin) -> String {
        match origin {
            Origin::Default => "in the defaults".to_owned(),
            Origin::File => format!("in {}", self.file_name),
            Origin::Environment => "in the environment".to_owned(),
        }
    }

    /// The origin of a key in words, with its line in the file: "in handoff.toml:12".
    pub(super) fn place(&self, origin: Origin, path: &str) -> String {
        let line = self.lines.find(path).filter(|_| origin == Origin::File);
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}", self.describe(origin))
    }

    /// All problems, the unknown keys first. Complete only after every key has been read.
    pub(super) fn problems(&self) -> Vec<String> {
        // A misspelt key often explains why another one is missing, so it comes first.
        let unknown = self
            .values
            .iter()
            .map(|(key, raw)| self.keys.advise(key, &self.place(raw.origin, key)));
        let unread = self.variables.iter().filter_map(|name| self.keys.advise_variable(name));
        let problems = self.problems.iter().map(|problem| problem.text.clone());
        unknown.chain(unread).chain(problems).collect()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> &KnownKeys {
        &self.keys
    }

    fn take(&mut self, key: &'static str) -> Option<RawValue> {
        self.keys.keys.push(key);
        self.values.remove(key)
    }

    fn required(&mut self, key: &'static str) -> Option<RawValue> {
        let raw = self.take(key);
        if raw.is_none() {
            self.add_problem(key, format!("`{key}` is missing: {}", how_to_set(key)));
        }
        raw
    }
}

/// How to set a key, for a message.
pub(super) fn how_to_set(key: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    format!("set `{name}` under [{section}], or {}", origins::variable(key))
}

/// A range, for a message.
pub(super) fn wanted_whole(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

const PLAIN_TEXT: &str = "text, not empty, without line breaks, and without blanks at its ends";

/// Whether this text is not empty, on one line, and without blanks at its ends.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
}

fn plain_text(item: &ValueKind, _: Origin) -> Option<String> {
    match item {
        ValueKind::String(text) if is_plain(text) => Some(text.clone()),
        _ => None,
    }
}

/// A number. In the environment everything is text, in a file "64" is not a number.
fn whole_number(kind: &ValueKind, origin: Origin) -> Option<u64> {
    match kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) if origin == Origin::Environment => text.trim().parse().ok(),
        _ => None,
    }
}

/// As [`whole_number`], for a number that may have decimals.
fn fraction(kind: &ValueKind, origin: Origin) -> Option<f64> {
    match kind {
        ValueKind::Float(number) => Some(*number),
        ValueKind::I64(number) => Some(*number as f64),
        ValueKind::String(text) if origin == Origin::Environment => text.trim().parse().ok(),
        _ => None,
    }
}

/// A value as it was written, shortened to 80 characters.
pub(super) fn shown(kind: &ValueKind) -> String {
    // A pasted certificate or a long list would hide the rest of the message.
    const LONGEST: usize = 80;
    let text = match kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(values) => {
            let items: Vec<String> = values.iter().map(|value| shown(&value.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(_) => "{..}".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
