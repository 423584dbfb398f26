//! Permissions that nobody named: after a crash the look-up needs Read on the outcome topic. Without
//! it, a warning came each second for ever, `/ready` said 200, and `handoff check` was green. A topic
//! that may not be described was reported as missing.
//!
//! The service has a user of its own on a broker that checks permissions; the tests' own clients may
//! do everything.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::beside::{finals, not_ready, until};
use crate::support::kafka::{Broker, Record, Tools};
use crate::support::worker::{World, ask_admin, escalation, free_port};

const JAAS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                    user_handoff=\"s3cret\";";

/// A broker that knows the user `handoff`, and a world in which the workers are that user.
pub(super) async fn world(name: &str) -> (Broker, Tools, World) {
    let port = free_port();
    let listener = format!("SASL_PLAINTEXT://127.0.0.1:{port}");
    let (broker, tools) = Broker::start_with_tools(&[
        ("listeners", &listener),
        ("advertised.listeners", &listener),
        ("listener.security.protocol.map", "SASL_PLAINTEXT:SASL_PLAINTEXT"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("listener.name.sasl_plaintext.plain.sasl.jaas.config", JAAS),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
    ])
    .await;
    let mut world = World::on(broker.bootstrap(), name, 2, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__BOOTSTRAP_SERVERS", &format!("127.0.0.1:{port}"));
    world.set("KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_plaintext");
    world.set("KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN");
    world.set("KAFKA__PROPERTIES__SASL_USERNAME", "handoff");
    world.set("KAFKA__PROPERTIES__SASL_PASSWORD", "s3cret");
    (broker, tools, world)
}

/// Adds (or removes, with `--remove --force`) permissions of the service's user.
pub(super) async fn acl(tools: &Tools, bootstrap: &str, change: &[&str], resource: &[&str]) {
    let mut arguments = vec!["--bootstrap-server", bootstrap, "--allow-principal"];
    arguments.push("User:handoff");
    arguments.extend(change);
    arguments.extend(resource);
    tools.run("org.apache.kafka.tools.AclCommand", &arguments).await;
}

/// Exactly what docs/deployment.md lists as needed.
pub(super) async fn allow_what_is_documented(tools: &Tools, world: &World) {
    let (input, output, dead) = (world.topic("in"), world.topic("out"), world.topic("dead"));
    let read = ["--add", "--operation", "Read"];
    acl(tools, &world.bootstrap, &read, &["--topic", &input, "--group", &world.name]).await;
    let both = ["--add", "--operation", "Read", "--operation", "Write"];
    acl(tools, &world.bootstrap, &both, &["--topic", &output, "--topic", &dead]).await;
}

/// The exit code and the output of `handoff check --write`.
async fn check(world: &World) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_handoff"))
        .args(["check", "--write"])
        .env_clear()
        .envs(world.env())
        .output()
        .await
        .expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_suffice() {
    let (_broker, tools, mut world) = world("acl").await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let (code, found) = check(&world).await;
    println!("{found}");
    assert_eq!(code, Some(69), "{found}");
    assert!(!found.contains("does not exist") && found.contains("Describe is refused"), "{found}");

    let worker = world.process();
    let ready = not_ready(port, "authorization failed").await;
    assert!(!ready.contains("do not exist") && ready.contains("an ACL"), "{ready}");

    allow_what_is_documented(&tools, &world).await;
    let (code, found) = check(&world).await;
    println!("{found}");
    assert_eq!(code, Some(0), "{found}");
    let is_ready = async || ask_admin(port, "ready").await.0 == 200;
    until("it starts by itself", is_ready).await;
    world.publish([escalation("e", "s")]).await;
    world.publish_raw([Record::new("s", "not JSON")]).await;
    until("it is answered", async || finals(&world).await.contains_key("e")).await;
    // The other one is of the check.
    world.dead_letters(2).await;
    world.all_is_committed().await;

    // What is taken away while it runs.
    let input = world.topic("in");
    let read = ["--remove", "--force", "--operation", "Read"];
    acl(&tools, &world.bootstrap, &read, &["--topic", &input]).await;
    let refused = async || ask_admin(port, "ready").await.1.contains("cannot be read");
    let waited = until("it is not ready", refused).await;
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    acl(&tools, &world.bootstrap, &["--add", "--operation", "Read"], &["--topic", &input]).await;
    let waited = until("it is ready again", is_ready).await;
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_is_refused_is_told_once_and_found_by_check() {
    let (_broker, tools, mut world) = world("look-up").await;
    allow_what_is_documented(&tools, &world).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    // With the classic protocol the group would wait 45 s for the process that is killed.
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    let (output, dead) = (world.topic("out"), world.topic("dead"));
    let both = ["--topic", &output, "--topic", &dead];
    let read = ["--remove", "--force", "--operation", "Read"];
    acl(&tools, &world.bootstrap, &read, &both).await;
    let (code, found) = check(&world).await;
    assert_eq!(code, Some(69), "{found}");
    for topic in [&output, &dead] {
        let line = found.lines().find(|line| line.contains(&format!("reading {topic}")));
        let missing = format!("Read on Topic {topic:?}");
        let is_named = line.is_some_and(|l| l.starts_with("FAIL") && l.contains(&missing));
        assert!(is_named, "{missing}: {found}");
    }

    // An outcome and a dead letter that are stored and not acknowledged when the process ends.
    let write = ["--remove", "--force", "--operation", "Write"];
    acl(&tools, &world.bootstrap, &write, &both).await;
    let describe = ["--add", "--operation", "Describe"];
    acl(&tools, &world.bootstrap, &describe, &both).await;
    let worker = world.process();
    world.publish([escalation("e", "s")]).await;
    world.publish_raw([Record::new("k", "not JSON")]).await;
    let unacknowledged = "handoff_outcomes_unacknowledged 2";
    let is_running = async || worker.log().contains("message not published");
    until("it publishes", is_running).await;
    let wait = async || ask_admin(port, "metrics").await.1.contains(unacknowledged);
    until("both are refused", wait).await;
    worker.kill().await;
    let write = ["--add", "--operation", "Write"];
    acl(&tools, &world.bootstrap, &write, &both).await;

    let worker = world.process();
    // The group waits for the session of the killed process.
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    let ready = not_ready(port, "the operation Read on Topic").await;
    assert!(ready.contains("cannot be looked up"), "{ready}");
    sleep(Duration::from_secs(8)).await;
    let log = worker.log();
    assert_eq!(log.matches("not ready: events cannot be answered").count(), 1, "{log}");
    assert_eq!(log.matches("failed to look up").count(), 0, "{log}");
    let repaired = Instant::now();
    let read = ["--add", "--operation", "Read"];
    acl(&tools, &world.bootstrap, &read, &["--topic", &output]).await;
    until("it is answered", async || finals(&world).await.contains_key("e")).await;
    assert!(repaired.elapsed() < Duration::from_secs(30), "{:?}", repaired.elapsed());
    // The outcome does not wait for the right to read the other topic, which is still missing.
    let missing = format!("the operation Read on Topic {dead:?}");
    not_ready(port, &missing).await;
    acl(&tools, &world.bootstrap, &["--add", "--operation", "Read"], &["--topic", &dead]).await;
    // The other one is of the check.
    assert_eq!(world.dead_letters(2).await.len(), 2);
    until("it is ready", async || ask_admin(port, "ready").await.0 == 200).await;
    worker.terminate().await;
}
