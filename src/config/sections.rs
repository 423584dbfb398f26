//! From raw values to the checked [`Config`], section by section, and the checks across sections.
//!
//! Each function reads all keys of its part first and uses `?` afterwards: `None` means that the
//! problem is already recorded, and an early return would hide the problems of the other keys.
//! A test compares the ranges here with those in `config/default.toml`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;
use secrecy::ExposeSecret;

use super::origins::{Origin, RawValue};
use super::raw_config::{Located, RawConfig, how_to_set};
use super::routes::RouteInput;
use super::{
    Config, ToolConfig, admin, hours, input, kafka, ledger, output, regions, routes, telemetry,
    warnings,
};
use crate::adapters::desk::{DeskClientSettings, KeySource};
use crate::consume::IntakeLimits;
use crate::domain::backoff::Backoff;
use crate::domain::course::{Policy, RetryPolicy};
use crate::domain::usersig::Identity;
use crate::domain::verdict::{VerdictClass, Verdicts};
use crate::domain::wire::outcome_format::OutcomeFormat;
use crate::gate::BreakerPolicy;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Reads the whole configuration; `None` after recording a problem.
pub(super) fn config(raw: &mut RawConfig) -> Option<Config> {
    let kafka = kafka::read(raw);
    let intake = intake(raw);
    let desk = desk(raw);
    let concurrency = raw.whole("desk.concurrency", 1..=10_000);
    let quota = raw.whole("desk.quota_per_second", 0..=100_000);
    let retry_budget = raw.fraction("retry.budget", 0.05..=0.5);
    let gate = gate(raw);
    let policy = policy(raw);
    let output = output::read(raw);
    let rules = input::rules(raw);
    let ledger = ledger::read(raw);
    let retention_days = raw.whole("ledger.retention_days", 1..=3_650);
    let drain_ms = raw.whole("drain.timeout_ms", 10..=HOUR_MS);
    let worker_threads = raw.whole("runtime.worker_threads", 0..=1_024);
    let (admin_listen, admin) = (admin::listen(raw), admin::settings(raw));
    let log = telemetry::log(raw);
    let traces = telemetry::traces(raw);
    let drain = drain_ms.map(Duration::from_millis);
    if let (Some(settings), Some(drain)) = (&kafka, drain) {
        kafka::check_drain(raw, settings, drain);
    }
    let record_bytes = rules.as_ref().map(|rules| rules.max_bytes as u64);
    let memory_bytes = intake.map(|intake| intake.max_bytes as u64);
    raw.check_order("escalation.max_bytes", record_bytes, "intake.max_bytes", memory_bytes);
    let mut config = Config {
        kafka: kafka?,
        desk: desk?,
        rules: rules?,
        policy: policy?,
        gate: gate?,
        concurrency: to_usize(concurrency?),
        // 0 stands for "unlimited" in the file.
        retry_budget: retry_budget?,
        quota_per_second: quota.filter(|quota| *quota > 0).map(|quota| quota as f64),
        intake: intake?,
        ledger: ledger?,
        retention: Duration::from_millis(retention_days? * DAY_MS),
        drain_timeout: drain?,
        // 0 stands for "one for each core" in the file.
        worker_threads: Some(to_usize(worker_threads?)).filter(|threads| *threads > 0),
        admin_listen: admin_listen?.address(),
        admin: admin?,
        log: log?,
        traces: traces?.settings(),
        warnings: vec![],
    };
    config.policy.outcome_format = output?.of_group(&config.kafka.group_id);
    config.warnings = warnings::of(&config);
    Some(config)
}

/// Reads the part without Desk; `None` after recording a problem.
pub(super) fn tool_config(raw: &mut RawConfig) -> Option<ToolConfig> {
    let (kafka, rules, ledger) = (kafka::read(raw), input::rules(raw), ledger::read(raw));
    let (policy, admin_listen) = (policy(raw), admin::listen(raw));
    Some(ToolConfig {
        kafka: kafka?,
        rules: rules?,
        ledger: ledger?,
        policy: policy?,
        admin_listen: admin_listen?.address(),
    })
}

fn intake(raw: &mut RawConfig) -> Option<IntakeLimits> {
    let max_events = raw.whole("intake.max_events", 1..=1_000_000);
    let max_per_session = raw.whole("intake.max_per_session", 1..=1_000_000);
    let max_bytes = raw.whole("intake.max_bytes", 1_024..=17_179_869_184);
    let max_span = raw.whole("intake.max_span", 1..=10_000_000);
    Some(IntakeLimits {
        max_events: to_usize(max_events?),
        max_per_session: to_usize(max_per_session?),
        max_bytes: to_usize(max_bytes?),
        max_span: to_usize(max_span?),
    })
}

