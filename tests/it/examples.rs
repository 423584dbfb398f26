//! The programs under `examples/`, each run as its head says, against the service on a real Kafka.
//!
//! pip and npm fetch the clients that they name into `target/tmp`, once.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::process::Command;

use crate::support::worker::{TIME_LIMIT, World};

/// The longest example, in lines: a newcomer reads it in one go.
const MAX_LINES: usize = 40;

#[tokio::test]
async fn an_escalation_from_python_is_answered_to_python() {
    let folder = copied("python");
    let python = folder.join("venv/bin/python");
    if !python.exists() {
        must_run("python3", &["-m", "venv", "venv"], &folder).await;
    }
    must_run("venv/bin/pip", &["install", "--quiet", "-r", "requirements.txt"], &folder).await;
    check(python.to_str().unwrap(), &folder, "py").await;
}

#[tokio::test]
async fn an_escalation_from_node_is_answered_to_node() {
    let folder = copied("node");
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

/// Copies an example's folder, because its clients are installed beside it.
fn copied(language: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(language);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(language);
    std::fs::create_dir_all(&to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the example's folder") {
        let file = file.expect("an entry");
        if file.file_type().expect("a type").is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }
    to
}

async fn must_run(program: &str, args: &[&str], folder: &Path) {
    output(command(program, args, folder)).await;
}

#[expect(clippy::disallowed_methods, reason = "the programs run with the caller's own PATH")]
fn command(program: &str, args: &[&str], folder: &Path) -> Command {
    // A path with a slash is meant from the folder, as in a shell there.
    let program = if program.contains('/') { folder.join(program) } else { program.into() };
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    // scripts/setup puts Node.js here where the system's is too old.
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node/node_modules/.bin");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", node.display()));
    command
}

/// Returns what a command printed; it must end in time and succeed.
async fn output(mut command: Command) -> String {
    let what = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await;
    let output: Output = output
        .unwrap_or_else(|_| panic!("{what} does not end"))
        .unwrap_or_else(|error| panic!("{what}: {error}; scripts/setup installs it"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
