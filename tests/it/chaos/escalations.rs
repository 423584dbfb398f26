//! The escalations that are published during a run.
//!
//! [`RecordGenerator`] creates the records from the seed alone; [`EscalationPublisher`] sends them and
//! records their positions. It retries without limit, because the broker may be down at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::checker::{ExpectedResult, RecordKind, RecordPosition, SentRecord};
use super::evidence::timestamp;
use super::input_topic::InputTopic;
use crate::support::kafka::unique;

/// A record to send.
#[derive(Debug, Clone)]
pub(super) struct GeneratedRecord {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) kind: RecordKind,
}

pub(super) struct RecordGenerator {
    rng: Rng,
    /// Records sent so far.
    sent: u64,
    /// Records to send later, by the number of records sent before.
    later: BTreeMap<u64, Vec<GeneratedRecord>>,
}

impl RecordGenerator {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), sent: 0, later: BTreeMap::new() }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> GeneratedRecord {
        self.sent += 1;
        self.take_due(self.sent).unwrap_or_else(|| self.generate())
    }

    /// The records left for later.
    pub(super) fn remaining(&mut self) -> Vec<GeneratedRecord> {
        std::mem::take(&mut self.later).into_values().flatten().collect()
    }

    fn take_due(&mut self, until: u64) -> Option<GeneratedRecord> {
        let mut due = self.later.first_entry().filter(|due| *due.key() <= until)?;
        let record = due.get_mut().pop();
        if due.get().is_empty() {
            due.remove();
        }
        record
    }

    fn send_later(&mut self, after: std::ops::Range<u64>, record: GeneratedRecord) {
        let at = self.sent + self.rng.u64(after);
        self.later.entry(at).or_default().insert(0, record);
    }

    fn generate(&mut self) -> GeneratedRecord {
        let n = self.sent;
        let (id, session) = (format!("e-{n}"), format!("s-{n}"));
        match self.rng.u32(..1000) {
            0..30 => self.malformed(&id, &session),
            30..45 => event(&id, &session, ExpectedResult::Rejected, json!({"priority": 11})),
            45..60 => {
                let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
                event(&id, &session, ExpectedResult::Expired, past)
            }
            60..110 => {
                let repeat = good(&id, &session);
                self.send_later(1..400, repeat);
                good(&id, &session)
            }
            110..115 => {
                let conflict = good(&id, &format!("{session}-other"));
                self.send_later(200..800, conflict);
                good(&id, &session)
            }
            115..200 => {
                self.send_later(1..20, good(&format!("{id}-2"), &session));
                self.send_later(20..200, good(&format!("{id}-3"), &session));
                good(&id, &session)
            }
            _ => good(&id, &session),
        }
    }

    fn malformed(&mut self, id: &str, session: &str) -> GeneratedRecord {
        let value = match self.rng.u32(..5) {
            0 => None,
            1 => Some("not JSON".to_owned()),
            2 => Some(json!({ "id": id }).to_string()),
            3 => Some(json!({"id": [], "session_id": session}).to_string()),
            _ => Some(json!({"id": id, "session_id": " "}).to_string()),
        };
        GeneratedRecord { key: session.to_owned(), value, kind: RecordKind::Malformed }
    }
}

fn good(id: &str, session: &str) -> GeneratedRecord {
    event(id, session, ExpectedResult::FromDesk, json!({}))
}

/// Events that Desk answers, two of each session.
pub(super) fn burst(number: usize, events: u64) -> impl Iterator<Item = GeneratedRecord> {
    (0..events).map(move |n| good(&format!("b{number}-{n}"), &format!("burst-{number}-{}", n / 2)))
}

/// An event of a session of its own, which Desk answers.
pub(super) fn witness() -> GeneratedRecord {
    let name = unique("witness");
    good(&name, &name)
}

pub(super) fn event(
    id: &str,
    session: &str,
    expected: ExpectedResult,
    fields: Value,
) -> GeneratedRecord {
    let mut value = fields;
    value["id"] = id.into();
    value["session_id"] = session.into();
    let kind = RecordKind::Event { id: id.to_owned(), session: session.to_owned(), expected };
    GeneratedRecord { key: session.to_owned(), value: Some(value.to_string()), kind }
}

pub(super) struct EscalationPublisher {
    config: ClientConfig,
    client: FutureProducer,
    input: Arc<InputTopic>,
    /// The number of the topic that the client publishes to.
    topic: usize,
    /// Whether it publishes piles, not the ordinary records.
    of_piles: bool,
    in_flight: Vec<InFlight>,
    sent: Vec<SentRecord>,
}

struct InFlight {
    topic: usize,
    kind: RecordKind,
    delivery: DeliveryFuture,
}

impl EscalationPublisher {
    pub(super) fn new(bootstrap: &str, input: Arc<InputTopic>, of_piles: bool) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "500")
            // Connections are dropped in silence.
            .set("socket.timeout.ms", "3000")
            .set("partitioner", "murmur2_random");
        let client: FutureProducer = config.create().expect("a producer");
        input.add_client(&client);
        let topic = input.number();
        Self { config, client, input, topic, of_piles, in_flight: Vec::new(), sent: Vec::new() }
    }

    /// Sends records at this rate for this time, then those left for later.
    pub(super) async fn run(&mut self, generator: &mut RecordGenerator, rate: u64, time: Duration) {
        let until = Instant::now() + time;
        let mut ticks = interval(Duration::from_secs(1) / rate as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while Instant::now() < until {
            ticks.tick().await;
            let input = self.input.clone();
            let open = match input.try_publish() {
                Some(open) => open,
                None => {
                    let open = input.publish().await;
                    // What was not published meanwhile does not follow in one burst.
                    ticks.reset();
                    open
                }
            };
            let record = generator.next();
            self.send(record);
            drop(open);
        }
        let input = self.input.clone();
        let _open = input.publish().await;
        for record in generator.remaining() {
            self.send(record);
        }
    }

    /// Waits until all records are acknowledged and returns them with their positions.
    pub(super) async fn sent(&mut self) -> &[SentRecord] {
        for InFlight { topic, kind, delivery } in std::mem::take(&mut self.in_flight) {
            let delivery = delivery.await.expect("the producer exists");
            let delivery = delivery.map_err(|(error, _)| error).unwrap_or_else(|error| {
                let fatal = self.client.client().fatal_error();
                panic!("Kafka accepts the record: {error}, {fatal:?}")
            });
            self.sent.push(SentRecord {
                topic,
                position: RecordPosition(delivery.partition, delivery.offset),
                kind,
                arrived: timestamp(delivery.timestamp.to_millis()),
                is_in_pile: self.of_piles,
            });
        }
        &self.sent
    }

    /// Must not run while the topic is deleted.
    pub(super) fn send(&mut self, generated: GeneratedRecord) {
        let topic = self.input.number();
        if topic != self.topic {
            // All that the other one had is acknowledged.
            self.client = self.config.create().expect("a producer");
            self.input.add_client(&self.client);
            self.topic = topic;
        }
        let mut record = FutureRecord::<String, String>::to(&self.input.name).key(&generated.key);
        record.payload = generated.value.as_ref();
        let sent = self.client.send_result(record).map_err(|(error, _)| error);
        let delivery = sent.expect("room to send");
        self.in_flight.push(InFlight { topic, kind: generated.kind, delivery });
    }
}
