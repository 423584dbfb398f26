//! Metrics, codes and log phrases against their documentation.

use std::collections::BTreeSet;
use std::time::Duration;

use handoff::domain::codes::CODES;
use handoff::domain::event::MalformedClass;
use handoff::domain::request::DeskCommand;
use handoff::domain::wire::outcome::Status;
use handoff::telemetry::{ConfiguredLimits, Metrics, MetricsFormat};

use super::scan::{arguments, line_of};
use super::{Source, assert_none, file, rust_sources};

#[test]
fn metrics_and_their_documentation_agree() {
    let metrics = Metrics::new();
    // A family shows its labels only once it has a series.
    metrics.dead_letter(MalformedClass::NotJson);
    metrics.decoded("native".into());
    metrics.desk_call(DeskCommand::TransferToHuman, "assigned", Duration::ZERO);
    metrics.outcome(Status::Assigned, None);
    metrics.lag("t", 0, Some(1));
    metrics.ledger_file_bytes(0, 0);
    metrics.shadow_match("new");
    metrics.set_limits(ConfiguredLimits {
        time_to_live: 1.0,
        concurrency: 1,
        quota_per_second: Some(1.0),
    });
    assert_documented(&metrics.render(MetricsFormat::Prometheus));
}

/// Compares the metrics of a scrape, in Prometheus's text format, with docs/metrics.md, both ways. Each
/// family that has labels must have a series.
pub(crate) fn assert_documented(scraped: &str) {
    let declared = declared_metrics(scraped);
    let documented = documented_metrics(&file("docs/metrics.md"));
    assert!(declared.len() > 10, "{declared:?}");
    let undocumented = declared.difference(&documented);
    let undocumented = undocumented.map(|metric| format!("docs/metrics.md lacks: {metric}"));
    // Those of the process come from Linux.
    let may_lack = |metric: &str| !cfg!(target_os = "linux") && metric.starts_with("process_");
    let unknown = documented.difference(&declared).filter(|metric| !may_lack(metric));
    let unknown = unknown.map(|metric| format!("docs/metrics.md has, /metrics has not: {metric}"));
    assert_none(undocumented.chain(unknown).collect());
}

/// `name type label,label` of each metric in Prometheus's text format.
fn declared_metrics(text: &str) -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let is_sample = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with("_bucket{"))
        };
        let sample = text.lines().find(is_sample).unwrap_or_default();
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let labels = labels.map(|(labels, _)| labels).unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.split('=').next());
        let labels: Vec<_> = labels.filter(|label| !label.is_empty() && *label != "le").collect();
        metrics.insert(format!("{name} {kind} {}", labels.join(",")));
    }
    metrics
}

/// The same of each row in the table of docs/metrics.md.
fn documented_metrics(guide: &str) -> BTreeSet<String> {
    let is_row = |line: &&str| line.starts_with("| `handoff_") || line.starts_with("| `process_");
    let rows = guide.lines().filter(is_row);
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
    let metrics = Metrics::new().render(MetricsFormat::OpenMetrics);
    for sample in ["handoff_interim_outcomes_total 0", "handoff_desk_calls_in_flight 0"] {
        assert!(metrics.contains(sample), "{sample} in:\n{metrics}");
    }
}

#[test]
fn codes_and_their_documentation_agree() {
    let rows = CODES.iter().map(|row| {
        let in_doubt = if row.in_doubt { "yes" } else { "" };
        format!("| {} | {} | {in_doubt} | {} |", row.code, row.class, row.text)
    });
    let declared: BTreeSet<String> = rows.collect();
    let guide = file("docs/codes.md");
    let is_row = |line: &&str| line.starts_with("| ") && line[2..].starts_with(char::is_numeric);
    let documented: BTreeSet<String> = guide.lines().filter(is_row).map(str::to_owned).collect();
    let undocumented = declared.difference(&documented);
    let undocumented = undocumented.map(|row| format!("docs/codes.md lacks: {row}"));
    let unknown = documented.difference(&declared);
    let unknown = unknown.map(|row| format!("docs/codes.md has, CODES has not: {row}"));
    assert_none(undocumented.chain(unknown).collect());
}

/// Tests and examples speak of a code that Desk may add: it must stay out of the table.
#[test]
fn the_unknown_codes_of_tests_and_examples_are_unknown() {
    let known = CODES.iter().filter(|row| [141_020, 141_099, 60_999].contains(&row.code));
    assert_none(known.map(|row| format!("{}: choose another unknown code", row.code)).collect());
}

#[test]
fn every_warning_and_error_is_a_fixed_phrase_in_the_guide() {
    let guide = file("docs/operations.md");
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]).iter().filter(|source| !source.is_test()) {
        for (line, phrase) in log_phrases(source) {
            let text = match &phrase {
                None => "a log line without a phrase".to_owned(),
                Some(phrase) if phrase.contains('{') => {
                    format!("a value inside the phrase {phrase:?}: make it a field")
                }
                Some(phrase) if guide.contains(phrase.as_str()) => continue,
                Some(phrase) => format!("docs/operations.md does not explain {phrase:?}"),
            };
            faults.push(format!("{}:{line}: {text}", source.path));
        }
    }
    assert_none(faults);
}

/// The line and the phrase of each log line at warn or error level.
fn log_phrases(source: &Source) -> Vec<(usize, Option<String>)> {
    let mut phrases = Vec::new();
    for mark in ["warn!(", "error!(", "warn_throttled!("] {
        for (at, _) in source.text.match_indices(mark) {
            let is_comment =
                source.text[..at].rsplit('\n').next().unwrap_or_default().contains("//");
            if is_comment {
                continue;
            }
            let arguments = arguments(&source.text[at + mark.len() - 1..]);
            if arguments.iter().any(|argument| argument.contains('$')) {
                // The definition of a macro.
                continue;
            }
            let phrase = arguments.iter().find_map(|argument| argument.strip_prefix('"'));
            let phrase = phrase.map(|phrase| unbroken(phrase.trim_end_matches('"')));
            phrases.push((line_of(&source.text, at), phrase));
        }
    }
    phrases
}

/// A literal without its line continuations.
fn unbroken(literal: &str) -> String {
    let mut parts = literal.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}