fn desk(raw: &mut RawConfig) -> Option<DeskClientSettings> {
    let endpoints = endpoints(raw);
    let sdkappid = raw.whole("desk.sdkappid", 1..=9_999_999_999);
    let identifier = raw.text("desk.identifier");
    let key = key_source(raw);
    let timeout_ms = raw.whole("desk.timeout_ms", 100..=MINUTE_MS);
    let connect_ms = raw.whole("desk.connect_timeout_ms", 100..=MINUTE_MS);
    let lifetime_h = raw.whole("desk.signature_lifetime_h", 24..=438_000);
    raw.check_order("desk.connect_timeout_ms", connect_ms, "desk.timeout_ms", timeout_ms);
    let endpoints = endpoints?;
    Some(DeskClientSettings {
        endpoint: endpoints.main,
        backup_endpoint: endpoints.backup,
        identity: Identity { sdkappid: sdkappid?, identifier: identifier? },
        key: key?,
        timeout: Duration::from_millis(timeout_ms?),
        connect_timeout: Duration::from_millis(connect_ms?),
        signature_lifetime: Duration::from_secs(lifetime_h? * 3_600),
    })
}

struct Endpoints {
    main: String,
    backup: Option<String>,
}

/// The endpoint of Desk and its backup: from `desk.region` or `desk.endpoint`, whichever has the
/// later origin. A backup counts only if its origin is not before that of its endpoint, so that an
/// endpoint from the environment does not keep the backup of the one in the file.
fn endpoints(raw: &mut RawConfig) -> Option<Endpoints> {
    let region = raw.optional("desk.region");
    let endpoint = raw.optional("desk.endpoint");
    let backup = raw.optional("desk.backup_endpoint");
    let origin_of = |given: &Option<Located<String>>| given.as_ref().map(|given| given.origin);
    // The defaults set a region, so one origin has both only if somebody wrote both.
    if region.is_some() && origin_of(&region) == origin_of(&endpoint) {
        report_both_set(raw, origin_of(&region)?, "desk.region", "desk.endpoint");
        return None;
    }
    let chosen = origin_of(&region).max(origin_of(&endpoint));
    let backup = backup.filter(|given| Some(given.origin) >= chosen);
    let Some(endpoint) = endpoint.filter(|given| Some(given.origin) == chosen) else {
        return endpoints_of_region(raw, region, backup.is_some());
    };
    let has_backup = backup.is_some();
    let backup = backup.and_then(|given| base_url(raw, "desk.backup_endpoint", given));
    let main = base_url(raw, "desk.endpoint", endpoint)?;
    (backup.is_some() == has_backup).then_some(Endpoints { main, backup })
}

fn endpoints_of_region(
    raw: &mut RawConfig,
    region: Option<Located<String>>,
    has_backup: bool,
) -> Option<Endpoints> {
    if has_backup {
        let text = "`desk.backup_endpoint` goes with `desk.endpoint` only: a region brings its \
                    own, remove it";
        raw.add_problem("desk.backup_endpoint", text.to_owned());
    }
    let Some(Located { value: name, origin }) = region else {
        if !raw.has_problem("desk.region") && !raw.has_problem("desk.endpoint") {
            let how = how_to_set("desk.region");
            raw.add_problem("desk.region", format!("`desk.region` is missing: {how}"));
        }
        return None;
    };
    let found = regions::find(&name);
    if found.is_none() {
        let value = RawValue { kind: ValueKind::from(name), origin };
        raw.reject("desk.region", &value, &format!("one of {}", regions::names()));
    }
    found
        .map(|region| Endpoints { main: region.endpoint(), backup: Some(region.backup_endpoint()) })
}

