//! Output that cannot be written, and variables that are not read; without a broker.

use std::fs::OpenOptions;

use super::{CommandOutput, TestTopics};

#[tokio::test]
async fn output_that_cannot_be_written_is_a_failure() {
    let mut topics = TestTopics::missing("127.0.0.1:9");
    for (key, value) in [("SDKAPPID", "1"), ("IDENTIFIER", "a"), ("SECRET_KEY", "k")] {
        topics.set(&format!("DESK__{key}"), value);
    }
    for arguments in [&["--help"][..], &["--version"], &["man"], &["usersig"], &["demo"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = topics.command(arguments).stdout(full).spawn().unwrap();
        let output = CommandOutput::from(child.wait_with_output().await.unwrap());
        let text = "handoff: failed to write to standard output: No space left on device";
        assert_eq!(output.code, Some(69), "{arguments:?} {output:#?}");
        assert!(output.err.starts_with(text), "{arguments:?} {output:#?}");
    }
}

#[tokio::test]
async fn a_variable_that_looks_like_a_key_is_refused() {
    let topics = TestTopics::missing("127.0.0.1:9");
    let mut command = topics.command(&["outcomes"]);
    let output = command.env("handoff__desk__region", "singapore").output().await.unwrap();
    let output = CommandOutput::from(output);
    assert_eq!(output.code, Some(78), "{output:#?}");
    let text = "the variable handoff__desk__region is not read: write HANDOFF__DESK__REGION";
    assert!(output.err.contains(text), "{output:#?}");
}

#[tokio::test]
async fn publish_without_a_source_names_both() {
    let output = TestTopics::missing("127.0.0.1:9").run(&["publish", "--reason", "r"]).await;
    assert_eq!(output.code, Some(2), "{output:#?}");
    assert!(output.err.contains("--session <ID>") && output.err.contains("FILE"), "{output:#?}");
}
