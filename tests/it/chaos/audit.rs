//! `handoff audit` after the run: the real program must come to the same verdict as the judge.
//!
//! It runs as people run it, with the environment of a worker. This file never looks into a topic itself.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::scene::Scene;
use crate::support::worker::PATIENCE;

/// Kinds of findings that only repeat what was said; that it was byte for byte is the judge's to see.
const REPEATS: [&str; 2] = ["repeated", "dead_letter_doubled"];

/// What it said.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit {
    code: Option<i32>,
    answered: Option<u64>,
    open: Option<u64>,
    /// By kind, where there are any.
    findings: BTreeMap<String, u64>,
    /// What it printed.
    pub(super) out: String,
    pub(super) err: String,
}

/// Run it, once the workers have stopped.
pub(super) async fn run(scene: &Scene) -> Audit {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    // How late is not judged here: whoever is killed again and again answers late.
    command.args(["audit", "--json", "--ledger", "--slack", "3600s"]);
    command.env_clear().envs(scene.env(0)).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(PATIENCE, command.output()).await else {
        return Audit { err: format!("it did not end in {PATIENCE:?}"), ..Audit::default() };
    };
    let output = output.expect("the audit can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Audit::read(output.status.code(), text(&output.stdout), text(&output.stderr))
}

impl Audit {
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

    /// All so many events are answered, nothing is open, and it has found nothing; repeats may
    /// only come from a process that was frozen, as `Findings::is_well` has it.
    pub(super) fn is_well(&self, events: usize, frozen: bool) -> bool {
        let only_repeats = self.findings.keys().all(|kind| REPEATS.contains(&kind.as_str()));
        let verdict = match self.code {
            Some(0) => self.findings.is_empty(),
            Some(1) => frozen && only_repeats && !self.findings.is_empty(),
            _ => false,
        };
        verdict && self.open == Some(0) && self.answered == Some(events as u64)
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
fn only_repeats_after_a_freeze_are_forgiven() {
    let audit = |code, open: u64, findings: Value| {
        let report = serde_json::json!({"answered": 9, "open": {"count": open},
            "findings": findings});
        Audit::read(Some(code), report.to_string(), String::new())
    };
    let count = |count: u64| serde_json::json!({ "count": count });
    let none = || serde_json::json!({"missing": count(0), "repeated": count(0)});
    let repeated = || serde_json::json!({"repeated": count(2), "dead_letter_doubled": count(1)});
    let missing = || serde_json::json!({"repeated": count(2), "missing": count(1)});
    let table = [
        (audit(0, 0, none()), true, true),
        (audit(0, 1, none()), false, false),
        (audit(1, 0, repeated()), false, true),
        (audit(1, 0, missing()), false, false),
        (audit(1, 0, none()), false, false),
        (audit(69, 0, none()), false, false),
        (Audit::default(), false, false),
    ];
    for (audit, without_freeze, after_one) in table {
        assert_eq!(audit.is_well(9, false), without_freeze, "{audit:?}");
        assert_eq!(audit.is_well(9, true), after_one, "{audit:?}");
        assert!(!audit.is_well(8, true), "{audit:?}");
    }
    let summary = audit(1, 0, missing()).summary();
    assert_eq!(summary, "exit code 1, 9 answered, 0 open, 1 missing, 2 repeated");
}
