//! One run of one contestant in one scenario, and the runs in turn.
//!
//! Contestants take turns (A B C A B C ..), so that a machine that slows down slows all of them. It never compares.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use crate::contestant::{Contestant, Kind};
use crate::desk::Desk;
use crate::kafka::{Topics, Watch};
use crate::numbers::{quantile, sorted};
use crate::outcomes::{Outcomes, uncommitted};
use crate::scenarios;
use crate::workload::{Keys, Work};
use handoff::sim::desk::{ApiCommand, DeskStats};

const LOOK: Duration = Duration::from_millis(100);
/// Beyond the bound, a run may take so long.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events that make everybody warm, before those that count.
const WARM: usize = 64;

/// How the events come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flow {
    /// All are there before the contestant starts.
    Backlog,
    /// They come at this part of what is possible, each at its time.
    Open(f64),
    /// Something else: see `scenarios`.
    Special(Special),
}

/// Runs that are not one contestant and one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Quota,
    Outage,
    StartStop,
}

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) keys: Keys,
    pub(crate) partitions: i32,
    pub(crate) concurrency: usize,
    pub(crate) latency: Duration,
    pub(crate) count: usize,
    pub(crate) flow: Flow,
    pub(crate) kinds: &'static [Kind],
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) figures: BTreeMap<&'static str, f64>,
    /// What must be and was not.
    pub(crate) faults: Vec<String>,
}

impl Run {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, figures: BTreeMap::new(), faults: Vec::new() }
    }

    /// It must be this.
    pub(crate) fn must(&mut self, what: &'static str, value: f64, wanted: f64) {
        self.figures.insert(what, value);
        if value != wanted {
            self.faults.push(format!("{}: {what} is {value}, not {wanted}", self.kind.name()));
        }
    }
}

impl Scenario {
    pub(crate) fn work(&self, scale: f64, seed: usize) -> Work {
        let count = ((self.count as f64 * scale) as usize).max(100);
        Work::new(self.keys, count, seed as u64)
    }

    pub(crate) fn desk(&self) -> Result<Desk> {
        Desk::start(self.latency, 0)
    }

    /// The configuration of a contestant.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("DESK__CONCURRENCY", self.concurrency.to_string())]
    }
}

/// All runs of a scenario.
pub(crate) async fn run(
    scenario: &Scenario,
    bootstrap: &str,
    (runs, scale): (usize, f64),
) -> Result<Vec<Run>> {
    let mut done = Vec::new();
    for number in 0..runs {
        for kind in scenario.kinds {
            eprintln!("bench: {}, run {} of {runs}: {}", scenario.name, number + 1, kind.name());
            let work = scenario.work(scale, number);
            done.push(match scenario.flow {
                Flow::Backlog => drain(scenario, bootstrap, (*kind, &work)).await?,
                Flow::Open(part) => open(scenario, bootstrap, (*kind, &work, part)).await?,
                Flow::Special(special) => {
                    scenarios::special(special, scenario, bootstrap, (&work, scale)).await?
                }
            });
        }
    }
    Ok(done)
}

/// A run that does not count, for the broker's sake.
pub(crate) async fn warm_up(bootstrap: &str, scale: f64) -> Result<()> {
    let scenario = Scenario { latency: Duration::ZERO, ..scenarios::all().swap_remove(0) };
    drain(&scenario, bootstrap, (Kind::Plain, &scenario.work(scale, 0))).await?;
    Ok(())
}

/// Drain a backlog that is there.
async fn drain(scenario: &Scenario, bootstrap: &str, (kind, work): (Kind, &Work)) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(work).await;
    let desk = scenario.desk()?;
    let mut contestant = Contestant::start(kind, &topics, &desk, &scenario.settings())?;
    let mut watch = topics.watch();
    let bound = work.bound(scenario.concurrency, scenario.latency);
    let limit = bound + PATIENCE;
    let first = answered(&mut contestant, &mut watch, (1, limit)).await?;
    let (cpu, begun) = (contestant.cpu()?, Instant::now());
    answered(&mut contestant, &mut watch, (work.events.len(), limit)).await?;
    let cpu = contestant.cpu()? - cpu;
    let looked = begun.elapsed();
    let mut run = Run::new(kind);
    let rest = work.events.len().saturating_sub(first).max(1) as f64;
    run.figures.insert("cpu_ms_per_event", cpu.as_secs_f64() * 1e3 / rest);
    run.figures.insert("cpu_cores", cpu.as_secs_f64() / looked.as_secs_f64());
    let outcomes = finish(&mut run, &mut contestant, (&topics, &desk, work.events.len())).await?;
    // The first call began one latency before the first answer.
    let latency = desk.took().await?;
    let took = outcomes.span_s() + latency.as_secs_f64();
    run.figures.insert("events_per_second", work.events.len() as f64 / took);
    run.figures.insert("desk_took_ms", latency.as_secs_f64() * 1e3);
    if !bound.is_zero() {
        let bound = work.bound(scenario.concurrency, latency);
        run.figures.insert("percent_of_bound", 100.0 * bound.as_secs_f64() / took);
    }
    if scenario.keys == Keys::Zipf {
        let (hottest, calls) = work.hottest();
        let gaps = sorted(desk.gaps(&hottest).await?.iter().map(|gap| gap.as_secs_f64() * 1e3));
        run.figures.insert("hot_calls", calls as f64);
        run.figures.insert("hot_gap_p50_ms", quantile(&gaps, 0.5));
        run.figures.insert("hot_gap_p99_ms", quantile(&gaps, 0.99));
        run.figures.insert("hot_gap_max_ms", quantile(&gaps, 1.0));
    }
    Ok(run)
}

