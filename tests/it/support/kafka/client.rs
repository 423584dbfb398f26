//! Topics and groups for tests, one call each: create, produce, read, commit, look up offsets.
//!
//! Every call creates a client and drops it before it returns. Offsets are returned as plain numbers:
//! a living `TopicPartitionList` would block the drop of its consumer. A refusal by the broker panics.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::record::{Received, Record};

const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A name that no other test, process or run uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{next}-{:08x}", std::process::id(), fastrand::u64(..) >> 32)
}

/// Creates a topic and waits until it can be used.
pub(crate) async fn create_topic(bootstrap: &str, name: &str, partitions: i32) {
    create_topics(bootstrap, &[(name, partitions)]).await;
}

/// Creates a topic with settings of its own.
pub(crate) async fn create_topic_with(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    create(bootstrap, vec![with_settings(new_topic(name, partitions), settings)]).await;
}

/// Creates a topic with settings of its own, given the brokers of each partition; the first one leads.
pub(crate) async fn create_topic_on(
    bootstrap: &str,
    name: &str,
    brokers: &[&[i32]],
    settings: &[(&str, &str)],
) {
    let partitions = i32::try_from(brokers.len()).expect("a number of partitions");
    let topic = NewTopic::new(name, partitions, TopicReplication::Variable(brokers));
    create(bootstrap, vec![with_settings(topic, settings)]).await;
}

/// Creates topics, given as names with their numbers of partitions.
pub(crate) async fn create_topics(bootstrap: &str, topics: &[(&str, i32)]) {
    let topics = topics.iter().map(|(name, partitions)| new_topic(name, *partitions));
    create(bootstrap, topics.collect()).await;
}

/// Deletes a topic and creates it again, as fast as the broker allows.
pub(crate) async fn recreate_topic(bootstrap: &str, name: &str, partitions: i32) {
    recreate_topic_with(bootstrap, name, partitions, &[]).await;
}

/// The same, with settings of the new topic.
pub(crate) async fn recreate_topic_with(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    delete_topic(bootstrap, name).await;
    create_deleted_topic(bootstrap, name, partitions, settings).await;
}

pub(crate) async fn delete_topic(bootstrap: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let options = AdminOptions::new().operation_timeout(Some(TIME_LIMIT));
    let deleted = admin.delete_topics(&[name], &options).await.expect("Kafka answers");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// Creates a topic of the name that another one has had.
pub(crate) async fn create_deleted_topic(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let options = AdminOptions::new().operation_timeout(Some(TIME_LIMIT));
    let end = Instant::now() + TIME_LIMIT;
    loop {
        let topic = with_settings(new_topic(name, partitions), settings);
        let created = admin.create_topics(&[topic], &options).await;
        match created.expect("Kafka answers").remove(0) {
            Ok(_) => break,
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => panic!("cannot create the topic {name} again: {code}"),
        }
        assert!(Instant::now() < end, "the topic {name} is not deleted");
        sleep(Duration::from_millis(20)).await;
    }
    let wanted = vec![(name.to_owned(), partitions)];
    ask(bootstrap, move |consumer| wait_for_topics(consumer, &wanted)).await;
}

fn with_settings<'t>(topic: NewTopic<'t>, settings: &[(&'t str, &'t str)]) -> NewTopic<'t> {
    settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
}

fn new_topic(name: &str, partitions: i32) -> NewTopic<'_> {
    NewTopic::new(name, partitions, TopicReplication::Fixed(1))
}

async fn create(bootstrap: &str, topics: Vec<NewTopic<'_>>) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let options = AdminOptions::new().operation_timeout(Some(TIME_LIMIT));
    let results = admin.create_topics(&topics, &options).await.expect("Kafka answers");
    for result in results {
        result.unwrap_or_else(|(name, code)| panic!("cannot create the topic {name}: {code}"));
    }
    let wanted: Vec<_> =
        topics.iter().map(|topic| (topic.name.to_owned(), topic.num_partitions)).collect();
    ask(bootstrap, move |consumer| wait_for_topics(consumer, &wanted)).await;
}

