//! From what was written to what is meant, section by section, and the checks across sections.
//!
//! Each function asks for all keys of its part first and uses `?` afterwards, because `None`
//! means "noted already". Ranges here and in `config/default.toml` are the same.
//! This file never decides a default: those are in the embedded file.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::layers::{Layer, Leaf};
use super::raw::{Raw, how_to_set};
use super::{Config, Intake, KafkaOnly, kafka, regions, routes};
use crate::adapters::desk::{DeskClientSettings, KeySource};
use crate::adapters::ledger::LedgerUrl;
use crate::domain::backoff::Backoff;
use crate::domain::course::Policy;
use crate::domain::usersig::Identity;
use crate::domain::verdict::{VerdictClass, Verdicts};
use crate::domain::wire::escalation::DecodeRules;
use crate::gate::BreakerPolicy;
use crate::telemetry::{LogFormat, LogSettings};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The whole configuration, or `None` after noting why not.
pub(super) fn config(raw: &mut Raw) -> Option<Config> {
    let kafka = kafka::read(raw);
    let intake = intake(raw);
    let desk = desk(raw);
    let concurrency = raw.whole("desk.concurrency", 1..=10_000);
    let quota = raw.whole("desk.quota_per_second", 0..=100_000);
    let gate = gate(raw);
    let policy = policy(raw);
    let rules = rules(raw);
    let ledger = ledger(raw);
    let retention_days = raw.whole("ledger.retention_days", 1..=3_650);
    let drain_ms = raw.whole("drain.timeout_ms", 10..=HOUR_MS);
    let admin_listen = admin_listen(raw);
    let log = log(raw);
    let drain = drain_ms.map(Duration::from_millis);
    if let (Some(settings), Some(drain)) = (&kafka, drain) {
        kafka::check_drain(raw, settings, drain);
    }
    let (record, memory) =
        (rules.as_ref().map(|r| r.max_bytes as u64), intake.map(|i| i.max_bytes as u64));
    raw.ordered(("escalation.max_bytes", record), ("intake.max_bytes", memory));
    let mut config = Config {
        kafka: kafka?,
        desk: desk?,
        rules: rules?,
        policy: policy?,
        gate: gate?,
        concurrency: size(concurrency?),
        quota_per_second: quota.filter(|quota| *quota > 0).map(|quota| quota as f64),
        intake: intake?,
        ledger: ledger?,
        retention: Duration::from_millis(retention_days? * DAY_MS),
        drain_timeout: drain?,
        admin_listen: admin_listen?,
        log: log?,
        warnings: vec![],
    };
    config.warnings = warnings(&config);
    Some(config)
}

/// The part without Desk, or `None` after noting why not.
pub(super) fn kafka_only(raw: &mut Raw) -> Option<KafkaOnly> {
    let (kafka, rules, ledger) = (kafka::read(raw), rules(raw), ledger(raw));
    let doubt_grace = doubt_grace(raw);
    Some(KafkaOnly { kafka: kafka?, rules: rules?, ledger: ledger?, doubt_grace: doubt_grace? })
}

/// What works, but is probably not wanted.
fn warnings(config: &Config) -> Vec<String> {
    let (timeout, drain) = (config.desk.timeout.as_millis(), config.drain_timeout.as_millis());
    let (calls, events) = (config.concurrency, config.intake.max_events);
    let mut warnings = vec![];
    if timeout < 4_000 {
        warnings.push(format!(
            "`desk.timeout_ms` = {timeout} is short: Desk itself may take 3 s, and each call given \
             up costs a question about the session; 4000 or more is better"
        ));
    }
    if drain < timeout {
        warnings.push(format!(
            "`drain.timeout_ms` = {drain} is below `desk.timeout_ms` = {timeout}: a stop may cut \
             off a call whose effect is then unknown"
        ));
    }
    if events < calls {
        warnings.push(format!(
            "`intake.max_events` = {events} is below `desk.concurrency` = {calls}: so many calls \
             never run at once"
        ));
    }
    warnings
}

fn intake(raw: &mut Raw) -> Option<Intake> {
    let max_events = raw.whole("intake.max_events", 1..=1_000_000);
    let max_bytes = raw.whole("intake.max_bytes", 1_024..=17_179_869_184);
    let max_span = raw.whole("intake.max_span", 1..=10_000_000);
    Some(Intake {
        max_events: size(max_events?),
        max_bytes: size(max_bytes?),
        max_span: size(max_span?),
    })
}