/// Scheme, host and port. A message does not show a value with `@`: it may hold a password.
fn base_url(raw: &mut RawConfig, key: &str, given: Located<String>) -> Option<String> {
    let Located { value: text, origin } = given;
    let url = reqwest::Url::parse(&text).ok();
    let is_base = url.as_ref().is_some_and(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if is_base {
        // Paths are appended later, so the slash that `Url` adds is dropped.
        return url.map(|url| url.origin().ascii_serialization());
    }
    let kind = ValueKind::from(if text.contains('@') { "..@.." } else { text.as_str() });
    let wanted = "a URL of scheme, host and optional port, as https://console.tim.qq.com";
    raw.reject(key, &RawValue { kind, origin }, wanted);
    None
}

/// The secret key or its file, whichever has the later origin.
fn key_source(raw: &mut RawConfig) -> Option<KeySource> {
    let (key_name, file_name) = ("desk.secret_key", "desk.secret_key_file");
    // The path is read as a secret, too: some people paste the key itself there.
    let source = match (raw.secret(key_name), raw.secret(file_name)) {
        (Some(key), Some(file)) if key.origin == file.origin => {
            report_both_set(raw, key.origin, key_name, file_name);
            return None;
        }
        (Some(key), file) if file.as_ref().is_none_or(|file| file.origin < key.origin) => {
            Some(KeySource::Given(key.value))
        }
        (_, Some(path)) => Some(KeySource::File(PathBuf::from(path.value.expose_secret()))),
        _ => None,
    };
    if source.is_none() && !raw.has_problem(key_name) && !raw.has_problem(file_name) {
        let text = format!(
            "`{key_name}` is missing: set HANDOFF__DESK__SECRET_KEY to the key, or \
             HANDOFF__DESK__SECRET_KEY_FILE (or `secret_key_file` under [desk]) to a file with it"
        );
        raw.add_problem(key_name, text);
    }
    source
}

fn report_both_set(raw: &mut RawConfig, origin: Origin, one: &str, other: &str) {
    let origin = raw.describe(origin);
    raw.add_problem(one, format!("`{one}` and `{other}` are both set {origin}: keep one of them"));
}

fn gate(raw: &mut RawConfig) -> Option<BreakerPolicy> {
    let initial_ms = raw.whole("desk.probe_initial_ms", 10..=HOUR_MS);
    let max_ms = raw.whole("desk.probe_max_ms", 10..=HOUR_MS);
    let outage_after = raw.whole("desk.outage_after", 1..=100_000);
    raw.check_order("desk.probe_initial_ms", initial_ms, "desk.probe_max_ms", max_ms);
    Some(BreakerPolicy {
        probe_initial: Duration::from_millis(initial_ms?),
        probe_max: Duration::from_millis(max_ms?),
        outage_after: to_u32(outage_after?),
    })
}

fn policy(raw: &mut RawConfig) -> Option<Policy> {
    let verdicts = verdicts(raw);
    let settle_ms = raw.whole("desk.settle_ms", 0..=MINUTE_MS);
    let default_target = raw.flag("desk.default_target");
    let initial_ms = raw.whole("retry.initial_ms", 1..=MINUTE_MS);
    let max_ms = raw.whole("retry.max_ms", 1..=10 * MINUTE_MS);
    let quick_attempts = raw.whole("retry.quick_attempts", 1..=100);
    let park_ms = raw.wholes("retry.park_ms", 1..=DAY_MS);
    let doubt_grace = doubt_grace(raw);
    raw.check_order("retry.initial_ms", initial_ms, "retry.max_ms", max_ms);
    let park: Option<Vec<_>> =
        park_ms.map(|waits| waits.into_iter().map(Duration::from_millis).collect());
    // Routes are read even if `park_ms` is wrong, so that their problems are reported as well.
    let (park_or_none, hours) = (park.as_deref().unwrap_or_default(), hours::read(raw));
    let routes = routes::read(raw, &RouteInput { park: park_or_none, hours: &hours });
    Some(Policy {
        verdicts: verdicts?,
        // `None` only if the order is wrong, and `check_order` has recorded that.
        retry: RetryPolicy {
            backoff: Backoff::new(
                Duration::from_millis(initial_ms?),
                Duration::from_millis(max_ms?),
            )?,
            quick_attempts: to_u32(quick_attempts?),
            park: park?,
        },
        settle_time: Duration::from_millis(settle_ms?),
        doubt_grace: doubt_grace?,
        default_target: default_target?,
        routes: routes?,
        // `config` sets it: it names the group.
        outcome_format: OutcomeFormat::Native,
    })
}

fn verdicts(raw: &mut RawConfig) -> Option<Verdicts> {
    let section = "desk.verdicts";
    let mut overrides = HashMap::new();
    let before = raw.problem_count();
    for (name, value) in raw.section(section) {
        let key = format!("{section}.{name}");
        // Code 0 is Desk's "ok"; reading it as anything else would answer transfers wrongly.
        let code: Option<i64> = name.parse().ok().filter(|code| *code != 0);
        let class = VerdictClass::from_word(&value.kind.to_string());
        match (code, class) {
            (Some(code), Some(class)) => {
                overrides.insert(code, class);
            }
            (None, _) => {
                let place = raw.place(value.origin, &key);
                let text = format!("`{key}` {place}: {name:?} must be a code other than 0");
                raw.add_problem(&key, text);
            }
            (_, None) => {
                let classes = VerdictClass::ALL.map(VerdictClass::as_str).join(", ");
                raw.reject(&key, &value, &format!("one of {classes}"));
            }
        }
    }
    (raw.problem_count() == before).then(|| Verdicts::new(overrides))
}

fn doubt_grace(raw: &mut RawConfig) -> Option<Duration> {
    raw.whole("escalation.doubt_grace_s", 0..=86_400).map(Duration::from_secs)
}

pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
