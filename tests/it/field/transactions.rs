//! Publishers that use transactions: control records and aborted records are offsets that no consumer
//! ever sees, and an open transaction holds back everything behind it.
//!
//! Once the lag stayed at 12 for ever after an aborted transaction, and an open one stopped a
//! partition with its lag unchanged and without a word.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::beside::{finals, until};
use crate::support::kafka::unique;
use crate::support::worker::{World, ask_admin, escalation, free_port};

const LIMIT: Duration = Duration::from_secs(30);
const HELD: &str = "open transaction holds records back";

/// A transaction with these events in partition 0.
fn begin(bootstrap: &str, topic: &str, ids: &[String]) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", unique("transaction"))
        .create()
        .expect("a producer");
    producer.init_transactions(LIMIT).expect("an id");
    producer.begin_transaction().expect("a transaction");
    for id in ids {
        let value = escalation(id, id).to_string();
        let record = BaseRecord::to(topic).partition(0).key(id).payload(&value);
        producer.send(record).expect("room to send");
    }
    producer.flush(LIMIT).expect("the records are written");
    producer
}

struct Field {
    world: World,
    port: u16,
}

impl Field {
    async fn new(name: &str) -> Self {
        let mut world = World::new(name, 1, SimulatedDeskSettings::default()).await;
        let port = free_port();
        world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
        Self { world, port }
    }

    /// Begin a transaction with these events and end it as `end` says.
    async fn transaction(&self, ids: Vec<String>, end: fn(BaseProducer)) {
        let (bootstrap, topic) = (self.world.bootstrap.clone(), self.world.topic("in"));
        let run = move || end(begin(&bootstrap, &topic, &ids));
        spawn_blocking(run).await.expect("the transaction ends");
    }

    async fn lag(&self) -> Option<i64> {
        let metrics = ask_admin(self.port, "metrics").await.1;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("handoff_consumer_lag{"))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn commit(producer: BaseProducer) {
    producer.commit_transaction(LIMIT).expect("committed");
}

fn abort(producer: BaseProducer) {
    producer.abort_transaction(LIMIT).expect("aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_read_to_its_end_has_no_lag() {
    let field = Field::new("aborted").await;
    let worker = field.world.process();
    field.transaction(ids("committed", 3), commit).await;
    field.transaction(ids("aborted", 11), abort).await;
    until("the committed are answered", async || finals(&field.world).await.len() == 3).await;
    // 4 offsets of the first transaction, 12 of the second.
    until("no lag", async || field.lag().await == Some(0)).await;
    field.world.publish([escalation("last", "last")]).await;
    until("all are answered", async || finals(&field.world).await.len() == 4).await;
    until("no lag", async || field.lag().await == Some(0)).await;
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn an_open_transaction_is_lag_and_the_log_says_so_after_half_a_minute() {
    let field = Field::new("open").await;
    let worker = field.world.process();
    field.world.publish([escalation("before", "before")]).await;
    until("the first is answered", async || finals(&field.world).await.len() == 1).await;
    let (bootstrap, topic) = (field.world.bootstrap.clone(), field.world.topic("in"));
    let open = spawn_blocking(move || begin(&bootstrap, &topic, &ids("open", 2))).await.unwrap();
    field.world.publish([escalation("held", "held")]).await;
    until("what is held back is lag", async || field.lag().await == Some(3)).await;
    assert!(!worker.log().contains(HELD), "not at once");
    let after = until("the log says so", async || worker.log().contains(HELD)).await;
    println!("said after {after:?}");
    spawn_blocking(move || abort(open)).await.unwrap();
    until("all are answered", async || finals(&field.world).await.len() == 2).await;
    until("no lag", async || field.lag().await == Some(0)).await;
    assert_eq!(worker.log().matches(HELD).count(), 1, "{}", worker.log());
    worker.terminate().await;
}

/// Outcomes that are published one after the other, so that each pays for its own commit.
const MEASURED: u32 = 200;

/// The time of one outcome, from the enqueuing to the acknowledgement or to the commit.
async fn measure(bootstrap: &str, topic: &str, transactional_id: Option<&str>) -> Duration {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
    config.set("linger.ms", "0");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    let producer: FutureProducer = config.create().expect("a producer");
    if transactional_id.is_some() {
        producer.init_transactions(LIMIT).expect("an id");
    }
    let mut begun = Instant::now();
    // The first one also connects.
    for outcome in 0..=MEASURED {
        if transactional_id.is_some() {
            producer.begin_transaction().expect("a transaction");
        }
        let record = FutureRecord::to(topic).key("k").payload("outcome");
        producer.send(record, LIMIT).await.expect("acknowledged");
        if transactional_id.is_some() {
            producer.commit_transaction(LIMIT).expect("committed");
        }
        if outcome == 0 {
            begun = Instant::now();
        }
    }
    begun.elapsed() / MEASURED
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement that ARCHITECTURE.md quotes: scripts/field transactions"]
async fn the_cost_of_a_transaction_per_outcome() {
    let world = World::new("cost", 1, SimulatedDeskSettings::default()).await;
    let topic = world.topic("in");
    for round in 1..=3 {
        let plain = measure(&world.bootstrap, &topic, None).await;
        let transaction = measure(&world.bootstrap, &topic, Some(&unique("cost"))).await;
        println!("round {round}: {plain:.1?} without, {transaction:.1?} with a transaction");
    }
}