fn desk(raw: &mut Raw) -> Option<DeskClientSettings> {
    let address = address(raw);
    let sdkappid = raw.whole("desk.sdkappid", 1..=9_999_999_999);
    let identifier = raw.text("desk.identifier");
    let key = key(raw);
    let timeout_ms = raw.whole("desk.timeout_ms", 100..=MINUTE_MS);
    let connect_ms = raw.whole("desk.connect_timeout_ms", 100..=MINUTE_MS);
    let lifetime_h = raw.whole("desk.signature_lifetime_h", 24..=438_000);
    raw.ordered(("desk.connect_timeout_ms", connect_ms), ("desk.timeout_ms", timeout_ms));
    let (endpoint, backup_endpoint) = address?;
    Some(DeskClientSettings {
        endpoint,
        backup_endpoint,
        identity: Identity { sdkappid: sdkappid?, identifier: identifier? },
        key: key?,
        timeout: Duration::from_millis(timeout_ms?),
        connect_timeout: Duration::from_millis(connect_ms?),
        signature_lifetime: Duration::from_secs(lifetime_h? * 3_600),
    })
}

/// The address and its backup. A region or an endpoint: the later layer goes first, and a backup
/// counts only where it was given with or after its endpoint.
fn address(raw: &mut Raw) -> Option<(String, Option<String>)> {
    let region = raw.optional("desk.region");
    let endpoint = raw.optional("desk.endpoint");
    let backup = raw.optional("desk.backup_endpoint");
    let layer_of = |given: &Option<(String, Layer)>| given.as_ref().map(|(_, layer)| *layer);
    if region.is_some() && layer_of(&region) == layer_of(&endpoint) {
        note_both(raw, layer_of(&region)?, ("desk.region", "desk.endpoint"));
        return None;
    }
    let chosen = layer_of(&region).max(layer_of(&endpoint));
    let backup = backup.filter(|(_, layer)| Some(*layer) >= chosen);
    match endpoint.filter(|(_, layer)| Some(*layer) == chosen) {
        Some(endpoint) => {
            let backup = backup.map(|backup| url(raw, "desk.backup_endpoint", backup));
            let endpoint = url(raw, "desk.endpoint", endpoint);
            Some((endpoint?, backup.map_or(Some(None), |backup| backup.map(Some))?))
        }
        None => by_region(raw, region, backup.is_some()),
    }
}

fn by_region(
    raw: &mut Raw,
    region: Option<(String, Layer)>,
    has_backup: bool,
) -> Option<(String, Option<String>)> {
    if has_backup {
        let text = "`desk.backup_endpoint` goes with `desk.endpoint` only: a region brings its \
                    own, remove it";
        raw.note("desk.backup_endpoint", text.to_owned());
    }
    let Some((name, layer)) = region else {
        if !raw.is_noted("desk.region") && !raw.is_noted("desk.endpoint") {
            let how = how_to_set("desk.region");
            raw.note("desk.region", format!("`desk.region` is missing: {how}"));
        }
        return None;
    };
    let found = regions::find(&name);
    if found.is_none() {
        let leaf = Leaf { kind: ValueKind::from(name), layer };
        raw.refuse("desk.region", &leaf, &format!("one of {}", regions::names()));
    }
    found.map(|region| (region.endpoint(), Some(region.backup_endpoint())))
}

