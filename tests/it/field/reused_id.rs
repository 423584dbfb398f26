//! A bot that uses the conversation's id as the id of each escalation: only the first is answered.
//!
//! Once an info line was all that an operator could see of it.

use std::time::Duration;

use handoff::clock::Clock;
use handoff::sim::desk::SimulatedDeskSettings;

use super::beside::until;
use crate::support::kafka::{Record, alter_topic};
use crate::support::worker::{World, ask_admin, escalation, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_counted_and_a_late_one_is_a_warning() {
    let mut world = World::new("reused", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    world.publish([escalation("c-1", "s-1"), escalation("c-1", "s-1")]).await;
    world.outcomes(1).await;
    let counted = async |expected: u32| {
        let metrics = ask_admin(port, "metrics").await.1;
        metrics.contains(&format!("\nhandoff_duplicates_total {expected}\n"))
    };
    until("the repeat is counted", async || counted(1).await).await;
    let late = "event id used again long after its answer; not answered again";
    assert!(!worker.log().contains(late), "a repeat of its publisher:\n{}", worker.log());

    // By default a broker refuses times more than an hour ahead.
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807")];
    alter_topic(&world.bootstrap, &world.topic("in"), &any_time).await;
    let tomorrow = Clock::system().now() + Duration::from_secs(24 * 3600);
    let again = escalation("c-1", "s-1").to_string();
    let again = Record { timestamp: Some(tomorrow.as_millisecond()), ..Record::new("s-1", again) };
    world.publish_raw([again]).await;
    until("the late one is counted", async || counted(2).await).await;
    until("it is logged", async || worker.log().contains(late)).await;
    let log = worker.log();
    let line = log.lines().find(|line| line.contains(late)).expect("a warning");
    assert!(line.contains(" WARN "), "{line}");
    assert!(line.contains(&format!("first={}/0/0", world.topic("in"))), "{line}");
    world.outcomes(1).await;
    worker.terminate().await;
    world.assert_all_committed().await;
}
