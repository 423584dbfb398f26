//! The rules of the house, as a test: heads, sizes, who may import whom, what is documented.
//!
//! Adding a rule is adding a few lines here.
//! This file never judges style that the formatter or the linter already judges.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handoff::domain::event::MalformedClass;
use handoff::domain::request::DeskCommand;
use handoff::domain::wire::outcome::Status;

const MAX_CODE_LINES: usize = 350;

struct Source {
    path: String,
    text: String,
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().display().to_string();
            found.push(Source { path, text });
        }
    }
    assert!(found.len() > 10, "the sources are found");
    found
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_what_it_never_does() {
    let fault = |source: Source| {
        let head: Vec<_> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let head = head.join(" ");
        let good =
            [" never ", "No ", " no ", "othing here "].iter().any(|word| head.contains(word));
        (!good).then(|| format!("{}: the head says what the file is and never does", source.path))
    };
    none(&sources(&["src", "tests", "benches"]).into_iter().filter_map(fault).collect::<Vec<_>>());
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let fault = |source: Source| {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let lines = source.text.lines().filter(code).count();
        (lines > MAX_CODE_LINES).then(|| format!("{}: {lines} lines of code", source.path))
    };
    none(&sources(&["src", "tests", "benches"]).into_iter().filter_map(fault).collect::<Vec<_>>());
}

#[test]
fn who_may_import_whom() {
    let rules: &[(&str, &[&str])] = &[
        (
            "src/domain/",
            &[
                "tokio",
                "tracing",
                "rdkafka",
                "reqwest",
                "axum",
                "std::env",
                "std::fs",
                "std::net",
                "SystemTime",
                "async fn",
                "crate::adapters",
                "crate::app",
                "crate::config",
                "crate::consume",
                "crate::deliver",
                "crate::gate",
                "crate::telemetry",
            ],
        ),
        (
            "src/consume/",
            &["rdkafka", "reqwest", "axum", "crate::adapters", "crate::config", "crate::app"],
        ),
        (
            "src/deliver",
            &["rdkafka", "reqwest", "axum", "crate::adapters", "crate::config", "crate::app"],
        ),
        (
            "src/gate.rs",
            &["rdkafka", "reqwest", "axum", "crate::adapters", "crate::config", "crate::deliver"],
        ),
        ("src/adapters/", &["crate::config", "crate::app", "crate::commands"]),
        ("src/adapters/desk", &["rdkafka", "axum", "adapters::kafka", "adapters::admin"]),
        ("src/adapters/kafka", &["reqwest", "axum", "adapters::desk", "adapters::admin"]),
        ("src/adapters/admin", &["reqwest", "rdkafka", "adapters::desk", "adapters::kafka"]),
        ("src/config/", &["tokio", "crate::app", "crate::commands", "crate::consume"]),
        ("src/app.rs", &["crate::commands", "crate::sim"]),
        ("src/commands/", &["rdkafka::"]),
    ];
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        for (_, forbidden) in rules.iter().filter(|(place, _)| source.path.starts_with(place)) {
            for (number, line) in source.text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let found = forbidden.iter().filter(|word| code.contains(**word));
                faults.extend(found.map(|word| format!("{}:{}: {word}", source.path, number + 1)));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_left_for_later_and_no_lint_is_silenced_without_reason() {
    // Put together here, so that this file does not find itself.
    let words = [["FIX", "ME"].concat(), ["TO", "DO"].concat(), ["#[all", "ow("].concat()];
    let mut faults = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (number, line) in source.text.lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(word.as_str()));
            faults.extend(found.map(|word| format!("{}:{}: {word}", source.path, number + 1)));
        }
    }
    none(&faults);
}

#[test]
fn metrics_and_their_documentation_agree() {
    let metrics = handoff::telemetry::Metrics::new();
    // A family shows its labels only once it has a series.
    metrics.dead_letter(MalformedClass::NotJson);
    metrics.desk_call(DeskCommand::TransferToHuman, "assigned", Duration::ZERO);
    metrics.outcome(Status::Assigned, Duration::ZERO);
    metrics.lag("t", 0, Some(1));
    let declared = declared_metrics(&metrics.render());
    let documented = documented_metrics(&file("docs/metrics.md"));
    assert!(declared.len() > 10, "{declared:?}");
    let undocumented = declared.difference(&documented);
    let undocumented = undocumented.map(|metric| format!("docs/metrics.md lacks: {metric}"));
    let unknown = documented.difference(&declared);
    let unknown = unknown.map(|metric| format!("docs/metrics.md has, /metrics has not: {metric}"));
    none(&undocumented.chain(unknown).collect::<Vec<_>>());
}

/// `name type label,label` of each metric in OpenMetrics text.
fn declared_metrics(text: &str) -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let is_sample = |line: &&str| line.starts_with(name) && line.contains('{');
        let sample = text.lines().find(is_sample).unwrap_or_default();
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let labels = labels.map(|(labels, _)| labels).unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.split('=').next());
        let labels: Vec<_> = labels.filter(|label| !label.is_empty() && *label != "le").collect();
        let suffix = if kind == "counter" { "_total" } else { "" };
        metrics.insert(format!("{name}{suffix} {kind} {}", labels.join(",")));
    }
    metrics
}

/// The same of each row in the table of docs/metrics.md.
fn documented_metrics(guide: &str) -> BTreeSet<String> {
    let rows = guide.lines().filter(|line| line.starts_with("| `handoff_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        assert_eq!(cells.len(), 8, "a row has six cells: {row}");
        let [_, name, kind, unit, labels, meaning, ..] = &cells[..] else { panic!("{row}") };
        assert!(!unit.is_empty() && !meaning.is_empty(), "{name} lacks its unit or meaning");
        format!("{name} {kind} {}", labels.replace(' ', ""))
    })
    .collect()
}

#[test]
fn metrics_start_at_zero() {
    let metrics = handoff::telemetry::Metrics::new().render();
    for sample in
        ["handoff_outcomes_total{status=\"assigned\"} 0", "handoff_desk_calls_in_flight 0"]
    {
        assert!(metrics.contains(sample), "{sample} in:\n{metrics}");
    }
}

#[test]
fn every_code_of_the_table_is_in_the_guide() {
    let guide = file("docs/codes.md");
    let missing = handoff::domain::codes::CODES
        .iter()
        .filter(|row| !guide.contains(&format!("| {} | {} |", row.code, row.class)));
    none(
        &missing
            .map(|row| format!("docs/codes.md lacks: | {} | {} |", row.code, row.class))
            .collect::<Vec<_>>(),
    );
}
