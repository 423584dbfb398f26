//! `handoff events`: what the ledger has stored of an escalation.
//!
//! It only reads the ledger, also while the service runs, and needs neither Kafka nor Desk.

mod show;

use std::path::Path;

use super::lines::StdoutLines;
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::ledger::LedgerReader;
use crate::clock::Clock;
use crate::domain::ledger_entry::{EntryState, LedgerEntry, WaitsFor};

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EventsCommand {
    /// Show one escalation: state, attempts, codes, history, outcome and where it was published
    Show(EventsShowArgs),
}

const EXAMPLES: &str = "\
Examples:
  handoff events show evt-1
  handoff events show handoff.escalations/3/4211
      By the position of its record: an escalation without an id, or a malformed record.
  handoff events show evt-1 --json | jq .outcome

Exit codes: 0 shown, 1 the ledger has no such entry, 69 the ledger cannot be read,
78 bad configuration.";

/// The arguments of `handoff events show`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EventsShowArgs {
    /// The escalation's id, or the position of its record as TOPIC/PARTITION/OFFSET
    id: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub(crate) async fn run(
    command: EventsCommand,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let EventsCommand::Show(args) = command;
    let url = load_for_tools(file, env)?.ledger;
    start_log_of_warnings();
    let reader = LedgerReader::open(&url).await.map_err(Failure::Unavailable)?;
    let entries = reader.entries(&args.id).await.map_err(Failure::Unavailable)?;
    if let Some((key, entry)) = entries.first() {
        let mut lines = StdoutLines::new();
        if args.json {
            return lines.put_raw(show::json_object(key, entry).to_string().as_bytes());
        }
        let mut text = show::text_lines(&args.id, entry, Clock::system().now());
        if entries.len() > 1 {
            let older = entries.len() - 1;
            text.push(format!("{older} older at this position: its topic was created again"));
        }
        return text.iter().try_for_each(|line| lines.put(line));
    }
    Err(Failure::Findings(format!(
        "{url} has no entry for {:?}: its record was not read yet, was skipped for its type, or was \
         answered more than ledger.retention_days ago; handoff outcomes --event shows what is in \
         the topic",
        args.id
    )))
}

/// The state of an entry in one line, for people.
pub(crate) fn state(entry: &LedgerEntry) -> String {
    match &entry.state {
        EntryState::Open { .. } => format!("open: in work since {:.0}", entry.claimed_at),
        EntryState::Parked { until, waits_for: WaitsFor::Time } => {
            format!("parked until {until:.0}")
        }
        EntryState::Parked { until, waits_for } => {
            format!("parked until {until:.0} at the latest; waits for {}", words(waits_for))
        }
        EntryState::Settled { at } => format!("settled at {at:.0}, not known to be published"),
        EntryState::Published { at, position: None, .. } => format!("published at {at:.0}"),
        EntryState::Published { position: Some(position), .. } => {
            format!("published at {position}")
        }
    }
}

/// What a parked event waits for, for people.
fn words(waits_for: &WaitsFor) -> String {
    match waits_for {
        WaitsFor::Time => "its time".into(),
        WaitsFor::Session => "the answers to earlier events of its session".into(),
        WaitsFor::Agent(room) => format!("an agent of {room}"),
        WaitsFor::Redelivery => "the next delivery of its record".into(),
    }
}
