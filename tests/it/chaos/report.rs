//! The report of a run: a table for people.
//!
//! It never weighs anything; the judge does.

use std::fmt::Write as _;

use super::Run;
use super::judge::expected;

const SHOWN: usize = 20;

/// The table, and the first few of each kind of finding.
pub(super) fn report(run: &Run) -> String {
    let mut text = String::from("\n== chaos\n");
    for (name, value) in rows(run) {
        writeln!(text, "{name:<34} {value}").expect("a text can be written to");
    }
    for (name, found) in run.findings.named() {
        for line in found.iter().take(SHOWN) {
            writeln!(text, "  {name}: {line}").expect("a text can be written to");
        }
    }
    for line in &run.toll.odd_ends {
        writeln!(text, "  odd end: {line}").expect("a text can be written to");
    }
    text
}

fn rows(run: &Run) -> Vec<(&'static str, String)> {
    let (plan, toll, broken) = (&run.plan, &run.toll, &run.broken);
    let (finals, letters) = expected(&run.evidence.sent);
    let membership = if plan.group.fixed { "static" } else { "dynamic" };
    let mut rows = vec![
        ("seed", plan.seed.to_string()),
        ("ledger, workers", format!("{:?}, {}", plan.ledger, plan.workers)),
        ("group", format!("{}, {membership} members", plan.group.protocol)),
        ("faultless, then with faults", format!("{:?}, {:?}", plan.calm, plan.stormy)),
        ("records; events; dead letters due", {
            format!("{}; {finals}; {letters}", run.evidence.sent.len())
        }),
        ("kill -9 of a worker", toll.kills.to_string()),
        ("rolling restarts", toll.rolling_restarts.to_string()),
        ("freezes", toll.freezes.to_string()),
        ("broker stopped or killed", broken.broker.to_string()),
        ("database stopped", broken.database.to_string()),
        ("faults of Desk", broken.desk.to_string()),
        ("calls per event, faultless", format!("{:.4}", run.calm_calls)),
        ("calls per event, with faults", format!("{:.4}", run.stormy_calls)),
        ("Desk: sessions transferred", run.stats.transfers_acted.to_string()),
        ("Desk: sessions transferred again", run.stats.transferred_again.to_string()),
        ("all answered after the last fault", format!("{:.1} s", run.settled.as_secs_f64())),
        ("starts given up (exit code 69)", toll.vain_starts.to_string()),
        ("odd ends of workers", toll.odd_ends.len().to_string()),
    ];
    rows.extend(run.findings.named().map(|(name, found)| (name, found.len().to_string())));
    rows.push(("verdict", if run.is_well() { "all is well" } else { "NOT WELL" }.to_owned()));
    rows
}
