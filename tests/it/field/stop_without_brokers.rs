//! SIGTERM while all brokers are gone. It took 21 to 60 s; an orchestrator kills after its grace period.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, LatencyRange, SimulatedDeskSettings};
use tokio::time::{Instant, sleep};

use super::beside::ten_others;
use crate::support::kafka::Broker;
use crate::support::stalls::Stalls;
use crate::support::worker::{Process, World, escalation};

const DRAIN: Duration = Duration::from_secs(4);
/// What docs/operations.md names for the grace period.
const OVERHEAD: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_brokers_ends_within_the_drain_budget_and_five_seconds() {
    let slow = InjectedFault::slow(LatencyRange { min_ms: 1_500, max_ms: 1_500 });
    stop_without_brokers(slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_brokers_while_desk_hangs_takes_no_longer() {
    stop_without_brokers(InjectedFault::hang()).await;
}

async fn stop_without_brokers(fault: InjectedFault) {
    let mut broker = Broker::start().await;
    let protocols = [
        ("PARTITION_ASSIGNMENT_STRATEGY", "range"),
        ("PARTITION_ASSIGNMENT_STRATEGY", "cooperative-sticky"),
        ("GROUP_PROTOCOL", "consumer"),
    ];
    let mut workers = Vec::new();
    for (key, value) in protocols {
        let settings = SimulatedDeskSettings::default();
        let mut world = World::on(broker.bootstrap(), value, 2, settings).await;
        world.set(&format!("KAFKA__CONSUMER_PROPERTIES__{key}"), value);
        world.set("DRAIN__TIMEOUT_MS", "4000").set("DESK__TIMEOUT_MS", "3000");
        let worker = world.process();
        ten_others(&world, "before").await;
        let fault = fault.clone().commands(&[ApiCommand::Transfer, ApiCommand::State]);
        let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
        world.desk.schedule(fault.times(0));
        world.publish((0..10).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
        while world.desk.stats().of(ApiCommand::Transfer).calls < calls + 10 {
            sleep(Duration::from_millis(20)).await;
        }
        // It keeps the simulated Desk running.
        workers.push((value, world, worker));
    }
    broker.kill().await;
    // Their outcomes find no broker.
    sleep(Duration::from_secs(2)).await;
    let stalls = Stalls::begin();
    let stops = workers.into_iter().map(|(name, world, worker)| async move {
        let took = stop(worker).await;
        println!("{name}: stopped within {took:?}");
        drop(world);
        (name, took)
    });
    for (name, took) in futures_util::future::join_all(stops).await {
        assert!(took < DRAIN + OVERHEAD + stalls.total(), "{name}: {took:?}");
    }
}

async fn stop(worker: Process) -> Duration {
    let begun = Instant::now();
    worker.terminate().await;
    begun.elapsed()
}
