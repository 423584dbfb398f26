//! A log that nobody can write: the disk is full, the reader has gone, or the reader stalls.
//!
//! Once each of these stopped the service: a failed write ended it with exit code 101, and after
//! 64 KiB in the pipe every task waited for the reader; later only the end of the process did.

use std::fs::OpenOptions;
use std::io::{PipeWriter, Write as _};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::beside::until;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

/// More log lines than the log buffers, and more bytes than a pipe holds.
const EVENTS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_does_not_end_the_service() {
    let world = World::new("log-full", 1, SimulatedDeskSettings::default()).await;
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    answers_all(&world, full.into(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closed_the_log_does_not_end_the_service() {
    let world = World::new("log-closed", 1, SimulatedDeskSettings::default()).await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    answers_all(&world, writer.into(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_costs_log_lines_and_nothing_else() {
    let mut world = World::new("log-stalled", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}")).set("LOG__LEVEL", "debug");
    let (never_read, writer) = std::io::pipe().expect("a pipe");
    // As in a container, where both are read by one process.
    let output = || writer.try_clone().expect("a pipe has many writers");
    let process = world.process_writing_to(output().into(), output().into());
    until("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    until("it is ready", async || ask_admin(port, "ready").await.0 == 200).await;
    let mut all_answered = pin!(publish_and_check(&world, EVENTS));
    while timeout(Duration::from_millis(200), &mut all_answered).await.is_err() {
        let (status, text) = ask_admin(port, "ready").await;
        assert_eq!(status, 200, "{text}");
        let (_, metrics) = ask_admin(port, "metrics").await;
        assert_eq!(number(&metrics, r#"handoff_gate_shut{reason="unreachable"}"#), 0);
    }
    assert_eq!(ask_admin(port, "health").await.0, 200);
    let (_, metrics) = ask_admin(port, "metrics").await;
    assert!(number(&metrics, "handoff_log_lines_dropped_total") > 0);
    // The last line of the log may have left room for a shorter one.
    let filler = fill(writer).await;
    process.terminate().await;
    drop(never_read);
    filler.join().expect("no panic");
}

/// A service that cannot start says why, and ends: a supervisor has to see that.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_does_not_keep_a_failed_start_from_ending() {
    let (never_read, writer) = std::io::pipe().expect("a pipe");
    let log = writer.try_clone().expect("a pipe has many writers");
    let filler = fill(writer).await;
    let mut unconfigured = Command::new(env!("CARGO_BIN_EXE_handoff"))
        .arg("run")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let mut status = None;
    until("it ends", async || {
        status = unconfigured.try_wait().expect("a child can be waited for");
        status.is_some()
    })
    .await;
    assert_eq!(status.and_then(|status| status.code()), Some(78));
    drop(never_read);
    filler.join().expect("no panic");
}

/// Fills a pipe to its last byte. The thread ends when the pipe is closed.
async fn fill(mut pipe: PipeWriter) -> JoinHandle<()> {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let filler = thread::spawn(move || {
        while pipe.write_all(b".").is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut before = None;
    until("the pipe is full", async || {
        sleep(Duration::from_millis(500)).await;
        let now = Some(written.load(Ordering::Relaxed));
        std::mem::replace(&mut before, now) == now
    })
    .await;
    assert!(!filler.is_finished(), "nobody reads it, and it is open");
    filler
}

/// The value of this series.
fn number(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("{series} is missing")).trim();
    value.parse().expect("a number")
}

async fn answers_all(world: &World, log: Stdio, events: usize) {
    let process = world.process_writing_to(log, Stdio::null());
    publish_and_check(world, events).await;
    process.terminate().await;
}

async fn publish_and_check(world: &World, events: usize) {
    let event = |n: usize| escalation(&format!("e-{n}"), &format!("s-{n}"));
    world.publish((0..events).map(event)).await;
    assert_eq!(by_event(world.outcomes(events).await).len(), events);
}
