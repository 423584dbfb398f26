//! Programs in other languages, run from copies of their folders beside the packages that they name.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::worker::TIME_LIMIT;

/// Copies a folder of the repository into `target/tmp`, because packages are installed beside it.
pub(crate) fn copied(folder: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    std::fs::create_dir_all(&to).expect("a folder");
    for file in std::fs::read_dir(from).expect("the folder") {
        let file = file.expect("an entry");
        if file.file_type().expect("a type").is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }
    to
}

/// Runs a program to its end, which must be a success.
pub(crate) async fn must_run(program: &str, args: &[&str], folder: &Path) {
    output(command(program, args, folder)).await;
}

/// A program in a folder, with the newest Node.js that this machine has.
#[expect(clippy::disallowed_methods, reason = "the programs run with the caller's own PATH")]
pub(crate) fn command(program: &str, args: &[&str], folder: &Path) -> Command {
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

/// Splits the standard error of a command of ours into its messages and the warnings of its log. Only on a
/// slow machine there is one like "no answer from Kafka yet".
pub(crate) fn split_log(stderr: Vec<u8>) -> (String, String) {
    let text = String::from_utf8(stderr).expect("text");
    text.split_inclusive('\n').partition(|line| !line.contains(" WARN "))
}

/// Returns what a command printed; it must end in time and succeed.
pub(crate) async fn output(mut command: Command) -> String {
    let what = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await;
    let output: Output = output
        .unwrap_or_else(|_| panic!("{what} does not end"))
        .unwrap_or_else(|error| panic!("{what}: {error}; scripts/setup installs it"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{what}: {}\n{stdout}{stderr}", output.status);
    stdout
}
