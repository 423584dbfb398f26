//! The line of each key of a configuration file.
//!
//! The library that merges the sources gives no positions, so the text is parsed a second time.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Lines by path: `desk.timeout_ms`, `routes[0].when.tier`, `routes[0].targets[1]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(HashMap<String, usize>);

impl Lines {
    /// Empty if the text is no TOML: then it has another problem.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        let starts: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        if let Ok(table) = DeTable::parse(text) {
            lines.add_table("", table.get_ref(), &starts);
        }
        lines
    }

    /// The line of this path, counted from 1, or else of the innermost list or table around it.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn add_table(&mut self, path: &str, table: &DeTable<'_>, starts: &[usize]) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.add(path, key.span(), value, starts);
        }
    }

    fn add(
        &mut self,
        path: String,
        at: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        starts: &[usize],
    ) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(&path, table, starts),
            DeValue::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    self.add(format!("{path}[{number}]"), item.span(), item, starts);
                }
            }
            _ => {}
        }
        self.0.insert(path, starts.partition_point(|start| *start <= at.start) + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_item_has_its_line() {
        let text = "top = 1\n[desk]\n\ntimeout_ms = 5\n\"a.b\" = 1\n[[routes]]\nname = \"x\"\n\
                    when = { tier = \"vip\",\n  lang = 1 }\ntargets = [\n  { group = 1 },\n  \
                    { group = 2,\n    agents = [] },\n]\n\n[[routes]]\nwhen.tier = 1\n";
        let lines = Lines::of(text);
        for (path, line) in [
            ("top", 1),
            ("desk.timeout_ms", 4),
            ("desk.a.b", 5),
            ("routes[0]", 6),
            ("routes[0].name", 7),
            ("routes[0].when.lang", 9),
            ("routes[0].when.none", 8),
            ("routes[0].targets[1]", 12),
            ("routes[0].targets[1].agents", 13),
            ("routes[1]", 16),
            ("routes[1].name", 16),
            ("routes[1].when.tier", 17),
        ] {
            assert_eq!(lines.find(path), Some(line), "{path}");
        }
        assert_eq!(lines.find("none"), None);
        assert_eq!(Lines::of("[").find("a"), None);
    }
}
