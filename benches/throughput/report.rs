//! The figures as people and programs read them: each as the median of the runs, and their range.
//!
//! It never leaves a figure out because it is not a nice one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contestant::Kind;
use crate::numbers::range;
use crate::scenario::{Run, Scenario};

/// One scenario as it ends.
pub(crate) fn of_scenario(scenario: &Scenario, runs: &[Run]) -> String {
    let mut text = format!("\n{}: {}\n", scenario.name, scenario.what);
    let kinds: BTreeSet<Kind> = runs.iter().map(|run| run.kind).collect();
    let names: BTreeSet<_> = runs.iter().flat_map(|run| run.figures.keys()).collect();
    for name in names {
        write!(text, "  {name:20}").expect("a text takes all");
        for kind in &kinds {
            let (least, median, most) = figure(runs, *kind, name);
            let cell = match (least == most, median.is_nan()) {
                (_, true) => "-".to_owned(),
                (true, _) => short(median),
                (false, _) => format!("{} ({} - {})", short(median), short(least), short(most)),
            };
            write!(text, "  {:18} {cell:28}", kind.name()).expect("a text takes all");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// All scenarios, the medians side by side.
pub(crate) fn table(scenarios: &[Scenario], results: &[Vec<Run>]) -> String {
    let columns = [
        ("events/s", "events_per_second"),
        ("% of bound", "percent_of_bound"),
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
        ("CPU ms/event", "cpu_ms_per_event"),
        ("peak MiB", "peak_rss_mib"),
        ("calls/event", "calls_per_event"),
        ("overlaps", "overlaps"),
        ("inversions", "inversions"),
        ("uncommitted", "uncommitted"),
    ];
    let mut text = format!("| {:12} | {:18} |", "scenario", "who");
    columns.iter().for_each(|(title, _)| write!(text, " {title} |").expect("a text takes all"));
    text.push_str("\n|---|---|");
    columns.iter().for_each(|_| text.push_str("---|"));
    for (scenario, runs) in scenarios.iter().zip(results) {
        for kind in scenario.kinds {
            write!(text, "\n| {:12} | {:18} |", scenario.name, kind.name())
                .expect("a text takes all");
            for (title, name) in columns {
                let (_, median, _) = figure(runs, *kind, name);
                let cell = if median.is_nan() { "-".to_owned() } else { short(median) };
                write!(text, " {cell:>width$} |", width = title.len()).expect("a text takes all");
            }
        }
    }
    text
}

/// Everything, for programs.
pub(crate) fn json(scenarios: &[Scenario], results: &[Vec<Run>]) -> Value {
    let of = |(scenario, runs): (&Scenario, &Vec<Run>)| {
        let runs = runs.iter().map(
            |run| json!({"who": run.kind.name(), "figures": run.figures, "faults": run.faults}),
        );
        json!({"scenario": scenario.name, "what": scenario.what, "runs": runs.collect::<Vec<_>>()})
    };
    scenarios.iter().zip(results).map(of).collect()
}

/// Least, median and most of one figure.
fn figure(runs: &[Run], kind: Kind, name: &str) -> (f64, f64, f64) {
    let runs = runs.iter().filter(|run| run.kind == kind);
    range(runs.filter_map(|run| run.figures.get(name).copied()))
}

/// Three digits that matter, and no more.
fn short(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value}"),
        0.0..1.0 => format!("{value:.3}"),
        1.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
