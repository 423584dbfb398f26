//! Gathers what the judge needs: the topics, the committed offsets, Desk's own memory.
//!
//! It never judges, and reads only what anybody could read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::judge::{Answer, Evidence, Kind, Letter, Place, Sent};
use super::plan::SETTLE;
use super::scene::{PARTITIONS, Scene};
use crate::support::kafka::{Received, committed, high_watermarks, read_to_end};

/// Everything, once the workers have stopped.
pub(super) async fn gather(scene: &Scene, sent: Vec<Sent>) -> Evidence {
    let bootstrap = scene.broker.bootstrap();
    let (input, group) = (scene.topic("in"), &scene.name);
    let answers = read_to_end(bootstrap, &scene.topic("out")).await;
    let letters = read_to_end(bootstrap, &scene.topic("dead")).await;
    let ends = high_watermarks(bootstrap, &input).await;
    let committed = committed(bootstrap, group, &input, PARTITIONS).await;
    let session = |sent: &Sent| match &sent.kind {
        Kind::Event { session, .. } => Some(session.clone()),
        Kind::Malformed => None,
    };
    let sessions: BTreeSet<_> = sent.iter().filter_map(session).collect();
    Evidence {
        desk: scene.desk.sessions(sessions.into_iter().collect()).await,
        sent,
        answers: answers.iter().map(answer).collect(),
        letters: letters.iter().map(letter).collect(),
        offsets: ends.into_iter().zip(committed).collect(),
        settle_ns: SETTLE.as_nanos() as u64,
    }
}

fn answer(record: &Received) -> Answer {
    let bytes = record.value.clone().expect("an outcome has a value");
    let value: Value = serde_json::from_slice(&bytes).expect("an outcome is JSON");
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let source = &value["source"];
    let partition = source["partition"].as_i64().expect("a partition");
    Answer {
        place: (record.partition, record.offset),
        event: text("event_id"),
        session: text("session_id"),
        status: text("status"),
        agent: value["agent_id"].as_str().map(str::to_owned),
        is_final: value["final"] == true,
        source: (partition as i32, source["offset"].as_i64().expect("an offset")),
        decided: text("decided_at").parse().expect("a time"),
        reason: text("reason"),
        bytes,
    }
}

fn letter(record: &Received) -> Letter {
    Letter {
        source: source(record),
        bytes: format!("{:?}", (&record.value, &record.headers)).into(),
    }
}

fn source(record: &Received) -> Place {
    let number = |name: &str| {
        let header = record.headers.iter().rev().find(|(key, _)| key == name);
        let value = header.and_then(|(_, value)| value.clone()).expect("a header with its source");
        String::from_utf8(value).expect("text").parse::<i64>().expect("a number")
    };
    (number("handoff-source-partition") as i32, number("handoff-source-offset"))
}