/// Changes the settings of a topic; those that are not named get their defaults.
pub(crate) async fn alter_topic(bootstrap: &str, name: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let topic = AlterConfig::new(ResourceSpecifier::Topic(name));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().request_timeout(Some(TIME_LIMIT));
    let results = admin.alter_configs(&[topic], &options).await.expect("Kafka answers");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("cannot alter {topic:?}: {code}"));
    }
}

/// Adds partitions to a topic until it has this many, and waits until they can be used.
pub(crate) async fn add_partitions(bootstrap: &str, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let options = AdminOptions::new().operation_timeout(Some(TIME_LIMIT));
    let wanted = NewPartitions::new(name, usize::try_from(partitions).expect("a number"));
    let results = admin.create_partitions([&wanted], &options).await.expect("Kafka answers");
    for result in results {
        result.unwrap_or_else(|(name, code)| panic!("cannot add partitions to {name}: {code}"));
    }
    let wanted = vec![(name.to_owned(), partitions)];
    ask(bootstrap, move |consumer| wait_for_topics(consumer, &wanted)).await;
}

/// Removes the records of a partition below this offset, as the topic's retention does.
pub(crate) async fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin");
    let options = AdminOptions::new().operation_timeout(Some(TIME_LIMIT));
    let bounds = offsets(topic, partition, before);
    let deleted = admin.delete_records(&bounds, &options).await.expect("Kafka answers");
    let error = deleted.elements().iter().find_map(|element| element.error().err());
    assert!(error.is_none(), "cannot delete records of {topic}: {error:?}");
}

fn offsets(topic: &str, partition: i32, offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    list
}

/// The controller's answer may come before the broker's own view has the topic.
fn wait_for_topics(consumer: &BaseConsumer, wanted: &[(String, i32)]) {
    for (name, partitions) in wanted {
        let end = Instant::now() + TIME_LIMIT;
        loop {
            let metadata = consumer.fetch_metadata(Some(name), TIME_LIMIT).expect("metadata");
            let found = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
            let led = found.iter().filter(|partition| partition.leader() >= 0).count();
            if i32::try_from(led) == Ok(*partitions) {
                break;
            }
            assert!(Instant::now() < end, "the topic {name} has {led} of {partitions} partitions");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Produces the records in this order; returns where each of them lies, as (partition, offset).
pub(crate) async fn produce(
    bootstrap: &str,
    topic: &str,
    records: impl IntoIterator<Item = Record>,
) -> Vec<(i32, i64)> {
    let mut config = config(bootstrap);
    config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    let producer: FutureProducer = config.create().expect("a producer");
    let mut sent = Vec::new();
    for record in records {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_ref() })
        });
        let mut future = FutureRecord::<Vec<u8>, Vec<u8>>::to(topic).headers(headers);
        (future.key, future.payload) = (record.key.as_ref(), record.value.as_ref());
        (future.partition, future.timestamp) = (record.partition, record.timestamp);
        sent.push(producer.send_result(future).map_err(|(error, _)| error).expect("room to send"));
    }
    let mut places = Vec::new();
    for delivery in sent {
        let delivery = delivery.await.expect("the producer lives");
        let delivery = delivery.map_err(|(error, _)| error).expect("Kafka takes the record");
        places.push((delivery.partition, delivery.offset));
    }
    places
}

/// Reads a topic from its start until there are `count` records or the time is over.
pub(crate) async fn read_all(
    bootstrap: &str,
    topic: &str,
    count: usize,
    limit: Duration,
) -> Vec<Received> {
    read(bootstrap, topic, Some((count, limit))).await
}

/// Reads a topic from its start to its present end: what is there, no more and no less.
pub(crate) async fn read_to_end(bootstrap: &str, topic: &str) -> Vec<Received> {
    read(bootstrap, topic, None).await
}

async fn read(bootstrap: &str, topic: &str, until: Option<(usize, Duration)>) -> Vec<Received> {
    let topic = topic.to_owned();
    ask(bootstrap, move |consumer| {
        let partitions = partitions(consumer, &topic);
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(&topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&all).expect("an assignment");
        drop(all);
        collect(consumer, partitions, until)
    })
    .await
}

