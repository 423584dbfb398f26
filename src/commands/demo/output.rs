//! What the demo prints: a table or JSON lines, then the summary.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::case::DemoCase;
use super::published::{PublishedContent, PublishedRecord, describe_tried};
use super::summary::DemoSummary;
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, print_error};
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::outcome::OutcomeRecord;

/// Differences beyond these are only counted.
const MAX_DIFFERENCES: usize = 20;
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

pub(super) struct DemoOutput {
    lines: StdoutLines,
    /// The result of all writes so far: after a failed one nothing more is written.
    written: Result<(), Failure>,
    json: bool,
    started: Instant,
    plain: usize,
    plain_seen: usize,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum JsonLine<'a> {
    Outcome { at_ms: u64, published: &'a str, expected: String, outcome: &'a RawValue },
    DeadLetter { at_ms: u64, published: &'a str, expected: String, class: &'a str, error: &'a str },
    Unexpected { at_ms: u64, text: String },
    Summary(&'a DemoSummary),
}

impl DemoOutput {
    pub(super) fn new(json: bool, plain: usize) -> Self {
        let lines = StdoutLines::new();
        Self { lines, written: Ok(()), json, started: Instant::now(), plain, plain_seen: 0 }
    }

    /// For people only.
    pub(super) fn introduction(&mut self, text: &str) {
        if !self.json {
            self.put(text);
        }
    }

    /// Starts the time and the table, just before the records are published.
    pub(super) fn start(&mut self) {
        self.started = Instant::now();
        if !self.json {
            let columns =
                ["after", "session", "published", "became", "agent", "calls", "ms", "known by"];
            self.put(&format!("{BOLD}{}{BOLD:#}", row(&columns)));
        }
    }

    /// The time of [`Self::start`].
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Prints a record that the service published, with the case it belongs to.
    pub(super) fn published(&mut self, record: &PublishedRecord, case: Option<&DemoCase>) {
        let at = record.at.saturating_duration_since(self.started);
        if self.json {
            return self.put_json(&json_line(record, case, at));
        }
        let lines = match (case, &record.content) {
            (Some(case), PublishedContent::Outcome(outcome, _)) if case.plain => {
                self.plain(at, outcome)
            }
            (Some(case), PublishedContent::Outcome(outcome, _)) => outcome_rows(at, case, outcome),
            (Some(case), PublishedContent::DeadLetter(dead_letter)) => {
                dead_letter_rows(at, case, dead_letter)
            }
            _ => vec![format!("{}  unexpected: {}", seconds(at), record.describe())],
        };
        lines.iter().for_each(|line| self.put(line));
    }

    pub(super) fn summary(&mut self, summary: &DemoSummary) {
        if self.json {
            return self.put_json(&JsonLine::Summary(summary));
        }
        self.put("");
        for (word, text) in summary.lines() {
            self.put(&format!("{DIM}{word:>12}{DIM:#}  {text}"));
        }
        if summary.is_as_expected() {
            let good = AnsiColor::Green.on_default().bold();
            return self.put(&format!("{good}{}{good:#}", summary.verdict()));
        }
        let bad = AnsiColor::Red.on_default().bold();
        self.put(&format!("{bad}differences{bad:#}"));
        let all = summary.differences();
        for difference in all.iter().take(MAX_DIFFERENCES) {
            self.put(&format!("  {}", difference.what));
            self.put(&format!("      expected  {}", difference.expected));
            self.put(&format!("      got       {}", difference.got));
        }
        if let Some(more) = all.len().checked_sub(MAX_DIFFERENCES).filter(|more| *more > 0) {
            self.put(&format!("  and {more} more"));
        }
    }

    /// A signal asks the demo to stop, which takes as long as the calls in flight.
    pub(super) fn stopping(&self) {
        print_error("stopping: the calls in flight end first, at most a few seconds");
    }

    /// A signal stopped the demo early.
    pub(super) fn stopped(&mut self, answered: usize) {
        if !self.json {
            self.put(&format!("stopped early: {answered} answered, nothing compared"));
        }
    }

    /// Whether everything could be written.
    pub(super) fn into_result(self) -> Result<(), Failure> {
        self.written
    }

    /// Ten rows about all plain escalations together.
    fn plain(&mut self, at: Duration, outcome: &OutcomeRecord) -> Vec<String> {
        self.plain_seen += 1;
        let tenth = self.plain.div_ceil(10).max(1);
        if !self.plain_seen.is_multiple_of(tenth) && self.plain_seen != self.plain {
            return vec![];
        }
        let text = format!("{} of {} plain escalations", self.plain_seen, self.plain);
        let status = outcome.status.as_str();
        vec![row(&[&seconds(at), "", &text, &colored(status), "", "", "", ""])]
    }

    fn put_json(&mut self, line: &JsonLine<'_>) {
        // Texts and numbers always serialize.
        self.put(&serde_json::to_string(line).unwrap_or_default());
    }

    fn put(&mut self, line: &str) {
        if self.written.is_ok() {
            self.written = self.lines.put(line);
        }
    }
}

fn json_line<'a>(
    record: &'a PublishedRecord,
    case: Option<&'a DemoCase>,
    at: Duration,
) -> JsonLine<'a> {
    let at_ms = at.as_millis() as u64;
    let expectation = case.map(|case| (case.description.as_str(), case.expected.describe()));
    match (&record.content, expectation) {
        (PublishedContent::Outcome(_, outcome), Some((published, expected))) => {
            JsonLine::Outcome { at_ms, published, expected, outcome }
        }
        (PublishedContent::DeadLetter(dead_letter), Some((published, expected))) => {
            let class = dead_letter.class.as_deref().unwrap_or_default();
            let error = dead_letter.error.as_deref().unwrap_or_default();
            JsonLine::DeadLetter { at_ms, published, expected, class, error }
        }
        _ => JsonLine::Unexpected { at_ms, text: record.describe() },
    }
}

