//! `handoff demo`: the whole service in one process, with nothing else installed.
//!
//! [`DemoFixture`] starts an embedded broker and a simulated Desk, `service` the real service. The
//! demo publishes the escalations of `cases`, prints each outcome as it arrives, and finally
//! compares the outcomes with the expected ones, which can fail ([`DemoResults`]). The
//! configuration of this machine is not read, and nothing leaves 127.0.0.1. `serve` is the form of the
//! demo that keeps running.

mod case;
mod cases;
mod fixture;
mod output;
mod published;
mod reader;
mod results;
mod serve;
mod service;
mod summary;
mod temp_folder;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::fixture::DemoFixture;
use self::output::DemoOutput;
use self::reader::PublishedReader;
use self::results::{DemoResults, Observations};
use self::serve::ServeOptions;
use self::service::AdminPort;
use self::summary::DemoSummary;
use super::Failure;
use super::values::{parse_span, whole};

const LIMIT: Duration = Duration::from_secs(30);
/// The limit grows by a second for this many additional events.
const EVENTS_PER_SECOND: u64 = 200;
/// The embedded broker accepts the service's producer only half a second after its start; events
/// published earlier would seem slow.
const WARM_UP: Duration = Duration::from_millis(600);

/// Run the service with an embedded broker and a simulated Desk
///
/// Publishes a batch in which much goes wrong (lost answers, internal errors, nobody online, bad
/// records), shows each outcome as it arrives, and checks at the end that every escalation was
/// answered exactly once and as expected; otherwise the exit code is 70. Needs no other software,
/// leaves nothing behind, takes about 4 seconds. With --serve it keeps running: open the address
/// that it prints.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct DemoArgs {
    /// Publish this many plain escalations too, to see the speed
    #[arg(long, value_name = "NUMBER", default_value_t = 0,
          value_parser = whole::<u64>(0..=20_000))]
    events: u64,

    /// One JSON object per line
    #[arg(long)]
    json: bool,

    /// Show the service's log on standard error
    #[arg(long)]
    verbose: bool,

    /// Keep running, with a stream of escalations and a cycle of faults; print the page's address
    #[arg(long, conflicts_with_all = ["events", "json"])]
    serve: bool,

    /// With --serve: stop after this time, as 60s or 10m; otherwise Ctrl-C stops it
    #[arg(long = "for", value_name = "TIME", requires = "serve", value_parser = parse_span)]
    duration: Option<Duration>,

    /// With --serve: the address of the admin port [default: 127.0.0.1:9464, or a free port];
    /// elsewhere than on loopback only /health, /ready and /metrics answer
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    listen: Option<SocketAddr>,

    /// With --serve: another number, another stream
    #[arg(long, value_name = "NUMBER", requires = "serve", default_value_t = 0)]
    #[arg(value_parser = whole::<u64>(0..=u64::MAX))]
    seed: u64,
}

enum DemoEnd {
    Complete,
    TimedOut,
    Stopped,
}

/// Runs the demo to its end or until `shutdown`.
pub(crate) async fn run(args: DemoArgs, shutdown: CancellationToken) -> Result<(), Failure> {
    if args.serve {
        let DemoArgs { duration, listen, seed, verbose, .. } = args;
        return serve::run(ServeOptions { duration, listen, seed, verbose }, shutdown).await;
    }
    let limit = LIMIT + Duration::from_secs(args.events / EVENTS_PER_SECOND);
    let deadline = Instant::now() + limit;
    let mut output = DemoOutput::new(args.json, args.events as usize);
    let ended = run_until(&args, &mut output, deadline, &shutdown).await;
    // Lines that nobody could read are no success, whatever they say.
    output.into_result()?;
    let (end, summary) = ended.map_err(Failure::Bug)?;
    match (end, summary.is_as_expected()) {
        (DemoEnd::Stopped, _) => Err(Failure::Stopped),
        (_, true) => Ok(()),
        (DemoEnd::TimedOut, false) => {
            let limit = limit.as_secs();
            Err(Failure::Bug(anyhow!("outcomes are missing after {limit} s; see --verbose")))
        }
        (DemoEnd::Complete, false) => {
            Err(Failure::Bug(anyhow!("the results are not as expected; see --verbose")))
        }
    }
}

async fn run_until(
    args: &DemoArgs,
    output: &mut DemoOutput,
    deadline: Instant,
    shutdown: &CancellationToken,
) -> anyhow::Result<(DemoEnd, DemoSummary)> {
    let mut results = DemoResults::new(cases::all(args.events));
    let fixture = DemoFixture::start(results.cases(), args.verbose)?;
    let mut reader = fixture.open_reader()?;
    output.introduction(&fixture.introduction());
    let mut service = fixture.start_service().await?;
    let admin = service.admin();
    let end = tokio::select! {
        done = publish_and_wait(&fixture, admin, &mut reader, &mut results, output) => {
            done.map(|()| DemoEnd::Complete)?
        }
        () = sleep_until(deadline) => DemoEnd::TimedOut,
        () = shutdown.cancelled() => {
            output.stopping();
            DemoEnd::Stopped
        }
        error = service.ended() => return Err(error),
    };
    let skipped = admin.skipped().await?;
    service.stop().await?;
    // The service has stopped, so this includes everything that it published at its end.
    for record in reader.remaining().await? {
        output.published(&record, results.add(&record));
    }
    let ended = Instant::now();
    let (desk, offsets) = fixture.stop(results.cases()).await?;
    let observations = Observations { skipped, offsets, desk };
    let summary = DemoSummary::new(&results, &observations, output.started(), ended);
    match end {
        DemoEnd::Stopped => output.stopped(results.answered()),
        DemoEnd::Complete | DemoEnd::TimedOut => output.summary(&summary),
    }
    Ok((end, summary))
}

/// Publishes all cases at once and waits until each is answered.
async fn publish_and_wait(
    fixture: &DemoFixture,
    admin: AdminPort,
    reader: &mut PublishedReader,
    results: &mut DemoResults,
    output: &mut DemoOutput,
) -> anyhow::Result<()> {
    let warm = Instant::now() + WARM_UP;
    admin.wait_until_ready().await?;
    sleep_until(warm).await;
    output.start();
    let positions = fixture.publish(results.cases()).await?;
    results.set_positions(&positions);
    let skipped = results.expected_skipped();
    while !results.is_complete() {
        let record = reader.next().await.context("the outcomes can no longer be read")?;
        output.published(&record, results.add(&record));
    }
    admin.wait_until_skipped(skipped).await
}
