//! What `load` accepts, and the exact messages about everything else.
//!
//! Almost every test is one call of `check`: a file, an environment, the expected problems.

use std::fs;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

mod desk;
mod environment;
mod kafka;
mod mappings;
mod reload;
mod routes;

use super::raw_config::RawConfig;
use super::{Config, DEFAULTS, load, load_for_tools, regions, sections};
use crate::adapters::desk::KeySource;
use crate::domain::reply::{DeskAnswer, Reply};
use crate::domain::verdict::VerdictClass;
use crate::telemetry::LogFormat;

const NEEDED: [(&str, &str); 3] = [
    ("HANDOFF__DESK__SDKAPPID", "1400000000"),
    ("HANDOFF__DESK__IDENTIFIER", "administrator"),
    ("HANDOFF__DESK__SECRET_KEY", "s3cr3t"),
];

fn owned(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads this file and exactly this environment; messages call the file F.
fn load_exactly(toml: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.toml");
    fs::write(&file, toml).unwrap();
    load(Some(&file), owned(env))
        .map_err(|error| format!("{error:#}").replace(&file.display().to_string(), "F"))
}

/// The same with [`NEEDED`] added.
fn load_with(toml: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    load_exactly(toml, &[&NEEDED[..], env].concat())
}

fn good(toml: &str, env: &[(&str, &str)]) -> Config {
    load_with(toml, env).unwrap_or_else(|problems| panic!("{problems}"))
}

fn lines(result: Result<Config, String>) -> Vec<String> {
    let problems = result.err().unwrap_or_default();
    problems.lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

/// Checks that this file and environment, with [`NEEDED`] added, have exactly these problems. Their
/// lines are left out: [`check_lines`] is for those.
#[track_caller]
fn check(toml: &str, env: &[(&str, &str)], expected: &[&str]) {
    let problems = lines(load_with(toml, env));
    assert_eq!(problems.iter().map(|text| without_line(text)).collect::<Vec<_>>(), expected);
}

/// The same with the lines of the file, in its form `F:12`.
#[track_caller]
fn check_lines(toml: &str, expected: &[&str]) {
    assert_eq!(lines(load_with(toml, &[])), expected);
}

/// `in F:12` becomes `in F`.
fn without_line(text: &str) -> String {
    let Some((before, after)) = text.split_once(" in F:") else { return text.to_owned() };
    match after.trim_start_matches(|c: char| c.is_ascii_digit()) {
        rest if rest.len() < after.len() => format!("{before} in F{rest}"),
        _ => text.to_owned(),
    }
}

fn key_of(config: &Config) -> String {
    match &config.desk.key {
        KeySource::Given(key) => key.expose_secret().to_owned(),
        KeySource::File(path) => format!("file {}", path.display()),
    }
}

#[test]
fn only_identity_and_key_have_no_default() {
    let config = load(None, owned(&NEEDED)).unwrap();
    assert_eq!(config.kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(config.kafka.topics.dead_letters, "handoff.dead-letters");
    assert_eq!(config.desk.endpoint, "https://console.tim.qq.com");
    assert_eq!(config.desk.backup_endpoint.as_deref(), Some("https://adminapi.my-imcloud.com"));
    assert_eq!(config.desk.identity.sdkappid, 1_400_000_000);
    assert_eq!(config.desk.timeout, Duration::from_secs(5));
    assert_eq!(config.desk.signature_lifetime, Duration::from_secs(168 * 3600));
    assert_eq!(config.policy.retry.park, [30, 60, 120].map(Duration::from_secs));
    assert_eq!(config.policy.doubt_grace, Duration::from_secs(60));
    assert_eq!(config.gate.probe_max, Duration::from_secs(60));
    assert_eq!(config.rules.types, ["escalation"]);
    assert_eq!(config.quota_per_second, Some(100.0));
    assert_eq!(config.retry_budget, 0.2);
    assert_eq!(config.intake.max_span, 20_000);
    assert_eq!(config.admin_listen, "127.0.0.1:9464".parse().ok());
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn every_key_occurs_in_the_defaults() {
    let mut raw = RawConfig::read(None, owned(&NEEDED)).unwrap();
    assert!(sections::config(&mut raw).is_some());
    let mut section = "";
    let mut written = vec![];
    for line in DEFAULTS.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            section = line.trim_start_matches('[').split(']').next().unwrap();
            written.push(section.to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            written.push(format!("{section}.{key}"));
        }
    }
    for key in raw.keys().all() {
        assert!(written.iter().any(|written| written == key), "{key} is not in default.toml");
    }
}

#[test]
fn the_defaults_name_the_ranges_that_are_checked() {
    let mut raw = RawConfig::read(None, owned(&NEEDED)).unwrap();
    assert!(sections::config(&mut raw).is_some());
    let variable = |key: &str| format!("HANDOFF__{}", key.to_uppercase().replace('.', "__"));
    let env = raw.keys().keys.iter().map(|key| (variable(key), "no".to_owned()));
    let error = load(None, env).unwrap_err().to_string();
    let manual = DEFAULTS.replace("\n# ", " ");
    let ranged: Vec<_> = error.lines().filter_map(|line| line.split_once(" from ")).collect();
    assert!(ranged.len() > 20, "{error}");
    for (problem, range) in ranged {
        let is_named = manual.contains(range) || problem.contains("`desk.sdkappid`");
        assert!(is_named, "{problem} from {range}");
    }
}

#[test]
fn the_environment_replaces_the_file_and_the_file_the_defaults() {
    let file = "[kafka]\ngroup_id = \"file\"\n[desk]\nconcurrency = 7\nsettle_ms = 1_000";
    let config = good(file, &[("HANDOFF__KAFKA__GROUP_ID", "env")]);
    assert_eq!(config.kafka.group_id, "env");
    assert_eq!(config.concurrency, 7);
    assert_eq!(config.policy.settle_time, Duration::from_secs(1));
    assert_eq!(config.kafka.topics.escalations, "handoff.escalations");
}

#[test]
fn every_kind_of_value_comes_from_the_environment() {
    let config = good(
        "",
        &[
            ("HANDOFF__DESK__CONCURRENCY", "3"),
            ("HANDOFF__DESK__QUOTA_PER_SECOND", "0"),
            ("HANDOFF__DESK__DEFAULT_TARGET", "False"),
            ("HANDOFF__RETRY__BUDGET", "0.5"),
            ("HANDOFF__RETRY__PARK_MS", "100, 200"),
            ("HANDOFF__ESCALATION__TYPES", "a,b"),
            ("HANDOFF__ADMIN__LISTEN", ""),
            ("HANDOFF__LOG__LEVEL", "info,handoff=debug"),
            ("HANDOFF__LOG__FORMAT", "json"),
            ("HANDOFF_CONFIG", "ignored"),
            ("PATH", "ignored"),
        ],
    );
    assert_eq!((config.concurrency, config.quota_per_second), (3, None));
    assert_eq!(config.retry_budget, 0.5);
    assert!(!config.policy.default_target);
    assert_eq!(config.policy.retry.park, [100, 200].map(Duration::from_millis));
    assert_eq!(config.rules.types, ["a", "b"]);
    assert_eq!(config.admin_listen, None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(good("", &[("HANDOFF__RETRY__PARK_MS", "")]).policy.retry.park.is_empty());
}

#[test]
fn an_unknown_key_is_reported_with_its_origin_and_the_nearest_real_key() {
    check(
        "[desk]\ntimeout = 1\n[dek]\nconcurrency = 1\n[kafka.property]\n\"client.id\" = \"x\"",
        &[("HANDOFF__DESK__SDKAPID", "1"), ("HANDOFF__DESK__VERDICT__141020", "queued")],
        &[
            "unknown key `dek.concurrency` in F: did you mean `desk.concurrency`?",
            "unknown key `desk.sdkapid` in the environment: did you mean `desk.sdkappid`?",
            "unknown key `desk.timeout` in F: did you mean `desk.timeout_ms`?",
            "unknown key `desk.verdict.141020` in the environment: did you mean \
             `desk.verdicts.141020`?",
            "unknown key `kafka.property.client.id` in F: did you mean \
             `kafka.properties.client.id`?",
        ],
    );
    check(
        "quick_attempts = 3\nxyzzy = 1\n[retry]\nforever = true\n[kafka]\n\
         \"security.protocol\" = 1",
        &[],
        &[
            "unknown key `kafka.security.protocol` in F: did you mean \
             `kafka.properties.security.protocol`?",
            "unknown key `quick_attempts` in F: did you mean `retry.quick_attempts`?",
            "unknown key `retry.forever` in F: [retry] has budget, initial_ms, max_ms, quick_attempts, \
             park_ms",
            "unknown key `xyzzy` in F: the sections are admin, desk, drain, escalation, hours, input, \
             intake, kafka, ledger, log, mappings, output, retry, routes, runtime, \
             traces",
        ],
    );
}

#[test]
fn a_missing_key_is_reported_with_both_ways_to_set_it() {
    let expected = [
        "`desk.sdkappid` is missing: set `sdkappid` under [desk], or HANDOFF__DESK__SDKAPPID",
        "`desk.identifier` is missing: set `identifier` under [desk], or \
         HANDOFF__DESK__IDENTIFIER",
        "`desk.secret_key` is missing: set HANDOFF__DESK__SECRET_KEY to the key, or \
         HANDOFF__DESK__SECRET_KEY_FILE (or `secret_key_file` under [desk]) to a file with it",
    ];
    assert_eq!(lines(load_exactly("", &[])), expected);
    assert_eq!(lines(load_exactly("", &[("HANDOFF__DESK__SECRET_KEY", "")])), expected);
}

#[test]
fn a_tool_needs_no_desk_identity_but_reports_all_other_problems() {
    let part = load_for_tools(None, owned(&[("HANDOFF__KAFKA__GROUP_ID", "g")])).unwrap();
    assert_eq!((part.kafka.group_id.as_str(), part.rules.types), ("g", vec!["escalation".into()]));
    let env = [("HANDOFF__DESK__SDKAPPID", "x"), ("HANDOFF__DRAIN__TIMEOUT_MS", "1")];
    let error = load_for_tools(None, owned(&env)).err().unwrap().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "the configuration has 2 problems:");
    assert!(lines[1].contains("`desk.sdkappid` = \"x\" in the environment"), "{error}");
    assert!(lines[2].contains("`drain.timeout_ms` = "), "{error}");
}

#[test]
fn values_of_a_wrong_type_or_out_of_range_are_rejected() {
    check(
        "[desk]\nconcurrency = \"64\"\ntimeout_ms = 1.5\nidentifier = 5\n[admin]\nlisten = 9464",
        &[
            ("HANDOFF__DESK__IDENTIFIER", " a"),
            ("HANDOFF__DESK__DEFAULT_TARGET", "yes"),
            ("HANDOFF__DESK__SIGNATURE_LIFETIME_H", "1"),
            ("HANDOFF__RETRY__BUDGET", "0.6"),
            ("HANDOFF__RETRY__PARK_MS", "100,soon"),
            ("HANDOFF__ESCALATION__TYPES", ","),
            ("HANDOFF__KAFKA__GROUP_ID", ""),
        ],
        &[
            "`kafka.group_id` = \"\" in the environment: must be text, not empty, without line \
             breaks, and without blanks at its ends",
            "`desk.identifier` = \" a\" in the environment: must be text, not empty, without line \
             breaks, and without blanks at its ends",
            "`desk.timeout_ms` = 1.5 in F: must be a whole number from 100 to 60000",
            "`desk.signature_lifetime_h` = \"1\" in the environment: must be a whole number from \
             24 to 438000",
            "`desk.concurrency` = \"64\" in F: must be a whole number from 1 to 10000",
            "`retry.budget` = \"0.6\" in the environment: must be a number from 0.05 to 0.5",
            "`desk.default_target` = \"yes\" in the environment: must be true or false",
            "`retry.park_ms` = \"100,soon\" in the environment: must be a list of whole numbers \
             from 1 to 86400000",
            "`escalation.types` = \",\" in the environment: must be a list of texts, at least one, \
             none of them empty",
            "`admin.listen` = 9464 in F: must be an IP address and a port, as \
             \"127.0.0.1:9464\", or \"\" for none",
        ],
    );
}

#[test]
fn unknown_log_levels_and_formats_are_rejected() {
    let level = "must be off, error, warn, info, debug or trace, or as \"info,handoff=debug\"";
    for bad in ["inof", "handoff=inof", "", "info,,"] {
        check(
            "",
            &[("HANDOFF__LOG__LEVEL", bad)],
            &[&format!("`log.level` = {bad:?} in the environment: {level}")],
        );
    }
    check("[log]\nformat = \"xml\"", &[], &["`log.format` = \"xml\" in F: must be text or json"]);
}

#[test]
fn a_lower_bound_is_not_above_its_upper_bound() {
    check(
        "[desk]\ntimeout_ms = 1000\nprobe_initial_ms = 70000\n[retry]\ninitial_ms = 20000\n\
         [intake]\nmax_bytes = 200000\n[drain]\ntimeout_ms = 45000",
        &[],
        &[
            "`desk.connect_timeout_ms` = 2000 must not be above `desk.timeout_ms` = 1000",
            "`desk.probe_initial_ms` = 70000 must not be above `desk.probe_max_ms` = 60000",
            "`retry.initial_ms` = 20000 must not be above `retry.max_ms` = 10000",
            "`drain.timeout_ms` = 45000 must be below the consumer's \"session.timeout.ms\" = \
             45000: lower the first, or raise the second under [kafka.consumer_properties]",
            "`escalation.max_bytes` = 262144 must not be above `intake.max_bytes` = 200000",
        ],
    );
    check(
        "[kafka.consumer_properties]\n\"max.poll.interval.ms\" = 25000\n\
         \"session.timeout.ms\" = 20000",
        &[],
        &["`drain.timeout_ms` = 15000 and 10000 more for publishing and committing must be below \
           the consumer's \"max.poll.interval.ms\" = 25000: lower the first, or raise the second \
           under [kafka.consumer_properties]"],
    );
}

#[test]
fn a_legal_but_questionable_value_is_a_warning() {
    let config = good(
        "[desk]\ntimeout_ms = 3000\n[drain]\ntimeout_ms = 2000\n[intake]\nmax_events = 10",
        &[],
    );
    let keys: Vec<&str> =
        config.warnings.iter().filter_map(|warning| warning.split('`').nth(1)).collect();
    assert_eq!(keys, ["desk.timeout_ms", "drain.timeout_ms", "intake.max_events"]);
}

#[test]
fn an_unreadable_file_is_reported_with_its_name() {
    let error = load(Some(Path::new("/nowhere/x.toml")), owned(&NEEDED)).unwrap_err();
    assert!(error.to_string().contains("configuration file /nowhere/x.toml"), "{error:#}");
    assert_eq!(
        load_with("[desk]\nregion = \"china", &[]).unwrap_err(),
        "failed to read the configuration file F: TOML parse error at line 2, column 16: \
         invalid basic string, expected `\"`"
    );
}

#[test]
fn verdicts_are_overridden_by_code() {
    let config = good(
        "[desk.verdicts]\n141020 = \"transient\"\n141021 = \"resign\"",
        &[("HANDOFF__DESK__VERDICTS__99", "rejected")],
    );
    for (code, class) in [
        (141_020, VerdictClass::Transient),
        (141_021, VerdictClass::Reauthenticate),
        (99, VerdictClass::Rejected),
        (0, VerdictClass::Assigned),
    ] {
        let body = format!("{{\"ErrorCode\":{code}}}");
        let answer = DeskAnswer::parse(body.as_bytes()).unwrap();
        assert_eq!(config.policy.verdicts.of_transfer(&Reply::Answer(answer)).class, class);
    }
    let words = "assigned, queued, no_agent, occupied, rejected, transient, throttled, reauthenticate, \
                 misconfigured";
    check(
        "[desk.verdicts]\n0 = \"rejected\"\n141020 = \"later\"\nabc = \"queued\"\n7 = 8",
        &[],
        &[
            "`desk.verdicts.0` in F: \"0\" must be a code other than 0",
            &format!("`desk.verdicts.141020` = \"later\" in F: must be one of {words}"),
            &format!("`desk.verdicts.7` = 8 in F: must be one of {words}"),
            "`desk.verdicts.abc` in F: \"abc\" must be a code other than 0",
        ],
    );
    assert!(DEFAULTS.replace("\n# ", " ").contains(words));
}

#[test]
fn a_number_above_the_largest_integer_is_found() {
    let toml = "[desk]\nidentifier = \"99999999999999999999\"  # 99999999999999999999\nsdkappid = \
                99_999_999_999_999_999_999";
    let error = load_with(toml, &[]).unwrap_err();
    let end = "F: number too large to fit in target type (line 3): no number may be above \
               9223372036854775807";
    assert!(error.ends_with(end), "{error}");
}

#[test]
fn a_file_has_an_end() {
    let endless = load(Some(Path::new("/dev/zero")), owned(&NEEDED)).unwrap_err();
    let expected =
        "failed to read the configuration file /dev/zero: it is longer than 1048576 bytes";
    assert_eq!(format!("{endless:#}"), expected);
}
