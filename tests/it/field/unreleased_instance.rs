//! The consumer client fails for good: its static member id is still held by the process before it,
//! or another process has joined with it.
//!
//! Once each of these ended the process, so that an orchestrator started it again and again: 33
//! times in the 45 s after which the group forgets a killed static member.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::{Instant, sleep};

use super::beside::until;
use crate::support::kafka::Broker;
use crate::support::postgres::schema;
use crate::support::worker::{Process, World, ask_admin, by_event, escalation, free_port};

const FAILED: &str = "Kafka consumer failed for good, replacing it";
/// The broker releases the id of a killed member after its session time-out, which is long enough for a
/// slow restart to find the id unreleased; the service asks at least every 5 s. The rest is the start, the
/// assignment and a busy machine.
const RELEASED: Duration = Duration::from_secs(15 + 5 + 9);
const SESSION_TIMEOUT: (&str, &str) = ("group.consumer.session.timeout.ms", "15000");

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_static_member_comes_back_without_an_exit() {
    let broker = Broker::start_with(&[SESSION_TIMEOUT]).await;
    let desk = SimulatedDeskSettings::default();
    let mut world = World::on(broker.bootstrap(), "unreleased", 2, desk).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "worker-1");
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let killed = world.process();
    world.publish([escalation("before", "before")]).await;
    world.outcomes(1).await;
    killed.kill().await;

    let (worker, begun) = (world.process(), Instant::now());
    world.publish([escalation("after", "after")]).await;
    until("the log says why", async || worker.log().contains(FAILED)).await;
    let (status, why) = ask_admin(port, "ready").await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("group.instance.id has not left the group"), "{why}");
    assert_eq!(ask_admin(port, "health").await.0, 200, "a restart would not help");
    let answered = by_event(world.outcomes(2).await);
    println!("answered {:?} after the start", begun.elapsed());
    assert_eq!(answered["after"]["status"], "assigned");
    assert!(begun.elapsed() < RELEASED, "answered after {:?}", begun.elapsed());
    assert_eq!(ask_admin(port, "ready").await.0, 200);
    let lines = worker.log().matches(FAILED).count() as u64;
    assert!(
        lines <= 1 + begun.elapsed().as_secs() / 10,
        "the line is throttled:\n{}",
        worker.log()
    );
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_id_wait_longer_and_longer() {
    let mut world = World::new("one-id", 2, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &schema().await);
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "worker-1");
    let ports = [free_port(), free_port()];
    let start = |world: &mut World, port: u16| {
        world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        world.process()
    };
    let first = start(&mut world, ports[0]);
    world.publish([escalation("e-0", "s-0")]).await;
    world.outcomes(1).await;
    let second = start(&mut world, ports[1]);
    let begun = Instant::now();
    let mut reasons = 0;
    for n in 1.. {
        let id = format!("e-{n}");
        world.publish([escalation(&id, &id)]).await;
        sleep(Duration::from_millis(500)).await;
        for port in ports {
            let (status, why) = ask_admin(port, "ready").await;
            let is_why = why.contains("another process has joined with the same group.instance.id");
            reasons += usize::from(status == 503 && is_why);
        }
        if begun.elapsed() > Duration::from_secs(12) {
            assert_eq!(by_event(world.outcomes(n + 1).await).len(), n + 1, "one of them answers");
            break;
        }
    }
    assert!(reasons > 0, "/ready of the fenced one says why");
    let joins = |process: &Process| process.log().matches("joining the group").count();
    let joined = (joins(&first), joins(&second));
    println!("joined {joined:?} times");
    // Without back-off each would join once or more per second.
    assert!((3..=12).contains(&(joined.0 + joined.1)), "{joined:?}:\n{}", first.log());
    first.terminate().await;
    second.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_static_member_that_did_not_poll_for_too_long_comes_back() {
    for protocol in ["consumer", "classic"] {
        let mut world = World::new("poll-gap", 2, SimulatedDeskSettings::default()).await;
        world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", protocol);
        world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "worker-1");
        world.set("KAFKA__CONSUMER_PROPERTIES__MAX_POLL_INTERVAL_MS", "12000");
        world.set("DRAIN__TIMEOUT_MS", "1000");
        if protocol == "classic" {
            world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
        }
        let worker = world.process();
        world.publish([escalation("before", "before")]).await;
        world.outcomes(1).await;
        worker.signal("STOP");
        sleep(Duration::from_secs(14)).await;
        worker.signal("CONT");
        world.publish([escalation("after", "after")]).await;
        let begun = Instant::now();
        assert_eq!(by_event(world.outcomes(2).await).len(), 2);
        println!("{protocol}: answered {:?} after the pause", begun.elapsed());
        assert!(begun.elapsed() < RELEASED, "{protocol}: {:?}", begun.elapsed());
        worker.terminate().await;
    }
}
