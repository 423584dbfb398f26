//! Whether the Kafka fixture does what the other tests rely on.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    consumer::{Consumer, StreamConsumer},
};

use crate::support::kafka::{
    self, Broker, Received, Record, commit, committed, create_topic, create_topic_with,
    create_topics, high_watermarks, produce, read_all, read_to_end, unique,
};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(3);

fn values(records: &[Received]) -> Vec<&str> {
    let bytes = records.iter().map(|record| record.value.as_deref().expect("a value"));
    bytes.map(|bytes| str::from_utf8(bytes).expect("text")).collect()
}

#[tokio::test]
async fn a_produced_record_is_read_back_unchanged() {
    let bootstrap = kafka::shared().await;
    let topic = unique("whole");
    create_topic(bootstrap, &topic, 3).await;

    let full = Record { timestamp: Some(1_700_000_000_123), ..Record::new("k", "v") };
    let full = Record { headers: vec![("empty".into(), None)], ..full }.header("h", "1").on(2);
    let bare = Record { partition: Some(0), ..Record::default() };
    let places = produce(bootstrap, &topic, [full, bare]).await;
    assert_eq!(places, [(2, 0), (0, 0)]);

    let mut records = read_all(bootstrap, &topic, 2, LONG).await;
    records.sort_by_key(|record| record.partition);
    let [bare, full] = records.as_slice() else { panic!("two records: {records:?}") };
    assert_eq!((&bare.key, &bare.value, bare.headers.len()), (&None, &None, 0));
    let headers = vec![("empty".to_owned(), None), ("h".to_owned(), Some(b"1".to_vec()))];
    let expected = Received {
        partition: 2,
        offset: 0,
        key: Some(b"k".to_vec()),
        value: Some(b"v".to_vec()),
        headers,
        timestamp: Some(1_700_000_000_123),
    };
    assert_eq!(*full, expected);
}

#[tokio::test]
async fn reading_ends_at_the_count_the_time_or_the_end() {
    let bootstrap = kafka::shared().await;
    let (topic, empty) = (unique("ends"), unique("empty"));
    create_topics(bootstrap, &[(&topic, 2), (&empty, 4)]).await;
    let records = (0..20).map(|n| Record::new(format!("key-{n}"), format!("{n}")));
    produce(bootstrap, &topic, records).await;

    assert_eq!(read_all(bootstrap, &topic, 5, LONG).await.len(), 5);
    assert_eq!(read_all(bootstrap, &topic, 21, SHORT).await.len(), 20);
    assert_eq!(read_to_end(bootstrap, &topic).await.len(), 20);
    assert_eq!(read_to_end(bootstrap, &empty).await, []);
    assert_eq!(high_watermarks(bootstrap, &topic).await.iter().sum::<i64>(), 20);
    assert_eq!(high_watermarks(bootstrap, &empty).await, [0; 4]);
}

#[tokio::test]
async fn one_partition_keeps_the_order_of_producing() {
    let bootstrap = kafka::shared().await;
    let topic = unique("order");
    create_topic(bootstrap, &topic, 4).await;
    let expected: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    let records = expected.iter().map(|value| Record::new("same key", value.as_str()));
    produce(bootstrap, &topic, records).await;
    assert_eq!(values(&read_to_end(bootstrap, &topic).await), expected);
}

#[tokio::test]
async fn offsets_of_a_group_are_seen() {
    let bootstrap = kafka::shared().await;
    let (topic, group) = (unique("offsets"), unique("group"));
    create_topic(bootstrap, &topic, 3).await;
    assert_eq!(committed(bootstrap, &group, &topic, 3).await, [None; 3]);
    commit(bootstrap, &group, &topic, &[7, 8]).await;
    assert_eq!(committed(bootstrap, &group, &topic, 3).await, [Some(7), Some(8), None]);
}

#[tokio::test]
#[should_panic(expected = "Message size too large")]
async fn a_topic_has_the_settings_it_was_given() {
    let bootstrap = kafka::shared().await;
    let topic = unique("small");
    create_topic_with(bootstrap, &topic, 1, &[("max.message.bytes", "1000")]).await;
    produce(bootstrap, &topic, [Record::new("k", vec![b'x'; 2000])]).await;
}

#[tokio::test]
async fn a_group_forms_with_either_protocol() {
    let bootstrap = kafka::shared().await;
    let topic = unique("groups");
    create_topic(bootstrap, &topic, 2).await;
    produce(bootstrap, &topic, [Record::new("k", "v")]).await;
    first_record_of_a_group(bootstrap, &topic, &[("group.protocol", "consumer")]).await;
    let classic = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];
    first_record_of_a_group(bootstrap, &topic, &classic).await;
}

async fn first_record_of_a_group(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", unique("forms"));
    config.set("auto.offset.reset", "earliest");
    config.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let consumer: StreamConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    let first = async {
        // A group whose coordinator is just being made reports that as errors, and goes on.
        while consumer.recv().await.is_err() {}
    };
    tokio::time::timeout(LONG, first).await.unwrap_or_else(|_| panic!("no record: {settings:?}"));
}

#[tokio::test]
#[should_panic(expected = "there is no topic")]
async fn topics_are_not_created_automatically() {
    read_to_end(kafka::shared().await, &unique("absent")).await;
}

#[tokio::test]
async fn a_stopped_broker_comes_back_with_what_it_had() {
    let mut broker = Broker::start().await;
    let (bootstrap, topic, group) = (broker.bootstrap().to_owned(), unique("kept"), unique("g"));
    create_topic(&bootstrap, &topic, 1).await;
    produce(&bootstrap, &topic, [Record::new("k", "before the stop")]).await;
    commit(&bootstrap, &group, &topic, &[1]).await;

    broker.stop().await;
    assert!(std::net::TcpStream::connect(&bootstrap).is_err(), "nobody listens");
    broker.start_again().await;
    produce(&bootstrap, &topic, [Record::new("k", "before the kill")]).await;
    broker.kill().await;
    assert!(std::net::TcpStream::connect(&bootstrap).is_err(), "nobody listens");
    broker.start_again().await;

    let records = read_to_end(&bootstrap, &topic).await;
    assert_eq!(values(&records), ["before the stop", "before the kill"]);
    assert_eq!(committed(&bootstrap, &group, &topic, 1).await, [Some(1)]);
}

#[tokio::test]
#[should_panic(expected = "Message size too large")]
async fn a_broker_has_the_properties_it_was_given() {
    let broker = Broker::start_with(&[("message.max.bytes", "1000")]).await;
    let topic = unique("small");
    create_topic(broker.bootstrap(), &topic, 1).await;
    produce(broker.bootstrap(), &topic, [Record::new("k", vec![b'x'; 2000])]).await;
}