/// Scheme, host and port; the value is not shown where it may hold a password.
fn url(raw: &mut Raw, key: &str, (text, layer): (String, Layer)) -> Option<String> {
    let url = reqwest::Url::parse(&text).ok();
    let is_plain = url.as_ref().is_some_and(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if is_plain {
        return url.map(|url| url.origin().ascii_serialization());
    }
    let kind = ValueKind::from(if text.contains('@') { "..@.." } else { text.as_str() });
    raw.refuse(key, &Leaf { kind, layer }, "http:// or https://, a host, perhaps a port, no more");
    None
}

/// The key or its file; the later layer goes first. The path is read as a secret too: some
/// paste the key there.
fn key(raw: &mut Raw) -> Option<KeySource> {
    let (given, file) = ("desk.secret_key", "desk.secret_key_file");
    let source = match (raw.secret(given), raw.secret(file)) {
        (Some((_, layer)), Some((_, same))) if layer == same => {
            note_both(raw, layer, (given, file));
            return None;
        }
        (Some((key, layer)), other) if other.as_ref().is_none_or(|(_, file)| *file < layer) => {
            Some(KeySource::Given(key))
        }
        (_, Some((path, _))) => Some(KeySource::File(PathBuf::from(path.expose_secret()))),
        _ => None,
    };
    if source.is_none() && !raw.is_noted(given) && !raw.is_noted(file) {
        let text = format!(
            "`{given}` is missing: set HANDOFF__DESK__SECRET_KEY to the key, or \
             HANDOFF__DESK__SECRET_KEY_FILE (or `secret_key_file` under [desk]) to a file with it"
        );
        raw.note(given, text);
    }
    source
}

fn note_both(raw: &mut Raw, layer: Layer, (one, other): (&str, &str)) {
    let place = raw.place(layer);
    raw.note(one, format!("`{one}` and `{other}` are both set {place}: keep one of them"));
}

fn gate(raw: &mut Raw) -> Option<BreakerPolicy> {
    let initial_ms = raw.whole("desk.probe_initial_ms", 10..=HOUR_MS);
    let max_ms = raw.whole("desk.probe_max_ms", 10..=HOUR_MS);
    let outage_after = raw.whole("desk.outage_after", 1..=100_000);
    raw.ordered(("desk.probe_initial_ms", initial_ms), ("desk.probe_max_ms", max_ms));
    Some(BreakerPolicy {
        probe_initial: Duration::from_millis(initial_ms?),
        probe_max: Duration::from_millis(max_ms?),
        outage_after: count(outage_after?),
    })
}

fn policy(raw: &mut Raw) -> Option<Policy> {
    let verdicts = verdicts(raw);
    let settle_ms = raw.whole("desk.settle_ms", 0..=MINUTE_MS);
    let default_target = raw.flag("desk.default_target");
    let initial_ms = raw.whole("retry.initial_ms", 1..=MINUTE_MS);
    let max_ms = raw.whole("retry.max_ms", 1..=10 * MINUTE_MS);
    let quick_attempts = raw.whole("retry.quick_attempts", 1..=100);
    let park_ms = raw.wholes("retry.park_ms", 1..=DAY_MS);
    let doubt_grace = doubt_grace(raw);
    raw.ordered(("retry.initial_ms", initial_ms), ("retry.max_ms", max_ms));
    let park: Option<Vec<_>> =
        park_ms.map(|waits| waits.into_iter().map(Duration::from_millis).collect());
    let routes = routes::read(raw, park.as_deref().unwrap_or_default());
    Some(Policy {
        verdicts: verdicts?,
        backoff: Backoff::new(Duration::from_millis(initial_ms?), Duration::from_millis(max_ms?))?,
        quick_attempts: count(quick_attempts?),
        park: park?,
        settle: Duration::from_millis(settle_ms?),
        doubt_grace: doubt_grace?,
        default_target: default_target?,
        routes: routes?,
    })
}

fn verdicts(raw: &mut Raw) -> Option<Verdicts> {
    let section = "desk.verdicts";
    let mut overrides = HashMap::new();
    let mut is_good = true;
    for (name, leaf) in raw.section(section) {
        let key = format!("{section}.{name}");
        let code: Option<i64> = name.parse().ok().filter(|code| *code != 0);
        let word = leaf.kind.to_string();
        let class = VerdictClass::ALL.into_iter().find(|class| class.as_str() == word);
        match (code, class) {
            (Some(code), Some(class)) => {
                overrides.insert(code, class);
            }
            (None, _) => {
                let place = raw.place(leaf.layer);
                raw.note(&key, format!("`{key}` {place}: {name:?} must be a code other than 0"));
                is_good = false;
            }
            (_, None) => {
                let words = VerdictClass::ALL.map(VerdictClass::as_str).join(", ");
                raw.refuse(&key, &leaf, &format!("one of {words}"));
                is_good = false;
            }
        }
    }
    is_good.then(|| Verdicts::new(overrides))
}

fn rules(raw: &mut Raw) -> Option<DecodeRules> {
    let types = raw.texts("escalation.types");
    let time_to_live_s = raw.whole("escalation.time_to_live_s", 1..=604_800);
    let max_bytes = raw.whole("escalation.max_bytes", 1_024..=16_777_216);
    Some(DecodeRules {
        types: types?,
        max_bytes: size(max_bytes?),
        time_to_live: Duration::from_secs(time_to_live_s?),
    })
}

fn admin_listen(raw: &mut Raw) -> Option<Option<SocketAddr>> {
    let wanted = "an IP address and a port, as \"127.0.0.1:9464\", or \"\" for none";
    raw.parsed("admin.listen", wanted, |text| match text {
        "" => Some(None),
        _ => text.parse().ok().map(Some),
    })
}

/// The URL may hold a password, so it is read as a secret and never shown.
fn doubt_grace(raw: &mut Raw) -> Option<Duration> {
    raw.whole("escalation.doubt_grace_s", 0..=86_400).map(Duration::from_secs)
}

fn ledger(raw: &mut Raw) -> Option<LedgerUrl> {
    let place = match raw.secret("ledger.url") {
        Some((url, _)) => LedgerUrl::parse(url.expose_secret()),
        None if raw.is_noted("ledger.url") => return None,
        None => Err("is missing: sqlite://handoff.db, or postgres://...".into()),
    };
    let noted = place.map_err(|text| raw.note("ledger.url", format!("`ledger.url` {text}")));
    noted.ok()
}

fn log(raw: &mut Raw) -> Option<LogSettings> {
    let wanted = "off, error, warn, info, debug or trace, or as \"info,handoff=debug\"";
    let level = raw.parsed("log.level", wanted, |text| is_level(text).then(|| text.to_owned()));
    let format = raw.parsed("log.format", "text or json", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    Some(LogSettings { level: level?, format: format? })
}

/// `EnvFilter` takes a lone misspelt level for a module's name; so a lone word must be a level.
fn is_level(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_clear = |part: &str| {
        part.contains(['=', '[', ']'])
            || levels.iter().any(|level| part.trim().eq_ignore_ascii_case(level))
    };
    text.split(',').all(is_clear) && EnvFilter::try_new(text).is_ok()
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
