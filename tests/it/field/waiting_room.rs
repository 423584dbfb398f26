//! Hundreds of people wait for a group where nobody is online.
//!
//! Once each of them was retried on a timer of its own: of 3,000 people at a quota of 100/s the
//! oldest 1,485 took the whole quota for ever, 1,515 never got even their interim outcome, and ten
//! events for a staffed group got nothing.

use std::time::Duration;

use handoff::sim::desk::{Agent, ApiCommand, SimulatedDeskSettings, StaffChange};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::beside::{BESIDE, finals, outcomes, ten_others, until};
use crate::support::postgres;
use crate::support::stalls::Stalls;
use crate::support::worker::{Process, World, decided_at, escalation};

const WAITING: usize = 400;
const INTERVAL: Duration = Duration::from_secs(2);
const INTERVALS: u32 = 4;
/// Slow start doubles with each round of calls: nine rounds for all, on a machine that runs other
/// tests too.
const SLOW_START: Duration = Duration::from_secs(18);

const ROUTES: &str = r#"
[[routes]]
name = "night"
when = { room = "night" }
targets = [{ group = 8 }]
default_target = false
while_nobody_online = "keep_trying"
retry_ms = [2000]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn one_probe_per_interval_goes_out_for_all_who_wait() {
    let world = world("room", 1).await;
    let worker = world.process();
    wait_and_be_assigned(&world, 1).await;
    // One partition, so their order is known: the oldest was the probe. Each round of the slow start
    // takes the oldest that are left; within a round the gate may prefer the newest.
    let mut assigned: Vec<_> = finals(&world).await.into_values().filter(is_waiting).collect();
    assigned.sort_by_key(decided_at);
    let numbers: Vec<usize> = assigned.iter().map(number).collect();
    // The first are claimed within a millisecond, in any order.
    assert!(numbers[0] < 64, "the probe was the oldest: {numbers:?}");
    // The rounds of 1, 2, 4, 8 and 16. Later ones are in work at the same time.
    let first = &numbers[..31];
    assert!(first.iter().all(|number| *number < WAITING / 4), "oldest first: {numbers:?}");
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_send_one_probe_each() {
    let mut world = world("room-pg", 4).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    let workers = [world.process(), world.process()];
    for worker in &workers {
        let assigned = async || worker.log().contains("partitions assigned");
        until("both have partitions", assigned).await;
    }
    wait_and_be_assigned(&world, 2).await;
    for worker in workers {
        Process::terminate(worker).await;
    }
}

async fn world(name: &str, partitions: i32) -> World {
    let night = Agent { group: Some(8), online: false, ..Agent::new("ben@x") };
    let agents = vec![Agent::new("anna@x"), night];
    let settings = SimulatedDeskSettings { agents, ..SimulatedDeskSettings::default() };
    let world = World::new(name, partitions, settings).await;
    world.configure(ROUTES);
    world
}

async fn wait_and_be_assigned(world: &World, instances: u64) {
    let person = |n: usize| {
        let mut event = escalation(&format!("w-{n}"), &format!("w-{n}"));
        event["attributes"] = json!({"room": "night"});
        event
    };
    world.publish((0..WAITING).map(person)).await;
    let interims = async || outcomes(world).await.len() >= WAITING;
    let took = until("each has its interim outcome", interims).await;
    println!("{WAITING} interim outcomes after {took:?}");
    sleep(INTERVAL).await;
    let transfers = || world.desk.stats().of(ApiCommand::Transfer).calls;
    let before = transfers();
    sleep(INTERVAL * INTERVALS).await;
    let probes = transfers() - before;
    println!("{probes} calls in {INTERVALS} intervals");
    // One interval more can begin within this time.
    let most = u64::from(INTERVALS + 1) * instances;
    assert!((2..=most).contains(&probes), "{probes} calls in {INTERVALS} intervals");
    let waited = ten_others(world, "beside").await;
    assert!(waited < BESIDE, "{waited:?}");

    world.desk.change_staff(&StaffChange::group(8, true));
    let (online, stalls) = (Instant::now(), Stalls::begin());
    let all = async || finals(world).await.len() == WAITING + 10;
    until("all are answered", all).await;
    let took = online.elapsed();
    println!("all assigned {took:?} after the agent came online");
    assert!(took < INTERVAL + SLOW_START + stalls.total(), "{took:?}");
    let outcomes = outcomes(world).await;
    let interims = outcomes.iter().filter(|outcome| outcome["final"] == false).count();
    assert_eq!(interims, WAITING, "one interim outcome each");
    assert!(finals(world).await.values().all(|outcome| outcome["status"] == "assigned"));
    let stats = world.desk.stats();
    assert_eq!((stats.transferred_again, stats.overlapping_calls), (0, 0));
}

fn is_waiting(outcome: &Value) -> bool {
    outcome["route"] == "night"
}

fn number(outcome: &Value) -> usize {
    let id = outcome["event_id"].as_str().unwrap();
    id.strip_prefix("w-").unwrap().parse().unwrap()
}
