//! Hundreds of outcomes of one session are stored and not published when the worker is killed or paused.
//!
//! Each was once looked up when its turn in the session came, and each lookup read the last minutes of
//! the topic again: 600 of them took a quarter of an hour. After a kill those past their deadlines
//! waited for no turn, and were published in another order.

use std::time::Duration;

use handoff::sim::desk::{LatencyRange, SimulatedDeskSettings};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::beside::until;
use crate::support::kafka::{Record, alter_topic, produce, read_to_end};
use crate::support::worker::{Process, World, ask_admin, by_event, escalation, free_port};

const OF_EACH: usize = 150;
/// What is in the topic already, of the last five minutes.
const OTHERS: usize = 20_000;
/// From the first escalation to the deadlines of a session.
const SOON: Duration = Duration::from_secs(12);
/// Longer than the lease lasts without a poll.
const PAUSE: Duration = Duration::from_secs(8);
/// Those that arrive while the topic is read share the next reading.
const READINGS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn stored_outcomes_of_a_session_share_readings_of_the_topic_and_keep_their_order() {
    let pile = Pile::new("stored").await;
    let (deadline, past) = (soon(), Instant::now() + SOON);
    let worker = pile.store(&deadline).await;
    worker.kill().await;
    sleep_until(past).await;
    pile.accept().await;
    let worker = pile.world.process();
    pile.assert_published(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn outcomes_that_wait_for_others_during_a_pause_share_readings_of_the_topic() {
    let pile = Pile::new("waiting").await;
    let worker = pile.store(&soon()).await;
    worker.signal("STOP");
    pile.accept().await;
    sleep(PAUSE).await;
    worker.signal("CONT");
    pile.assert_published(worker).await;
}

/// Outcomes of two sessions, which their topic refuses at first.
struct Pile {
    world: World,
    port: u16,
}

impl Pile {
    async fn new(name: &str) -> Self {
        let settings = SimulatedDeskSettings {
            latency: LatencyRange::exactly(2),
            sessions_return: true,
            ..SimulatedDeskSettings::default()
        };
        let (mut world, port) = (World::new(name, 2, settings).await, free_port());
        world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
        world.set("LOG__LEVEL", "info,handoff=debug");
        let others = (0..OTHERS).map(|n| Record::new(format!("other-{n}"), vec![b'x'; 300]));
        produce(&world.bootstrap, &world.topic("out"), others).await;
        // A message is at least as old as its way to the broker.
        let refusing = [("message.timestamp.before.max.ms", "0")];
        alter_topic(&world.bootstrap, &world.topic("out"), &refusing).await;
        Self { world, port }
    }

    /// A worker that has stored all of them. Those of one session have this deadline.
    async fn store(&self, deadline: &str) -> Process {
        let worker = self.world.process();
        until("it has partitions", async || worker.log().contains("partitions assigned")).await;
        let event = |n, session: &str| escalation(&format!("{session}-{n}"), session);
        let late = (0..OF_EACH).map(|n| {
            let mut late = event(n, "late");
            late["expires_at"] = json!(deadline);
            late
        });
        self.world.publish(late.chain((0..OF_EACH).map(|n| event(n, "early")))).await;
        let unacknowledged = format!("handoff_outcomes_unacknowledged {}", 2 * OF_EACH);
        let is_stored = async || ask_admin(self.port, "metrics").await.1.contains(&unacknowledged);
        until("all outcomes are stored and refused", is_stored).await;
        worker
    }

    async fn accept(&self) {
        alter_topic(&self.world.bootstrap, &self.world.topic("out"), &[]).await;
    }

    /// They are published in order and once, and the topic was not read for each.
    async fn assert_published(&self, worker: Process) {
        let published = async || self.outcomes().await.len() >= 2 * OF_EACH;
        let waited = until("all are published", published).await;
        let readings = worker.log().matches("read a topic for messages").count();
        println!("{} outcomes after {waited:?} and {readings} readings", 2 * OF_EACH);
        assert!((1..=READINGS).contains(&readings), "{readings} readings");
        worker.terminate().await;
        let published = self.outcomes().await;
        for session in ["late", "early"] {
            let of_session = published.iter().filter(|outcome| outcome["session_id"] == session);
            let offsets: Vec<_> =
                of_session.map(|outcome| outcome["source"]["offset"].as_i64().unwrap()).collect();
            assert!(offsets.is_sorted(), "{session}: {offsets:?}");
        }
        // Fails where an event has two.
        assert_eq!(by_event(published).len(), 2 * OF_EACH);
        self.world.assert_all_committed().await;
    }

    async fn outcomes(&self) -> Vec<Value> {
        let records = read_to_end(&self.world.bootstrap, &self.world.topic("out")).await;
        let values = records.into_iter().filter_map(|record| record.value);
        let outcomes = values.filter(|value| value.starts_with(b"{"));
        outcomes.map(|value| serde_json::from_slice(&value).expect("an outcome is JSON")).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the worker's clock is the wall clock")]
fn soon() -> String {
    (jiff::Timestamp::now() + SOON).to_string()
}
