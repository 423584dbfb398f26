//! A newcomer's way to the first outcome: the blocks of shell of `docs/quick-start.md` and of the
//! recipe for Rasa, run as they stand, with free ports and the test's own topics.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::TestTopics;
use crate::recipes::{blocks, write_files};
use crate::support::kafka::shared;
use crate::support::worker::free_port;

#[tokio::test]
async fn the_quick_start_ends_in_an_assigned_outcome() {
    let printed = run("docs/quick-start.md").await;
    assert!(printed.contains("assigned s-1 "), "{printed}");
}

#[tokio::test]
async fn the_rasa_record_of_the_recipe_ends_in_an_assigned_outcome() {
    let printed = run("docs/recipes/rasa.md").await;
    assert!(printed.contains("assigned s-1 agent-2473@desk.example"), "{printed}");
    assert!(!printed.contains("ignored by the service"), "{printed}");
}

/// Runs the page's only block of shell in a folder with the page's files. Returns what it prints, with
/// single blanks.
async fn run(page: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_files(&text, folder.path());
    let shell: Vec<_> = blocks(&text).into_iter().filter(|block| block.language == "sh").collect();
    let [block] = &shell[..] else { panic!("one block of shell") };
    let (desk_port, admin_port) = (free_port(), free_port());
    let script = block
        .text
        .replace("8080", &desk_port.to_string())
        .replace("handoff desk", &format!("handoff desk --listen 127.0.0.1:{desk_port}"));
    let mut topics = TestTopics::missing(shared().await);
    topics.set("ADMIN__LISTEN", &format!("127.0.0.1:{admin_port}"));
    let program = Path::new(env!("CARGO_BIN_EXE_handoff"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    // `timeout` ends what the shell has started, too.
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", &format!("{script}\nkill $service $desk; wait")]);
    command.current_dir(folder.path()).env_clear().envs(topics.env).env("PATH", path);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("a shell");
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success(), "{:?}\n{printed}", output.status);
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}
