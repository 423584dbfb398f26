//! Collects the evidence for the checker: topics, committed offsets, and the records of Desk.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::checker::{
    Evidence, ObservedDeadLetter, ObservedOutcome, RecordKind, RecordPosition, SentRecord,
};
use super::environment::{Environment, PARTITIONS};
use super::freshness::Disturbance;
use super::settings::SETTLE;
use crate::support::kafka::{Received, committed, high_watermarks, read_to_end};

/// To be called after the workers have stopped.
pub(super) async fn gather(
    environment: &Environment,
    sent: Vec<SentRecord>,
    disturbances: Vec<Disturbance>,
) -> Evidence {
    let bootstrap = environment.broker.bootstrap();
    let outcomes = read_to_end(bootstrap, &environment.topic("out")).await;
    let dead_letters = read_to_end(bootstrap, &environment.topic("dead")).await;
    let session = |sent: &SentRecord| match &sent.kind {
        RecordKind::Event { session, .. } => Some(session.clone()),
        RecordKind::Malformed => None,
    };
    let sessions: BTreeSet<_> = sent.iter().filter_map(session).collect();
    Evidence {
        desk: environment.desk.sessions(sessions.into_iter().collect()).await,
        sent,
        input: environment.input.name.clone(),
        topics: environment.input.lives(),
        claimed: environment.ledger_keys("TRUE").await.into_iter().collect(),
        outcomes: outcomes.iter().map(outcome).collect(),
        dead_letters: dead_letters.iter().map(dead_letter).collect(),
        offsets: offsets(environment).await,
        settle_ns: SETTLE.as_nanos() as u64,
        disturbances,
    }
}

/// End and committed offset of each partition.
pub(super) async fn offsets(environment: &Environment) -> Vec<(i64, Option<i64>)> {
    let (bootstrap, input) = (environment.broker.bootstrap(), &environment.input.name);
    let ends = high_watermarks(bootstrap, input).await;
    let committed = committed(bootstrap, &environment.name, input, PARTITIONS).await;
    ends.into_iter().zip(committed).collect()
}

fn outcome(record: &Received) -> ObservedOutcome {
    let bytes = record.value.clone().expect("an outcome has a value");
    let value: Value = serde_json::from_slice(&bytes).expect("an outcome is JSON");
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let source = &value["source"];
    let partition = source["partition"].as_i64().expect("a partition");
    ObservedOutcome {
        position: RecordPosition(record.partition, record.offset),
        event: text("event_id"),
        session: text("session_id"),
        status: text("status"),
        agent: value["agent_id"].as_str().map(str::to_owned),
        is_final: value["final"] == true,
        source: RecordPosition(partition as i32, source["offset"].as_i64().expect("an offset")),
        decided: text("decided_at").parse().expect("a time"),
        published: timestamp(record.timestamp),
        reason: text("reason"),
        bytes,
    }
}

/// The broker stamps the records of this run's topics when it appends them.
pub(super) fn timestamp(ms: Option<i64>) -> Timestamp {
    Timestamp::from_millisecond(ms.expect("a record has a timestamp")).expect("a time")
}

fn dead_letter(record: &Received) -> ObservedDeadLetter {
    ObservedDeadLetter {
        source: source(record),
        source_arrived: header(record, "handoff-source-timestamp").parse().expect("a time"),
        bytes: format!("{:?}", (&record.value, &record.headers)).into(),
    }
}

fn header(record: &Received, name: &str) -> String {
    let header = record.headers.iter().rev().find(|(key, _)| key == name);
    let value = header.and_then(|(_, value)| value.clone()).expect("a header with the source");
    String::from_utf8(value).expect("text")
}

fn source(record: &Received) -> RecordPosition {
    let number = |name: &str| header(record, name).parse::<i64>().expect("a number");
    RecordPosition(number("handoff-source-partition") as i32, number("handoff-source-offset"))
}
