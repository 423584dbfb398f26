//! The offsets are lost after the ledger was pruned: old records are read again.
//!
//! Once 50 sessions that had been assigned got a second final outcome, `expired`.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use rusqlite::Connection;
use serde_json::json;
use tokio::time::sleep;

use super::beside::{finals, until};
use crate::support::kafka::{Record, committed};
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const DAY_MS: i64 = 86_400_000;
/// How long the events may be answered after their publication.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_has_forgotten_is_skipped_and_counted() {
    let mut world = World::new("beyond", 1, SimulatedDeskSettings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let port = free_port();
    world.set("LEDGER__URL", &format!("sqlite://{}", file.display()));
    world.set("LEDGER__RETENTION_DAYS", "1").set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let expires = now() + ANSWERED_WITHIN;
    let old = |id: &str, expires: jiff::Timestamp| {
        let event = json!({"id": id, "session_id": id, "expires_at": expires.to_string()});
        old_record(&event.to_string())
    };
    let worker = world.process();
    let mut records: Vec<_> = (0..3).map(|n| old(&format!("e-{n}"), expires)).collect();
    records.extend([old("overdue", now() - ANSWERED_WITHIN), old_record("not json")]);
    world.publish_raw(records).await;
    let answered = by_event(world.outcomes(4).await);
    assert_eq!(answered["e-0"]["status"], "assigned");
    assert_eq!(answered["overdue"]["status"], "expired", "a fresh ledger has forgotten nothing");
    assert_eq!(world.dead_letters(1).await.len(), 1);
    world.all_is_committed().await;
    worker.terminate().await;

    let ledger = Connection::open(&file).unwrap();
    let aged = "UPDATE handoff_published SET published_at_us = published_at_us - 2 * 86400000000";
    assert_eq!(ledger.execute(aged, ()).unwrap(), 5);
    drop(ledger);
    let worker = world.process();
    until("the ledger is pruned", async || worker.log().contains("pruned the ledger")).await;
    worker.terminate().await;
    while now() < expires {
        sleep(Duration::from_millis(100)).await;
    }

    // A group that has lost its offsets.
    let group = format!("{}-again", world.name);
    world.set("KAFKA__GROUP_ID", &group);
    world.publish_raw([old("late", now() + ANSWERED_WITHIN)]).await;
    world.publish([escalation("fresh", "fresh")]).await;
    let worker = world.process();
    let is_answered = async |id: &str| finals(&world).await.contains_key(id);
    until("the others are answered", async || {
        is_answered("late").await && is_answered("fresh").await
    })
    .await;
    let topic = world.topic("in");
    until("all is committed", async || {
        committed(&world.bootstrap, &group, &topic, 1).await == [Some(7)]
    })
    .await;
    let (_, metrics) = ask_admin(port, "metrics").await;
    let skipped = metrics.lines().find(|l| l.starts_with("handoff_records_beyond_memory_total "));
    assert_eq!(skipped, Some("handoff_records_beyond_memory_total 5"), "{}", worker.log());
    let answered = by_event(world.outcomes(6).await);
    assert_eq!(answered["e-0"]["status"], "assigned");
    assert_eq!(answered["late"]["status"], "assigned", "its deadline has not passed");
    assert_eq!(world.dead_letters(1).await.len(), 1);
    assert!(worker.log().contains("older than the ledger's memory"), "{}", worker.log());
    worker.terminate().await;
}

fn old_record(value: &str) -> Record {
    let timestamp = Some(now().as_millisecond() - 3 * DAY_MS);
    Record { timestamp, ..Record::new("k", value) }
}

#[expect(clippy::disallowed_methods, reason = "the worker's clock is the wall clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
