//! `handoff check` against a real Kafka and a simulated Desk, whole and broken.
//!
//! Missing rights are not tried here: the fixture's broker allows everything. It never tests what
//! a check that passed is worth.

use handoff::sim::desk::{DEMO_KEY, Desk, Options};
use serde_json::{Value, json};

use super::Site;
use crate::support::kafka::{
    Record, commit, create_topic_with, create_topics, produce, read_to_end, shared,
};

#[tokio::test]
async fn check_finds_all_in_order() {
    let desk = Desk::start_local(Options::default()).unwrap();
    let site = Site::new().await.with_desk(&desk, DEMO_KEY);
    produce(&site.bootstrap, &site.topic("escalations"), [Record::new("k", "v").on(0)]).await;
    let ran = site.run(&["check"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:#?}");
    assert!(ran.out.lines().all(|line| line.starts_with("ok  ")), "{ran:#?}");
    assert!(ran.line("topic ").ends_with("2 partitions, 1 copy"));
    assert!(ran.line(" group ").contains("has committed nothing yet"));
    assert!(ran.line(&desk.endpoint()).contains("takes the signature"));
    assert!(ran.line(" clock ").contains("agrees with"));
    assert_eq!(read_to_end(&site.bootstrap, &site.topic("outcomes")).await, []);
    assert!(!ran.out.contains(DEMO_KEY) && desk.stats().transfers_acted == 0);

    commit(&site.bootstrap, &site.topic("group"), &site.topic("escalations"), &[0]).await;
    let ran = site.run(&["check", "--write", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let json: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(json.iter().all(|finding| finding["level"] == "ok"), "{ran:#?}");
    assert!(ran.line("has a place in 1 of 2 partitions, 1 records behind").contains("group"));
    for topic in ["outcomes", "letters"] {
        let records = read_to_end(&site.bootstrap, &site.topic(topic)).await;
        let headers = vec![("handoff-type".to_owned(), Some(b"check".to_vec()))];
        assert_eq!(records.iter().map(|record| &record.headers).collect::<Vec<_>>(), [&headers]);
    }
    let ran = site.run(&["outcomes"]).await;
    assert_eq!(ran.out, "", "the check's record is no outcome");
}

#[tokio::test]
async fn check_names_the_wrong_key_and_the_missing_topic() {
    let desk = Desk::start_local(Options::default()).unwrap();
    let site = Site::planned(shared().await).with_desk(&desk, "wrong");
    create_topics(&site.bootstrap, &[(&site.topic("escalations"), 1)]).await;
    let small = [("max.message.bytes", "1000"), ("cleanup.policy", "compact")];
    create_topic_with(&site.bootstrap, &site.topic("letters"), 1, &small).await;
    let ran = site.run(&["check"]).await;
    assert_eq!(ran.code, Some(69), "{ran:#?}");
    let outcomes = format!("{}  - does not exist; create it", site.topic("outcomes"));
    assert!(ran.line(&outcomes).starts_with("FAIL"));
    assert!(ran.line("only one instance can work").starts_with("ok"));
    assert!(ran.line("size limit of").starts_with("warn"));
    assert!(ran.line("is compacted").starts_with("FAIL"));
    let key = "70009: UserSig does not verify: check that the secret key is this SDKAppID's";
    assert!(ran.line(key).starts_with("FAIL"));
    assert_eq!(ran.err, "handoff: 3 checks FAIL\n");
}

#[tokio::test]
async fn check_goes_on_where_kafka_or_desk_is_down() {
    let desk = Desk::start_local(Options::default()).unwrap();
    let site = Site::planned("127.0.0.1:9").with_desk(&desk, DEMO_KEY);
    let ran = site.run(&["check"]).await;
    assert_eq!(ran.code, Some(69), "{ran:#?}");
    assert!(ran.line("brokers 127.0.0.1:9").starts_with("FAIL"), "{ran:#?}");
    assert!(ran.line("brokers 127.0.0.1:9").contains("Connection refused"), "{ran:#?}");
    assert!(ran.line("takes the signature").starts_with("ok"), "{ran:#?}");

    desk.stop().await;
    let site = Site::new().await.with_desk(&desk, DEMO_KEY);
    let ran = site.run(&["check"]).await;
    assert_eq!(ran.code, Some(69), "{ran:#?}");
    assert!(ran.line("cannot be reached").starts_with("FAIL"), "{ran:#?}");
    assert!(ran.line("producer").starts_with("ok"), "{ran:#?}");
}

#[tokio::test]
async fn check_says_what_is_wrong_with_the_configuration() {
    let site = Site::planned("127.0.0.1:9");
    let ran = site.run(&["check"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""));
    assert!(ran.err.contains("`desk.sdkappid` is missing"), "{ran:#?}");
    let ran = site.run(&["check", "--json"]).await;
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &json["level"]), (Some(78), &json!("fail")));
}

#[tokio::test]
async fn check_never_shows_the_value_of_a_misspelt_property() {
    let desk = Desk::start_local(Options::default()).unwrap();
    let mut site = Site::planned("127.0.0.1:9").with_desk(&desk, DEMO_KEY);
    site.set("KAFKA__PROPERTIES__SASL_PASWORD", "hunter2");
    let ran = site.run(&["check"]).await;
    assert_eq!(ran.code, Some(78), "{ran:#?}");
    assert!(ran.line("No such configuration property: \"sasl.pasword\"").starts_with("FAIL"));
    assert!(ran.line("takes the signature").starts_with("ok"), "{ran:#?}");
    let publish = site.run(&["publish", "--session", "s"]).await;
    let outcomes = site.run(&["outcomes"]).await;
    for ran in [ran, publish, outcomes] {
        assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "{ran:#?}");
    }
}
