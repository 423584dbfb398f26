//! `handoff publish` stamped a record half a second before it could be sent: the time that an
//! idempotent producer needs before its first send. An escalation aged before it existed.

use handoff::clock::Clock;
use handoff::sim::desk::SimulatedDeskSettings;

use crate::support::kafka::read_to_end;
use crate::support::worker::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_published_record_is_stamped_when_it_is_sent() {
    let world = World::new("stamp", 1, SimulatedDeskSettings::default()).await;
    let mut ages = Vec::new();
    // A busy machine can delay one run; it can make none faster.
    for n in 0..5 {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_handoff"))
            .args(["publish", "--session", "s"])
            .env_clear()
            .envs(world.env())
            .output()
            .await
            .expect("the command runs");
        assert!(output.status.success(), "{output:?}");
        let now = Clock::system().now().as_millisecond();
        let records = read_to_end(&world.bootstrap, &world.topic("in")).await;
        ages.push(now - records[n].timestamp.expect("a time"));
    }
    println!("from the timestamp to the end of the command: {ages:?} ms");
    assert!(ages.iter().min() < Some(&300), "{ages:?}");
}
