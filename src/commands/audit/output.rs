//! Prints the result of an audit, as a summary with a table or as one JSON object.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::ledger_status::LedgerStatus;
use super::run::{AuditResult, ListedFinding};
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, print_error, styled};
use crate::commands::table::{Cell, Table, TableRow};
use crate::domain::audit::{AuditReport, FindingKind};
use crate::domain::record::Position;

const COLUMNS: &[&str] = &["FINDING", "SOURCE", "EVENT", "SESSION", "SEEN AT", "LEDGER", "NOTE"];

/// The counts that are printed even when they are zero.
const ALWAYS_PRINTED: [&str; 3] = ["records", "escalations", "answered"];

/// Prints the result.
pub(super) fn print(
    result: &AuditResult,
    ledger: &LedgerStatus,
    json: bool,
) -> Result<(), Failure> {
    let mut lines = StdoutLines::new();
    if json {
        return lines.put_raw(to_json(result, ledger).to_string().as_bytes());
    }
    if let Some(problem) = &ledger.problem {
        print_error(&format!("without the ledger: {problem}"));
    }
    for line in summary(result) {
        lines.put(&line)?;
    }
    let open = result.open.iter().map(|listed| row("open", AnsiColor::Yellow, listed));
    let findings = result.findings.iter();
    let findings = findings.map(|(kind, listed)| row(kind.as_str(), AnsiColor::Red, listed));
    let rows: Vec<TableRow> = findings.chain(open).collect();
    let mut table = Table::new(COLUMNS);
    if let Some(head) = table.fit(rows.iter()) {
        lines.put("")?;
        lines.put(&head)?;
    }
    for row in &rows {
        lines.put(&table.line(row))?;
    }
    Ok(())
}

/// Returns the counts of all findings on one line, for standard error.
pub(super) fn findings_line(report: &AuditReport) -> String {
    let counts = report.findings.iter();
    let counts: Vec<_> =
        counts.map(|(kind, found)| format!("{} {}", found.count, kind.as_str())).collect();
    format!("findings: {}", counts.join(", "))
}

fn summary(result: &AuditResult) -> Vec<String> {
    let report = &result.report;
    let topic = &result.range.topic;
    let head = format!("{topic}, {}, as of {:.0}", result.selection, result.as_of);
    let mut lines = vec![head, String::new()];
    let statuses: Vec<_> =
        report.statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let unfinished: Vec<_> =
        result.unfinished.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let open_note = if result.open.is_empty() || unfinished.is_empty() {
        "not due yet".to_owned()
    } else {
        format!("not due yet; the ledger has {}", unfinished.join(", "))
    };
    let rows = [
        ("records", report.records, ""),
        ("escalations", report.events, "by their ids"),
        ("answered", report.answered, &statuses.join(", ")),
        ("open", report.open, &open_note),
        ("duplicates", report.duplicates, "records that only repeat an id"),
        ("dead letters", report.dead_letters, "exactly one for each record that needs it"),
        ("skipped", report.not_for_us, "another type"),
        ("interim", report.interim, "outcomes that are not final"),
        ("deleted", report.deleted, "unanswered, but retention may have deleted the answer"),
    ];
    for (name, count, note) in rows {
        if count > 0 || ALWAYS_PRINTED.contains(&name) {
            lines.push(format!("{name:<19} {count:>10}  {note}").trim_end().to_owned());
        }
    }
    for kind in FindingKind::ALL {
        let count = report.count(kind);
        if count > 0 {
            let line = format!("{:<19} {count:>10}  {}", kind.as_str(), kind.explanation());
            lines.push(styled(AnsiColor::Red.on_default(), &line));
        }
    }
    if report.is_clean() {
        lines.push(styled(AnsiColor::Green.on_default(), "no findings"));
    }
    lines
}

fn row(word: &str, color: AnsiColor, listed: &ListedFinding) -> TableRow {
    let finding = &listed.finding;
    let text = |position: &Option<Position>| {
        position.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    vec![
        Cell::styled(color.on_default(), word),
        Cell::new(text(&finding.source)),
        Cell::new(finding.event_id.as_deref().unwrap_or_default()),
        Cell::new(listed.session_id.as_deref().unwrap_or_default()),
        Cell::new(text(&finding.seen_at)),
        Cell::styled(Style::new(), listed.ledger.as_deref().unwrap_or_default()),
        Cell::new(&finding.note),
    ]
}

fn to_json(result: &AuditResult, ledger: &LedgerStatus) -> Value {
    let report = &result.report;
    let of_kind = |kind: FindingKind| result.findings.iter().filter(move |(k, _)| *k == kind);
    let findings = FindingKind::ALL.map(|kind| {
        let first: Vec<_> = of_kind(kind).map(|(_, listed)| listed_to_json(listed)).collect();
        (kind.as_str().to_owned(), json!({"count": report.count(kind), "first": first}))
    });
    let statuses = report.statuses.iter().map(|(status, count)| (status.to_string(), json!(count)));
    let ranges = result.range.partitions.iter();
    let ranges: Vec<_> = ranges
        .map(|(partition, r)| json!({"partition": partition, "from": r.start, "before": r.end}))
        .collect();
    let first_open: Vec<_> = result.open.iter().map(listed_to_json).collect();
    let unfinished = result.unfinished.iter().map(|(state, count)| (state.clone(), json!(count)));
    json!({
        "clean": report.is_clean(),
        "topic": result.range.topic,
        "range": ranges,
        "as_of": result.as_of,
        "records": report.records,
        "escalations": report.events,
        "answered": report.answered,
        "statuses": serde_json::Map::from_iter(statuses),
        "open": {"count": report.open, "first": first_open},
        "duplicates": report.duplicates,
        "dead_letters": report.dead_letters,
        "not_for_us": report.not_for_us,
        "interim": report.interim,
        "deleted": report.deleted,
        "outside": report.outside,
        "findings": serde_json::Map::from_iter(findings),
        "ledger": {
            "url": ledger.url,
            "read": ledger.is_readable && ledger.problem.is_none(),
            "problem": ledger.problem,
            "unfinished": serde_json::Map::from_iter(unfinished),
        },
    })
}

fn listed_to_json(listed: &ListedFinding) -> Value {
    json!({
        "source": listed.finding.source,
        "event_id": listed.finding.event_id,
        "session_id": listed.session_id,
        "seen_at": listed.finding.seen_at,
        "note": listed.finding.note,
        "ledger": listed.ledger,
    })
}
