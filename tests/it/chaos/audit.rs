//! Runs `handoff audit` after the run, with the environment of a worker: it must agree with the
//! checker.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::environment::Environment;
use crate::support::worker::TIME_LIMIT;

/// Findings about repeated records; whether these are identical is checked by the checker.
const REPEATS: [&str; 2] = ["repeated", "dead_letter_doubled"];
/// What the audit says of answers to a topic that was deleted: it sees the present one only, which has
/// other records at their positions. The checker knows both.
const OF_EARLIER_TOPICS: [&str; 3] = ["orphan", "dead_letter_orphan", "dead_letter_doubled"];

/// Which findings are no fault of the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerated {
    /// After a pause, as in `Findings::are_acceptable`.
    pub(super) repeats: bool,
    /// After the topic of the escalations was created again.
    pub(super) earlier_topics: bool,
}

/// The result of the audit.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditResult {
    code: Option<i32>,
    answered: Option<u64>,
    open: Option<u64>,
    /// Number of findings by kind, if there are any.
    findings: BTreeMap<String, u64>,
    /// Standard output.
    pub(super) out: String,
    pub(super) err: String,
}

/// To be called after the workers have stopped.
pub(super) async fn run(environment: &Environment) -> AuditResult {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    // A worker that is killed repeatedly answers late; lateness is not checked here.
    command.args(["audit", "--json", "--ledger", "--slack", "3600s"]);
    command.env_clear().envs(environment.variables(0)).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(TIME_LIMIT, command.output()).await else {
        return AuditResult {
            err: format!("did not end in {TIME_LIMIT:?}"),
            ..AuditResult::default()
        };
    };
    let output = output.expect("the audit can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    AuditResult::read(output.status.code(), text(&output.stdout), text(&output.stderr))
}

impl AuditResult {
    fn read(code: Option<i32>, out: String, err: String) -> Self {
        let report: Value = serde_json::from_str(&out).unwrap_or_default();
        let kinds = report["findings"].as_object().into_iter().flatten();
        let counts = kinds.map(|(kind, found)| (kind.clone(), found["count"].as_u64()));
        let findings = counts.filter_map(|(kind, count)| Some((kind, count.filter(|n| *n > 0)?)));
        Self {
            code,
            answered: report["answered"].as_u64(),
            open: report["open"]["count"].as_u64(),
            findings: findings.collect(),
            out,
            err,
        }
    }

    /// Whether this number of events is answered, none is open, and there are no findings but those
    /// that are tolerated.
    pub(super) fn agrees(&self, events: usize, tolerated: Tolerated) -> bool {
        let is_tolerated = |kind: &String| {
            tolerated.repeats && REPEATS.contains(&kind.as_str())
                || tolerated.earlier_topics && OF_EARLIER_TOPICS.contains(&kind.as_str())
        };
        let is_clean = match self.code {
            Some(0) => self.findings.is_empty(),
            Some(1) => self.findings.keys().all(is_tolerated) && !self.findings.is_empty(),
            _ => false,
        };
        // An id of the present topic may have been answered for another session in an earlier one.
        let all_are_answered = match tolerated.earlier_topics {
            true => self.answered.is_some_and(|answered| answered <= events as u64),
            false => self.answered == Some(events as u64),
        };
        is_clean && self.open == Some(0) && all_are_answered
    }

    /// One line for people.
    pub(super) fn summary(&self) -> String {
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let code = self.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let (answered, open) = (number(self.answered), number(self.open));
        let mut parts = vec![format!("exit code {code}, {answered} answered, {open} open")];
        parts.extend(self.findings.iter().map(|(kind, count)| format!("{count} {kind}")));
        parts.join(", ")
    }
}

#[test]
fn only_findings_that_are_explained_are_accepted() {
    let audit = |code, open: u64, findings: Value| {
        let report = serde_json::json!({"answered": 9, "open": {"count": open},
            "findings": findings});
        AuditResult::read(Some(code), report.to_string(), String::new())
    };
    let count = |count: u64| serde_json::json!({ "count": count });
    let none = || serde_json::json!({"missing": count(0), "repeated": count(0)});
    let repeated = || serde_json::json!({"repeated": count(2), "dead_letter_doubled": count(1)});
    let missing = || serde_json::json!({"repeated": count(2), "missing": count(1)});
    let orphans = || serde_json::json!({"orphan": count(2), "missing": count(0)});
    let tolerated = |repeats, earlier_topics| Tolerated { repeats, earlier_topics };
    let table = [
        (audit(0, 0, none()), true, true, true),
        (audit(0, 1, none()), false, false, false),
        (audit(1, 0, repeated()), false, true, false),
        (audit(1, 0, missing()), false, false, false),
        (audit(1, 0, orphans()), false, false, true),
        (audit(1, 0, none()), false, false, false),
        (audit(69, 0, none()), false, false, false),
        (AuditResult::default(), false, false, false),
    ];
    for (audit, strictly, after_pause, made_again) in table {
        assert_eq!(audit.agrees(9, tolerated(false, false)), strictly, "{audit:?}");
        assert_eq!(audit.agrees(9, tolerated(true, false)), after_pause, "{audit:?}");
        assert_eq!(audit.agrees(9, tolerated(false, true)), made_again, "{audit:?}");
        assert!(!audit.agrees(8, tolerated(true, true)), "{audit:?}");
    }
    let summary = audit(1, 0, missing()).summary();
    assert_eq!(summary, "exit code 1, 9 answered, 0 open, 1 missing, 2 repeated");
}
