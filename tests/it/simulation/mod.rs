//! Seeded simulation: the real `consume` and `deliver` in thousands of small worlds with a
//! simulated Kafka, Desk and ledger, where processes die at every await point, stand still, and
//! lose answers and partitions.
//!
//! `HANDOFF_SIM_SEEDS=n` says how many worlds, `HANDOFF_SIM_SEED=s` replays one and tells its
//! story. A world follows from its seed alone; no test here ever waits for a real clock.

mod checks;
mod desk;
mod instance;
mod kafka;
mod mutations;
mod plan;
mod ports;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::mutations::Mutation;
use self::plan::Plan;
use self::world::{World, lock};

const SEEDS: u64 = 2000;
/// A broken variant must be caught within so many.
const MUTATED_SEEDS: u64 = 500;

/// What became of a world.
struct Ended {
    seed: u64,
    faults: Vec<String>,
    story: Vec<String>,
}

/// A whole world, from its seed.
fn simulate(seed: u64, mutation: Option<Mutation>, told: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(Plan::new(seed), mutation, told);
        live_through(&world).await;
        Ended { seed, faults: world.faults(), story: world.story() }
    })
}

async fn live_through(world: &Arc<World>) {
    world.say(|| format!("{:#?}", world.plan));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(kafka::coordinate(world.clone()));
    tasks.spawn(kafka::feed(world.clone()));
    let mut instances = JoinSet::new();
    for slot in 0..world.plan.instances {
        instances.spawn(instance::instance(world.clone(), slot, stop.clone()));
    }
    let horizon = world.clock().at(world.plan.horizon());
    let fed = world.plan.inputs.last().map_or(Duration::ZERO, |input| input.at);
    while Instant::now() < horizon && world.faults().is_empty() {
        sleep(Duration::from_secs(1)).await;
        let fed = Instant::now() > world.clock().at(fed);
        if world.is_calm() && fed && lock(&world.broker).is_done() && world.nothing_is_open() {
            // Long enough for whatever is still out to come and do harm.
            sleep(Duration::from_secs(12)).await;
            break;
        }
    }
    stop.cancel();
    while let Some(ended) = instances.join_next().await {
        ended.unwrap();
    }
    tasks.shutdown().await;
    if world.faults().is_empty() {
        checks::at_end(world);
    }
}

#[expect(clippy::disallowed_methods, reason = "how much is simulated is asked of the environment")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The first seed that shows a fault, and how many were tried.
fn search(mutation: Option<Mutation>, seeds: u64) -> (Option<Ended>, u64) {
    let next = AtomicU64::new(0);
    let found = parking_lot::Mutex::new(None::<Ended>);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || lock(&found).is_some() {
                return;
            }
            let ended = simulate(seed, mutation, false);
            let mut found = lock(&found);
            if !ended.faults.is_empty() && found.as_ref().is_none_or(|f| f.seed > seed) {
                *found = Some(ended);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (found.into_inner(), next.load(Ordering::Relaxed).min(seeds))
}

fn tell(seed: u64, mutation: Option<Mutation>) -> String {
    let ended = simulate(seed, mutation, true);
    let (story, faults) = (ended.story.join("\n"), ended.faults.join("\n"));
    format!(
        "{story}\n\nseed {seed} breaks a promise:\n{faults}\n\nreplay it: HANDOFF_SIM_SEED={seed} \
         cargo test --test it simulation::every_promise"
    )
}

#[test]
fn every_promise_holds_in_every_world() {
    if let Some(seed) = asked("HANDOFF_SIM_SEED") {
        let ended = simulate(seed, None, true);
        println!("{}", ended.story.join("\n"));
        assert!(ended.faults.is_empty(), "{:#?}", ended.faults);
        return;
    }
    let seeds = asked("HANDOFF_SIM_SEEDS").unwrap_or(SEEDS);
    if let (Some(ended), _) = search(None, seeds) {
        panic!("{}", tell(ended.seed, None));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..30 {
        let (one, two) = (simulate(seed, None, true), simulate(seed, None, true));
        let differ = one.story.iter().zip(&two.story).find(|(one, two)| one != two);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(one.story.len(), two.story.len(), "seed {seed}");
    }
}

#[test]
fn every_broken_variant_is_caught() {
    for mutation in Mutation::ALL {
        let (found, tried) = search(Some(mutation), MUTATED_SEEDS);
        let found = found.unwrap_or_else(|| panic!("{mutation:?} is not caught in {tried} seeds"));
        println!("{mutation:?}: seed {}, {}", found.seed, found.faults[0]);
    }
}
