//! From defaults, a file and the environment to a checked `Config`.
//!
//! `layers` reads what was written, `raw` hands it out by type, `check`, `kafka` and `routes` make
//! of it what is meant; `misspelt` advises, `regions` is a table. The defaults are
//! `config/default.toml`, which is the manual as well; there are none in the code. All problems
//! are reported together, one per line.
//! This folder never reads the process's environment itself and never shows a secret.

mod check;
mod kafka;
mod layers;
mod misspelt;
mod raw;
mod regions;
mod routes;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::adapters;
use crate::domain::course::Policy;
use crate::domain::wire::escalation::DecodeRules;
use crate::gate::BreakerPolicy;
use crate::telemetry::LogSettings;

use raw::Raw;

/// The commented defaults: every key, its meaning, its range.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What is meant: everything checked, each part for the one who needs it.
#[derive(Clone)]
pub struct Config {
    /// For the Kafka clients.
    pub kafka: adapters::kafka::Settings,
    /// For the Desk client.
    pub desk: adapters::desk::DeskClientSettings,
    /// How records are read.
    pub rules: DecodeRules,
    /// How each event's journey is decided.
    pub policy: Policy,
    /// When calls to Desk may begin.
    pub gate: BreakerPolicy,
    /// Calls at once.
    pub concurrency: usize,
    /// Calls per second of each command, of the whole group together; `None`: no limit.
    pub quota_per_second: Option<f64>,
    /// What may be in memory.
    pub intake: Intake,
    /// Where the ledger is.
    pub ledger: adapters::ledger::LedgerUrl,
    /// How long what is published stays in the ledger.
    pub retention: Duration,
    /// How long calls under way may take to finish at a stop or a revocation.
    pub drain_timeout: Duration,
    /// Where the admin port listens; `None`: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// For the log.
    pub log: LogSettings,
    /// What works, but is probably not wanted: to be logged once at the start.
    pub warnings: Vec<String>,
}

/// What may be in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    /// Unfinished events.
    pub max_events: usize,
    /// Bytes of unfinished events.
    pub max_bytes: usize,
    /// Records that one partition may be read ahead of its committed offset.
    pub max_span: usize,
}

/// What a command needs that reads or writes topics, or reads the ledger, and never calls Desk.
#[derive(Clone)]
pub struct KafkaOnly {
    /// For the Kafka clients.
    pub kafka: adapters::kafka::Settings,
    /// How records are read.
    pub rules: DecodeRules,
    /// Where the ledger is.
    pub ledger: adapters::ledger::LedgerUrl,
    /// So long after its deadline a call in doubt is still asked after.
    pub doubt_grace: Duration,
}

/// The configuration made of the defaults, this file and this environment.
///
/// Of the environment only names that begin with `HANDOFF__` are looked at.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Config> {
    let mut raw = Raw::read(file, env)?;
    let config = check::config(&mut raw);
    match (config, raw.problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(report(&problems)),
    }
}

/// The environment as text. What is not ours is left out; what is ours must be UTF-8.
pub fn texts(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Vec<(String, String)>> {
    let (mut texts, mut problems) = (vec![], vec![]);
    for (name, value) in env {
        let shown = name.to_string_lossy().into_owned();
        if !shown.starts_with(layers::PREFIX) {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (Ok(name), Err(_)) => problems.push(format!("the value of {name} is not UTF-8")),
            (Err(_), _) => {
                problems.push(format!("the name {shown} is not UTF-8: no key is so called"))
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(report(&problems)) }
}

/// The part without Desk: a missing identity or key is no problem, everything else is.
pub fn load_kafka(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<KafkaOnly> {
    let mut raw = Raw::read(file, env)?;
    let mut whole = raw.clone();
    // Asked for everything, for the problems; what it makes of it is not needed here.
    drop(check::config(&mut whole));
    let mut problems = whole.problems();
    problems.retain(|text| !(text.starts_with("`desk.") && text.contains("` is missing: ")));
    match check::kafka_only(&mut raw) {
        Some(part) if problems.is_empty() => Ok(part),
        _ => Err(report(&problems)),
    }
}

fn report(problems: &[String]) -> anyhow::Error {
    let head = match problems.len() {
        1 => "the configuration has 1 problem:".to_owned(),
        n => format!("the configuration has {n} problems:"),
    };
    anyhow::anyhow!("{head}\n  {}", problems.join("\n  "))
}

/// Without the properties passed through to the Kafka clients: a password may be among them.
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
            .field("concurrency", &self.concurrency)
            .field("quota_per_second", &self.quota_per_second)
            .field("intake", &self.intake)
            .field("drain_timeout", &self.drain_timeout)
            .field("admin_listen", &self.admin_listen)
            .field("log", &self.log)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
