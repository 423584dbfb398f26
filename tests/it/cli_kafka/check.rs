//! `handoff check` against a real Kafka and a simulated Desk, with and without faults.
//!
//! Missing permissions are not tested: the fixture's broker allows everything.

use handoff::sim::desk::{DEMO_KEY, SimulatedDesk, SimulatedDeskSettings};
use serde_json::{Value, json};

use super::TestTopics;
use crate::support::kafka::{
    Record, alter_topic, commit, create_topic_with, create_topics, produce, read_to_end, shared,
};

#[tokio::test]
async fn check_finds_no_faults() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
    let topics = TestTopics::create().await.with_desk(&desk, DEMO_KEY);
    for topic in ["outcomes", "dead-letters"] {
        let advised = [("message.timestamp.before.max.ms", "45000")];
        alter_topic(&topics.bootstrap, &topics.topic(topic), &advised).await;
    }
    produce(&topics.bootstrap, &topics.topic("escalations"), [Record::new("k", "v").on(0)]).await;
    let output = topics.run(&["check"]).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{output:#?}");
    assert!(output.out.lines().all(|line| line.starts_with("ok  ")), "{output:#?}");
    assert!(output.line("topic ").ends_with("2 partitions, 1 replica"));
    assert!(output.line(" group ").contains("has no committed offsets yet"));
    assert!(output.line(&desk.endpoint()).contains("accepts the signature"));
    assert!(output.line(" clock ").contains("agrees with"));
    assert_eq!(read_to_end(&topics.bootstrap, &topics.topic("outcomes")).await, []);
    assert!(!output.out.contains(DEMO_KEY) && desk.stats().transfers_acted == 0);

    commit(&topics.bootstrap, &topics.topic("group"), &topics.topic("escalations"), &[0]).await;
    let output = topics.run(&["check", "--write", "--json"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let json: Vec<Value> =
        output.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(json.iter().all(|finding| finding["level"] == "ok"), "{output:#?}");
    assert!(
        output
            .line("has committed offsets in 1 of 2 partitions, 1 records behind")
            .contains("group")
    );
    for topic in ["outcomes", "dead-letters"] {
        let records = read_to_end(&topics.bootstrap, &topics.topic(topic)).await;
        let headers = vec![("handoff-type".to_owned(), Some(b"check".to_vec()))];
        assert_eq!(records.iter().map(|record| &record.headers).collect::<Vec<_>>(), [&headers]);
    }
    let output = topics.run(&["outcomes"]).await;
    assert_eq!(output.out, "", "the check's record is no outcome");
}

#[tokio::test]
async fn check_names_the_wrong_key_and_the_missing_topic() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
    let topics = TestTopics::missing(shared().await).with_desk(&desk, "wrong");
    let for_ever = [("retention.ms", "-1")];
    create_topic_with(&topics.bootstrap, &topics.topic("escalations"), 1, &for_ever).await;
    let unusable = [
        ("max.message.bytes", "1000"),
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    create_topic_with(&topics.bootstrap, &topics.topic("dead-letters"), 1, &unusable).await;
    let output = topics.run(&["check"]).await;
    assert_eq!(output.code, Some(69), "{output:#?}");
    let outcomes = format!("{}  - does not exist; create it", topics.topic("outcomes"));
    assert!(output.line(&outcomes).starts_with("FAIL"));
    assert!(output.line("only one instance can work").starts_with("ok"));
    assert!(output.line("size limit of").starts_with("warn"));
    assert!(output.line("is compacted").starts_with("FAIL"));
    let outlived = output.line("keeps records for ever, the ledger remembers events for");
    assert!(outlived.starts_with("warn") && outlived.contains("ledger.retention_days"));
    let stamped = output.line("message.timestamp.type is LogAppendTime");
    assert!(stamped.starts_with("warn") && stamped.contains("dead-letters"), "{stamped}");
    let key = "70009: UserSig does not verify: check that the secret key is this SDKAppID's";
    assert!(output.line(key).starts_with("FAIL"));
    assert_eq!(output.err, "handoff: 3 checks failed\n");
}

#[tokio::test]
async fn check_names_why_a_topic_refuses_its_record() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
    let topics = TestTopics::missing(shared().await).with_desk(&desk, DEMO_KEY);
    let topic = |which| topics.topic(which);
    create_topics(&topics.bootstrap, &[(&topic("escalations"), 1)]).await;
    // A message is at least as old as its way to the broker.
    let too_old = [("message.timestamp.before.max.ms", "0")];
    create_topic_with(&topics.bootstrap, &topic("outcomes"), 1, &too_old).await;
    let too_large = [("max.message.bytes", "100")];
    create_topic_with(&topics.bootstrap, &topic("dead-letters"), 1, &too_large).await;
    let output = topics.run(&["check", "--write"]).await;
    assert_eq!(output.code, Some(69), "{output:#?}");
    let refused = output.line(&format!("writing {}", topic("outcomes")));
    assert!(refused.starts_with("FAIL") && refused.contains("Invalid timestamp"), "{refused}");
    let remedy = "see message.timestamp.before.max.ms";
    assert_eq!(refused.matches(remedy).count(), 1, "the remedy is named once: {refused}");
    let refused = output.line(&format!("writing {}", topic("dead-letters")));
    assert!(
        refused.starts_with("FAIL") && refused.contains("raise max.message.bytes"),
        "{refused}"
    );
    assert!(!output.out.contains("ACL"), "the cause is not guessed: {output:#?}");
    // The default of the brokers.
    let unlimited = output.line("message.timestamp.before.max.ms is 9223372036854775807");
    assert!(unlimited.starts_with("warn") && unlimited.contains("set it to 45000"), "{unlimited}");
}

#[tokio::test]
async fn check_goes_on_where_kafka_or_desk_is_down() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
    let topics = TestTopics::missing("127.0.0.1:9").with_desk(&desk, DEMO_KEY);
    let output = topics.run(&["check"]).await;
    assert_eq!(output.code, Some(69), "{output:#?}");
    assert!(output.line("brokers 127.0.0.1:9").starts_with("FAIL"), "{output:#?}");
    assert!(output.line("brokers 127.0.0.1:9").contains("Connection refused"), "{output:#?}");
    assert!(output.line("accepts the signature").starts_with("ok"), "{output:#?}");

    desk.stop().await;
    let topics = TestTopics::create().await.with_desk(&desk, DEMO_KEY);
    let output = topics.run(&["check"]).await;
    assert_eq!(output.code, Some(69), "{output:#?}");
    assert!(output.line("cannot be reached").starts_with("FAIL"), "{output:#?}");
    assert!(output.line("producer").starts_with("ok"), "{output:#?}");
}

