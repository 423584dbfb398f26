//! How much memory the audit needs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::tests::{at, position, record};
use super::*;
use crate::domain::wire::escalation::{DecodeRules, decode};

/// Audits `count` escalations with long identities, of which one in 100 000 is unanswered. Returns
/// the memory of the matcher and its report.
fn audit_in_bulk(count: i64) -> (usize, AuditReport) {
    let rules = AuditRules {
        range: AuditRange {
            topic: "in".into(),
            partitions: (0..12).map(|partition| (partition, 0..count)).collect(),
        },
        grace: Duration::from_secs(90),
        dead_letter_grace: Duration::from_secs(690),
        trimmed_until: None,
        max_listed: 10,
    };
    let mut escalations = Escalations::new(rules).unwrap();
    let decode_rules = DecodeRules {
        types: vec![],
        max_bytes: 1_000,
        time_to_live: Duration::from_secs(600),
        input: Arc::default(),
    };
    let event = |n: i64| {
        let source = position("in", (n % 12) as i32, n / 12);
        let value = json!({"id": format!("escalation-{n:060}"), "session_id": format!("s-{n}")});
        (source.clone(), record(source, &value.to_string()))
    };
    for n in 0..count {
        let (_, record) = event(n);
        escalations.add(&record, &decode(&record, &decode_rules, at(0)), at(0));
    }
    let mut matcher = escalations.into_matcher();
    for n in (0..count).filter(|n| n % 100_000 != 7) {
        let value = json!({"event_id": format!("escalation-{n:060}"), "status": "assigned",
            "session_id": format!("s-{n}"), "source": event(n).0});
        let outcome = record(position("out", 0, n), &value.to_string());
        matcher.add_outcome(&AuditedOutcome::read(&outcome).unwrap());
    }
    (matcher.size_bytes(), matcher.judge(at(100_000)))
}

#[test]
fn an_escalation_costs_about_fifty_bytes() {
    let (bytes, report) = audit_in_bulk(50_000);
    assert!(bytes / 50_000 <= 64, "{bytes} bytes");
    assert_eq!((report.answered, report.count(FindingKind::Missing)), (49_999, 1));
}

#[test]
#[ignore = "a measurement: run it alone, with --release --nocapture"]
fn a_million_escalations() {
    let (bytes, report) = audit_in_bulk(1_000_000);
    println!("{bytes} bytes held by the matcher");
    assert_eq!((report.answered, report.count(FindingKind::Missing)), (999_990, 10));
}
