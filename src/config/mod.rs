//! From defaults, a file and the environment to a checked [`Config`].
//!
//! The path of a value: `origins` reads the three sources and merges them key by key,
//! `raw_config` returns typed values, and `sections`, `kafka`, `hours` and `routes` turn them into
//! the settings of each component. `lines` knows the line of each key, `table_reader` reads the tables
//! of a list. `suggestions` finds the nearest real key for a misspelt one,
//! `regions` is a table of Tencent's data centres.
//!
//! The defaults are `config/default.toml`, which is also the manual; the code has none. All
//! problems are reported together, one per line. No message shows a secret. The environment is a
//! parameter: nothing here reads it from the process.

mod admin;
mod conditions;
mod hours;
mod input;
mod kafka;
mod ledger;
mod lines;
mod mappings;
mod origins;
mod output;
mod raw_config;
mod regions;
mod reload;
mod routes;
mod sections;
mod suggestions;
mod table_reader;
mod telemetry;
#[cfg(test)]
mod tests;
mod warnings;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::adapters;
use crate::consume::IntakeLimits;
use crate::domain::course::Policy;
use crate::domain::wire::escalation::DecodeRules;
use crate::gate::BreakerPolicy;
use crate::telemetry::{LogSettings, TraceSettings};

use raw_config::RawConfig;

pub use self::origins::ConfigFile;
pub use self::reload::{LoadedConfig, Reload, Reloader};

/// The commented defaults: every key with its meaning, unit and range.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The checked configuration, one part for each component.
#[derive(Clone)]
pub struct Config {
    /// For the Kafka clients.
    pub kafka: adapters::kafka::KafkaSettings,
    /// For the Desk client.
    pub desk: adapters::desk::DeskClientSettings,
    /// How a record is decoded.
    pub rules: DecodeRules,
    /// How the course of an event is decided.
    pub policy: Policy,
    /// When the circuit breaker shuts the gate, and how often it probes.
    pub gate: BreakerPolicy,
    /// The part of the transfers that re-attempts get while first attempts wait.
    pub retry_budget: f64,
    /// Concurrent calls to Desk.
    pub concurrency: usize,
    /// Calls per second of each Desk command, for the whole consumer group; `None`: unlimited.
    pub quota_per_second: Option<f64>,
    /// Bounds on unfinished work in memory.
    pub intake: IntakeLimits,
    /// The ledger's database.
    pub ledger: adapters::ledger::LedgerUrl,
    /// How long a published event stays in the ledger.
    pub retention: Duration,
    /// How long calls in flight may take to finish at a stop or a revocation.
    pub drain_timeout: Duration,
    /// Worker threads of the asynchronous runtime; `None`: one for each core.
    pub worker_threads: Option<usize>,
    /// The address of the admin port; `None`: no admin port.
    pub admin_listen: Option<SocketAddr>,
    /// Who may see what at the admin port.
    pub admin: adapters::admin::AdminSettings,
    /// For the log.
    pub log: LogSettings,
    /// For traces; `None`: they are off.
    pub traces: Option<TraceSettings>,
    /// Legal values that are probably a mistake. They are logged once at the start.
    pub warnings: Vec<String>,
}

/// The part of the configuration for commands that use topics or the ledger but never call Desk.
#[derive(Clone)]
pub struct ToolConfig {
    /// For the Kafka clients.
    pub kafka: adapters::kafka::KafkaSettings,
    /// How a record is decoded.
    pub rules: DecodeRules,
    /// The ledger's database.
    pub ledger: adapters::ledger::LedgerUrl,
    /// How the course of an event is decided.
    pub policy: Policy,
    /// The address of the admin port; `None`: no admin port.
    pub admin_listen: Option<SocketAddr>,
}

/// Loads the configuration from the defaults, this file and this environment.
///
/// Only variables whose names begin with `HANDOFF__` are read. The error lists every problem.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Config> {
    load_file(file.map(ConfigFile::read).transpose()?.as_ref(), env)
}

