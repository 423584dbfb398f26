//! The report of a run: a table for people.
//!
//! It never weighs anything; the judge does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Run;
use super::judge::{Evidence, Kind, expected};

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
    for line in run.audit.err.lines().take(SHOWN) {
        writeln!(text, "  audit: {line}").expect("a text can be written to");
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
        ("SIGTERM of a worker (end included)", toll.stops.to_string()),
        ("rolling restarts", toll.rolling_restarts.to_string()),
        ("freezes", toll.freezes.to_string()),
        ("broker stopped or killed", broken.broker.to_string()),
        ("database stopped", broken.database.to_string()),
        ("faults of Desk", broken.desk.to_string()),
        ("calls per event, faultless", format!("{:.4}", run.calm_calls)),
        ("calls per event, with faults", format!("{:.4}", run.stormy_calls)),
        ("transfers acted per event, at most", format!("{:.2}", most_acted(&run.evidence))),
        ("Desk: sessions transferred", run.stats.transfers_acted.to_string()),
        ("Desk: sessions transferred again", run.stats.transferred_again.to_string()),
        ("all answered after the last fault", format!("{:.1} s", run.settled.as_secs_f64())),
        ("starts given up (exit code 69)", toll.vain_starts.to_string()),
        ("odd ends of workers", toll.odd_ends.len().to_string()),
    ];
    rows.extend(run.findings.named().map(|(name, found)| (name, found.len().to_string())));
    rows.push(("handoff audit", run.audit.summary()));
    if !run.something_broke() {
        rows.push(("no worker was killed", "such a run proves nothing".to_owned()));
    }
    rows.push(("verdict", if run.is_well() { "all is well" } else { "NOT WELL" }.to_owned()));
    rows
}

/// Of all sessions the most that Desk has transferred it per event.
fn most_acted(evidence: &Evidence) -> f64 {
    let mut events: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sent in &evidence.sent {
        if let Kind::Event { id, session, .. } = &sent.kind {
            events.entry(session).or_default().insert(id);
        }
    }
    let each = evidence.desk.iter().filter_map(|(session, desk)| {
        Some(desk.acted as f64 / events.get(session.as_str())?.len() as f64)
    });
    each.fold(0.0, f64::max)
}
