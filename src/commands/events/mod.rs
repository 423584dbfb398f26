//! `handoff events`: what the ledger knows of an escalation, for the operator at night.
//!
//! The ledger is only read, also while the service runs. Neither Kafka nor Desk is needed.
//! This command never changes anything.

mod story;

use std::path::Path;

use super::lines::StdoutLines;
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::ledger::Reader;
use crate::clock::Clock;
use crate::domain::ledger_entry::{EntryState, LedgerEntry};

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The story of one escalation: attempts, codes, waits, who, when, outcome, published where
    Show(Show),
}

const EXAMPLES: &str = "\
Examples:
  handoff events show evt-1
  handoff events show handoff.escalations/3/4211
      By the place of its record: one without an id, or one that could not be read.
  handoff events show evt-1 --json | jq .outcome

Exit codes: 0 shown, 1 the ledger does not know it, 69 the ledger cannot be read,
78 bad configuration.";

/// Show one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// The escalation's id, or the place of its record as TOPIC/PARTITION/OFFSET
    id: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Do it.
pub async fn run(
    command: Command,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let Command::Show(args) = command;
    let place = load_for_tools(file, env)?.ledger;
    start_log_of_warnings();
    let reader = Reader::open(&place).await.map_err(Failure::Unavailable)?;
    for key in keys(&args.id) {
        if let Some(entry) = reader.story(&key).await.map_err(Failure::Unavailable)? {
            let mut lines = StdoutLines::new();
            if args.json {
                return lines.put_raw(story::object(&key, &entry).to_string().as_bytes());
            }
            let told = story::lines(&args.id, &entry, Clock::system().now());
            return told.iter().try_for_each(|line| lines.put(line));
        }
    }
    Err(Failure::Findings(format!(
        "{place} knows nothing of {:?}: it was not read yet, not for us, or is older than \
         ledger.retention_days; handoff outcomes --event shows what is in the topic",
        args.id
    )))
}

/// Under which keys the ledger may have an escalation of this name.
pub(crate) fn keys(name: &str) -> [String; 3] {
    ["id", "place", "letter"].map(|kind| format!("{kind}:{name}"))
}

/// How far it is, in one line.
pub(crate) fn state(entry: &LedgerEntry) -> String {
    match &entry.state {
        EntryState::Open => format!("open: being worked on since {:.0}", entry.claimed_at),
        EntryState::Parked { until } => format!("parked until {until:.0}"),
        EntryState::Settled { at } => format!("settled at {at:.0}, not known to be published"),
        EntryState::Published { at, place: None, .. } => format!("published at {at:.0}"),
        EntryState::Published { place: Some(place), .. } => format!("published at {place}"),
    }
}