fn outcome_rows(at: Duration, case: &DemoCase, outcome: &OutcomeRecord) -> Vec<String> {
    let known_by = match outcome.confirmed_by.as_deref() {
        Some("session_state") => "state",
        Some(other) => other,
        None => "-",
    };
    let status = colored(&outcome.status);
    let agent = outcome.agent_id.as_deref().unwrap_or("-");
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let (calls, ms) = (number(outcome.attempts), number(outcome.elapsed_ms));
    let description = &case.description;
    let cells = [&seconds(at), &case.session, description, &status, agent, &calls, &ms, known_by];
    let mut rows = vec![row(&cells)];
    if outcome.tried.len() > 1 {
        let tried: Vec<_> = outcome.tried.iter().map(describe_tried).collect();
        rows.push(details(&format!("tried {}", tried.join(", then "))));
    }
    rows.extend(outcome.reason.as_deref().map(details));
    rows
}

fn dead_letter_rows(at: Duration, case: &DemoCase, dead_letter: &DeadLetter) -> Vec<String> {
    let status = colored("dead letter");
    let cells = [&seconds(at), &case.session, &case.description, &status, "-", "-", "-", "-"];
    vec![row(&cells), details(dead_letter.error.as_deref().unwrap_or_default())]
}

/// Details of the row above.
fn details(text: &str) -> String {
    format!("{:17}{DIM}{text}{DIM:#}", "")
}

fn row(cells: &[&str; 8]) -> String {
    let [after, session, published, became, agent, calls, ms, known_by] = cells;
    // `became` contains escape codes, which have no width.
    let width = 15 + became.len() - anstream::adapter::strip_str(became).to_string().len();
    format!(
        "{after:>6}  {session:<7}  {published:<34}  {became:<width$}  {agent:<16}  {calls:>5}  \
         {ms:>5}  {known_by}"
    )
}

fn colored(status: &str) -> String {
    let color = match status {
        "assigned" => AnsiColor::Green,
        "queued" => AnsiColor::Cyan,
        "no_agent_online" | "expired" => AnsiColor::Yellow,
        "dead letter" => AnsiColor::Magenta,
        _ => AnsiColor::Red,
    };
    let style = color.on_default();
    format!("{style}{status}{style:#}")
}

fn seconds(at: Duration) -> String {
    format!("{:.2} s", at.as_secs_f64())
}
