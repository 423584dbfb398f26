//! `handoff routes test`: tries the configured routes on examples, with the code that `run` uses.
//!
//! It needs neither Kafka nor Desk nor the ledger. `cases` reads the examples, `check` compares what
//! would be done with what is expected.

mod cases;
mod check;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::cases::RouteCase;
use self::check::CaseDifference;
use super::lines::StdoutLines;
use super::{Failure, load_for_tools, start_log_of_warnings};
use crate::clock::Clock;

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RoutesCommand {
    /// Try the configured routes on the examples of a file
    Test(RoutesTestArgs),
}

const EXAMPLES: &str = "\
A file of cases:
  [[cases]]
  name = \"VIP in the morning\"               # optional
  at = \"2026-11-30T09:00:00+01:00\"          # the time, for hours; omitted: now
  event = { reason = \"asked\", attributes = { tier = \"vip\", lang = \"de\" } }
  route = \"vip-german\"                      # \"\": no route matches
  targets = [{ agents = [\"anna@example.com\"], group = 2473 }, { default = true }]   # optional: all, in order
  shadows = []                              # optional: shadow routes that would be used
  opens_at = \"\"                             # optional: when the route opens; \"\": it is open

`event` is an escalation as in the topic; session_id may be left out.

Exit codes: 0 as expected, 1 a difference, 2 the file of cases cannot be read, 78 bad configuration.";

/// The arguments of `handoff routes test`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RoutesTestArgs {
    /// The file of cases (TOML)
    cases: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub(crate) fn run(
    command: RoutesCommand,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let RoutesCommand::Test(args) = command;
    let config = load_for_tools(file, env)?;
    start_log_of_warnings();
    let cases = cases::read(&args.cases).map_err(Failure::Usage)?;
    let now = Clock::system().now();
    let differences: Vec<_> =
        cases.iter().map(|case| check::differences(case, &config, now)).collect();
    if args.json {
        put_json(&cases, &differences)?;
    } else {
        put_text(&args.cases, &cases, &differences)?;
    }
    match differences.iter().filter(|of_case| !of_case.is_empty()).count() {
        0 => Ok(()),
        failed => Err(Failure::Findings(format!("{failed} of {} cases differ", cases.len()))),
    }
}

fn put_text(
    path: &Path,
    cases: &[RouteCase],
    differences: &[Vec<CaseDifference>],
) -> Result<(), Failure> {
    let mut lines = StdoutLines::new();
    for (case, differences) in cases.iter().zip(differences) {
        for CaseDifference { field, expected, found, why } in differences {
            let (label, path, line) = (&case.label, path.display(), case.line);
            lines.put(&format!("{label} ({path}:{line}): {field}"))?;
            lines.put(&format!("    expected {expected}"))?;
            lines.put(&format!("    found    {found}"))?;
            if let Some(why) = why {
                lines.put(&format!("    because  {why}"))?;
            }
        }
    }
    let failed = differences.iter().any(|of_case| !of_case.is_empty());
    if failed { Ok(()) } else { lines.put(&format!("{} cases as expected", cases.len())) }
}

fn put_json(cases: &[RouteCase], differences: &[Vec<CaseDifference>]) -> Result<(), Failure> {
    let of_case = |(case, differences): (&RouteCase, &Vec<CaseDifference>)| -> Vec<_> {
        let object = |difference: &CaseDifference| {
            let CaseDifference { field, expected, found, why } = difference;
            json!({
                "case": case.label, "line": case.line, "field": field, "expected": expected,
                "found": found, "because": why,
            })
        };
        differences.iter().map(object).collect()
    };
    let all: Vec<_> = cases.iter().zip(differences).flat_map(of_case).collect();
    let object = json!({"cases": cases.len(), "differences": all});
    StdoutLines::new().put_raw(object.to_string().as_bytes())
}
