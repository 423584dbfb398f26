//! What was written: defaults, file and environment, merged key by key, and typed getters.
//!
//! A getter takes its key out and notes what is wrong with the value, so that one run finds all
//! problems. What nobody has taken at the end does not exist: the reading code is itself the
//! list of known keys. A getter says `None` only after it noted why; so ask for everything
//! first, and use `?` afterwards.
//! This file never shows a value that may be secret.

use std::ops::RangeInclusive;
use std::path::Path;

use ::config::ValueKind;
use secrecy::SecretString;

use super::layers::{self, Layer, Leaf, Leaves};
use super::misspelt::Keys;

/// What was written and not yet taken, and what is wrong so far.
#[derive(Clone)]
pub(super) struct Raw {
    leaves: Leaves,
    /// The name of the file.
    file: String,
    /// What was asked for.
    keys: Keys,
    /// The key that each concerns, and its text.
    problems: Vec<(String, String)>,
}

impl Raw {
    /// The three layers, merged.
    pub(super) fn read(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let leaves = layers::read(file, env)?;
        let file = file.map(|path| path.display().to_string()).unwrap_or_default();
        Ok(Self { leaves, file, keys: Keys::default(), problems: vec![] })
    }

    /// A whole number in this range.
    pub(super) fn whole(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let leaf = self.required(key)?;
        let number = whole_number(&leaf.kind, leaf.layer).filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(key, &leaf, &whole_wanted(&range));
        }
        number
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let leaf = self.required(key)?;
        let flag = match &leaf.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::String(text) if leaf.layer == Layer::Environment => {
                text.trim().to_lowercase().parse().ok()
            }
            _ => None,
        };
        if flag.is_none() {
            self.refuse(key, &leaf, "true or false");
        }
        flag
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, PLAIN_TEXT, |text| is_plain(text).then(|| text.to_owned()))
    }

    /// What `parse` makes of the text; it must be what `wanted` says.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let leaf = self.required(key)?;
        let parsed = match &leaf.kind {
            ValueKind::String(text) => parse(text),
            _ => None,
        };
        if parsed.is_none() {
            self.refuse(key, &leaf, wanted);
        }
        parsed
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let wanted = "a list of texts, at least one, none of them empty";
        let texts = self.list(key, wanted, |item, _| match item {
            ValueKind::String(text) if is_plain(text) => Some(text.clone()),
            _ => None,
        })?;
        if texts.is_empty() {
            self.note(key, format!("`{key}` is an empty list: must be {wanted}"));
            return None;
        }
        Some(texts)
    }

    /// A list of whole numbers in this range; it may be empty.
    pub(super) fn wholes(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Vec<u64>> {
        let wanted = format!("a list of whole numbers from {} to {}", range.start(), range.end());
        self.list(key, &wanted, |item, layer| {
            whole_number(item, layer).filter(|number| range.contains(number))
        })
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        item: impl Fn(&ValueKind, Layer) -> Option<T>,
    ) -> Option<Vec<T>> {
        let leaf = self.required(key)?;
        let is_variable = leaf.layer == Layer::Environment;
        let items: Option<Vec<T>> = match &leaf.kind {
            ValueKind::Array(values) => {
                values.iter().map(|value| item(&value.kind, leaf.layer)).collect()
            }
            ValueKind::String(text) if text.trim().is_empty() && is_variable => Some(vec![]),
            ValueKind::String(text) if is_variable => text
                .split(',')
                .map(|part| item(&ValueKind::from(part.trim()), leaf.layer))
                .collect(),
            _ => None,
        };
        if items.is_none() {
            self.refuse(key, &leaf, wanted);
        }
        items
    }

    /// Text that may be absent; empty text is absent.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<(String, Layer)> {
        let leaf = self.take(key)?;
        match leaf.kind {
            ValueKind::String(text) if text.is_empty() => None,
            ValueKind::String(text) if is_plain(&text) => Some((text, leaf.layer)),
            _ => {
                self.refuse(key, &leaf, PLAIN_TEXT);
                None
            }
        }
    }

    /// The same for a secret, which no message shows.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<(SecretString, Layer)> {
        let leaf = self.take(key)?;
        match leaf.kind {
            ValueKind::String(text) if text.is_empty() => None,
            ValueKind::String(text) if is_plain(&text) => {
                Some((SecretString::from(text), leaf.layer))
            }
            _ => {
                let place = self.place(leaf.layer);
                self.note(key, format!("`{key}` {place}: must be {PLAIN_TEXT}"));
                None
            }
        }
    }

    /// Everything in a section whose keys are free.
    pub(super) fn section(&mut self, section: &'static str) -> Vec<(String, Leaf)> {
        self.keys.open.push(section);
        self.inside(section)
    }

    /// A list of tables; with what was written inside a section of its name by mistake.
    pub(super) fn tables(&mut self, key: &'static str) -> (Option<Leaf>, Vec<(String, Leaf)>) {
        (self.take(key), self.inside(key))
    }

    fn inside(&mut self, section: &str) -> Vec<(String, Leaf)> {
        let is_inside = |key: &str| key.strip_prefix(section).is_some_and(|k| k.starts_with('.'));
        let keys: Vec<String> = self.leaves.keys().filter(|key| is_inside(key)).cloned().collect();
        let named = |key: String| (key[section.len() + 1..].to_owned(), self.leaves.remove(&key));
        let taken: Vec<_> = keys.into_iter().map(named).collect();
        taken.into_iter().filter_map(|(name, leaf)| Some((name, leaf?))).collect()
    }

    /// The smaller must not be above the larger.
    pub(super) fn ordered(
        &mut self,
        (low_key, low): (&str, Option<u64>),
        (high_key, high): (&str, Option<u64>),
    ) {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let text = format!("`{low_key}` = {low} must not be above `{high_key}` = {high}");
            self.note(low_key, text);
        }
    }

    /// Whether something is wrong with this key.
    pub(super) fn is_noted(&self, key: &str) -> bool {
        self.problems.iter().any(|(noted, _)| noted == key)
    }

    /// How much is wrong so far.
    pub(super) fn noted(&self) -> usize {
        self.problems.len()
    }

    /// Something is wrong with this key.
    pub(super) fn note(&mut self, key: &str, text: String) {
        if !self.problems.iter().any(|(_, noted)| *noted == text) {
            self.problems.push((key.to_owned(), text));
        }
    }

    /// This value is not what is wanted.
    pub(super) fn refuse(&mut self, key: &str, leaf: &Leaf, wanted: &str) {
        let (value, place) = (shown(&leaf.kind), self.place(leaf.layer));
        self.note(key, format!("`{key}` = {value} {place}: must be {wanted}"));
    }

    /// Where it was written, for people.
    pub(super) fn place(&self, layer: Layer) -> String {
        match layer {
            Layer::Default => "in the defaults".to_owned(),
            Layer::File => format!("in {}", self.file),
            Layer::Environment => "in the environment".to_owned(),
        }
    }

    /// All problems, the unknown keys first. To be called when everything was asked for.
    pub(super) fn problems(&self) -> Vec<String> {
        let unknown =
            self.leaves.iter().map(|(key, leaf)| self.keys.advise(key, &self.place(leaf.layer)));
        unknown.chain(self.problems.iter().map(|(_, text)| text.clone())).collect()
    }

    /// What was asked for.
    #[cfg(test)]
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    fn take(&mut self, key: &'static str) -> Option<Leaf> {
        self.keys.known.push(key);
        self.leaves.remove(key)
    }

    fn required(&mut self, key: &'static str) -> Option<Leaf> {
        let leaf = self.take(key);
        if leaf.is_none() {
            self.note(key, format!("`{key}` is missing: {}", how_to_set(key)));
        }
        leaf
    }
}

/// Words for a remedy.
pub(super) fn how_to_set(key: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let variable = key.to_uppercase().replace('.', "__");
    format!("set `{name}` under [{section}], or HANDOFF__{variable}")
}

/// Words for a range.
pub(super) fn whole_wanted(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

const PLAIN_TEXT: &str = "text, not empty, without line breaks, and without blanks at its ends";

/// Not empty, on one line, without blanks at its ends.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
}

/// A number; in the environment everything is text.
fn whole_number(kind: &ValueKind, layer: Layer) -> Option<u64> {
    match kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::String(text) if layer == Layer::Environment => text.trim().parse().ok(),
        _ => None,
    }
}

/// A value as it was written, shortened.
pub(super) fn shown(kind: &ValueKind) -> String {
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
