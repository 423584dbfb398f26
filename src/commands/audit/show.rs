//! The report of the audit, as a table or as one JSON object.
//!
//! This file never leaves a number out: only names are limited.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::book::Book;
use super::reading::{Case, Read};
use crate::commands::Failure;
use crate::commands::lines::{Lines, say, styled};
use crate::commands::table::{Cell, Row, Table};
use crate::domain::audit::{AuditReport, FindingKind};

const COLUMNS: &[&str] = &["FINDING", "SOURCE", "EVENT", "SESSION", "SEEN AT", "LEDGER", "NOTE"];

/// Show it.
pub(super) fn show(read: &Read, book: &Book, json: bool) -> Result<(), Failure> {
    let mut lines = Lines::new();
    if json {
        return lines.put_raw(object(read, book).to_string().as_bytes());
    }
    if let Some(problem) = &book.problem {
        say(&format!("without the ledger: {problem}"));
    }
    for line in summary(read) {
        lines.put(&line)?;
    }
    let open = read.open.iter().map(|case| row("open", AnsiColor::Yellow, case));
    let cases = read.cases.iter().map(|(kind, case)| row(kind.as_str(), AnsiColor::Red, case));
    let rows: Vec<Row> = cases.chain(open).collect();
    let mut table = Table::new(COLUMNS);
    if let Some(head) = table.begin(rows.iter()) {
        lines.put("")?;
        lines.put(&head)?;
    }
    for row in &rows {
        lines.put(&table.line(row))?;
    }
    Ok(())
}

/// One line on all that is wrong.
pub(super) fn findings(report: &AuditReport) -> String {
    let counts = report.findings.iter();
    let counts: Vec<_> =
        counts.map(|(kind, found)| format!("{} {}", found.count, kind.as_str())).collect();
    format!("not all is well: {}", counts.join(", "))
}

fn summary(read: &Read) -> Vec<String> {
    let report = &read.report;
    let topic = &read.range.topic;
    let mut lines = vec![format!("{topic}, {}, as of {:.0}", read.piece, read.at), String::new()];
    let statuses: Vec<_> =
        report.statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let stages: Vec<_> =
        read.stages.iter().map(|(stage, count)| format!("{count} {stage}")).collect();
    let stages = match (read.open.is_empty(), stages.is_empty()) {
        (false, false) => format!("not due yet; the ledger has {}", stages.join(", ")),
        _ => "not due yet".to_owned(),
    };
    let rows = [
        ("records", report.records, ""),
        ("escalations", report.events, "by their ids"),
        ("answered", report.answered, &statuses.join(", ")),
        ("open", report.open, &stages),
        ("duplicates", report.duplicates, "records that only repeat an id"),
        ("dead letters", report.dead_letters, "each once, as it should be"),
        ("not for us", report.not_for_us, "another type"),
        ("interim", report.interim, "outcomes that are not final"),
        ("deleted", report.deleted, "without an answer, but the topic has deleted what is so old"),
    ];
    for (what, count, note) in rows {
        if count > 0 || ["records", "escalations", "answered"].contains(&what) {
            lines.push(format!("{what:<14} {count:>10}  {note}").trim_end().to_owned());
        }
    }
    for kind in FindingKind::ALL {
        let count = report.count(kind);
        if count > 0 {
            let line = format!("{:<14} {count:>10}  {}", kind.as_str(), kind.explanation());
            lines.push(styled(AnsiColor::Red.on_default(), &line));
        }
    }
    if report.is_clean() {
        lines.push(styled(AnsiColor::Green.on_default(), "all is well"));
    }
    lines
}

fn row(word: &str, color: AnsiColor, case: &Case) -> Row {
    let finding = &case.finding;
    let place = |place: &Option<_>| match place {
        Some(place) => format!("{place}"),
        None => String::new(),
    };
    vec![
        Cell::styled(color.on_default(), word),
        Cell::new(place(&finding.source)),
        Cell::new(finding.event_id.as_deref().unwrap_or_default()),
        Cell::new(case.session_id.as_deref().unwrap_or_default()),
        Cell::new(place(&finding.seen_at)),
        Cell::styled(Style::new(), case.ledger.as_deref().unwrap_or_default()),
        Cell::new(&finding.note),
    ]
}

fn object(read: &Read, book: &Book) -> Value {
    let report = &read.report;
    let of = |kind: FindingKind| read.cases.iter().filter(move |(k, _)| *k == kind);
    let findings = FindingKind::ALL.map(|kind| {
        let first: Vec<_> = of(kind).map(|(_, case)| named(case)).collect();
        (kind.as_str().to_owned(), json!({"count": report.count(kind), "first": first}))
    });
    let statuses = report.statuses.iter().map(|(status, count)| (status.to_string(), json!(count)));
    let ranges = read.range.partitions.iter();
    let ranges: Vec<_> = ranges
        .map(|(partition, r)| json!({"partition": partition, "from": r.start, "before": r.end}))
        .collect();
    let stages = read.stages.iter().map(|(stage, count)| (stage.clone(), json!(count)));
    json!({
        "well": report.is_clean(),
        "topic": read.range.topic,
        "range": ranges,
        "as_of": read.at,
        "records": report.records,
        "escalations": report.events,
        "answered": report.answered,
        "statuses": serde_json::Map::from_iter(statuses),
        "open": {"count": report.open, "first": read.open.iter().map(named).collect::<Vec<_>>()},
        "duplicates": report.duplicates,
        "dead_letters": report.dead_letters,
        "not_for_us": report.not_for_us,
        "interim": report.interim,
        "deleted": report.deleted,
        "outside": report.outside,
        "findings": serde_json::Map::from_iter(findings),
        "ledger": {
            "place": book.place,
            "read": book.reader.is_some() && book.problem.is_none(),
            "problem": book.problem,
            "unfinished": serde_json::Map::from_iter(stages),
        },
    })
}

fn named(case: &Case) -> Value {
    json!({
        "source": case.finding.source,
        "event_id": case.finding.event_id,
        "session_id": case.session_id,
        "seen_at": case.finding.seen_at,
        "note": case.finding.note,
        "ledger": case.ledger,
    })
}
