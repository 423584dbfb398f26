//! The ledger's database is away, or refuses: nothing begins, nothing is lost, it goes on by itself.
//!
//! This file never restarts a worker to make it go on.

use std::time::Duration;

use handoff::sim::desk::{Command, Options};
use tokio::time::sleep;

use crate::support::postgres::Server;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

async fn publish(world: &World, ids: std::ops::Range<usize>) {
    world.publish(ids.map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_stops_and_starts_and_nobody_restarts_the_worker() {
    let server = Server::start().await;
    let mut world = World::new("db-away", 2, Options::default()).await;
    let port = free_port();
    world.set("LEDGER__URL", server.url());
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    publish(&world, 0..50).await;
    world.outcomes(50).await;
    server.stop().await;
    publish(&world, 50..150).await;
    sleep(Duration::from_secs(8)).await;
    let calls = world.desk.stats().of(Command::Transfer).calls;
    assert_eq!(calls, 50, "no act without the intent written down");
    let (status, text) = ask_admin(port, "ready").await;
    assert_eq!(status, 503);
    assert!(text.contains("the ledger does not work"), "{text}");
    assert_eq!(ask_admin(port, "health").await.0, 200, "waiting is not being stuck");
    server.start_again().await;
    let answered = by_event(world.outcomes(150).await);
    assert_eq!(answered.len(), 150);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    assert_eq!(ask_admin(port, "ready").await.0, 200);
    assert!(worker.log().contains("the ledger works again"), "{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().of(Command::Transfer).calls, 150, "and nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_on_the_same_file_is_refused() {
    let world = World::new("second", 2, Options::default()).await;
    let first = world.process();
    publish(&world, 0..5).await;
    world.outcomes(5).await;
    let mut second = world.process();
    assert_eq!(second.wait().await.code(), Some(69), "{}", second.log());
    assert!(second.log().contains("ledger"), "{}", second.log());
    publish(&world, 5..10).await;
    world.outcomes(10).await;
    first.terminate().await;
}