/// Events that come one by one, each at its time, whoever is slow.
async fn open(
    scenario: &Scenario,
    bootstrap: &str,
    (kind, work, part): (Kind, &Work, f64),
) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    let desk = scenario.desk()?;
    let mut contestant = Contestant::start(kind, &topics, &desk, &scenario.settings())?;
    let mut watch = topics.watch();
    let rate = part * scenario.concurrency as f64 / scenario.latency.as_secs_f64();
    let all = Work::new(scenario.keys, WARM + work.events.len(), 1);
    let feed = topics.feed(&all, Some((WARM, rate)));
    let watching = async {
        answered(&mut contestant, &mut watch, (WARM, PATIENCE)).await?;
        let cpu = contestant.cpu()?;
        answered(&mut contestant, &mut watch, (all.events.len(), PATIENCE)).await?;
        anyhow::Ok(cpu)
    };
    let (times, cpu) = tokio::join!(feed, watching);
    let cpu = cpu?;
    let cpu = contestant.cpu()? - cpu;
    let mut run = Run::new(kind);
    let count = work.events.len();
    run.figures.insert("cpu_ms_per_event", cpu.as_secs_f64() * 1e3 / count as f64);
    run.figures.insert("events_per_second", rate);
    let outcomes = finish(&mut run, &mut contestant, (&topics, &desk, WARM + count)).await?;
    let latency = desk.took().await?;
    run.figures.insert("desk_took_ms", latency.as_secs_f64() * 1e3);
    let latency_us = latency.as_micros() as f64;
    let waits = times.iter().enumerate().filter_map(|(number, sent)| {
        let at = outcomes.at_us.get(&(WARM + number))?;
        Some(((at - sent) as f64 - latency_us) / 1e3)
    });
    let waits = sorted(waits);
    for (name, part) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p99.9_ms", 0.999), ("max_ms", 1.0)] {
        run.figures.insert(name, quantile(&waits, part));
    }
    Ok(run)
}

/// Wait for so many outcomes; how many there are then.
pub(crate) async fn answered(
    contestant: &mut Contestant,
    watch: &mut Watch,
    (wanted, limit): (usize, Duration),
) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let outcomes = watch.outcomes().await;
        if outcomes >= wanted {
            return Ok(outcomes);
        }
        contestant.check()?;
        let name = contestant.kind.name();
        ensure!(begun.elapsed() < limit, "{name}: {outcomes} of {wanted} answered in {limit:?}");
        sleep(LOOK).await;
    }
}

/// Stop it, and see that all is as it must be.
async fn finish(
    run: &mut Run,
    contestant: &mut Contestant,
    (topics, desk, count): (&Topics, &Desk, usize),
) -> Result<Outcomes> {
    run.figures.insert("peak_rss_mib", contestant.memory()?.1);
    let stopped = contestant.stop().await?;
    run.figures.insert("stop_ms", stopped.as_secs_f64() * 1e3);
    let stats = desk.stats().await?;
    let outcomes = Outcomes::read(topics).await?;
    check(run, &stats, (&outcomes, count));
    run.must("uncommitted", uncommitted(topics).await as f64, 0.0);
    Ok(outcomes)
}

/// Each event once and in order, with one call.
pub(crate) fn check(run: &mut Run, stats: &DeskStats, (outcomes, count): (&Outcomes, usize)) {
    run.must("answered", outcomes.at_us.len() as f64, count as f64);
    run.must("doubled", outcomes.doubled as f64, 0.0);
    run.must("inversions", outcomes.inversions as f64, 0.0);
    run.must("overlaps", stats.overlapping_calls as f64, 0.0);
    let calls = stats.of(ApiCommand::Transfer).calls + stats.of(ApiCommand::State).calls;
    run.must("calls_per_event", calls as f64 / count as f64, 1.0);
}
