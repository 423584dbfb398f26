//! The commands that read or write topics where no broker answers.

use super::TestTopics;

#[tokio::test]
async fn a_command_without_a_broker_says_why_it_waits_and_why_it_gave_up() {
    let topics = TestTopics::missing("127.0.0.1:9");
    let publish = topics.run(&["publish", "--session", "s"]);
    let (outcomes, audit) = (topics.run(&["outcomes"]), topics.run(&["audit", "--no-ledger"]));
    let (publish, outcomes, audit) = tokio::join!(publish, outcomes, audit);
    for output in [publish, outcomes, audit] {
        assert_eq!((output.code, output.out.as_str()), (Some(69), ""), "{output:#?}");
        let said =
            |line: &str, phrase: &str| line.contains(phrase) && line.contains("Connection refused");
        let waits = output.log.lines().any(|line| said(line, "no answer from Kafka yet"));
        assert!(waits, "{output:#?}");
        let given_up = "handoff: no answer from 127.0.0.1:9";
        let given_up = output.err.lines().any(|line| said(line, given_up));
        assert!(given_up, "{output:#?}");
    }
}
