//! The three sources of configuration: defaults, file and environment, merged key by key.
//!
//! Tables become dotted keys (`desk.timeout_ms`), so a key has one form however and wherever it
//! was written. A later source replaces an earlier one. Keys and values are judged later, in
//! [`super::raw_config`].

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use ::config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};
use anyhow::{Context as _, anyhow, ensure};

use super::DEFAULTS;

/// The prefix of every variable that sets a key.
pub(super) const PREFIX: &str = "HANDOFF__";
/// The section of librdkafka's properties for both clients.
pub(super) const SHARED: &str = "kafka.properties";
/// The section of librdkafka's properties for the consumer.
pub(super) const CONSUMER: &str = "kafka.consumer_properties";
/// The section of librdkafka's properties for the producer.
pub(super) const PRODUCER: &str = "kafka.producer_properties";

/// More than any configuration has. A device such as /dev/zero has no end.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The variable that sets this key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Where a value was written, in ascending order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Default,
    File,
    Environment,
}

/// A value as it was written. It has no `Debug`, because it may be a secret.
#[derive(Clone)]
pub(super) struct RawValue {
    pub(super) kind: ValueKind,
    pub(super) origin: Origin,
}

/// All values by their dotted keys.
pub(super) type RawValues = BTreeMap<String, RawValue>;

/// Reads the three sources and merges them.
pub(super) fn read(
    file: Option<&ConfigFile>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<RawValues> {
    // Inserting overwrites, so the order of the three sources below is their precedence.
    let mut values = RawValues::new();
    flatten(String::new(), parse_toml(DEFAULTS, "the defaults")?, &mut |key, kind| {
        values.insert(key, RawValue { kind, origin: Origin::Default });
    });
    if let Some(ConfigFile { name, text }) = file {
        flatten(String::new(), parse_toml(text, name)?, &mut |key, kind| {
            values.insert(key, RawValue { kind, origin: Origin::File });
        });
    }
    flatten(String::new(), parse_environment(env)?, &mut |key, kind| {
        values.insert(dotted(key), RawValue { kind, origin: Origin::Environment });
    });
    Ok(values)
}

/// A configuration file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its name in messages.
    pub(super) name: String,
    /// May hold a secret.
    pub(super) text: String,
}

impl ConfigFile {
    /// Reads a file, or a pipe.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = read_text(path)
            .with_context(|| format!("failed to read the configuration file {name}"))?;
        Ok(Self { name, text })
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`].
fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    let is_short = text.len() as u64 <= MAX_FILE_BYTES;
    ensure!(is_short, "it is longer than {MAX_FILE_BYTES} bytes");
    String::from_utf8(text).map_err(|_| anyhow!("it is not UTF-8"))
}

fn parse_toml(text: &str, name: &str) -> anyhow::Result<Map<String, Value>> {
    File::from_str(text, FileFormat::Toml).collect().map_err(|error| {
        let mut message = without_quoted_lines(&error.to_string());
        // The library names neither the number nor its line nor the limit.
        if message.starts_with("number too large") {
            let line = text.lines().position(has_too_large_number).map(|line| line + 1);
            let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
            message.push_str(&format!("{line}: no number may be above {}", i64::MAX));
        }
        anyhow!("failed to read the configuration file {name}: {message}")
    })
}

/// Whether a line of TOML has a number above the limit, outside of texts and comments.
fn has_too_large_number(line: &str) -> bool {
    let code = line.split('"').step_by(2).map(|code| code.split('#').next().unwrap_or_default());
    let is_digit = |c: char| c.is_ascii_digit() || c == '_';
    code.flat_map(|code| code.split(|c| !is_digit(c)))
        .map(|digits| digits.replace('_', ""))
        .any(|digits| !digits.is_empty() && digits.parse::<i64>().is_err())
}

/// Removes the lines of the file that the parser's message quotes: they may hold a secret.
fn without_quoted_lines(message: &str) -> String {
    let is_quote = |line: &&str| {
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim().starts_with('|')
    };
    message.lines().filter(|line| !is_quote(line)).collect::<Vec<_>>().join(": ")
}

fn parse_environment(
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Map<String, Value>> {
    // The library would try to parse every variable it gets, so it gets only ours.
    let ours: Map<_, _> = env.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let key = |name: &String| dotted(name[PREFIX.len()..].to_lowercase().replace("__", "."));
    let mut names: Vec<_> = ours.keys().map(|name| (key(name), name)).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        let ((one_key, one), (other_key, other)) = (&pair[0], &pair[1]);
        // The library would take one of the two at random: names differ in case, or in `.` and `_`.
        ensure!(
            one_key != other_key,
            "the variables {one} and {other} set the same key: keep one of them"
        );
    }
    let source = Environment::with_prefix("HANDOFF").separator("__").source(Some(ours));
    Ok(source.collect()?)
}

/// The key of a variable. Inside the sections of librdkafka's properties `_` stands for `.`,
/// because a shell cannot export a name with dots.
fn dotted(key: String) -> String {
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
