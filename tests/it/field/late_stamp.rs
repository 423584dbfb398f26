//! `handoff publish` stamped a record half a second before it could be sent: the time that an
//! idempotent producer needs before its first send. An escalation aged before it existed, and a deadline
//! of `--expires-in` came that much too early.

use handoff::clock::Clock;
use handoff::sim::desk::SimulatedDeskSettings;
use serde_json::Value;

use crate::support::kafka::read_to_end;
use crate::support::worker::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_published_record_is_stamped_when_it_is_sent() {
    let world = World::new("stamp", 1, SimulatedDeskSettings::default()).await;
    let (mut ages, mut early) = (Vec::new(), Vec::new());
    // A busy machine can delay one run; it can make none faster.
    for n in 0..5 {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_handoff"))
            .args(["publish", "--session", "s", "--expires-in", "60s"])
            .env_clear()
            .envs(world.env())
            .output()
            .await
            .expect("the command runs");
        assert!(output.status.success(), "{output:?}");
        let now = Clock::system().now().as_millisecond();
        let records = read_to_end(&world.bootstrap, &world.topic("in")).await;
        let stamp = records[n].timestamp.expect("a time");
        ages.push(now - stamp);
        let event: Value = serde_json::from_slice(records[n].value.as_ref().unwrap()).unwrap();
        let expires: jiff::Timestamp = event["expires_at"].as_str().unwrap().parse().unwrap();
        early.push(stamp + 60_000 - expires.as_millisecond());
    }
    println!("from the timestamp to the end of the command: {ages:?} ms");
    assert!(ages.iter().min() < Some(&300), "{ages:?}");
    println!("the deadline is too early by {early:?} ms");
    // Between the two times nothing is waited for.
    early.sort_unstable();
    assert!(early[2] < 100, "in most of five runs: {early:?}");
}
