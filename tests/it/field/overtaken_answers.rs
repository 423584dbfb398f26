//! An answer is stored and not published when the worker is killed, and the next event of its session is
//! parked.
//!
//! The parked one was read in the ledger as soon as it was due, while the answer waited for Kafka to
//! deliver its record again: it was published first.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use tokio::time::sleep;

use super::beside::until;
use crate::support::kafka::alter_topic;
use crate::support::worker::{World, ask_admin, escalation, free_port};

const SESSION: &str = "s";
/// The parked event is due after this time: longer than it takes to see that it is parked.
const PARKED_FOR: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_event_does_not_overtake_the_stored_answer_ahead_of_it() {
    let mut world = World::new("overtaken", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("RETRY__INITIAL_MS", "10").set("RETRY__MAX_MS", "20");
    world.set("RETRY__PARK_MS", &PARKED_FOR.as_millis().to_string());
    // A message is at least as old as its way to the broker.
    let refusing = [("message.timestamp.before.max.ms", "0")];
    alter_topic(&world.bootstrap, &world.topic("out"), &refusing).await;

    let worker = world.process();
    world.publish([escalation("answered", SESSION)]).await;
    until("its answer is refused", async || worker.log().contains("message not published")).await;
    // A burst of quick attempts fails.
    let fault = InjectedFault::error(60_014).commands(&[ApiCommand::Transfer]);
    world.desk.schedule(fault.session(SESSION).times(4));
    world.publish([escalation("parked", SESSION)]).await;
    let parked = "handoff_parked_events{why=\"retry\"} 1";
    let metrics = async || ask_admin(port, "metrics").await.1;
    until("the second event is parked", async || metrics().await.contains(parked)).await;
    worker.kill().await;
    sleep(PARKED_FOR).await;

    alter_topic(&world.bootstrap, &world.topic("out"), &[]).await;
    let worker = world.process();
    let outcomes = world.outcomes(2).await;
    worker.terminate().await;
    let order: Vec<_> = outcomes.iter().map(|outcome| outcome["event_id"].as_str()).collect();
    assert_eq!(order, [Some("answered"), Some("parked")]);
    world.assert_all_committed().await;
}
