//! Where values are written: the defaults, a file, the environment; read and merged key by key.
//!
//! Tables become dotted keys (`desk.timeout_ms`), so that a key is one thing whichever way and
//! in whichever layer it was written. The later layer replaces the earlier.
//! This file never judges a key or a value, and never shows a line of a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ::config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};
use anyhow::Context;

use super::DEFAULTS;

/// With this begins the name of each variable that is a key.
pub(super) const PREFIX: &str = "HANDOFF__";
/// Where librdkafka's properties are; their names in the environment have `_` for `.`.
pub(super) const SHARED: &str = "kafka.properties";
/// Those of the consumer alone.
pub(super) const CONSUMER: &str = "kafka.consumer_properties";
/// Those of the producer alone.
pub(super) const PRODUCER: &str = "kafka.producer_properties";

/// Where a value was written; the later one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    File,
    Environment,
}

/// A value and where it was written. No `Debug`: it may be secret.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) kind: ValueKind,
    pub(super) layer: Layer,
}

/// All values by their dotted keys.
pub(super) type Leaves = BTreeMap<String, Leaf>;

/// The three layers, merged.
pub(super) fn read(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Leaves> {
    let mut leaves = Leaves::new();
    flatten(String::new(), toml(DEFAULTS, "the defaults")?, &mut |key, kind| {
        leaves.insert(key, Leaf { kind, layer: Layer::Default });
    });
    if let Some(path) = file {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .with_context(|| format!("failed to read the configuration file {name}"))?;
        flatten(String::new(), toml(&text, &name)?, &mut |key, kind| {
            leaves.insert(key, Leaf { kind, layer: Layer::File });
        });
    }
    flatten(String::new(), environment(env)?, &mut |key, kind| {
        leaves.insert(with_dots(key), Leaf { kind, layer: Layer::Environment });
    });
    Ok(leaves)
}

fn toml(text: &str, name: &str) -> anyhow::Result<Map<String, Value>> {
    File::from_str(text, FileFormat::Toml).collect().map_err(|error| {
        let mut what = unquoted(&error.to_string());
        // The library does not say which.
        if what.starts_with("number too large") {
            what.push_str(&format!(": no number may be above {}", i64::MAX));
        }
        anyhow::anyhow!("failed to read the configuration file {name}: {what}")
    })
}

/// The parser's message without the quoted line: a secret may stand on it.
fn unquoted(message: &str) -> String {
    let is_quote = |line: &&str| {
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim().starts_with('|')
    };
    message.lines().filter(|line| !is_quote(line)).collect::<Vec<_>>().join(": ")
}

fn environment(
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Map<String, Value>> {
    // Only ours: the others are nobody's business here.
    let ours: Map<_, _> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let key = |name: &String| with_dots(name[PREFIX.len()..].to_lowercase().replace("__", "."));
    let mut names: Vec<_> = ours.keys().map(|name| (key(name), name)).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        let ((one_key, one), (other_key, other)) = (&pair[0], &pair[1]);
        // Which of them the library takes is chance.
        anyhow::ensure!(
            one_key != other_key,
            "the variables {one} and {other} set the same key: keep one of them"
        );
    }
    let source = Environment::with_prefix("HANDOFF").separator("__").source(Some(ours));
    Ok(source.collect()?)
}

/// A name from the environment: librdkafka's names have dots where the variable has `_`.
fn with_dots(key: String) -> String {
    for section in [SHARED, CONSUMER, PRODUCER] {
        if let Some(name) = key.strip_prefix(section).filter(|name| name.starts_with('.')) {
            return format!("{section}{}", name.replace('_', "."));
        }
    }
    key
}

fn flatten(prefix: String, table: Map<String, Value>, found: &mut impl FnMut(String, ValueKind)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) => flatten(key, inner, found),
            kind => found(key, kind),
        }
    }
}
