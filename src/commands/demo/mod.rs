//! `handoff demo`: the whole service at work, in one process and with nothing else installed.
//!
//! An embedded broker, a simulated Desk and the real worker; a batch of escalations in which much
//! goes wrong; each outcome as it comes; and at the end a comparison of what was published with
//! what came of it, which can fail. It uses the worker's own code and its real configuration.
//! It never reads the configuration of this machine, and never leaves 127.0.0.1.

mod came;
mod cast;
mod scene;
mod scratch;
mod show;
mod stage;
mod summary;
mod tally;
mod watch;
mod worker;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::show::Show;
use self::stage::Stage;
use self::summary::Summary;
use self::tally::{Facts, Tally};
use self::watch::Watch;
use self::worker::Admin;
use super::Failure;

const LIMIT: Duration = Duration::from_secs(30);
/// Each so many additional events are granted a second more.
const EVENTS_PER_SECOND: u64 = 200;
/// The worker's producer is welcomed by the embedded broker after half a second, not before.
const WARM_UP: Duration = Duration::from_millis(600);

/// See it work: embedded broker, simulated Desk, the real worker
///
/// Publishes a batch in which much goes wrong (lost answers, internal errors, nobody online, bad
/// records), shows each outcome as it comes, and checks at the end that every escalation was
/// answered exactly once and as expected; anything else is exit code 70. Needs nothing, leaves
/// nothing behind, takes about 4 seconds.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// Publish so many plain escalations too, to see the speed
    #[arg(long, value_name = "NUMBER", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=20_000))]
    events: u64,

    /// One JSON object per line
    #[arg(long)]
    json: bool,

    /// Show the worker's log on standard error
    #[arg(long)]
    verbose: bool,
}

/// What ended the watching.
enum End {
    Complete,
    TimeUp,
    Stopped,
}

/// Play it, until done or until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Failure> {
    let limit = LIMIT + Duration::from_secs(args.events / EVENTS_PER_SECOND);
    let deadline = Instant::now() + limit;
    let (end, summary) = play(&args, deadline, &shutdown).await.map_err(Failure::Bug)?;
    match (end, summary.is_as_expected()) {
        (End::Stopped, _) => Err(Failure::Stopped),
        (_, true) => Ok(()),
        (End::TimeUp, false) => {
            let limit = limit.as_secs();
            Err(Failure::Bug(anyhow!("not all came within {limit} s; --verbose shows why")))
        }
        (End::Complete, false) => {
            Err(Failure::Bug(anyhow!("not all came as expected; --verbose shows more")))
        }
    }
}

async fn play(
    args: &Args,
    deadline: Instant,
    shutdown: &CancellationToken,
) -> anyhow::Result<(End, Summary)> {
    let mut tally = Tally::new(cast::scenes(args.events));
    let mut show = Show::new(args.json, args.events as usize);
    let stage = Stage::set(tally.scenes(), args.verbose)?;
    let mut coming = stage.watch()?;
    show.opening(&stage.opening());
    let mut worker = stage.start_worker().await?;
    let end = tokio::select! {
        done = act(&stage, worker.admin(), (&mut coming, &mut tally, &mut show)) => done.map(|()| End::Complete)?,
        () = sleep_until(deadline) => End::TimeUp,
        () = shutdown.cancelled() => End::Stopped,
        why = worker.ended() => return Err(why),
    };
    let skipped = worker.admin().skipped().await?;
    worker.stop().await?;
    for came in coming.rest().await? {
        show.came(&came, tally.take(&came));
    }
    let ended = Instant::now();
    let (desk, standing) = stage.end(tally.scenes()).await?;
    let facts = Facts { skipped, standing, desk };
    let summary = Summary::new(&tally, &facts, (show.begun(), ended));
    match end {
        End::Stopped => show.stopped(tally.answered()),
        End::Complete | End::TimeUp => show.ending(&summary),
    }
    Ok((end, summary))
}

/// Publish everything at once, and watch until all of it is answered.
async fn act(
    stage: &Stage,
    admin: Admin,
    (coming, tally, show): (&mut Watch, &mut Tally, &mut Show),
) -> anyhow::Result<()> {
    let warm = Instant::now() + WARM_UP;
    admin.joined().await?;
    sleep_until(warm).await;
    show.begins();
    let places = stage.publish(tally.scenes()).await?;
    tally.published(&places);
    let skipped = tally.not_for_us();
    while !tally.is_complete() {
        let came = coming.next().await.context("the outcomes can no longer be read")?;
        show.came(&came, tally.take(&came));
    }
    admin.has_skipped(skipped).await
}
