//! Runs that are not one contestant and one flow: the quota of a group, memory in an outage, start
//! and stop. The figures to reach are in docs/performance.md.

use std::time::Duration;

use anyhow::{Context as _, Result};
use handoff::sim::desk::{ApiCommand, SecondCount};
use tokio::time::{Instant, sleep};

use crate::contestant::{Contestant, Kind};
use crate::desk::Desk;
use crate::kafka::Topics;
use crate::measure::{answered, check, logged_at_us};
use crate::numbers::{quantile, sorted};
use crate::outcomes::{Outcomes, uncommitted};
use crate::piles;
use crate::scenario::{Run, Scenario, Special};
use crate::support::postgres;
use crate::workload::{Keys, Work};

const MS: fn(u64) -> Duration = Duration::from_millis;
const LIMIT: Duration = Duration::from_secs(300);
/// Transfers per second of the whole group, in the scenario of the quota.
const QUOTA: u32 = 200;

/// One run of a special scenario.
pub(crate) async fn run(
    special: Special,
    scenario: &Scenario,
    bootstrap: &str,
    work: &Work,
    scale: f64,
) -> Result<Run> {
    match special {
        Special::Quota => quota(scenario, bootstrap, work, scale).await,
        Special::Outage => outage(scenario, bootstrap, work, scale).await,
        Special::StartStop => start_stop(scenario, bootstrap).await,
        Special::Beside(pile) => piles::run(pile, scenario, bootstrap, scale).await,
    }
}

/// The simulated Desk refuses calls beyond the quota in any window of one second.
async fn quota(scenario: &Scenario, bootstrap: &str, work: &Work, scale: f64) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(work).await;
    let desk = Desk::start(scenario.latency, QUOTA)?;
    let mut settings = scenario.settings();
    settings.push(("DESK__QUOTA_PER_SECOND", QUOTA.to_string()));
    settings.push(("KAFKA__PROPERTIES__GROUP_PROTOCOL", "consumer".into()));
    settings.push(("LEDGER__URL", postgres::schema().await));
    let start = || Contestant::start(Kind::Handoff, &topics, &desk, &settings);
    let mut fleet = vec![start()?, start()?, start()?];
    let part = Duration::from_secs_f64(work.events.len() as f64 / f64::from(QUOTA) / 3.0);
    let mut watch = topics.watch();
    answered(&mut fleet[0], &mut watch, 1, LIMIT).await?;
    sleep(part).await;
    fleet[2].stop().await?;
    sleep(part).await;
    fleet[2] = start()?;
    sleep(part.mul_f64(0.6)).await;
    let measured = desk.stats().await?.uptime_ms / 1000;
    answered(&mut fleet[0], &mut watch, work.events.len(), LIMIT).await?;
    let mut run = Run::new(Kind::Handoff);
    for member in &mut fleet {
        member.stop().await?;
    }
    let stats = desk.stats().await?;
    let transfers = stats.of(ApiCommand::Transfer);
    let used = used(&transfers.per_second, measured);
    run.figures.insert("percent_of_quota", 100.0 * used / f64::from(QUOTA));
    let seconds = sorted(transfers.per_second.iter().map(|second| second.calls as f64));
    let median = quantile(&seconds, 0.5);
    run.figures.insert("percent_in_the_median_second", 100.0 * median / f64::from(QUOTA));
    run.figures.insert("most_in_a_second", transfers.max_per_second as f64);
    let refused = transfers.codes.get(&60007).copied().unwrap_or(0);
    run.must("over_the_quota", refused as f64, 0.0);
    let outcomes = Outcomes::read(&topics).await?;
    check(&mut run, &stats, &outcomes, work.events.len());
    run.must("uncommitted", uncommitted(&topics).await as f64, 0.0);
    if scale < 1.0 {
        // Too short for whole seconds.
        run.figures.remove("percent_of_quota");
    }
    Ok(run)
}

/// Transfers per second, from the time when the group is stable until some partitions may be empty.
fn used(seconds: &[SecondCount], until: u64) -> f64 {
    let of = |second: u64| seconds.iter().find(|s| s.second == second).map_or(0, |s| s.calls);
    let first = seconds.first().map_or(0, |first| first.second) + 5;
    (first..until).map(of).sum::<u64>() as f64 / until.saturating_sub(first) as f64
}

async fn outage(scenario: &Scenario, bootstrap: &str, work: &Work, scale: f64) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(work).await;
    let desk = scenario.desk()?;
    let mut worker = Contestant::start(Kind::Handoff, &topics, &desk, &scenario.settings())?;
    let mut watch = topics.watch();
    answered(&mut worker, &mut watch, work.events.len() / 10, LIMIT).await?;
    let mut run = Run::new(Kind::Handoff);
    run.figures.insert("rss_before_mib", worker.memory()?.0);
    desk.outage(true).await?;
    let (begun, away) = (Instant::now(), Duration::from_secs_f64(60.0 * scale.min(1.0)));
    let mut most: f64 = 0.0;
    while begun.elapsed() < away {
        most = most.max(worker.memory()?.0);
        sleep(MS(200)).await;
    }
    run.figures.insert("rss_in_outage_mib", most);
    desk.outage(false).await?;
    answered(&mut worker, &mut watch, work.events.len(), LIMIT).await?;
    run.figures.insert("peak_rss_mib", worker.memory()?.1);
    worker.stop().await?;
    let outcomes = Outcomes::read(&topics).await?;
    run.must("answered", outcomes.at_us.len() as f64, work.events.len() as f64);
    run.must("doubled", outcomes.doubled as f64, 0.0);
    run.must("inversions", outcomes.inversions as f64, 0.0);
    run.must("uncommitted", uncommitted(&topics).await as f64, 0.0);
    Ok(run)
}

async fn start_stop(scenario: &Scenario, bootstrap: &str) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(&Work::new(Keys::Uniform, 1, 0)).await;
    let desk = scenario.desk()?;
    let mut worker = Contestant::start(Kind::Handoff, &topics, &desk, &scenario.settings())?;
    answered(&mut worker, &mut topics.watch(), 1, LIMIT).await?;
    let mut run = Run::new(Kind::Handoff);
    let log = worker.log();
    let assigned = logged_at_us(&log, "partitions assigned").context("never assigned")?;
    let joining = logged_at_us(&log, "joining the group").context("never joining")?;
    sleep(MS(1500)).await;
    run.figures.insert("stop_ms", worker.stop().await?.as_secs_f64() * 1e3);
    let outcomes = Outcomes::read(&topics).await?;
    let first = outcomes.at_us.values().min().context("no outcome")?;
    let whole = (first - worker.began_us) as f64 / 1e3;
    let join = (assigned - joining) as f64 / 1e3;
    run.figures.insert("first_outcome_ms", whole);
    run.figures.insert("group_join_ms", join);
    run.figures.insert("besides_join_ms", whole - join);
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_handoff"))?.len();
    run.figures.insert("binary_mib", binary as f64 / 1048576.0);
    Ok(run)
}
