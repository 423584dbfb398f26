//! `handoff events`: what the ledger has stored of an escalation, and an operator's acts on it.
//!
//! It needs the ledger only, also while the service runs, and neither Kafka nor Desk.

mod act;
mod list;
mod show;

use std::path::Path;

use clap::builder::PossibleValuesParser;

use super::lines::StdoutLines;
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::adapters::ledger::{LedgerReader, LedgerUrl, ListedState};
use crate::clock::Clock;
use crate::domain::ledger_entry::{OperatorAct, entry_json, parse_operator_line};

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EventsCommand {
    /// Show one escalation: state, attempts, codes, history, outcome and where it was published
    Show(EventsShowArgs),
    /// List the escalations that are not answered, or those in one state
    List(EventsListArgs),
    /// Have a parked escalation tried at once
    Retry(EventsRetryArgs),
    /// End an unfinished escalation with the outcome `failed`, without another transfer
    GiveUp(EventsGiveUpArgs),
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

const LIST_EXAMPLES: &str = "\
Examples:
  handoff events list
      Everything that is not answered and published.
  handoff events list --problem
      Only what somebody should look at: faults, calls in doubt, overdue or unreadable entries.
  handoff events list --state parked --route vip-de
  handoff events list --state published --session fd8a2e30-... --json | jq .id

Exit codes: 0 listed, 1 with --problem: there are some, 69 the ledger cannot be read,
78 bad configuration. Times are in UTC.";

/// The arguments of `handoff events list`.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct EventsListArgs {
    /// Only those in this state [default: open, parked and settled]
    #[arg(long, value_parser = PossibleValuesParser::new(ListedState::ALL.map(ListedState::as_str)))]
    state: Option<String>,

    /// Only those that somebody should look at
    #[arg(long)]
    problem: bool,

    /// Only those of this route; it is known once they were parked or answered
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Only those of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    /// Print JSON, one entry per line
    #[arg(long)]
    json: bool,
}

impl EventsListArgs {
    fn listed_state(&self) -> Option<ListedState> {
        let word = self.state.as_deref()?;
        ListedState::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

const RETRY_EXAMPLES: &str = "\
Example:
  handoff events retry evt-1

The event's owner tries it within a few seconds, whatever it waited for. Its history says who asked
for it. Stopped or run twice, nothing happens twice: an event that is due already stays so.

Exit codes: 0 it is due, 1 it cannot be retried (the text says why), 69 the ledger cannot be
written, 78 bad configuration.";

/// The arguments of `handoff events retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub(crate) struct EventsRetryArgs {
    /// The escalation's id, or the position of its record as TOPIC/PARTITION/OFFSET
    id: String,

    /// Who asks for it, for the history [default: the user's name]
    #[arg(long, value_name = "NAME", value_parser = parse_operator_line)]
    by: Option<String>,
}

const GIVE_UP_EXAMPLES: &str = "\
Example:
  handoff events give-up evt-1 --reason 'the customer called the hotline'

The decision is stored, and the event's owner ends it as one past its deadline: a parked event within
a few seconds, one in work when its owner would park it. If a call may have taken effect, the owner
asks for the session's state first; an agent who has the session is reported as assigned, and
everything else as failed. Stopped or run twice, nothing happens twice.

Exit codes: 0 it is given up, 1 it cannot be given up (the text says why), 69 the ledger cannot be
written, 78 bad configuration.";

/// The arguments of `handoff events give-up`.
#[derive(Debug, clap::Args)]
#[command(after_help = GIVE_UP_EXAMPLES)]
pub(crate) struct EventsGiveUpArgs {
    /// The escalation's id, or the position of its record as TOPIC/PARTITION/OFFSET
    id: String,

    /// Why, in one line: part of the outcome's reason
    #[arg(long, value_name = "TEXT", value_parser = parse_operator_line)]
    reason: String,

    /// Who decided it, for the outcome and the history [default: the user's name]
    #[arg(long, value_name = "NAME", value_parser = parse_operator_line)]
    by: Option<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(
    command: EventsCommand,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let user = act::user_name(&env);
    let url = load_for_tools(file, env)?.ledger;
    start_log_of_warnings();
    match command {
        EventsCommand::Show(args) => show(&args, &url).await,
        EventsCommand::List(args) => list::list(args, &url).await,
        EventsCommand::Retry(args) => {
            act::perform(&args.id, &OperatorAct::Retry, args.by.unwrap_or(user), &url).await
        }
        EventsCommand::GiveUp(args) => {
            let act = OperatorAct::GiveUp { reason: args.reason };
            act::perform(&args.id, &act, args.by.unwrap_or(user), &url).await
        }
    }
}

async fn open_reader(url: &LedgerUrl) -> Result<LedgerReader, Failure> {
    LedgerReader::open(url).await.map_err(Failure::Unavailable)
}

async fn show(args: &EventsShowArgs, url: &LedgerUrl) -> Result<(), Failure> {
    let reader = open_reader(url).await?;
    let entries = reader.entries(&args.id).await.map_err(Failure::Unavailable)?;
    let Some((key, entry)) = entries.first() else { return Err(no_entry(&args.id, url)) };
    let mut lines = StdoutLines::new();
    if args.json {
        return lines.put_raw(entry_json(key, entry).to_string().as_bytes());
    }
    let mut text = show::text_lines(&args.id, entry, Clock::system().now());
    if entries.len() > 1 {
        let older = entries.len() - 1;
        text.push(format!("{older} older at this position: its topic was created again"));
    }
    text.iter().try_for_each(|line| lines.put(line))
}

fn no_entry(id: &str, url: &LedgerUrl) -> Failure {
    Failure::Findings(format!(
        "{url} has no entry for {id:?}: its record was not read yet, was skipped for its type, or \
         was answered more than ledger.retention_days ago; handoff outcomes --event shows what is \
         in the topic"
    ))
}
