//! A program reads the SQLite ledger and does not end: the log beside the file cannot shrink.
//!
//! Once it grew from 4 to 133 MB, and nothing showed it.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use rusqlite::Connection;

use super::beside::until;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const LIMIT: u64 = 64 << 20;

const GROW: &str = "CREATE TABLE IF NOT EXISTS others (content);
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 70)
INSERT INTO others SELECT zeroblob(1048576) FROM n;";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_shrink_is_measured_and_reported() {
    let port = free_port();
    let mut world = World::new("wal", 1, SimulatedDeskSettings::default()).await;
    let file = world.ledger_file();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    world.publish([escalation("first", "s")]).await;
    world.outcomes(1).await;
    let sizes = sizes(port).await;
    assert!(sizes.db > 0 && sizes.wal < LIMIT, "{sizes:?}");
    assert!(!worker.log().contains("ledger's log grows"), "{}", worker.log());

    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM handoff_ledger").unwrap();
    let writer = Connection::open(&file).unwrap();
    writer.busy_timeout(Duration::from_secs(5)).unwrap();
    writer.execute_batch(GROW).unwrap();
    until("the log says so", async || worker.log().contains("ledger's log grows")).await;
    assert!(worker.log().contains("repair=\"end the program"), "{}", worker.log());
    let sizes = self::sizes(port).await;
    assert!(sizes.wal > LIMIT, "{sizes:?}");
    world.publish([escalation("meanwhile", "s-2")]).await;
    world.outcomes(2).await;

    reader.execute_batch("COMMIT").unwrap();
    drop((reader, writer));
    world.publish([escalation("after", "s-3")]).await;
    until("it shrinks", async || worker.log().contains("ledger's log small again")).await;
    assert!(self::sizes(port).await.wal <= LIMIT);
    assert_eq!(worker.log().matches("ledger's log grows").count(), 1, "throttled");
    assert_eq!(by_event(world.outcomes(3).await).len(), 3);
    worker.terminate().await;
}

#[derive(Debug)]
struct Sizes {
    db: u64,
    wal: u64,
}

async fn sizes(port: u16) -> Sizes {
    let metrics = ask_admin(port, "metrics").await.1;
    let of = |file: &str| {
        let name = format!("handoff_ledger_file_bytes{{file=\"{file}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("the metric is there").parse().expect("a number")
    };
    Sizes { db: of("db"), wal: of("wal") }
}