#[tokio::test]
async fn check_says_what_is_wrong_with_the_configuration() {
    let topics = TestTopics::missing("127.0.0.1:9");
    let output = topics.run(&["check"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(78), ""));
    assert!(output.err.contains("`desk.sdkappid` is missing"), "{output:#?}");
    let output = topics.run(&["check", "--json"]).await;
    let json: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((output.code, &json["level"]), (Some(78), &json!("fail")));
}

#[tokio::test]
async fn check_never_shows_the_value_of_a_misspelt_property() {
    let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
    let mut topics = TestTopics::missing("127.0.0.1:9").with_desk(&desk, DEMO_KEY);
    topics.set("KAFKA__PROPERTIES__SASL_PASWORD", "hunter2");
    let output = topics.run(&["check"]).await;
    assert_eq!(output.code, Some(78), "{output:#?}");
    assert!(output.line("No such configuration property: \"sasl.pasword\"").starts_with("FAIL"));
    assert!(output.line("accepts the signature").starts_with("ok"), "{output:#?}");
    let publish = topics.run(&["publish", "--session", "s"]).await;
    let outcomes = topics.run(&["outcomes"]).await;
    for output in [output, publish, outcomes] {
        assert!(!output.out.contains("hunter2") && !output.err.contains("hunter2"), "{output:#?}");
    }
}
