//! Suggestions for keys that do not exist.
//!
//! The real keys are those that the reading code has asked for; in an open section every key is
//! real.

use super::origins;

/// The real keys.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownKeys {
    /// The keys that were asked for.
    pub(super) keys: Vec<&'static str>,
    /// The sections that accept any key.
    pub(super) open_sections: Vec<&'static str>,
}

/// The similarity (0 to 1) from which on a key is suggested. Found by trial: below it, suggestions
/// were unrelated to what was written.
const MIN_SIMILARITY: f64 = 0.6;
/// The same for the name of a section; sections are few and their names short.
const MIN_SECTION_SIMILARITY: f64 = 0.75;

impl KnownKeys {
    /// All keys, followed by the open sections.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().chain(&self.open_sections).copied()
    }

    /// The message about an unknown key; `origin` says where it was written.
    pub(super) fn advise(&self, key: &str, origin: &str) -> String {
        let inside = format!("{key}.");
        if self.open_sections.contains(&key) || self.all().any(|real| real.starts_with(&inside)) {
            return format!(
                "`{key}` {origin} is a section, not a value: its keys go under [{key}]"
            );
        }
        let advice = match self.nearest(key) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => self.alternatives(key),
        };
        format!("unknown key `{key}` {origin}: {advice}")
    }

    /// The message about a variable that sets nothing, where it is a key with one underscore for two.
    pub(super) fn advise_variable(&self, name: &str) -> Option<String> {
        let written = name.strip_prefix("HANDOFF_")?;
        let written = written.to_lowercase();
        let is_meant = |key: &&str| key.replace('.', "_") == written;
        let in_section = |section: &'static str| {
            let inside = written.strip_prefix(&section.replace('.', "_"))?.strip_prefix('_')?;
            Some(format!("{section}.{inside}"))
        };
        let key = self.keys.iter().copied().find(is_meant).map(str::to_owned);
        let key = key.or_else(|| self.open_sections.iter().copied().find_map(in_section))?;
        Some(format!("the variable {name} is not read: write {}", origins::variable(&key)))
    }

    fn nearest(&self, key: &str) -> Option<String> {
        let known = self.keys.iter().map(|known| (*known).to_owned());
        // A property of librdkafka that is written in [kafka] itself is found through its section.
        let open = self.open_sections.iter().filter_map(|section| moved_into(section, key));
        let rated = known.chain(open).map(|real| (similarity(key, &real), real));
        let (similarity, nearest) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (similarity >= MIN_SIMILARITY).then_some(nearest)
    }

    /// The keys of the section, or the sections if it does not exist either.
    fn alternatives(&self, key: &str) -> String {
        let section = key.split('.').next().unwrap_or_default();
        let in_section = |real: &'static str| real.strip_prefix(section)?.strip_prefix('.');
        let inside: Vec<&str> = self.all().filter_map(in_section).collect();
        if !inside.is_empty() {
            return format!("[{section}] has {}", inside.join(", "));
        }
        let mut sections: Vec<&str> = self.all().filter_map(|k| k.split('.').next()).collect();
        sections.sort_unstable();
        sections.dedup();
        format!("the sections are {}", sections.join(", "))
    }
}

/// The most similar of these keys, if one is similar enough to be meant.
pub(super) fn nearest<'k>(key: &str, keys: &[&'k str]) -> Option<&'k str> {
    let rated = keys.iter().map(|real| (similarity(key, real), *real));
    let (similarity, nearest) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity >= MIN_SIMILARITY).then_some(nearest)
}

fn similarity(one: &str, other: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(one, other)
}

/// The key as it would be in an open section, if its own section is misspelt or left out.
fn moved_into(section: &str, key: &str) -> Option<String> {
    let depth = section.split('.').count();
    let end = key.match_indices('.').nth(depth - 1).map(|(dot, _)| dot);
    let is_misspelt = end.filter(|end| similarity(&key[..*end], section) >= MIN_SECTION_SIMILARITY);
    let dot = is_misspelt.or_else(|| key.find('.'))?;
    Some(format!("{section}{}", &key[dot..]))
}
