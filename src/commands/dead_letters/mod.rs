//! `handoff dead-letters`: what could not be read, and back to the escalations topic with it.
//!
//! `topic` reads the dead-letter topic and finds out what was replayed, `plan` decides what a replay
//! does, `replay` does it. Nothing is held in memory but the positions of what was replayed.

mod ls;
mod plan;
mod replay;
mod show;
mod topic;

use std::path::Path;

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::plan::PlanRules;
use super::values::{TimeArg, parse_time, whole};
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::clock::Clock;
use crate::domain::event::MalformedClass;
use crate::domain::record::Position;
use crate::domain::wire::replay::parse_position;

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters: why they could not be read, and whether they were replayed
    Ls(LsArgs),
    /// Show one dead letter: its headers and its value
    Show(ShowArgs),
    /// Publish dead letters to the escalations topic again, each once
    Replay(ReplayArgs),
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
pub(crate) struct SelectionArgs {
    /// Only these, by their positions as TOPIC/PARTITION/OFFSET in the dead-letter topic
    #[arg(value_name = "POSITION", value_parser = parse_position_arg)]
    positions: Vec<Position>,

    /// Only those of this class; repeat for more
    #[arg(
        long = "class",
        value_parser = PossibleValuesParser::new(MalformedClass::ALL.map(MalformedClass::as_str))
    )]
    classes: Vec<String>,

    /// Only those published from this time on: how long ago (90s, 1h30m) or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    since: Option<TimeArg>,

    /// Only those published before this time
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    until: Option<TimeArg>,

    /// Only those in this partition of the dead-letter topic; repeat for more
    #[arg(long = "partition", value_name = "NUMBER", value_parser = whole::<i32>(0..=i32::MAX as u64))]
    partitions: Vec<i32>,
}

impl SelectionArgs {
    /// The times as points in time.
    fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let now = Clock::system().now();
        let resolve = |time: Option<TimeArg>| time.map(|time| time.resolve(now));
        (resolve(self.since), resolve(self.until))
    }
}

const LS_EXAMPLES: &str = "\
Examples:
  handoff dead-letters ls
  handoff dead-letters ls --class not_json --since 1d --json

STATE is new, replayed, or why it cannot be replayed. Times are in UTC. Only the kafka section of the
configuration is needed.";

/// The arguments of `handoff dead-letters ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = LS_EXAMPLES)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    selection: SelectionArgs,

    /// Print JSON, one dead letter per line
    #[arg(long)]
    json: bool,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  handoff dead-letters show handoff.dead-letters/0/17
  handoff dead-letters show handoff.dead-letters/0/17 --value >record.bin

Exit codes: 0 shown, 1 there is no dead letter, 69 Kafka is unavailable, 78 bad configuration.";

/// The arguments of `handoff dead-letters show`.
#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// Its position as TOPIC/PARTITION/OFFSET in the dead-letter topic
    #[arg(value_name = "POSITION", value_parser = parse_position_arg)]
    position: Position,

    /// Print the value only, byte for byte
    #[arg(long)]
    value: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  handoff dead-letters replay --dry-run
      What would be done, by class.
  handoff dead-letters replay --class not_json --since 2h --rate 20
      After the publisher or the configuration was corrected.
  handoff dead-letters replay handoff.dead-letters/0/17

Each dead letter is published once: with its key, value and headers, in the partition of its record,
and in one transaction with a marker in the dead-letter topic. Stopped or killed at any moment and
run again, it goes on with those that have no marker. An escalation without an id keeps the identity of
the record that was read first, so that it is not answered twice; its time to live counts from that
record too: what is past its deadline gets the outcome expired.

Kafka must allow Write and Describe on the transactional id handoff-replay-TOPIC.

Exit codes: 0 replayed, 1 some cannot be replayed (the others are), 69 Kafka is unavailable,
78 bad configuration, 130 stopped by a signal before the end.";

/// The arguments of `handoff dead-letters replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,

    /// Print the plan only
    #[arg(long)]
    dry_run: bool,

    /// Records per second, at most
    #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = whole::<u32>(1..=10_000))]
    rate: u32,

    /// Refuse records that were replayed this often: they come back each time
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_MAX_REPLAYS, value_parser = whole::<u32>(1..=1_000))]
    max_replays: u32,
}

/// How often a record may be replayed where nothing else is asked for.
const DEFAULT_MAX_REPLAYS: u32 = 3;

/// Runs a subcommand.
pub(crate) async fn run(
    command: DeadLettersCommand,
    file: Option<&Path>,
    env: Vec<(String, String)>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let settings = load_for_tools(file, env)?.kafka;
    settings.verify_consumer().map_err(Failure::Configuration)?;
    start_log_of_warnings();
    // Reading from Kafka blocks, and so may writing to the terminal.
    let work = tokio::task::spawn_blocking(move || match command {
        DeadLettersCommand::Ls(args) => ls::ls(&args, &settings),
        DeadLettersCommand::Show(args) => show::show(&args, &settings),
        DeadLettersCommand::Replay(args) => replay::replay(&args, &settings, &shutdown),
    });
    work.await.map_err(|error| Failure::Bug(error.into()))?
}

fn parse_position_arg(text: &str) -> Result<Position, String> {
    parse_position(text).ok_or_else(|| {
        format!("{text:?} is not TOPIC/PARTITION/OFFSET, as handoff.dead-letters/0/17")
    })
}

/// The rules of `ls` and `show`, which name what a replay with its defaults would do.
fn default_rules() -> PlanRules {
    PlanRules { max_replays: DEFAULT_MAX_REPLAYS }
}
