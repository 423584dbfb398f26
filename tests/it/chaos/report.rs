//! The report of a run, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::ChaosRun;
use super::checker::{Evidence, RecordKind, expected_counts};

const MAX_LINES: usize = 20;

/// The table and the first findings of each kind.
pub(super) fn report(run: &ChaosRun) -> String {
    let mut text = String::from("\n== chaos\n");
    for (name, value) in rows(run) {
        writeln!(text, "{name:<34} {value}").expect("a text can be written to");
    }
    for (name, found) in run.findings.named() {
        for line in found.iter().take(MAX_LINES) {
            writeln!(text, "  {name}: {line}").expect("a text can be written to");
        }
    }
    for line in run.audit.err.lines().take(MAX_LINES) {
        writeln!(text, "  audit: {line}").expect("a text can be written to");
    }
    for line in &run.workers.unexpected_exits {
        writeln!(text, "  unexpected exit: {line}").expect("a text can be written to");
    }
    text
}

fn rows(run: &ChaosRun) -> Vec<(&'static str, String)> {
    let (settings, workers, faults) = (&run.settings, &run.workers, &run.faults);
    let expected = expected_counts(&run.evidence.sent);
    let membership = if settings.group.static_members { "static" } else { "dynamic" };
    let mut rows = vec![
        ("seed", settings.seed.to_string()),
        ("ledger, workers", format!("{:?}, {}", settings.ledger, settings.workers)),
        ("group", format!("{}, {membership} members", settings.group.protocol)),
        (
            "time without faults, with faults",
            format!("{:?}, {:?}", settings.without_faults, settings.with_faults),
        ),
        ("records; events; dead letters", {
            let (records, outcomes) = (run.evidence.sent.len(), expected.outcomes);
            format!("{records}; {outcomes}; {}", expected.dead_letters)
        }),
        ("workers killed", workers.kills.to_string()),
        ("SIGTERMs to workers (end included)", workers.stops.to_string()),
        ("rolling restarts", workers.rolling_restarts.to_string()),
        ("workers paused", workers.pauses.to_string()),
        ("freezes of workers (20 s)", workers.freezes.to_string()),
        ("machine stood still", format!("{:.1} s", run.stalled.as_secs_f64())),
        ("broker stopped or killed", faults.broker.to_string()),
        ("outcomes refused by the broker", faults.refusals.to_string()),
        ("database stopped", faults.database.to_string()),
        ("passwords rotated", faults.passwords.to_string()),
        ("connections dropped in silence", faults.dropped_connections.to_string()),
        ("faults of Desk", faults.desk.to_string()),
        ("input topic deleted, created again", faults.topics.to_string()),
        ("piles", faults.piles.to_string()),
        ("calls per event, without faults", format!("{:.4}", run.calls_without_faults)),
        ("calls per event, with faults", format!("{:.4}", run.calls_with_faults)),
        (
            "effective transfers per event, max.",
            format!("{:.2}", max_transfers_per_event(&run.evidence)),
        ),
        ("Desk: sessions transferred", run.stats.transfers_acted.to_string()),
        ("Desk: sessions transferred again", run.stats.transferred_again.to_string()),
        ("all answered after the last fault", format!("{:.1} s", run.recovery.as_secs_f64())),
        ("events judged for their answer time", {
            let (judged, explained) = (run.freshness.judged.len(), run.freshness.explained);
            format!("{judged}; {explained} with a reason to wait")
        }),
        ("their answer time: p50, p99, max.", {
            let seconds = [0.5, 0.99, 1.0].map(|part| run.freshness.quantile(part).as_secs_f64());
            format!("{:.2}, {:.2}, {:.2} s", seconds[0], seconds[1], seconds[2])
        }),
        ("failed starts (exit code 69)", workers.failed_starts.to_string()),
        ("unexpected exits of workers", workers.unexpected_exits.len().to_string()),
    ];
    rows.extend(run.findings.named().map(|(name, found)| (name, found.len().to_string())));
    rows.push(("handoff audit", run.audit.summary()));
    if !run.has_enough_faults() {
        rows.push(("no worker was killed", "this run proves nothing".to_owned()));
    }
    rows.push(("result", if run.is_successful() { "success" } else { "FAILURE" }.to_owned()));
    rows
}

/// The maximum over all sessions of transfers that took effect per event.
fn max_transfers_per_event(evidence: &Evidence) -> f64 {
    let mut events: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sent in &evidence.sent {
        if let RecordKind::Event { id, session, .. } = &sent.kind {
            events.entry(session).or_default().insert(id);
        }
    }
    let each = evidence.desk.iter().filter_map(|(session, desk)| {
        Some(desk.transfers as f64 / events.get(session.as_str())?.len() as f64)
    });
    each.fold(0.0, f64::max)
}
