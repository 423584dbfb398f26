//! Seeded simulation: the real `consume` and `deliver` in thousands of small worlds with a
//! simulated Kafka, Desk and ledger. Processes crash at any await point, are paused, and lose
//! replies and partitions.
//!
//! `HANDOFF_SIM_SEEDS=n` sets the number of worlds; `HANDOFF_SIM_SEED=s` replays one and prints its
//! trace. A world is determined by its seed; the clock is tokio's paused one. Read next:
//! [`schedule`] (what a seed decides), [`world`] (what all processes share), [`checks`] (the promises).

mod budget;
mod checks;
mod desk;
mod draining;
mod forgotten;
mod kafka;
mod mutations;
mod operator;
mod outdated;
mod ports;
mod process;
mod rooms;
mod schedule;
mod world;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::mutations::Mutation;
use self::schedule::{NARROW, Schedule};
use self::world::{SimWorld, lock};

const SEEDS: u64 = 2000;
/// Of [narrow](schedule::NARROW) worlds.
const NARROW_SEEDS: u64 = 300;
/// Each mutation must be detected within this many seeds.
const MUTATED_SEEDS: u64 = 1000;

struct RunResult {
    seed: u64,
    violations: Vec<String>,
    trace: Vec<String>,
}

/// Run the world of a seed to its end.
fn simulate(seed: u64, mutation: Option<Mutation>, traced: bool) -> RunResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = SimWorld::new(Schedule::new(seed), mutation, traced);
        run(&world).await;
        RunResult { seed, violations: world.violations(), trace: world.trace() }
    })
}

async fn run(world: &Arc<SimWorld>) {
    world.log(|| format!("{:#?}", world.schedule));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(kafka::run_coordinator(world.clone()));
    tasks.spawn(kafka::publish_inputs(world.clone()));
    tasks.spawn(operator::run(world.clone()));
    let mut instances = JoinSet::new();
    for slot in 0..world.schedule.instances {
        instances.spawn(process::run_instance(world.clone(), slot, stop.clone()));
    }
    let horizon = world.clock().instant(world.schedule.horizon());
    let last_input = world.schedule.inputs.last().map_or(Duration::ZERO, |input| input.at);
    while Instant::now() < horizon && world.violations().is_empty() {
        sleep(Duration::from_secs(1)).await;
        forgotten::check(world);
        rooms::check_tried(world);
        let all_published = Instant::now() > world.clock().instant(last_input);
        if world.faults_are_over()
            && all_published
            && lock(&world.kafka).all_committed()
            && world.nothing_is_unfinished()
        {
            // Long enough for calls and messages in flight to arrive and break a promise.
            sleep(Duration::from_secs(12)).await;
            break;
        }
    }
    stop.cancel();
    while let Some(ended) = instances.join_next().await {
        ended.unwrap();
    }
    tasks.shutdown().await;
    if world.violations().is_empty() {
        checks::check_end(world);
        operator::check_end(world);
        budget::check(world).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the number of seeds comes from the environment")]
fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The result of the lowest seed found that breaks a promise, and the number of seeds tried.
fn search(mutation: Option<Mutation>, seeds: Range<u64>) -> (Option<RunResult>, u64) {
    let next = AtomicU64::new(seeds.start);
    let found = parking_lot::Mutex::new(None::<RunResult>);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock(&found).is_some() {
                return;
            }
            let result = simulate(seed, mutation, false);
            let mut found = lock(&found);
            // Threads finish out of order: the lowest seed is the one to report.
            if !result.violations.is_empty() && found.as_ref().is_none_or(|f| f.seed > seed) {
                *found = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (found.into_inner(), next.load(Ordering::Relaxed).min(seeds.end) - seeds.start)
}

fn report(seed: u64, mutation: Option<Mutation>) -> String {
    let result = simulate(seed, mutation, true);
    let (trace, violations) = (result.trace.join("\n"), result.violations.join("\n"));
    format!(
        "{trace}\n\nseed {seed} breaks a promise:\n{violations}\n\nreplay it: HANDOFF_SIM_SEED={seed} \
         cargo test --test it simulation::every_promise"
    )
}

#[test]
fn every_promise_holds_in_every_world() {
    if let Some(seed) = number_from_env("HANDOFF_SIM_SEED") {
        let result = simulate(seed, None, true);
        println!("{}", result.trace.join("\n"));
        assert!(result.violations.is_empty(), "{:#?}", result.violations);
        return;
    }
    let seeds = number_from_env("HANDOFF_SIM_SEEDS").unwrap_or(SEEDS);
    if let (Some(result), _) = search(None, 0..seeds) {
        panic!("{}", report(result.seed, None));
    }
}

#[test]
fn every_promise_holds_within_a_session() {
    if let (Some(result), _) = search(None, NARROW..NARROW + NARROW_SEEDS) {
        panic!("{}", report(result.seed, None));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..30 {
        let (one, two) = (simulate(seed, None, true), simulate(seed, None, true));
        let differ = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
    }
}

#[test]
fn every_mutation_is_detected() {
    for mutation in Mutation::ALL {
        let (found, tried) = search(Some(mutation), 0..MUTATED_SEEDS);
        let found =
            found.unwrap_or_else(|| panic!("{mutation:?} is not detected in {tried} seeds"));
        println!("{mutation:?}: seed {}, {}", found.seed, found.violations[0]);
    }
}
