//! `handoff check`: the configuration, then everything that can be tried live, a line each.
//!
//! Every live check has its own time limit, and none stops the others; only where no broker
//! answers the other questions to Kafka are left out. Without `--write` nothing is changed
//! anywhere: no record, no offset, no session.
//! This command never transfers a session and never shows the key or a signature.

mod desk;
mod kafka;
mod ledger;
mod report;
mod timing;

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::report::{Finding, Level};
use super::lines::StdoutLines;
use super::{Failure, load};

/// The time for each live check.
const LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  handoff --config handoff.toml check
  handoff check --write
      Also prove that outcomes and dead letters can be written.
  handoff check --json | jq 'select(.level != \"ok\")'

A line is one check: ok, warn or FAIL, what was looked at, what was found, and what to do about it.
The ledger is opened for reading, as the tools do. Kafka: brokers, topics, rights, the group's
place, the producer. Desk: each host is asked after a session that does not exist, with the
signature that the service would use; that shows network, TLS, SDKAppID, data centre,
administrator and key, and the clock.

--write leaves one record in the outcome topic and one in the dead-letter topic, with the header
handoff-type: check and the key handoff-check; readers of those topics pass over them. Without it
the right to write there stays unproved.

Run it as the user and on the host that will run the service, before the first start and after
every change. Exit codes: 0 nothing FAILs, 69 a live check FAILs, 78 the configuration is wrong.";

/// Check the configuration, then try everything live
///
/// Safe beside a running service: it joins no group, commits nothing and transfers nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Also write a record to the outcome topic and to the dead-letter topic
    #[arg(long)]
    write: bool,

    /// Print a JSON object for each check
    #[arg(long)]
    json: bool,
}

/// Where checks put what they find, in their order.
#[derive(Clone)]
struct Findings(UnboundedSender<Finding>);

impl Findings {
    fn add(&self, finding: Finding) {
        // Whoever listens ends last.
        self.0.send(finding).unwrap_or_default();
    }
}

/// Check, a line each.
pub async fn run(
    args: Args,
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
    let (probe, findings_so_far) = match kafka::client(&config.kafka) {
        Ok(probe) => (Some(probe), timing::check(&config)),
        Err(finding) => (None, timing::warnings(&config).chain([finding]).collect()),
    };
    for finding in findings_so_far.into_iter().chain(desk::check_key(&config.desk.key).await) {
        printer.print(&finding)?;
    }
    let is_misconfigured = printer.worst == Level::Fail;
    let ledger = ledger::check(&config.ledger).await;
    printer.print(&ledger)?;
    let (kafka, kafka_findings) = findings();
    let (desk, desk_findings) = findings();
    let try_kafka = async {
        match probe {
            Some(probe) => kafka::check(probe, &config, args.write, kafka).await,
            None => drop(kafka),
        }
    };
    let printing = printer.print_all([kafka_findings, desk_findings]);
    let ((), (), printed) = tokio::join!(try_kafka, desk::check(&config, desk), printing);
    let failed = printed? + usize::from(ledger.level == Level::Fail);
    match failed {
        _ if is_misconfigured => {
            Err(Failure::Configuration(anyhow!("the configuration FAILs, see above")))
        }
        0 => Ok(()),
        1 => Err(Failure::Unavailable(anyhow!("1 check FAILs"))),
        n => Err(Failure::Unavailable(anyhow!("{n} checks FAIL"))),
    }
}

fn findings() -> (Findings, UnboundedReceiver<Finding>) {
    let (sender, receiver) = unbounded_channel();
    (Findings(sender), receiver)
}

struct Printer {
    lines: StdoutLines,
    json: bool,
    worst: Level,
}

impl Printer {
    /// All of the first, then all of the second, each as it comes; how many failed.
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
