//! The topics of one run: made, filled (at once or at a rate), watched, read.
//!
//! Outcomes bear the broker's clock (`LogAppendTime`), which is this machine's. It never measures a contestant by
//! what it says itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio::task::spawn_blocking;

use crate::support::kafka::{commit, create_topic, create_topic_with, high_watermarks, unique};
use crate::workload::Work;

const LIMIT: Duration = Duration::from_secs(30);
/// Clients and contestants are connected and warm after this.
const WARM_UP: Duration = Duration::from_secs(3);

type Producer = ThreadedProducer<DefaultProducerContext>;

/// The topics and the group of one run.
#[derive(Clone)]
pub(crate) struct Topics {
    pub(crate) bootstrap: String,
    pub(crate) name: String,
    pub(crate) partitions: i32,
}

impl Topics {
    pub(crate) async fn create(bootstrap: &str, name: &str, partitions: i32) -> Self {
        let topics = Self { bootstrap: bootstrap.to_owned(), name: unique(name), partitions };
        create_topic(bootstrap, &topics.of("in"), partitions).await;
        let stamped = [("message.timestamp.type", "LogAppendTime")];
        create_topic_with(bootstrap, &topics.of("out"), partitions, &stamped).await;
        create_topic(bootstrap, &topics.of("dead"), 1).await;
        topics
    }

    pub(crate) fn of(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// All of it at once.
    pub(crate) async fn fill(&self, work: &Work) {
        self.feed(work, None).await;
    }

    /// The first few at once; after a pause so many a second, each at its time: when these were
    /// due, in microseconds since 1970.
    pub(crate) async fn feed(&self, work: &Work, pace: Option<(usize, f64)>) -> Vec<i64> {
        let (bootstrap, topic) = (self.bootstrap.clone(), self.of("in"));
        let records: Vec<_> = work
            .events
            .iter()
            .map(|event| Record { session: event.session.clone(), value: event.value.clone() })
            .collect();
        let work = spawn_blocking(move || produce(&bootstrap, &topic, &records, pace));
        work.await.expect("the producer works")
    }

    /// Appends this many records, evenly over all partitions, and commits them for the group: the
    /// positions of events that were read long ago.
    pub(crate) async fn occupy(&self, count: usize) {
        let (bootstrap, topic, partitions) =
            (self.bootstrap.clone(), self.of("in"), self.partitions);
        let work = spawn_blocking(move || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &bootstrap).set("linger.ms", "20");
            let producer: Producer = config.create().expect("a producer");
            for partition in (0..partitions).cycle().take(count) {
                enqueue(
                    &producer,
                    BaseRecord::<str, str>::to(&topic).payload("{}").partition(partition),
                );
            }
            producer.flush(LIMIT).expect("Kafka takes the records");
        });
        work.await.expect("the producer works");
        let ends = high_watermarks(&self.bootstrap, &self.of("in")).await;
        commit(&self.bootstrap, &self.name, &self.of("in"), &ends).await;
    }

    /// How many outcomes there are.
    pub(crate) fn watch(&self) -> Watch {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", "bench");
        let client: BaseConsumer = config.create().expect("a consumer");
        Watch { client: Some(client), topic: self.of("out"), partitions: self.partitions }
    }
}

struct Record {
    session: String,
    value: Vec<u8>,
}

fn produce(
    bootstrap: &str,
    topic: &str,
    records: &[Record],
    pace: Option<(usize, f64)>,
) -> Vec<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random");
    config.set("linger.ms", if pace.is_some() { "1" } else { "20" });
    let producer: Producer = config.create().expect("a producer");
    let Some((warm, per_second)) = pace else {
        // A backlog has come over some time: a millisecond for each.
        let begun = now_us() / 1000 - records.len() as i64;
        for (record, at) in records.iter().zip(begun..) {
            send(&producer, topic, record, Some(at));
        }
        producer.flush(LIMIT).expect("Kafka takes the records");
        return Vec::new();
    };
    records[..warm].iter().for_each(|record| send(&producer, topic, record, None));
    producer.flush(LIMIT).expect("Kafka takes the records");
    std::thread::sleep(WARM_UP);
    let start = now_us() + 1_000;
    let mut times = Vec::with_capacity(records.len());
    for (number, record) in records[warm..].iter().enumerate() {
        let due = start + (number as f64 * 1e6 / per_second) as i64;
        let early = due - now_us();
        if early > 0 {
            std::thread::sleep(Duration::from_micros(early.unsigned_abs()));
        }
        times.push(due);
        send(&producer, topic, record, None);
    }
    producer.flush(LIMIT).expect("Kafka takes the records");
    times
}

fn send(producer: &Producer, topic: &str, record: &Record, at: Option<i64>) {
    let mut sent = BaseRecord::to(topic).key(&record.session).payload(&record.value);
    sent.timestamp = at;
    enqueue(producer, sent);
}

/// Waits while the producer's queue is full.
fn enqueue<K, P>(producer: &Producer, record: BaseRecord<'_, K, P>)
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
{
    let mut sent = record;
    while let Err((error, back)) = producer.send(sent) {
        let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
        assert_eq!(error, full, "Kafka takes the records");
        std::thread::sleep(Duration::from_millis(5));
        sent = back;
    }
}

/// Looks at the end of the outcome topic.
pub(crate) struct Watch {
    client: Option<BaseConsumer>,
    topic: String,
    partitions: i32,
}

impl Watch {
    /// How many outcomes there are now.
    pub(crate) async fn outcomes(&mut self) -> usize {
        let client = self.client.take().expect("one request at a time");
        let (topic, partitions) = (self.topic.clone(), self.partitions);
        let asked = spawn_blocking(move || {
            let ends =
                (0..partitions).map(|partition| client.fetch_watermarks(&topic, partition, LIMIT));
            let ends = ends.map(|end| end.map_or(0, |(_, end)| end)).sum::<i64>();
            (client, usize::try_from(ends).unwrap_or(0))
        });
        let (client, outcomes) = asked.await.expect("the request is sent");
        self.client = Some(client);
        outcomes
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Closing a consumer blocks for a moment.
        let client = self.client.take();
        std::thread::spawn(move || drop(client));
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures by the wall clock of the machine")]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
