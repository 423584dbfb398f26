//! No secret is exposed, however calls fail: everything the worker writes is searched, logs, topics,
//! metrics and the admin port.

use handoff::domain::usersig::sign;
use handoff::sim::desk::{
    ApiCommand, ConnectionOutage, DEMO_KEY, InjectedFault, SimulatedDeskSettings,
};
use secrecy::ExposeSecret as _;
use tokio::time::{Duration, sleep};

use crate::support::kafka::{Received, Record, read_to_end};
use crate::support::worker::{World, ask_admin, escalation, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn no_failing_call_exposes_a_secret() {
    let mut world = World::new("secrets", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("LOG__LEVEL", "trace").set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("DESK__TIMEOUT_MS", "500").set("DESK__CONNECT_TIMEOUT_MS", "300");
    world.set("DESK__SETTLE_MS", "200").set("DESK__PROBE_INITIAL_MS", "100");
    world.set("DESK__PROBE_MAX_MS", "100").set("ESCALATION__TIME_TO_LIVE_S", "12");
    world.set("ESCALATION__DOUBT_GRACE_S", "3");
    let faults = [
        InjectedFault::error(141_002),
        InjectedFault::error(70_001),
        InjectedFault::error(70_009),
        InjectedFault::error(60_012),
        InjectedFault::status(502),
        InjectedFault::status(302),
        InjectedFault::status(404),
        InjectedFault::garbage("<html>"),
        InjectedFault::close(),
        InjectedFault::lost_answer(),
        InjectedFault::hang(),
    ];
    let both = [ApiCommand::Transfer, ApiCommand::State];
    for (n, fault) in faults.iter().enumerate() {
        world.desk.schedule(fault.clone().session(format!("s-{n}")).commands(&both).times(3));
    }
    let worker = world.process();
    world
        .publish((0..faults.len()).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}"))))
        .await;
    world.publish_raw([Record::new("k", "poison")]).await;
    sleep(Duration::from_secs(4)).await;
    // Connections that are refused, too.
    world.desk.set_outage(ConnectionOutage::Refusing);
    world.publish([escalation("refused", "refused")]).await;
    sleep(Duration::from_secs(3)).await;
    let mut seen = String::new();
    for route in ["metrics", "status", "ready", "health"] {
        seen += &ask_admin(port, route).await.1;
    }
    world.desk.set_outage(ConnectionOutage::None);
    world.outcomes(faults.len() + 1).await;
    world.dead_letters(1).await;
    for topic in ["out", "dead"] {
        let records = read_to_end(&world.bootstrap, &world.topic(topic)).await;
        seen.extend(records.iter().map(all_bytes));
    }
    let log = worker.log();
    assert!(log.contains("called Desk"), "the log is at its most talkative:\n{log}");
    seen += &log;
    worker.terminate().await;

    let (identity, key) = world.desk.credentials();
    let signature =
        sign(&identity, &key, handoff::clock::Clock::system().now().as_second(), 604_800);
    // Signatures of the same identity begin alike.
    for secret in [DEMO_KEY, "usersig=", &signature.expose_secret()[..24]] {
        let place = seen.find(secret);
        assert_eq!(place, None, "{:?}", place.map(|at| &seen[at.saturating_sub(200)..at]));
    }
}

fn all_bytes(record: &Received) -> String {
    format!(
        "{:?} {:?} {:?}\n",
        record.key.as_deref().map(String::from_utf8_lossy),
        record.value.as_deref().map(String::from_utf8_lossy),
        record
            .headers
            .iter()
            .map(|(name, value)| { (name, value.as_deref().map(String::from_utf8_lossy)) })
            .collect::<Vec<_>>(),
    )
}
