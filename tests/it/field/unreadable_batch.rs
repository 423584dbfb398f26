//! A batch that the consumer cannot read: it unpacks to more than the consumer accepts. (A batch that
//! was damaged on the broker's disk does the same.)
//!
//! Once its partition stood still for ever, and `/ready` said 200.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::beside::until;
use crate::support::kafka::{Record, delete_records};
use crate::support::stalls::Stalls;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_stands_still_is_named_and_goes_on_once_the_batch_is_gone() {
    let mut world = World::new("unreadable", 2, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    // The smallest that goes with `message.max.bytes`; the default is 100 MB.
    world.set("KAFKA__CONSUMER_PROPERTIES__FETCH_MAX_BYTES", "1000000");
    world.set("KAFKA__CONSUMER_PROPERTIES__RECEIVE_MESSAGE_MAX_BYTES", "1001000");
    let on_0 = |id: &str| {
        Record::new(id, escalation(id, &format!("s-{id}")).to_string().into_bytes()).on(0)
    };
    world.publish_raw([on_0("before")]).await;
    publish_bomb(&world.bootstrap, &world.topic("in"));
    world.publish_raw([on_0("behind"), on_0("beside").on(1)]).await;
    let worker = world.process();
    assert_eq!(by_event(world.outcomes(2).await).len(), 2);

    let (mut reason, stalls) = (String::new(), Stalls::begin());
    let took = until("readiness names the error", async || {
        let (status, text) = ask_admin(port, "ready").await;
        reason = text;
        // The place is known by the statistics, which a machine that stands still does not get.
        status == 503
            && reason.contains("Decompression")
            && reason.contains("no record comes from partition 0 at offset 1")
    });
    let took = took.await;
    println!("not ready after {took:?}");
    assert!(took < Duration::from_secs(30) + stalls.total(), "{took:?}");
    assert!(reason.contains("kafka-delete-records.sh"), "the remedy: {reason}");
    let line = "not ready: events cannot be answered reason=\"reading_stalled\"";
    assert_eq!(worker.log().matches(line).count(), 1, "{}", worker.log());

    delete_records(&world.bootstrap, &world.topic("in"), 0, 2).await;
    assert!(by_event(world.outcomes(3).await).contains_key("behind"));
    until("it is ready again", async || ask_admin(port, "ready").await.0 == 200).await;
    assert!(worker.log().contains("offsets=1..2 count=1"), "{}", worker.log());
    worker.terminate().await;
}

/// One record of 3 MB, in a batch of some hundred bytes.
fn publish_bomb(bootstrap: &str, topic: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("compression.type", "zstd");
    let producer: BaseProducer =
        config.set("message.max.bytes", "10000000").create().expect("a producer");
    let value = vec![b' '; 3_000_000];
    let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&value);
    producer.send(record).expect("it is enqueued");
    producer.flush(Duration::from_secs(30)).expect("it is sent");
}
