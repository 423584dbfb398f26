//! Keys that do not exist: what was probably meant.
//!
//! The real keys are those that were asked for; in an open section every key is real.
//! This file never sees a value.

/// The real keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    /// The keys that were asked for.
    pub(super) known: Vec<&'static str>,
    /// The sections whose keys are free.
    pub(super) open: Vec<&'static str>,
}

/// Two keys this much alike were probably meant to be the same.
const ALIKE: f64 = 0.6;
/// Two sections this much alike.
const SECTIONS_ALIKE: f64 = 0.75;

impl Keys {
    /// All of them, open sections too.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().chain(&self.open).copied()
    }

    /// What to say about a key that is not real, written at this place.
    pub(super) fn advise(&self, key: &str, place: &str) -> String {
        let inside = format!("{key}.");
        if self.open.contains(&key) || self.all().any(|real| real.starts_with(&inside)) {
            return format!("`{key}` {place} is a section, not a value: its keys go under [{key}]");
        }
        let advice = match self.nearest(key) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => self.choice(key),
        };
        format!("unknown key `{key}` {place}: {advice}")
    }

    /// The real key that looks most like this one, if one does.
    fn nearest(&self, key: &str) -> Option<String> {
        let known = self.known.iter().map(|known| (*known).to_owned());
        let free = self.open.iter().filter_map(|section| moved(key, section));
        let rated = known.chain(free).map(|real| (likeness(key, &real), real));
        let (likeness, nearest) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (likeness >= ALIKE).then_some(nearest)
    }

    /// What there is instead.
    fn choice(&self, key: &str) -> String {
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

/// The one of these keys that looks most like this one, if one does.
pub(super) fn nearest<'k>(key: &str, keys: &[&'k str]) -> Option<&'k str> {
    let rated = keys.iter().map(|real| (likeness(key, real), *real));
    let (likeness, nearest) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= ALIKE).then_some(nearest)
}

fn likeness(one: &str, other: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(one, other)
}

/// This key as it would be in an open section: its own section misspelt, or left out.
fn moved(key: &str, section: &str) -> Option<String> {
    let depth = section.split('.').count();
    let end = key.match_indices('.').nth(depth - 1).map(|(dot, _)| dot);
    let is_misspelt = end.filter(|end| likeness(&key[..*end], section) >= SECTIONS_ALIKE);
    let dot = is_misspelt.or_else(|| key.find('.'))?;
    Some(format!("{section}{}", &key[dot..]))
}
