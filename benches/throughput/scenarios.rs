//! The scenarios, and those that are not one contestant and one flow: the quota of a group, memory in an outage,
//! start and stop.
//!
//! Figures to reach are in docs/performance.md; time is never judged here.

use std::time::Duration;

use anyhow::{Context as _, Result};
use handoff::sim::desk::{ApiCommand, SecondCount};
use tokio::time::{Instant, sleep};

use crate::contestant::{Contestant, Kind};
use crate::desk::Desk;
use crate::kafka::Topics;
use crate::numbers::{quantile, sorted};
use crate::outcomes::{Outcomes, uncommitted};
use crate::scenario::{Flow, Run, Scenario, Special, answered, check};
use crate::support::postgres;
use crate::workload::{Keys, Work};

const MS: fn(u64) -> Duration = Duration::from_millis;
const PATIENCE: Duration = Duration::from_secs(300);
const BOTH: &[Kind] = &[Kind::Handoff, Kind::Plain];
const ALL: &[Kind] = &[Kind::Handoff, Kind::NoLedger, Kind::Plain];
const ONE: &[Kind] = &[Kind::Handoff];
/// Transfers a second of the whole group, in the scenario of the quota.
const QUOTA: u32 = 200;

/// All of them, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let base = Scenario {
        name: "drain-64",
        what: "backlog, 12 partitions, 64 calls at once of 50 ms",
        keys: Keys::Uniform,
        partitions: 12,
        concurrency: 64,
        latency: MS(50),
        count: 20_000,
        flow: Flow::Backlog,
        kinds: BOTH,
    };
    let mut all = compared(&base);
    all.extend(alone(base));
    all
}

/// Beside the plain loop.
fn compared(base: &Scenario) -> Vec<Scenario> {
    let one = Scenario {
        name: "drain-64-1p",
        what: "the same with one partition",
        partitions: 1,
        ..base.clone()
    };
    let wide = Scenario {
        name: "drain-256",
        what: "backlog, 12 partitions, 256 calls at once of 50 ms",
        concurrency: 256,
        count: 60_000,
        ..base.clone()
    };
    let hot = Scenario {
        name: "hot-64",
        what: "backlog, one session has a tenth of all events (Zipf 1.0), 64 calls at once of 50 ms",
        keys: Keys::Zipf,
        count: 6_000,
        ..base.clone()
    };
    let narrow = Scenario {
        name: "hot-8",
        what: "the same with 8 calls at once",
        concurrency: 8,
        count: 3_000,
        ..hot.clone()
    };
    let open = Scenario {
        name: "open-64",
        what: "1024 events a second come one by one (80 % of 64 calls of 50 ms)",
        count: 15_000,
        flow: Flow::Open(0.8),
        ..base.clone()
    };
    let fast = Scenario {
        name: "cost-64",
        what: "backlog, 12 partitions, 64 calls at once that take no time: what an event costs",
        latency: MS(0),
        count: 60_000,
        kinds: ALL,
        ..base.clone()
    };
    vec![base.clone(), one, wide, hot, narrow, open, fast]
}

/// What the plain loop cannot do at all.
fn alone(base: Scenario) -> [Scenario; 3] {
    let quota = Scenario {
        name: "quota",
        what: "three instances share 200 transfers a second; one leaves and comes back",
        latency: MS(20),
        count: 12_000,
        flow: Flow::Special(Special::Quota),
        kinds: ONE,
        ..base.clone()
    };
    let outage = Scenario {
        name: "outage",
        what: "backlog of 200,000, and Desk is away for a minute",
        latency: MS(5),
        count: 200_000,
        flow: Flow::Special(Special::Outage),
        kinds: ONE,
        ..base.clone()
    };
    let start = Scenario {
        name: "start-stop",
        what: "from the start to the first outcome; SIGTERM with nothing to do; the binary",
        latency: MS(0),
        count: 100,
        flow: Flow::Special(Special::StartStop),
        kinds: ONE,
        ..base
    };
    [quota, outage, start]
}

/// One run of a special scenario.
pub(crate) async fn special(
    special: Special,
    scenario: &Scenario,
    bootstrap: &str,
    (work, scale): (&Work, f64),
) -> Result<Run> {
    match special {
        Special::Quota => quota(scenario, bootstrap, (work, scale)).await,
        Special::Outage => outage(scenario, bootstrap, (work, scale)).await,
        Special::StartStop => start_stop(scenario, bootstrap).await,
    }
}

/// The simulated Desk refuses what goes over the quota in any one second, wherever that begins.
async fn quota(scenario: &Scenario, bootstrap: &str, (work, scale): (&Work, f64)) -> Result<Run> {
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
    answered(&mut fleet[0], &mut watch, (1, PATIENCE)).await?;
    sleep(part).await;
    fleet[2].stop().await?;
    sleep(part).await;
    fleet[2] = start()?;
    sleep(part.mul_f64(0.6)).await;
    let measured = desk.stats().await?.uptime_ms / 1000;
    answered(&mut fleet[0], &mut watch, (work.events.len(), PATIENCE)).await?;
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
    check(&mut run, &stats, (&outcomes, work.events.len()));
    run.must("uncommitted", uncommitted(&topics).await as f64, 0.0);
    if scale < 1.0 {
        // Too short for whole seconds.
        run.figures.remove("percent_of_quota");
    }
    Ok(run)
}

/// Transfers a second, from when the group has come together until some partitions may be empty.
fn used(seconds: &[SecondCount], until: u64) -> f64 {
    let of = |second: u64| seconds.iter().find(|s| s.second == second).map_or(0, |s| s.calls);
    let first = seconds.first().map_or(0, |first| first.second) + 5;
    (first..until).map(of).sum::<u64>() as f64 / until.saturating_sub(first) as f64
}

async fn outage(scenario: &Scenario, bootstrap: &str, (work, scale): (&Work, f64)) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(work).await;
    let desk = scenario.desk()?;
    let mut worker = Contestant::start(Kind::Handoff, &topics, &desk, &scenario.settings())?;
    let mut watch = topics.watch();
    answered(&mut worker, &mut watch, (work.events.len() / 10, PATIENCE)).await?;
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
    answered(&mut worker, &mut watch, (work.events.len(), PATIENCE)).await?;
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
    answered(&mut worker, &mut topics.watch(), (1, PATIENCE)).await?;
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

/// When the log said so first.
fn logged_at_us(log: &str, what: &str) -> Option<i64> {
    let line = log.lines().find(|line| line.contains(what))?;
    let at: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
    Some(at.as_microsecond())
}
