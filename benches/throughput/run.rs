//! The runs of a scenario: the contestants in turn.
//!
//! Contestants take turns (A B C A B C ..), so that a machine that slows down slows all of them.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::admin::{self, AdminLoad};
use crate::contestant::{Contestant, Kind};
use crate::kafka::Topics;
use crate::measure::{answered, finish};
use crate::numbers::{quantile, sorted};
use crate::scenario::{self, Beside, Flow, Run, Scenario};
use crate::special;
use crate::workload::{Keys, Work};

/// The time that a run may take beyond its bound.
const EXTRA_TIME: Duration = Duration::from_secs(180);
/// Events that warm everything up, before those that are measured.
const WARM: usize = 64;

/// All runs of a scenario.
pub(crate) async fn run(
    scenario: &Scenario,
    bootstrap: &str,
    runs: usize,
    scale: f64,
) -> Result<Vec<Run>> {
    let mut done = Vec::new();
    for number in 0..runs {
        for kind in scenario.kinds {
            eprintln!("bench: {}, run {} of {runs}: {}", scenario.name, number + 1, kind.name());
            let work = scenario.work(scale, number);
            done.push(match scenario.flow {
                Flow::Backlog => drain(scenario, bootstrap, *kind, &work).await?,
                Flow::Open(part) => open(scenario, bootstrap, *kind, &work, part).await?,
                Flow::Special(kind) => {
                    special::run(kind, scenario, bootstrap, &work, scale).await?
                }
            });
        }
    }
    Ok(done)
}

/// A run that is not counted: a broker that has just started is slow.
pub(crate) async fn warm_up(bootstrap: &str, scale: f64) -> Result<()> {
    let scenario = Scenario { latency: Duration::ZERO, ..scenario::all().swap_remove(0) };
    drain(&scenario, bootstrap, Kind::Plain, &scenario.work(scale, 0)).await?;
    Ok(())
}

/// Drains a backlog.
async fn drain(scenario: &Scenario, bootstrap: &str, kind: Kind, work: &Work) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    topics.fill(work).await;
    let mut desk = scenario.desk()?;
    let mut settings = scenario.settings();
    let mut load = None;
    match scenario.beside {
        Beside::Nothing => {}
        Beside::Tls => desk.put_behind_tls().await?,
        Beside::Admin => load = Some(AdminLoad::start(&mut settings, admin::BUSY)),
    }
    let mut contestant = Contestant::start(kind, &topics, &desk, &settings)?;
    let mut watch = topics.watch();
    let bound = work.bound(scenario.concurrency, scenario.latency);
    let limit = bound + EXTRA_TIME;
    let first = answered(&mut contestant, &mut watch, 1, limit).await?;
    let (cpu, begun) = (contestant.cpu()?, Instant::now());
    answered(&mut contestant, &mut watch, work.events.len(), limit).await?;
    let cpu = contestant.cpu()? - cpu;
    let looked = begun.elapsed();
    let mut run = Run::new(kind);
    if let Some(load) = load {
        run.figures.insert("admin_requests", load.answered() as f64);
    }
    let rest = work.events.len().saturating_sub(first).max(1) as f64;
    run.figures.insert("cpu_ms_per_event", cpu.as_secs_f64() * 1e3 / rest);
    run.figures.insert("cpu_cores", cpu.as_secs_f64() / looked.as_secs_f64());
    let outcomes = finish(&mut run, &mut contestant, &topics, &desk, work.events.len()).await?;
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

/// Events that arrive one by one at their due times, however slow the contestant is.
async fn open(
    scenario: &Scenario,
    bootstrap: &str,
    kind: Kind,
    work: &Work,
    part: f64,
) -> Result<Run> {
    let topics = Topics::create(bootstrap, scenario.name, scenario.partitions).await;
    let desk = scenario.desk()?;
    let mut contestant = Contestant::start(kind, &topics, &desk, &scenario.settings())?;
    let mut watch = topics.watch();
    let rate = part * scenario.concurrency as f64 / scenario.latency.as_secs_f64();
    let all = Work::new(scenario.keys, WARM + work.events.len(), 1);
    let feed = topics.feed(&all, Some((WARM, rate)));
    let watching = async {
        answered(&mut contestant, &mut watch, WARM, EXTRA_TIME).await?;
        let cpu = contestant.cpu()?;
        answered(&mut contestant, &mut watch, all.events.len(), EXTRA_TIME).await?;
        anyhow::Ok(cpu)
    };
    let (times, cpu) = tokio::join!(feed, watching);
    let cpu = cpu?;
    let cpu = contestant.cpu()? - cpu;
    let mut run = Run::new(kind);
    let count = work.events.len();
    run.figures.insert("cpu_ms_per_event", cpu.as_secs_f64() * 1e3 / count as f64);
    run.figures.insert("events_per_second", rate);
    let outcomes = finish(&mut run, &mut contestant, &topics, &desk, WARM + count).await?;
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