fn collect(
    consumer: &BaseConsumer,
    partitions: i32,
    until: Option<(usize, Duration)>,
) -> Vec<Received> {
    let limit = Instant::now() + until.map_or(TIME_LIMIT, |(_, limit)| limit);
    // A partition may report its end more than once.
    let mut ended: BTreeSet<i32> = BTreeSet::new();
    let mut received = Vec::new();
    while until.is_none_or(|(count, _)| received.len() < count) {
        let rest = limit.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            assert!(until.is_some(), "the end of the topic is not reached in {TIME_LIMIT:?}");
            break;
        }
        match consumer.poll(rest) {
            Some(Ok(message)) => received.push(Received::of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) if until.is_none() => {
                ended.insert(partition);
                if i32::try_from(ended.len()) == Ok(partitions) {
                    break;
                }
            }
            // Transient faults of the connection, and ends of partitions that nobody asked for.
            Some(Err(_)) | None => {}
        }
    }
    received
}

/// What a group has committed, by partition.
pub(crate) async fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Vec<Option<i64>> {
    let topic = topic.to_owned();
    ask_as(bootstrap, group, move |consumer| {
        let mut all = TopicPartitionList::new();
        all.add_partition_range(&topic, 0, partitions - 1);
        let answer = patiently(|| consumer.committed_offsets(all.clone(), TIME_LIMIT));
        let offset = |partition| match answer.find_partition(&topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        (0..partitions).map(offset).collect()
    })
    .await
}

/// Commits for a group that has no members: the offset of each partition from 0 on.
pub(crate) async fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[i64]) {
    let mut all = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        let offset = Offset::Offset(*offset);
        all.add_partition_offset(topic, partition, offset).expect("an offset");
    }
    ask_as(bootstrap, group, move |consumer| {
        patiently(|| consumer.commit(&all, CommitMode::Sync));
    })
    .await;
}

/// A broker that has just started looks for the coordinator of a group: the only fault that is waited for.
fn patiently<T>(mut call: impl FnMut() -> KafkaResult<T>) -> T {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let end = Instant::now() + TIME_LIMIT;
    loop {
        let error = match call() {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        let code = error.rdkafka_error_code();
        let passing = [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator];
        assert!(code.is_some_and(|code| passing.contains(&code)), "Kafka refuses: {error}");
        assert!(Instant::now() < end, "no coordinator in {TIME_LIMIT:?}: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The offset after the last record, by partition.
pub(crate) async fn high_watermarks(bootstrap: &str, topic: &str) -> Vec<i64> {
    let topic = topic.to_owned();
    ask(bootstrap, move |consumer| {
        let ends = (0..partitions(consumer, &topic)).map(|partition| {
            consumer.fetch_watermarks(&topic, partition, TIME_LIMIT).expect("watermarks").1
        });
        ends.collect()
    })
    .await
}

/// The offset after the last record of a partition; the others may have no leader.
pub(crate) async fn high_watermark(bootstrap: &str, topic: &str, partition: i32) -> i64 {
    let topic = topic.to_owned();
    ask(bootstrap, move |consumer| {
        consumer.fetch_watermarks(&topic, partition, TIME_LIMIT).expect("watermarks").1
    })
    .await
}

/// Succeeds once a broker answers.
pub(super) async fn wait_for_metadata(bootstrap: &str, limit: Duration) -> Result<()> {
    let config = config(bootstrap);
    spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(None, limit).context("no metadata")?;
        ensure!(!metadata.brokers().is_empty(), "no broker in the metadata");
        Ok(())
    })
    .await?
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer.fetch_metadata(Some(topic), TIME_LIMIT).expect("metadata");
    let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    assert!(found > 0, "there is no topic {topic}");
    i32::try_from(found).expect("a number of partitions")
}

/// Asks with a consumer that is in no group that a test looks at.
async fn ask<T, F>(bootstrap: &str, request: F) -> T
where
    T: Send + 'static,
    F: FnOnce(&BaseConsumer) -> T + Send + 'static,
{
    ask_as(bootstrap, "test-reader", request).await
}

/// Consumers block, and so does their end: both on a thread where that hurts nobody.
async fn ask_as<T, F>(bootstrap: &str, group: &str, request: F) -> T
where
    T: Send + 'static,
    F: FnOnce(&BaseConsumer) -> T + Send + 'static,
{
    let mut config = config(bootstrap);
    config.set("group.id", group).set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
    let work = spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        request(&consumer)
    });
    match work.await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "200");
    config
}
