//! `handoff check`: checks the configuration, then the ledger, Kafka and Desk live.
//!
//! Every live check has its own time limit, and none stops the others; only when no broker answers
//! are the other checks of Kafka skipped. Without `--write` the command changes nothing: no record,
//! no offset, no session. It does not transfer a session, and no output shows the key or a
//! signature.

mod desk;
mod kafka;
mod ledger;
mod old_messages;
mod report;
mod timing;

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::report::{Finding, Level};
use super::lines::StdoutLines;
use super::{Failure, load};

/// The time limit of each live check.
const LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  handoff --config handoff.toml check
  handoff check --write
      Also prove that outcomes and dead letters can be written.
  handoff check --json | jq 'select(.level != \"ok\")'

Each line is one check: ok, warn or FAIL, its subject, the result, and what to do about it.
Ledger: opened for reading. Kafka: brokers, topics, ACLs, the group's offsets, the producer.
Desk: the state of a session that does not exist is queried on each host, with the signature that
the service would use; this verifies network, TLS, SDKAppID, data centre, administrator, key and
clock.

--write publishes one record to the outcome topic and one to the dead-letter topic, with the
header handoff-type: check and the key handoff-check; readers of these topics skip them. Without
it the permission to write there is not verified.

Run it as the user and on the host of the service, before the first start and after every change.
Exit codes: 0 no check failed, 69 a live check failed, 78 the configuration is wrong.";

/// Check the configuration, then the ledger, Kafka and Desk live
///
/// Safe beside a running service: it joins no group, commits nothing and transfers nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Also publish a record to the outcome topic and to the dead-letter topic
    #[arg(long)]
    write: bool,

    /// Print a JSON object for each check
    #[arg(long)]
    json: bool,
}

/// Receives the results of one group of checks, in their order.
#[derive(Clone)]
struct Findings(UnboundedSender<Finding>);

impl Findings {
    fn add(&self, finding: Finding) {
        // The printer outlives the checks, so the channel is open.
        self.0.send(finding).unwrap_or_default();
    }
}

/// Runs the checks and prints a line for each.
pub(crate) async fn run(
    args: CheckArgs,
    file: Option<&Path>,
    env: Result<Vec<(String, String)>, Failure>,
) -> Result<(), Failure> {
    let mut printer = Printer { lines: StdoutLines::new(), json: args.json, worst: Level::Ok };
    let config = match env.and_then(|env| load(file, env)) {
        Ok(config) => config,
        Err(failure) => {
            if args.json {
                printer.print(&Finding::fail("configuration", failure.text(), ""))?;
            }
            return Err(failure);
        }
    };
    // librdkafka judges the properties itself, when a client is created.
    let (probe, early_results) = match kafka::client(&config.kafka) {
        Ok(probe) => (Some(probe), timing::check(&config)),
        Err(finding) => (None, timing::warnings(&config).chain([finding]).collect()),
    };
    for finding in early_results.into_iter().chain(desk::check_key(&config.desk.key).await) {
        printer.print(&finding)?;
    }
    let is_misconfigured = printer.worst == Level::Fail;
    let ledger = ledger::check(&config.ledger).await;
    printer.print(&ledger)?;
    let (kafka, kafka_results) = result_channel();
    let (desk, desk_results) = result_channel();
    let check_kafka = async {
        match probe {
            Some(probe) => kafka::check(probe, &config, args.write, kafka).await,
            None => drop(kafka),
        }
    };
    // Kafka and Desk are checked concurrently, but printed one after the other.
    let printing = printer.print_all([kafka_results, desk_results]);
    let ((), (), printed) = tokio::join!(check_kafka, desk::check(&config, desk), printing);
    let failed = printed? + usize::from(ledger.level == Level::Fail);
    match failed {
        _ if is_misconfigured => {
            Err(Failure::Configuration(anyhow!("the configuration is wrong, see FAIL above")))
        }
        0 => Ok(()),
        1 => Err(Failure::Unavailable(anyhow!("1 check failed"))),
        n => Err(Failure::Unavailable(anyhow!("{n} checks failed"))),
    }
}

fn result_channel() -> (Findings, UnboundedReceiver<Finding>) {
    let (sender, receiver) = unbounded_channel();
    (Findings(sender), receiver)
}

struct Printer {
    lines: StdoutLines,
    json: bool,
    worst: Level,
}

impl Printer {
    /// Prints the results of the first source, then of the second, as they arrive. Returns how many
    /// failed.
    async fn print_all(
        &mut self,
        sources: [UnboundedReceiver<Finding>; 2],
    ) -> Result<usize, Failure> {
        let mut failed = 0;
        for mut source in sources {
            while let Some(finding) = source.recv().await {
                failed += usize::from(finding.level == Level::Fail);
                self.print(&finding)?;
            }
        }
        Ok(failed)
    }

    fn print(&mut self, finding: &Finding) -> Result<(), Failure> {
        self.worst = self.worst.max(finding.level);
        if self.json {
            let json = serde_json::to_vec(finding).map_err(|error| Failure::Bug(error.into()))?;
            self.lines.put_raw(&json)
        } else {
            self.lines.put(&finding.line())
        }
    }
}
