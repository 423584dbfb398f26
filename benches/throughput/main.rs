//! The bench: how near `handoff` sits to the two limits it has, and what an event costs.
//!
//! `scripts/bench` runs it. Every process is one of its own: Apache Kafka, the simulated Desk, and the contestants
//! in turn: `handoff run` as it is shipped, the same without a ledger, and a plain loop (`plain`) as the floor of
//! cost. What a run must be (each event answered once, in order, all committed) is checked; time is never judged.

mod admin;
mod contestant;
mod desk;
mod kafka;
mod measure;
mod no_ledger;
mod numbers;
mod outcomes;
mod parked_rows;
mod piles;
mod plain;
mod report;
mod run;
mod scenario;
mod special;
#[path = "../../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the fixture of the tests; not all of it is used here"
)]
mod support;
mod tls;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use scenario::Scenario;

/// The same for all contestants.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures `handoff` on a real Kafka and the simulated Desk, beside a plain loop
#[derive(Debug, clap::Parser)]
struct Args {
    /// How often each contestant runs, in turn; medians and ranges are shown
    #[arg(long, default_value_t = 3)]
    runs: usize,

    /// Only these scenarios: their names or parts of them, with commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// A few seconds of everything, once: to see that it works, not how fast
    #[arg(long)]
    tiny: bool,

    /// How much work a run has, as a factor
    #[arg(long, default_value_t = 1.0)]
    scale: f64,

    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// List the scenarios
    #[arg(long)]
    list: bool,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,

    /// Be a contestant: configured by the environment as `handoff run` is
    #[arg(long = "as", hide = true)]
    as_contestant: Option<contestant::Kind>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.as_contestant {
        Some(contestant::Kind::Plain) => plain::run().await,
        Some(contestant::Kind::NoLedger) => no_ledger::run().await,
        Some(contestant::Kind::Handoff | contestant::Kind::OneThread) | None => measure(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: Args) -> anyhow::Result<()> {
    let wanted = |scenario: &Scenario| {
        args.only.is_empty() || args.only.iter().any(|part| scenario.name.contains(part.as_str()))
    };
    let scale = if args.tiny { 0.02 } else { args.scale };
    let runs = if args.tiny { 1 } else { args.runs };
    let chosen: Vec<_> = scenario::all().into_iter().filter(wanted).collect();
    if args.list {
        chosen.iter().for_each(|scenario| println!("{:18} {}", scenario.name, scenario.what));
        return Ok(());
    }
    anyhow::ensure!(!chosen.is_empty(), "no scenario is called so; --list names them");
    let bootstrap = support::kafka::shared().await.to_owned();
    // A broker that has just started is slow: nobody is measured on that.
    run::warm_up(&bootstrap, scale).await?;
    let mut results = Vec::new();
    for scenario in &chosen {
        results.push(run::run(scenario, &bootstrap, runs, scale).await?);
        println!("{}", report::of_scenario(scenario, &results[results.len() - 1]));
    }
    println!("{}", report::table(&chosen, &results));
    if let Some(file) = args.json {
        std::fs::write(&file, report::json(&chosen, &results).to_string())?;
    }
    let faults: Vec<_> = results.iter().flatten().flat_map(|run| run.faults.clone()).collect();
    anyhow::ensure!(faults.is_empty(), "what must be was not:\n{}", faults.join("\n"));
    Ok(())
}
