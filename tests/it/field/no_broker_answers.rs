//! All brokers are gone, and `/ready` says 200: with the classic protocol for as long as it lasted,
//! also on an instance that had no partition.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::{Instant, sleep};

use super::beside::until;
use crate::support::kafka::Broker;
use crate::support::stalls::Stalls;
use crate::support::worker::{World, ask_admin, free_port};

const LIMIT: Duration = Duration::from_secs(30);

/// The instances of a group: one per protocol of its own, and a standby.
#[tokio::test(flavor = "multi_thread")]
async fn every_instance_says_so_and_is_ready_again_by_itself() {
    let mut broker = Broker::start().await;
    let mut world =
        World::on(broker.bootstrap(), "silent", 1, SimulatedDeskSettings::default()).await;
    let group = world.name.clone();
    let mut workers = Vec::new();
    for (group, protocol) in
        [(&group, "classic"), (&group, "classic"), (&world.topic("k"), "consumer")]
    {
        let port = free_port();
        let ledger = tempfile::tempdir().unwrap();
        world.set("KAFKA__GROUP_ID", group).set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", protocol);
        let url = format!("sqlite://{}", ledger.path().join("l.db").display());
        world.set("LEDGER__URL", &url);
        workers.push((world.process(), port, ledger));
    }
    for (_, port, _) in &workers {
        // Not up yet for a moment.
        sleep(Duration::from_secs(2)).await;
        let ready = async || ask_admin(*port, "ready").await.0 == 200;
        until("it is ready, with or without a partition", ready).await;
    }
    broker.kill().await;
    let (gone, stalls) = (Instant::now(), Stalls::begin());
    for (worker, port, _) in &workers {
        let said = async || {
            let (status, text) = ask_admin(*port, "ready").await;
            status == 503 && text.contains("no broker answers")
        };
        until("it is not ready", said).await;
        println!("not ready after {:?}", gone.elapsed());
        assert!(gone.elapsed() < LIMIT + stalls.total(), "{:?}", gone.elapsed());
        let lines = || worker.log().matches("not ready: events cannot be answered").count();
        until("it is logged", async || lines() > 0).await;
        assert_eq!(lines(), 1, "{}", worker.log());
        assert_eq!(ask_admin(*port, "health").await.0, 200, "a restart would not help");
    }
    broker.start_again().await;
    let (back, stalls) = (Instant::now(), Stalls::begin());
    for (worker, port, _) in workers {
        let ready = async || ask_admin(port, "ready").await.0 == 200;
        until("it is ready again", ready).await;
        println!("ready after {:?}", back.elapsed());
        let limit = LIMIT + stalls.total();
        assert!(back.elapsed() < limit, "{:?}\n{}", back.elapsed(), worker.log());
        worker.terminate().await;
    }
}
