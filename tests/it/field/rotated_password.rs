//! The password of the ledger's user is rotated while the worker runs.
//!
//! Once every new connection failed until a restart, and a log line said the same twice.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::sleep;

use super::beside::not_ready;
use crate::support::postgres::{Server, execute};
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

/// The user `keyed` needs its password, everybody else needs none.
const ASK_FOR_IT: &str = "DO $$ BEGIN EXECUTE format('COPY (VALUES (%L), (%L), (%L)) TO %L',
  'local all all trust', 'host all keyed all scram-sha-256', 'host all all all trust',
  current_setting('hba_file')); PERFORM pg_reload_conf(); END $$";

const ROTATE: &str = "ALTER ROLE keyed PASSWORD 'second';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keyed'";

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_needs_no_restart() {
    let server = Server::start().await;
    let role = "CREATE ROLE keyed LOGIN PASSWORD 'first'";
    for sql in [role, "CREATE DATABASE keyed OWNER keyed", ASK_FOR_IT] {
        execute(server.url(), sql).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let port = free_port();
    let mut world = World::new("pg-password", 2, SimulatedDeskSettings::default()).await;
    let url = server.url().replace("postgres@", "keyed@").replace("/postgres", "/keyed");
    world.set("LEDGER__URL", &url).set("LEDGER__PASSWORD_FILE", &file.display().to_string());
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    world.publish((0..5).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    world.outcomes(5).await;

    execute(server.url(), ROTATE).await.unwrap();
    // Nothing is published meanwhile: readiness must not wait for the next event.
    let reason = not_ready(port, "password authentication failed").await;
    assert!(reason.contains("ledger.password_file"), "it names the remedy: {reason}");
    world.publish((5..10).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    sleep(Duration::from_secs(5)).await;

    let log = worker.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("ledger un")).collect();
    assert!((1..=2).contains(&lines.len()), "throttled: {lines:#?}");
    for line in lines {
        assert_eq!(line.matches("password authentication failed").count(), 1, "{line}");
        assert!(!line.contains("[]") && !line.contains("first"), "{line}");
    }

    std::fs::write(&file, "second\n").unwrap();
    assert_eq!(by_event(world.outcomes(10).await).len(), 10);
    assert_eq!(ask_admin(port, "ready").await.0, 200);
    assert!(worker.log().contains("ledger available again"), "{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
}
