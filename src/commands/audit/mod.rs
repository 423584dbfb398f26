//! `handoff audit`: does every escalation of a range have exactly one outcome, in time?
//!
//! `selection` interprets the arguments, `run` reads the topics, `ledger_status` adds what the
//! ledger says, and `output` prints the result. [`domain::audit`](crate::domain::audit) decides
//! what is a finding. The command changes nothing, neither in a topic nor in the ledger.

mod ledger_status;
mod output;
mod run;
mod selection;

use std::path::Path;
use std::time::Duration;

use self::run::AuditRun;
use self::selection::OffsetArg;
use super::values::{TimeArg, parse_span, parse_time, whole};
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  handoff audit
      Everything in the escalations topic, up to its current end.
  handoff audit --since 1h
      Escalations published in the last hour.
  handoff audit --since 2026-11-23T10:00:00Z --until 2026-11-23T11:00:00Z --json | jq .findings
  handoff audit --from 3:4200 --to 3:4300
      Partition 3, from offset 4200 up to and including 4300.

Exit codes: 0 no findings, 1 findings, 2 usage, 69 brokers or ledger unavailable, 78 bad
configuration. Open escalations (not due yet) are not findings.

The topics are enough; with the ledger (ledger.url) the audit also shows where an unanswered
escalation is. Records written by handoff check --write are not audited, nor escalations whose
outcome retention may have deleted.";

/// Match escalations with outcomes and dead letters: is each answered exactly once, in time?
///
/// Reads the three topics and changes nothing. The desk section of the configuration is not
/// needed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct AuditArgs {
    /// Audit escalations from this time on: how long ago (90s, 1h30m) or a time
    /// (2026-11-23T10:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    since: Option<TimeArg>,

    /// Audit escalations before this time
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    until: Option<TimeArg>,

    /// Audit this partition from this offset on; repeat for more partitions
    #[arg(long, value_name = "PARTITION:OFFSET", conflicts_with_all = ["since", "until"])]
    from: Vec<OffsetArg>,

    /// Audit this partition up to and including this offset; repeat for more partitions
    #[arg(long, value_name = "PARTITION:OFFSET", conflicts_with_all = ["since", "until"])]
    to: Vec<OffsetArg>,

    /// How long after the deadline plus escalation.doubt_grace_s an outcome may be decided
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span)]
    slack: Duration,

    /// How many findings of each kind are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    #[arg(value_parser = whole::<u16>(0..=1_000))]
    show: u16,

    /// Require the ledger: exit with code 69 if it cannot be read
    #[arg(long, conflicts_with = "no_ledger")]
    ledger: bool,

    /// Do not read the ledger
    #[arg(long)]
    no_ledger: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(
    args: AuditArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let config = load_for_tools(file, env)?;
    let now = Clock::system().now();
    let selection = args.selection(now).map_err(Failure::Usage)?;
    config.kafka.verify_consumer().map_err(Failure::Configuration)?;
    start_log_of_warnings();
    // Opened before the topics are read: with --ledger, a missing ledger fails at once.
    let mut ledger = ledger_status::open(&args, &config.ledger).await?;
    let audit = AuditRun {
        settings: config.kafka,
        rules: config.rules,
        selection,
        grace: config.policy.doubt_grace + args.slack,
        max_listed: usize::from(args.show),
    };
    // Reading from Kafka blocks.
    let result = tokio::task::spawn_blocking(move || audit.run());
    let mut result = result.await.map_err(|error| Failure::Bug(error.into()))??;
    if ledger.is_readable {
        let looked_up = ledger_status::look_up(&config.ledger, &mut result).await;
        ledger.problem = looked_up.err().map(|error| format!("{error:#}"));
        if let Some(problem) = ledger.problem.as_ref().filter(|_| args.ledger) {
            return Err(Failure::Unavailable(anyhow::anyhow!("{problem}")));
        }
    }
    output::print(&result, &ledger, args.json)?;
    if result.report.is_clean() {
        Ok(())
    } else {
        Err(Failure::Findings(output::findings_line(&result.report)))
    }
}
