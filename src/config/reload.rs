//! What of the configuration can change while the service runs, and what a new version of the file
//! changes.
//!
//! Routes, hours, verdicts, what reads other formats, and the log's level are taken from the new version, everything else stays
//! as it was at the start. A new version is taken as a whole or not at all.

use std::collections::BTreeSet;
use std::path::Path;

use ::config::{Map, Value, ValueKind};

use super::origins::{ConfigFile, RawValues};
use super::raw_config::RawConfig;
use super::{Config, config_of};

/// The lists of tables that are reloaded.
const LISTS: [&str; 3] = ["routes", "hours", "mappings"];
/// The keys that are reloaded, apart from the lists, and the sections.
const LEVEL: &str = "log.level";
const VERDICTS: &str = "desk.verdicts.";
const INPUT: &str = "input.";
/// Which escalations were the first of their sessions is remembered by this one.
const SAME_SESSION: &str = "input.same_session_within_s";

/// The configuration that runs, for the versions of its file to come.
pub struct Reloader {
    file: ConfigFile,
    env: Vec<(String, String)>,
    running: RawValues,
}

/// What a new version of the file changes.
pub struct Reload {
    /// The configuration from now on.
    pub config: Config,
    /// What has changed, a fragment each: `routes: changed vip, added night`.
    pub changes: Vec<String>,
    /// Changed keys that take effect at the next start only.
    pub needs_restart: Vec<String>,
}

impl Reloader {
    /// Loads the configuration at the start.
    pub fn start(file: ConfigFile, env: Vec<(String, String)>) -> anyhow::Result<LoadedConfig> {
        let raw = RawConfig::read(Some(&file), env.clone())?;
        let running = raw.values().clone();
        let config = config_of(raw)?;
        Ok(LoadedConfig { config, reloader: Self { file, env, running } })
    }

    /// The version of the file that runs.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        Path::new(&self.file.name)
    }

    /// Takes a new version of the file; an error if it has any problem, also in what is not reloaded.
    pub fn take(&mut self, file: ConfigFile) -> anyhow::Result<Reload> {
        let new = RawConfig::read(Some(&file), self.env.clone())?;
        let values = new.values().clone();
        let of_file = new.clone();
        config_of(new)?;
        let mut effective = self.running.clone();
        effective.retain(|key, _| !is_reloaded(key));
        let reloaded = values.iter().filter(|(key, _)| is_reloaded(key));
        effective.extend(reloaded.map(|(key, value)| (key.clone(), value.clone())));
        // Routes may depend on what stays: on `retry.park_ms`, for example.
        let config = config_of(of_file.with_values(effective.clone()))?;
        let changed = changed_keys(&self.running, &values);
        let needs_restart = changed.iter().filter(|key| !is_reloaded(key)).cloned().collect();
        let changes = changes(&self.running, &values, &changed);
        (self.running, self.file) = (effective, file);
        Ok(Reload { config, changes, needs_restart })
    }
}

/// The configuration at the start, and what takes later versions of its file.
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Takes later versions of the file.
    pub reloader: Reloader,
}

fn is_reloaded(key: &str) -> bool {
    LISTS.contains(&key)
        || key == LEVEL
        || key.starts_with(VERDICTS)
        || (key.starts_with(INPUT) && key != SAME_SESSION)
}

/// The keys with another value, or with a value in one of the two only.
fn changed_keys(old: &RawValues, new: &RawValues) -> Vec<String> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let kind = |values: &RawValues, key: &str| values.get(key).map(|value| value.kind.clone());
    let is_changed = |key: &&&String| kind(old, key) != kind(new, key);
    keys.iter().filter(is_changed).map(|key| (*key).clone()).collect()
}

fn changes(old: &RawValues, new: &RawValues, changed: &[String]) -> Vec<String> {
    let mut changes = Vec::new();
    for key in changed.iter().filter(|key| is_reloaded(key)) {
        let kind = |values: &RawValues| values.get(key).map(|value| value.kind.clone());
        changes.push(match (kind(old), kind(new)) {
            (old, new) if LISTS.contains(&key.as_str()) => list_change(key, old, new),
            (Some(old), Some(new)) => format!("{key}: {old} becomes {new}"),
            (None, Some(new)) => format!("{key}: {new}"),
            (_, None) => format!("{key}: removed"),
        });
    }
    changes
}

/// Which tables were added, removed and changed, by their names.
fn list_change(list: &str, old: Option<ValueKind>, new: Option<ValueKind>) -> String {
    let (old, new) = (tables(old), tables(new));
    let name = |table: &Map<String, Value>| {
        table.get("name").map(|name| name.to_string()).unwrap_or_default()
    };
    let (old_names, new_names): (Vec<_>, Vec<_>) =
        (old.iter().map(name).collect(), new.iter().map(name).collect());
    let missing = |from: &[String], names: &[String]| -> Vec<String> {
        names.iter().filter(|name| !from.contains(name)).cloned().collect()
    };
    let (added, removed) = (missing(&old_names, &new_names), missing(&new_names, &old_names));
    let is_changed = |(at, name): &(usize, &String)| {
        let before = old_names.iter().position(|old| old == *name);
        before.is_some_and(|before| old[before] != new[*at])
    };
    let changed = new_names.iter().enumerate().filter(is_changed);
    let changed: Vec<_> = changed.map(|(_, name)| name.clone()).collect();
    let stay = |names: &[String], gone: &[String]| missing(gone, names);
    let is_reordered = stay(&old_names, &removed) != stay(&new_names, &added);
    let parts = [("added", added), ("removed", removed), ("changed", changed)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let mut parts: Vec<_> =
        parts.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
    if is_reordered {
        parts.push("another order".to_owned());
    }
    format!("{list}: {}", parts.join("; "))
}

fn tables(list: Option<ValueKind>) -> Vec<Map<String, Value>> {
    let Some(ValueKind::Array(items)) = list else { return Vec::new() };
    let table = |item: Value| match item.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    };
    items.into_iter().filter_map(table).collect()
}