/// The same from a file that was read already.
pub fn load_file(
    file: Option<&ConfigFile>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Config> {
    config_of(RawConfig::read(file, env)?)
}

fn config_of(mut raw: RawConfig) -> anyhow::Result<Config> {
    let config = sections::config(&mut raw);
    match (config, raw.problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(error_of(&problems)),
    }
}

/// The variables named `HANDOFF_...` as text. Those without a second underscore set nothing, but may have
/// been meant to. An error if one that sets a key is not UTF-8, or if another was certainly meant to.
pub fn utf8_variables(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Vec<(String, String)>> {
    let (mut variables, mut problems) = (vec![], vec![]);
    for (name, value) in env {
        let shown = name.to_string_lossy().into_owned();
        if !shown.starts_with(origins::PREFIX) {
            problems.extend(misspelt_variable(&shown));
            variables.extend(shown.starts_with("HANDOFF_").then(|| (shown, String::new())));
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            (Ok(name), Err(_)) => problems.push(format!("the value of {name} is not UTF-8")),
            (Err(_), _) => {
                problems.push(format!("the name {shown} is not UTF-8, so it is not a key"))
            }
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(error_of(&problems)) }
}

/// The problem of a variable that looks like a key and is not read, such as `HANDOFF_DESK__REGION`.
///
/// Only the two underscores tell a key from the variables that Kubernetes sets for a service
/// named handoff (`HANDOFF_PORT`) and from those of the tests (`HANDOFF_TEST_KAFKA`).
fn misspelt_variable(name: &str) -> Option<String> {
    let upper = name.to_uppercase();
    let key = upper.strip_prefix("HANDOFF_")?;
    let is_key = key.contains("__") || key.starts_with('_');
    let right = format!("{}{}", origins::PREFIX, key.trim_start_matches('_'));
    is_key.then(|| format!("the variable {name} is not read: write {right}"))
}

/// Loads the configuration of a tool. A missing identity or key of Desk is not an error here;
/// every other problem is, as in [`load`].
pub fn load_for_tools(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<ToolConfig> {
    let mut raw = RawConfig::read(file.map(ConfigFile::read).transpose()?.as_ref(), env)?;
    let mut whole = raw.clone();
    // Every section is read for its problems: a typo in [desk] should not first surface when the
    // service starts. The resulting `Config` itself is not needed.
    drop(sections::config(&mut whole));
    let mut problems = whole.problems();
    problems.retain(|text| !(text.starts_with("`desk.") && text.contains("` is missing: ")));
    match sections::tool_config(&mut raw) {
        Some(part) if problems.is_empty() => Ok(part),
        _ => Err(error_of(&problems)),
    }
}

fn error_of(problems: &[String]) -> anyhow::Error {
    let head = match problems.len() {
        1 => "the configuration has 1 problem:".to_owned(),
        n => format!("the configuration has {n} problems:"),
    };
    anyhow::anyhow!("{head}\n  {}", problems.join("\n  "))
}

// Written by hand to leave out the properties for the Kafka clients: they may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("bootstrap_servers", &self.kafka.bootstrap_servers)
            .field("group_id", &self.kafka.group_id)
            .field("topics", &self.kafka.topics)
            .field("desk", &self.desk)
            .field("rules", &self.rules)
            .field("policy", &self.policy)
            .field("gate", &self.gate)
            .field("retry_budget", &self.retry_budget)
            .field("concurrency", &self.concurrency)
            .field("quota_per_second", &self.quota_per_second)
            .field("intake", &self.intake)
            .field("drain_timeout", &self.drain_timeout)
            .field("worker_threads", &self.worker_threads)
            .field("admin_listen", &self.admin_listen)
            .field("admin", &self.admin)
            .field("log", &self.log)
            .field("traces", &self.traces)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
