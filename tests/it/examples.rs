//! The programs under `examples/`, each run as its head says, against the service on a real Kafka.
//!
//! pip and npm fetch the clients that they name into `target/tmp`, once.

use std::path::Path;

use handoff::sim::desk::SimulatedDeskSettings;

use crate::support::programs::{command, copied, must_run, output};
use crate::support::worker::World;

/// The longest example, in lines: a newcomer reads it in one go.
const MAX_LINES: usize = 40;

#[tokio::test]
async fn an_escalation_from_python_is_answered_to_python() {
    let folder = copied("examples/python");
    let python = folder.join("venv/bin/python");
    if !python.exists() {
        must_run("python3", &["-m", "venv", "venv"], &folder).await;
    }
    must_run("venv/bin/pip", &["install", "--quiet", "-r", "requirements.txt"], &folder).await;
    check(python.to_str().unwrap(), &folder, "py").await;
}

#[tokio::test]
async fn an_escalation_from_node_is_answered_to_node() {
    let folder = copied("examples/node");
    must_run("npm", &["ci", "--no-audit", "--no-fund"], &folder).await;
    check("node", &folder, "mjs").await;
}

/// Publishes an escalation with one example and reads its outcome with the other.
async fn check(interpreter: &str, folder: &Path, extension: &str) {
    let world = World::new("examples", 2, SimulatedDeskSettings::default()).await;
    let worker = world.process();
    let run = |name: &str, argument: &str, topic: &str| {
        let file = format!("{name}.{extension}");
        let lines = std::fs::read_to_string(folder.join(&file)).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines");
        let mut command = command(interpreter, &[&file, argument], folder);
        command.env("KAFKA", &world.bootstrap).env("TOPIC", world.topic(topic));
        command.env("GROUP", format!("{}-bot", world.name));
        output(command)
    };
    let id = run("publish", "s-1", "in").await;
    let id = id.trim();
    let outcome = run("outcomes", id, "out").await.to_lowercase();
    let agent = outcome.trim().strip_prefix(&format!("{id} assigned true "));
    assert!(agent.is_some_and(|agent| agent.contains('@')), "{outcome}");
    worker.terminate().await;
}
