//! What a new version of the file changes, and what waits for a restart.

use super::*;
use crate::config::{ConfigFile, Reload, Reloader};

struct Running {
    reloader: Reloader,
}

fn version(text: &str) -> ConfigFile {
    ConfigFile { name: "F".into(), text: text.into() }
}

impl Running {
    fn start(text: &str, env: &[(&str, &str)]) -> Self {
        let env = owned(&[&NEEDED[..], env].concat());
        Self { reloader: Reloader::start(version(text), env).unwrap().reloader }
    }

    fn take(&mut self, text: &str) -> Result<Reload, String> {
        self.reloader.take(version(text)).map_err(|error| format!("{error:#}"))
    }

    /// Checks what a version changes, and what needs a restart.
    #[track_caller]
    fn check(&mut self, text: &str, changes: &[&str], needs_restart: &[&str]) -> Config {
        let reload = self.take(text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(reload.changes, changes);
        assert_eq!(reload.needs_restart, needs_restart);
        reload.config
    }
}

fn route(name: &str, rest: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\nwhen.to = \"{name}\"\ntargets = [{{ group = 1 }}]\n{rest}\n"
    )
}

fn hours(times: &str) -> String {
    format!("[[hours]]\nname = \"h\"\nzone = \"UTC\"\nweekly.mon = [\"{times}\"]\n")
}

#[test]
fn the_changes_are_named() {
    let (a, b, c) = (route("a", ""), route("b", ""), route("c", ""));
    let mut running = Running::start(&[a.clone(), b.clone()].concat(), &[]);
    let new_b = route("b", "priority = 1");
    let config = running.check(
        &[new_b.clone(), c.clone()].concat(),
        &["routes: added c; removed a; changed b"],
        &[],
    );
    assert_eq!(config.policy.routes.names().collect::<Vec<_>>(), ["b", "c"]);
    running.check(&[c.clone(), new_b.clone()].concat(), &["routes: another order"], &[]);
    let with_hours = [hours("09:00-10:00"), route("c", "hours = \"h\"")].concat();
    running.check(&with_hours, &["hours: added h", "routes: removed b; changed c"], &[]);
    let later = with_hours.replace("10:00", "11:00");
    running.check(&later, &["hours: changed h"], &[]);
    // Only a comment.
    running.check(&format!("# x\n{later}"), &[], &[]);
    let config = running.check(
        "[log]\nlevel = \"debug\"\n[desk.verdicts]\n141020 = \"transient\"\n",
        &[
            "desk.verdicts.141020: transient",
            "hours: removed h",
            "log.level: info becomes debug",
            "routes: removed c",
        ],
        &[],
    );
    assert_eq!((config.log.level.as_str(), config.policy.routes.names().count()), ("debug", 0));
    running.check("", &["desk.verdicts.141020: removed", "log.level: debug becomes info"], &[]);
}

#[test]
fn what_reads_other_formats_changes_but_not_what_is_remembered() {
    let mapping = "[[mappings]]\nname = \"chat\"\nmatch = { \"/chat\" = { exists = true } }\n\
                   session_id = \"/chat\"\n";
    let mut running = Running::start("", &[]);
    let text =
        format!("[input]\ndialects = [\"chat\", \"native\"]\nsame_session_within_s = 9\n{mapping}");
    let reload = running.take(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(reload.changes.len(), 2, "{:?}", reload.changes);
    assert!(reload.changes[0].starts_with("input.dialects: "), "{:?}", reload.changes);
    assert_eq!(reload.changes[1], "mappings: added chat");
    assert_eq!(reload.needs_restart, ["input.same_session_within_s"]);
    assert_eq!(reload.config.rules.input.dialects.len(), 2);
    assert_eq!(reload.config.rules.input.same_session_within, None);
    running.check(
        &text.replace("/chat\"\n", "/chat/id\"\n"),
        &["mappings: changed chat"],
        &reload.needs_restart.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn everything_else_stays_as_it_was_at_the_start() {
    let keeps_trying = route("a", "while_nobody_online = \"keep_trying\"");
    let mut running = Running::start("[retry]\npark_ms = [1000]\n", &[]);
    let text = format!("[retry]\npark_ms = [2000]\n[desk]\ntimeout_ms = 4500\n{keeps_trying}");
    let keys = ["desk.timeout_ms", "retry.park_ms"];
    let config = running.check(&text, &["routes: added a"], &keys);
    assert_eq!(config.desk.timeout, Duration::from_secs(5));
    // The route has no waits of its own, and takes those that run.
    let request = crate::domain::event::TransferRequest {
        attributes: owned(&[("to", "a")]).into_iter().collect(),
        ..Default::default()
    };
    let found = config.policy.routes.find(&request, jiff::Timestamp::UNIX_EPOCH).route;
    assert_eq!(found.unwrap().retry_wait(0), Some(Duration::from_secs(1)));
    // It is reported as long as it is so.
    running.check(
        &format!("{text}[log]\nformat = \"json\"\n"),
        &[],
        &["desk.timeout_ms", "log.format", "retry.park_ms"],
    );
}

#[test]
fn a_version_with_any_problem_changes_nothing() {
    let good = route("a", "");
    let mut running = Running::start(&good, &[]);
    for (broken, problem) in [
        (format!("{good}[[routes]"), "failed to read the configuration file F: TOML parse error"),
        (
            format!("{good}{}", route("b", "priority = 10")),
            "(\"b\") in F:10: must be a whole number",
        ),
        (format!("{good}[desk]\ntimeout_ms = 1\n"), "`desk.timeout_ms` = 1 in F:7: must be"),
        ("[desk.verdicts]\n0 = \"ok\"\n".to_owned(), "`desk.verdicts.0` in F:2"),
    ] {
        let error = running.take(&broken).err().unwrap_or_default();
        assert!(error.contains(problem), "{error}");
    }
    running.check(&good, &[], &[]);
}

#[test]
fn the_environment_still_overrides_the_file() {
    let mut running = Running::start("", &[("HANDOFF__LOG__LEVEL", "warn")]);
    let config = running.check("[log]\nlevel = \"debug\"\n", &[], &[]);
    assert_eq!(config.log.level, "warn");
}
