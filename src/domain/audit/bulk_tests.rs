//! How much memory the audit needs.
//!
//! Nothing here is read from Kafka, and no record is kept.

use std::time::Duration;

use serde_json::json;

use super::tests::{at, position, record};
use super::*;
use crate::domain::event::{DecodeRules, decode};

/// So many escalations with long identities, every answer there but for a few.
fn in_bulk(count: i64) -> (usize, Report) {
    let terms = Terms {
        range: Range {
            topic: "in".into(),
            partitions: (0..12).map(|partition| (partition, 0..count)).collect(),
        },
        grace: Duration::from_secs(90),
        letter_after: Duration::from_secs(690),
        trimmed_until: None,
        keep: 10,
    };
    let mut escalations = Escalations::new(terms).unwrap();
    let rules =
        DecodeRules { types: vec![], max_bytes: 1_000, time_to_live: Duration::from_secs(600) };
    let event = |n: i64| {
        let place = position("in", (n % 12) as i32, n / 12);
        let value = json!({"id": format!("escalation-{n:060}"), "session_id": format!("s-{n}")});
        (place.clone(), record(place, &value.to_string()))
    };
    for n in 0..count {
        let (_, record) = event(n);
        escalations.take(&record, &decode(&record, &rules, at(0)), at(0));
    }
    let mut matcher = escalations.into_matcher();
    for n in (0..count).filter(|n| n % 100_000 != 7) {
        let value = json!({"event_id": format!("escalation-{n:060}"), "status": "assigned",
            "session_id": format!("s-{n}"), "source": event(n).0});
        let answer = record(position("out", 0, n), &value.to_string());
        matcher.outcome(&Answer::read(&answer).unwrap());
    }
    (matcher.bytes(), matcher.judge(at(100_000)))
}

#[test]
fn an_escalation_costs_about_fifty_bytes() {
    let (bytes, report) = in_bulk(50_000);
    assert!(bytes / 50_000 <= 64, "{bytes} bytes");
    assert_eq!((report.answered, report.count(Kind::Missing)), (49_999, 1));
}

#[test]
#[ignore = "a measurement: run it alone, with --release --nocapture"]
fn a_million_escalations() {
    let (bytes, report) = in_bulk(1_000_000);
    println!("{bytes} bytes held by the matcher");
    assert_eq!((report.answered, report.count(Kind::Missing)), (999_990, 10));
}
