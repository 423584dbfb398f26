//! The stream of escalations: what the bots send while everything breaks.
//!
//! `Script` makes the records, from the seed alone; `Publisher` sends them and remembers where each lies.
//! It never gives a record up: the broker may be away for as long as it likes.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::judge::{Fate, Kind, Sent};

/// A record to be sent.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) kind: Kind,
}

/// Makes the records.
pub(super) struct Script {
    rng: Rng,
    /// Records sent so far.
    sent: u64,
    /// Records that come later, by when.
    later: BTreeMap<u64, Vec<Planned>>,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), sent: 0, later: BTreeMap::new() }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Planned {
        self.sent += 1;
        self.take_later(self.sent).unwrap_or_else(|| self.fresh())
    }

    /// What was to come later.
    pub(super) fn rest(&mut self) -> Vec<Planned> {
        std::mem::take(&mut self.later).into_values().flatten().collect()
    }

    fn take_later(&mut self, until: u64) -> Option<Planned> {
        let mut due = self.later.first_entry().filter(|due| *due.key() <= until)?;
        let planned = due.get_mut().pop();
        if due.get().is_empty() {
            due.remove();
        }
        planned
    }

    fn plan(&mut self, after: std::ops::Range<u64>, planned: Planned) {
        let at = self.sent + self.rng.u64(after);
        self.later.entry(at).or_default().insert(0, planned);
    }

    fn fresh(&mut self) -> Planned {
        let n = self.sent;
        let (id, session) = (format!("e-{n}"), format!("s-{n}"));
        match self.rng.u32(..1000) {
            0..30 => self.malformed(&id, &session),
            30..45 => event(&id, &session, (Fate::Invalid, json!({"priority": 11}))),
            45..60 => {
                let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
                event(&id, &session, (Fate::TooLate, past))
            }
            60..110 => {
                let repeat = good(&id, &session);
                self.plan(1..400, repeat);
                good(&id, &session)
            }
            110..115 => {
                let conflict = good(&id, &format!("{session}-other"));
                self.plan(200..800, conflict);
                good(&id, &session)
            }
            115..200 => {
                self.plan(1..20, good(&format!("{id}-2"), &session));
                self.plan(20..200, good(&format!("{id}-3"), &session));
                good(&id, &session)
            }
            _ => good(&id, &session),
        }
    }

    fn malformed(&mut self, id: &str, session: &str) -> Planned {
        let value = match self.rng.u32(..5) {
            0 => None,
            1 => Some("not JSON".to_owned()),
            2 => Some(json!({ "id": id }).to_string()),
            3 => Some(json!({"id": [], "session_id": session}).to_string()),
            _ => Some(json!({"id": id, "session_id": " "}).to_string()),
        };
        Planned { key: session.to_owned(), value, kind: Kind::Malformed }
    }
}

fn good(id: &str, session: &str) -> Planned {
    event(id, session, (Fate::Asked, json!({})))
}

fn event(id: &str, session: &str, (fate, fields): (Fate, Value)) -> Planned {
    let mut value = fields;
    value["id"] = id.into();
    value["session_id"] = session.into();
    let kind = Kind::Event { id: id.to_owned(), session: session.to_owned(), fate };
    Planned { key: session.to_owned(), value: Some(value.to_string()), kind }
}

/// Sends the records.
pub(super) struct Publisher {
    client: FutureProducer,
    topic: String,
    script: Script,
    under_way: Vec<(Kind, DeliveryFuture)>,
    sent: Vec<Sent>,
}

impl Publisher {
    pub(super) fn new(bootstrap: &str, topic: String, script: Script) -> Self {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "500")
            .set("partitioner", "murmur2_random")
            .create()
            .expect("a producer");
        Self { client, topic, script, under_way: Vec::new(), sent: Vec::new() }
    }

    /// Send at this rate for so long.
    pub(super) async fn run(&mut self, rate: u64, time: Duration) {
        let until = Instant::now() + time;
        let mut beat = interval(Duration::from_secs(1) / rate as u32);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while Instant::now() < until {
            beat.tick().await;
            let planned = self.script.next();
            self.send(planned);
        }
        for planned in self.script.rest() {
            self.send(planned);
        }
    }

    /// What was sent, and where it lies, once all of it is acknowledged.
    pub(super) async fn sent(&mut self) -> &[Sent] {
        for (kind, delivery) in std::mem::take(&mut self.under_way) {
            let delivery = delivery.await.expect("the producer lives");
            let delivery = delivery.map_err(|(error, _)| error).unwrap_or_else(|error| {
                let fatal = self.client.client().fatal_error();
                panic!("Kafka takes the record: {error}, {fatal:?}")
            });
            self.sent.push(Sent { place: (delivery.partition, delivery.offset), kind });
        }
        &self.sent
    }

    fn send(&mut self, planned: Planned) {
        let mut record = FutureRecord::<String, String>::to(&self.topic).key(&planned.key);
        record.payload = planned.value.as_ref();
        let sent = self.client.send_result(record).map_err(|(error, _)| error);
        self.under_way.push((planned.kind, sent.expect("room to send")));
    }
}
