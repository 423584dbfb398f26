//! What the audience sees: a table as it fills, or JSON lines; then the summary.
//!
//! Colours appear on a terminal only. A reader of the output that has gone away is no failure.
//! This file never changes anything and never judges.

use std::io::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::came::{Answer, Came, Letter, What};
use super::scene::Scene;
use super::summary::Summary;

/// More differences are counted only.
const SHOWN: usize = 20;
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// The audience.
pub(super) struct Show {
    json: bool,
    begun: Instant,
    plain: usize,
    plain_seen: usize,
}

/// One JSON line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Outcome { at_ms: u64, published: &'a str, expected: String, outcome: &'a RawValue },
    DeadLetter { at_ms: u64, published: &'a str, expected: String, class: &'a str, error: &'a str },
    Unexpected { at_ms: u64, text: String },
    Summary(&'a Summary),
}

impl Show {
    pub(super) fn new(json: bool, plain: usize) -> Self {
        Self { json, begun: Instant::now(), plain, plain_seen: 0 }
    }

    /// What this is.
    pub(super) fn opening(&self, text: &str) {
        if !self.json {
            say(text);
        }
    }

    /// Now everything is published.
    pub(super) fn begins(&mut self) {
        self.begun = Instant::now();
        if !self.json {
            let columns =
                ["after", "session", "published", "became", "agent", "calls", "ms", "known by"];
            say(&format!("{BOLD}{}{BOLD:#}", row(&columns)));
        }
    }

    /// When everything was published.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Something came, of this scene.
    pub(super) fn came(&mut self, came: &Came, scene: Option<&Scene>) {
        let at = came.at.saturating_duration_since(self.begun);
        if self.json {
            return say_json(&line(came, scene, at));
        }
        match (scene, &came.what) {
            (Some(scene), What::Outcome(answer, _)) if scene.plain => self.plain(at, answer),
            (Some(scene), What::Outcome(answer, _)) => outcome(at, scene, answer),
            (Some(scene), What::DeadLetter(letter)) => dead_letter(at, scene, letter),
            _ => say(&format!("{}  unexpected: {}", seconds(at), came.text())),
        }
    }

    /// The end.
    pub(super) fn ending(&self, summary: &Summary) {
        if self.json {
            return say_json(&Line::Summary(summary));
        }
        say("");
        for (word, text) in summary.lines() {
            say(&format!("{DIM}{word:>12}{DIM:#}  {text}"));
        }
        if summary.is_as_expected() {
            let good = AnsiColor::Green.on_default().bold();
            return say(&format!("{good}{}{good:#}", summary.verdict()));
        }
        let bad = AnsiColor::Red.on_default().bold();
        say(&format!("{bad}what differs{bad:#}"));
        let all = summary.differences();
        for difference in all.iter().take(SHOWN) {
            say(&format!("  {}", difference.what));
            say(&format!("      expected  {}", difference.expected));
            say(&format!("      got       {}", difference.got));
        }
        if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            say(&format!("  and {more} more"));
        }
    }

    /// A signal came before the end.
    pub(super) fn stopped(&self, answered: usize) {
        if !self.json {
            say(&format!("stopped early: {answered} were answered, nothing was compared"));
        }
    }

    /// Of the many only each tenth part is told.
    fn plain(&mut self, at: Duration, answer: &Answer) {
        self.plain_seen += 1;
        let tenth = self.plain.div_ceil(10).max(1);
        if self.plain_seen.is_multiple_of(tenth) || self.plain_seen == self.plain {
            let text = format!("{} of {} plain ones answered", self.plain_seen, self.plain);
            let status = answer.status.as_str();
            say(&row(&[&seconds(at), "", &text, &colored(status), "", "", "", ""]));
        }
    }
}

fn line<'a>(came: &'a Came, scene: Option<&'a Scene>, at: Duration) -> Line<'a> {
    let at_ms = at.as_millis() as u64;
    let told = scene.map(|scene| (scene.story.as_str(), scene.expected.text()));
    match (&came.what, told) {
        (What::Outcome(_, outcome), Some((published, expected))) => {
            Line::Outcome { at_ms, published, expected, outcome }
        }
        (What::DeadLetter(Letter { class, error, .. }), Some((published, expected))) => {
            Line::DeadLetter { at_ms, published, expected, class, error }
        }
        _ => Line::Unexpected { at_ms, text: came.text() },
    }
}

fn outcome(at: Duration, scene: &Scene, answer: &Answer) {
    let known_by = match answer.confirmed_by.as_deref() {
        Some("session_state") => "state",
        Some(other) => other,
        None => "-",
    };
    let status = colored(&answer.status);
    let agent = answer.agent_id.as_deref().unwrap_or("-");
    let (calls, ms) = (answer.attempts.to_string(), answer.elapsed_ms.to_string());
    let story = &scene.story;
    say(&row(&[&seconds(at), &scene.session, story, &status, agent, &calls, &ms, known_by]));
    if answer.tried.len() > 1 {
        let tried: Vec<_> = answer.tried.iter().map(super::came::Tried::text).collect();
        aside(&format!("tried {}", tried.join(", then ")));
    }
    if let Some(reason) = &answer.reason {
        aside(reason);
    }
}

fn dead_letter(at: Duration, scene: &Scene, letter: &Letter) {
    let status = colored("dead letter");
    say(&row(&[&seconds(at), &scene.session, &scene.story, &status, "-", "-", "-", "-"]));
    aside(&letter.error);
}

/// More about the row above.
fn aside(text: &str) {
    say(&format!("{:17}{DIM}{text}{DIM:#}", ""));
}

fn row(cells: &[&str; 8]) -> String {
    let [after, session, published, became, agent, calls, ms, known_by] = cells;
    // Styles have no width of their own.
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

fn say_json(line: &Line<'_>) {
    // Texts and numbers are always JSON.
    say(&serde_json::to_string(line).unwrap_or_default());
}

fn say(line: &str) {
    // Whoever read it may have gone away.
    writeln!(anstream::stdout(), "{line}").unwrap_or_default();
}
