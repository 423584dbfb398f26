//! Records are read that are older than what the ledger remembers: because the offsets are lost, or
//! because the worker was away for long.
//!
//! Once 50 sessions that had been assigned got a second final outcome, `expired`. Later, events that
//! nobody had ever read got none.

use std::path::Path;
use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use rusqlite::Connection;
use serde_json::json;
use tokio::time::sleep;

use super::beside::{finals, until};
use crate::support::kafka::{Record, commit, committed};
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const DAY_MS: i64 = 86_400_000;
/// How long the events may be answered after their publication.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_has_forgotten_is_skipped_and_counted() {
    let mut world = World::new("beyond", 1, SimulatedDeskSettings::default()).await;
    let file = world.ledger_file();
    let port = free_port();
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
    // Kafka keeps the records for seven days.
    let outlived = "the topic outlives the ledger's memory";
    until("the start warns", async || worker.log().contains(outlived)).await;
    assert_eq!(world.dead_letters(1).await.len(), 1);
    world.all_is_committed().await;
    worker.terminate().await;

    forget_all(&world, &file, 5).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backlog_that_was_never_read_expires() {
    let mut world = World::new("backlog", 1, SimulatedDeskSettings::default()).await;
    let file = world.ledger_file();
    let port = free_port();
    world.set("LEDGER__RETENTION_DAYS", "1").set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let old = |id: &str| old_record(&json!({"id": id, "session_id": id}).to_string());
    let worker = world.process();
    world.publish_raw([old("answered"), old_record("not json")]).await;
    assert_eq!(world.outcomes(1).await.len(), 1);
    assert_eq!(world.dead_letters(1).await.len(), 1);
    world.all_is_committed().await;
    worker.terminate().await;
    forget_all(&world, &file, 2).await;

    world.publish_raw([old("away-0"), old("away-1"), old_record("nor this")]).await;
    let worker = world.process();
    let answered = by_event(world.outcomes(3).await);
    for id in ["away-0", "away-1"] {
        assert_eq!(answered[id]["status"], "expired", "{answered:#?}");
    }
    assert_eq!(world.dead_letters(2).await.len(), 2);
    world.all_is_committed().await;
    worker.terminate().await;

    // An operator sets the offset back: nothing proves that the records were never read.
    let topic = world.topic("in");
    forget_all(&world, &file, 3).await;
    commit(&world.bootstrap, &world.name, &topic, &[0]).await;
    let worker = world.process();
    world.all_is_committed().await;
    let (_, metrics) = ask_admin(port, "metrics").await;
    let skipped = metrics.lines().find(|l| l.starts_with("handoff_records_beyond_memory_total "));
    assert_eq!(skipped, Some("handoff_records_beyond_memory_total 5"), "{}", worker.log());
    assert_eq!(world.outcomes(3).await.len(), 3);
    assert_eq!(world.dead_letters(2).await.len(), 2);
    worker.terminate().await;
}

/// Makes the ledger of a worker that has stopped prune these entries, which are all it has.
async fn forget_all(world: &World, file: &Path, entries: usize) {
    let ledger = Connection::open(file).unwrap();
    let aged = "UPDATE handoff_published SET published_at_us = published_at_us - 2 * 86400000000";
    assert_eq!(ledger.execute(aged, ()).unwrap(), entries);
    drop(ledger);
    let worker = world.process();
    until("the ledger is pruned", async || worker.log().contains("pruned the ledger")).await;
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
