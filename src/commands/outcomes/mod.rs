//! `handoff outcomes`: show the outcomes of escalations, or the dead letters.
//!
//! Reads the topic without a consumer group up to its end, and with `--follow` beyond it. Records
//! are shown in order of time, as far as a bounded window can restore it across partitions.

mod dead_letter_row;
mod outcome_row;
mod window;

use std::path::Path;
use std::time::Duration;

use clap::builder::PossibleValuesParser;

use self::window::{Overflow, Window};
use super::lines::{StdoutLines, print_error};
use super::table::{self, Table};
use super::values::{TimeArg, parse_time, whole};
use super::{CHECK_HEADER, Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::kafka::{Boundary, KafkaSettings, Leaderless, TopicFollower};
use crate::clock::Clock;
use crate::domain::record::Record;
use crate::domain::wire::outcome::Status;
use crate::domain::wire::replay::marked;

/// How long to wait for a broker, and for the next record before the end of the topic.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many records are shown without `--since` and `--last`.
const DEFAULT_LAST: u64 = 20;
/// How many records are held back to sort them by time.
const MAX_WINDOW: u64 = 10_000;

const EXAMPLES: &str = "\
Examples:
  handoff outcomes
      The last 20.
  handoff outcomes --follow
      The last 20, then each new one as it is published.
  handoff outcomes --since 1h --status failed --status no_agent_online
      Of the last hour, only where no agent took over.
  handoff outcomes --session fd8a2e30-... --json | jq .desk
      All outcomes of one session, as they are in the topic.
  handoff outcomes --dead-letters --since 1d
      Records that could not be read as an escalation, and why.

--session, --event and --status search the whole topic, or from --since on; on a large topic
--since is much faster. A repeated option matches any of its values. Times are in UTC. Records
written by handoff check --write, and markers of replays, are not shown.";

/// Show the outcomes of escalations
///
/// Reads the outcome topic to its end and shows the last 20 outcomes, or those that match. Only
/// the kafka section of the configuration is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct OutcomesArgs {
    /// Show only the last NUMBER that match [default: 20, without --since]
    #[arg(long, value_name = "NUMBER", value_parser = whole::<u64>(1..=1_000_000))]
    last: Option<u64>,

    /// Show records from this time on: how long ago (90s, 1h30m) or a time (2026-11-23T10:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    since: Option<TimeArg>,

    /// Keep showing new records until interrupted
    #[arg(long, short)]
    follow: bool,

    /// Show only records of this session; repeat for more
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,

    /// Show only outcomes of this escalation; repeat for more
    #[arg(long = "event", value_name = "ID", conflicts_with = "dead_letters")]
    events: Vec<String>,

    /// Show only outcomes with this status; repeat for more
    #[arg(
        long = "status",
        value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)),
        conflicts_with = "dead_letters"
    )]
    statuses: Vec<String>,

    /// Show dead letters instead: records that could not be read as an escalation
    #[arg(long)]
    dead_letters: bool,

    /// Print JSON, one record per line (for a dead letter: what its headers say)
    #[arg(long)]
    json: bool,
}

impl OutcomesArgs {
    fn has_filter(&self) -> bool {
        !(self.sessions.is_empty() && self.events.is_empty() && self.statuses.is_empty())
    }

    fn start(&self) -> Boundary {
        match (self.since, self.last.unwrap_or(DEFAULT_LAST)) {
            (Some(since), _) => Boundary::At(since.resolve(Clock::system().now())),
            // The matches may be anywhere in the topic.
            (None, _) if self.has_filter() => Boundary::Oldest,
            (None, last) => Boundary::Last(last),
        }
    }

    fn window(&self) -> Window {
        match (self.last, self.since) {
            (None, Some(_)) => Window::new(MAX_WINDOW, Overflow::Show),
            (last, _) => Window::new(last.unwrap_or(DEFAULT_LAST), Overflow::Drop),
        }
    }
}

/// What is printed of a record.
enum OutputItem {
    /// A row of the table.
    Row(table::TableRow),
    /// One line of JSON.
    Json(Vec<u8>),
}

/// Runs the command.
pub(crate) async fn run(
    args: OutcomesArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let settings = load_for_tools(file, env)?.kafka;
    settings.verify_consumer().map_err(Failure::Configuration)?;
    start_log_of_warnings();
    // Reading from Kafka blocks, and so may writing to the terminal.
    let work = tokio::task::spawn_blocking(move || OutcomesView::new(args).show(&settings));
    work.await.map_err(|error| Failure::Bug(error.into()))?
}

struct OutcomesView {
    args: OutcomesArgs,
    table: Table,
    lines: StdoutLines,
}

impl OutcomesView {
    fn new(args: OutcomesArgs) -> Self {
        let columns =
            if args.dead_letters { dead_letter_row::COLUMNS } else { outcome_row::COLUMNS };
        Self { args, table: Table::new(columns), lines: StdoutLines::new() }
    }

    fn show(mut self, settings: &KafkaSettings) -> Result<(), Failure> {
        let topics = &settings.topics;
        let topic = if self.args.dead_letters { &topics.dead_letters } else { &topics.outcomes };
        let start = [self.args.start()];
        let mut reader = TopicFollower::open(settings, topic, &start, TIMEOUT, Leaderless::Wait)
            .map_err(Failure::Unavailable)?;
        let shown = self.show_existing(&mut reader)?;
        if shown == 0 && !self.args.follow {
            print_error(&format!("nothing found in {topic}"));
        }
        while self.args.follow && !self.lines.is_closed() {
            let next = reader.next(Duration::from_secs(1)).map_err(Failure::Unavailable)?;
            if let Some(item) = next.and_then(|record| self.select(&record)) {
                self.put(vec![item])?;
            }
        }
        Ok(())
    }

    /// Shows the records up to the current end of the topic, and returns how many were shown.
    fn show_existing(&mut self, reader: &mut TopicFollower) -> Result<usize, Failure> {
        let mut window = self.args.window();
        let mut count = 0;
        while !reader.is_at_end() && !self.lines.is_closed() {
            let record = reader.next(Duration::from_millis(200)).map_err(Failure::Unavailable)?;
            let Some(record) = record else { continue };
            if let Some(item) = self.select(&record)
                && let Some(earliest) = window.push(&record, item)
            {
                count += 1;
                self.put(vec![earliest])?;
            }
        }
        let rest = window.into_sorted();
        count += rest.len();
        self.put(rest)?;
        Ok(count)
    }

    /// Returns what to show of a record, or `None` where the arguments exclude it.
    fn select(&self, record: &Record) -> Option<OutputItem> {
        if record.header(CHECK_HEADER.0) == Some(CHECK_HEADER.1) || marked(record).is_some() {
            return None;
        }
        if self.args.dead_letters {
            dead_letter_row::select(record, &self.args)
        } else {
            outcome_row::select(record, &self.args)
        }
    }

    fn put(&mut self, items: Vec<OutputItem>) -> Result<(), Failure> {
        let rows = items.iter().filter_map(|item| match item {
            OutputItem::Row(row) => Some(row),
            OutputItem::Json(_) => None,
        });
        if let Some(line) = self.table.fit(rows) {
            self.lines.put(&line)?;
        }
        for item in items {
            match item {
                OutputItem::Row(row) => self.lines.put(&self.table.line(&row))?,
                OutputItem::Json(json) => self.lines.put_raw(&json)?,
            }
            if self.lines.is_closed() {
                break;
            }
        }
        Ok(())
    }
}
