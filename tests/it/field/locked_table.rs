//! Somebody holds a lock on the ledger's table: `VACUUM FULL`, a migration, an open transaction.
//!
//! Once each attempt left a session behind at the server, which does not notice that its client has
//! given up while it waits for a lock: ten per minute, until the server accepted no more connections.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::sleep;

use crate::support::postgres::Server;
use crate::support::worker::{World, by_event, escalation};

/// Sessions of workers that have waited for a lock for longer than any attempt lasts.
const LEFT_BEHIND: &str = "SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'handoff' AND wait_event_type = 'Lock'
  AND query_start < clock_timestamp() - interval '18 s'";

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_wait_for_a_lock_end_with_their_attempt() {
    let server = Server::start().await;
    let mut world = World::new("locked", 1, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", server.url());
    let worker = world.process();
    world.publish([escalation("before", "s-1")]).await;
    world.outcomes(1).await;

    let mut holder = PgConnection::connect(server.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE handoff_events IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    world.publish([escalation("meanwhile", "s-2")]).await;
    sleep(Duration::from_secs(21)).await;
    let waiting =
        sqlx::raw_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    let waiting: i64 = waiting.fetch_one(&mut holder).await.unwrap().get(0);
    assert!(waiting > 0, "nobody waits for the lock: the test shows nothing");
    let left_behind = sqlx::raw_sql(LEFT_BEHIND).fetch_one(&mut holder).await.unwrap();
    assert_eq!(left_behind.get::<i64, _>(0), 0, "{}", worker.log());
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();

    let answered = by_event(world.outcomes(2).await);
    assert_eq!(answered["meanwhile"]["status"], "assigned");
    assert_eq!(answered["meanwhile"]["attempts"], 1);
    worker.terminate().await;
}
