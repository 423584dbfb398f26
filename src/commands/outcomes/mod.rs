//! `handoff outcomes`: show what became of escalations, or what could not be read.
//!
//! A reader without a group goes through the topic to its end, and on with `--follow`. Order is
//! by time, as far as a window of bounded size can restore it across partitions.
//! This command never commits an offset and never needs Desk.

mod letter;
mod outcome;
mod window;

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::PossibleValuesParser;
use tokio::time::Instant;

use self::window::{Overflow, Window};
use super::lines::{Lines, say};
use super::table::{self, Table};
use super::values::{Moment, parse_moment};
use super::{CHECK_HEADER, Failure, load_kafka, warnings_only};
use crate::adapters::kafka::{Reader, Settings, Start};
use crate::clock::Clock;
use crate::domain::record::Record;
use crate::domain::wire::outcome::Status;

/// The wait for a broker, and for a record before the end.
const LIMIT: Duration = Duration::from_secs(30);
/// What is shown without `--since` and `--last`.
const LAST: u64 = 20;
/// Records held back to put them in order of time.
const WINDOW: u64 = 10_000;

const EXAMPLES: &str = "\
Examples:
  handoff outcomes
      The last 20.
  handoff outcomes --follow
      The last 20, then each new one as it comes.
  handoff outcomes --since 1h --status failed --status no_agent_online
      Of the last hour, only where nobody took over.
  handoff outcomes --session fd8a2e30-... --json | jq .desk
      All of one session, as they are in the topic.
  handoff outcomes --dead-letters --since 1d
      What could not be read as an escalation, and why.

--session, --event and --status pick from the whole topic, or from --since on: on a large topic
give --since, it is much quicker. Several of one kind mean any of them. Times are in UTC.
Records that handoff check --write left behind are not shown.";

/// Show what became of escalations
///
/// Reads the outcome topic to its end and shows the last 20, or what is asked for. Of the
/// configuration only the section kafka is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Only the last so many that fit; 20 where --since is not given either
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    last: Option<u64>,

    /// From then on: how long ago, as 90s or 1h30m, or a time, as 2026-11-23T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,

    /// Only of this session; repeat for more
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,

    /// Only of this escalation; repeat for more
    #[arg(long = "event", value_name = "ID", conflicts_with = "dead_letters")]
    events: Vec<String>,

    /// Only with this status; repeat for more
    #[arg(
        long = "status",
        value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)),
        conflicts_with = "dead_letters"
    )]
    statuses: Vec<String>,

    /// The dead letters instead: records that could not be read as an escalation
    #[arg(long)]
    dead_letters: bool,

    /// Print the records' JSON, one per line (of a dead letter: what its headers say)
    #[arg(long)]
    json: bool,
}

impl Args {
    fn has_filter(&self) -> bool {
        !(self.sessions.is_empty() && self.events.is_empty() && self.statuses.is_empty())
    }

    fn start(&self) -> Start {
        match (self.since, self.last.unwrap_or(LAST)) {
            (Some(since), _) => Start::At(since.from(Clock::system().now())),
            // How far back they are is not known.
            (None, _) if self.has_filter() => Start::Oldest,
            (None, last) => Start::Last(last),
        }
    }

    fn window(&self) -> Window {
        match (self.last, self.since) {
            (None, Some(_)) => Window::new(WINDOW, Overflow::Show),
            (last, _) => Window::new(last.unwrap_or(LAST), Overflow::Drop),
        }
    }
}

/// What a record is to us.
enum Shown {
    /// A line for people, in cells.
    Row(table::Row),
    /// Bytes as they are.
    Json(Vec<u8>),
}

/// Show them.
pub async fn run(
    args: Args,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let settings = load_kafka(file, env)?.kafka;
    settings.verify_consumer().map_err(Failure::Configuration)?;
    warnings_only();
    // The reader blocks, and so may the terminal.
    let work = tokio::task::spawn_blocking(move || View::new(args).show(&settings));
    work.await.map_err(|error| Failure::Bug(error.into()))?
}

struct View {
    args: Args,
    table: Table,
    lines: Lines,
}

impl View {
    fn new(args: Args) -> Self {
        let columns = if args.dead_letters { letter::COLUMNS } else { outcome::COLUMNS };
        Self { args, table: Table::new(columns), lines: Lines::new() }
    }

    fn show(mut self, settings: &Settings) -> Result<(), Failure> {
        let topics = &settings.topics;
        let topic = if self.args.dead_letters { &topics.dead_letters } else { &topics.outcomes };
        let mut reader = Reader::open(settings, topic, self.args.start(), LIMIT)
            .map_err(Failure::Unavailable)?;
        let found = self.catch_up(&mut reader)?;
        if found == 0 && !self.args.follow {
            say(&format!("nothing found in {topic}"));
        }
        while self.args.follow && !self.lines.is_gone() {
            let next = reader.next(Duration::from_secs(1)).map_err(Failure::Unavailable)?;
            if let Some(shown) = next.and_then(|record| self.pick(&record)) {
                self.put(vec![shown])?;
            }
        }
        Ok(())
    }

    /// Everything that is there now; how many were shown.
    fn catch_up(&mut self, reader: &mut Reader) -> Result<usize, Failure> {
        let mut window = self.args.window();
        let mut heard = Instant::now();
        let mut found = 0;
        while !reader.is_at_end() && !self.lines.is_gone() {
            let Some(record) =
                reader.next(Duration::from_millis(200)).map_err(Failure::Unavailable)?
            else {
                if heard.elapsed() > LIMIT {
                    let text = format!("nothing came from the brokers for {} s", LIMIT.as_secs());
                    return Err(Failure::Unavailable(anyhow!(text)));
                }
                continue;
            };
            heard = Instant::now();
            if let Some(shown) = self.pick(&record)
                && let Some(earliest) = window.push(&record, shown)
            {
                found += 1;
                self.put(vec![earliest])?;
            }
        }
        let rest = window.into_sorted();
        found += rest.len();
        self.put(rest)?;
        Ok(found)
    }

    /// What to show of a record; `None`: it was not asked for.
    fn pick(&self, record: &Record) -> Option<Shown> {
        if record.header(CHECK_HEADER.0) == Some(CHECK_HEADER.1) {
            return None;
        }
        if self.args.dead_letters {
            letter::pick(record, &self.args)
        } else {
            outcome::pick(record, &self.args)
        }
    }

    fn put(&mut self, shown: Vec<Shown>) -> Result<(), Failure> {
        let rows = shown.iter().filter_map(|shown| match shown {
            Shown::Row(row) => Some(row),
            Shown::Json(_) => None,
        });
        if let Some(line) = self.table.begin(rows) {
            self.lines.put(&line)?;
        }
        for shown in shown {
            match shown {
                Shown::Row(row) => self.lines.put(&self.table.line(&row))?,
                Shown::Json(json) => self.lines.put_raw(&json)?,
            }
            if self.lines.is_gone() {
                break;
            }
        }
        Ok(())
    }
}
