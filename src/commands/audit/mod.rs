//! `handoff audit`: is every escalation of a range answered, once, truly and in time?
//!
//! The escalations are read first, then the outcomes and dead letters from about when the first
//! of them was recorded. `piece` is what is asked for, `reading` reads the topics, `book` asks the
//! ledger, `show` shows. What is wrong is decided by `domain::audit`.
//! This command never changes anything, in a topic or in the ledger.

mod book;
mod piece;
mod reading;
mod show;

use std::path::Path;
use std::time::Duration;

use self::piece::Offset;
use super::values::{Moment, parse_moment, parse_span};
use super::{Failure, load_kafka, warnings_only};
use crate::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  handoff audit
      Everything in the escalations topic, up to the end as it is now.
  handoff audit --since 1h
      What was published in the last hour.
  handoff audit --since 2026-11-23T10:00:00Z --until 2026-11-23T11:00:00Z --json | jq .findings
  handoff audit --from 3:4200 --to 3:4300
      Partition 3, from offset 4200 up to and including 4300.

Exit codes: 0 all is well, 1 there are findings, 2 usage, 69 brokers or ledger are unavailable,
78 bad configuration. What is open (not due yet) is no finding.

It works on the topics alone. Where the ledger can be read (its own key of the configuration) it
says of each unanswered escalation where it is. Records that handoff check --write left behind are
not judged, nor what an outcome topic has deleted for its age.";

/// Match escalations with outcomes and dead letters: is every one answered, and once?
///
/// Reads the three topics and changes nothing. Of the configuration Desk's part is not needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Escalations from then on: how long ago, as 90s or 1h30m, or a time, as 2026-11-23T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Escalations before then
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    until: Option<Moment>,

    /// Escalations of this partition from this offset on; repeat for more partitions
    #[arg(long, value_name = "PARTITION:OFFSET", conflicts_with_all = ["since", "until"])]
    from: Vec<Offset>,

    /// Escalations of this partition up to and including this offset; repeat for more partitions
    #[arg(long, value_name = "PARTITION:OFFSET", conflicts_with_all = ["since", "until"])]
    to: Vec<Offset>,

    /// How much later than its deadline and escalation.doubt_grace_s an answer may be decided, or
    /// be on its way
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span)]
    slack: Duration,

    /// How many of each kind are named
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=1_000))]
    show: u16,

    /// Insist on the ledger: without it, exit code 69
    #[arg(long, conflicts_with = "no_ledger")]
    ledger: bool,

    /// Only the topics
    #[arg(long)]
    no_ledger: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Audit.
pub async fn run(
    args: Args,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let config = load_kafka(file, env)?;
    let now = Clock::system().now();
    let piece = args.piece(now).map_err(Failure::Usage)?;
    config.kafka.verify_consumer().map_err(Failure::Configuration)?;
    warnings_only();
    let mut book = book::open(&args, &config.ledger).await?;
    let reading = reading::Reading {
        settings: config.kafka,
        rules: config.rules,
        piece,
        grace: config.doubt_grace + args.slack,
        keep: usize::from(args.show),
    };
    let read = tokio::task::spawn_blocking(move || reading.read());
    let mut read = read.await.map_err(|error| Failure::Bug(error.into()))??;
    if let Some(reader) = &book.reader {
        book.problem =
            book::look_up(reader, &mut read).await.err().map(|error| format!("{error:#}"));
        if let Some(problem) = book.problem.as_ref().filter(|_| args.ledger) {
            return Err(Failure::Unavailable(anyhow::anyhow!("{problem}")));
        }
    }
    show::show(&read, &book, args.json)?;
    if read.report.is_clean() {
        Ok(())
    } else {
        Err(Failure::Findings(show::findings(&read.report)))
    }
}
