//! A log that nobody can write: the disk is full, the reader has gone, or the reader stalls.
//!
//! Once each of these stopped the service: a failed write ended it with exit code 101, and after
//! 64 KiB in the pipe every task waited for the reader.

use std::fs::OpenOptions;
use std::process::Stdio;

use handoff::sim::desk::SimulatedDeskSettings;

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
    let (_never_read, writer) = std::io::pipe().expect("a pipe");
    let process = world.process_logging_to(writer.into());
    publish_and_check(&world, EVENTS).await;
    assert_eq!(ask_admin(port, "health").await.0, 200);
    let (_, metrics) = ask_admin(port, "metrics").await;
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("handoff_log_lines_dropped_total "))
        .expect("dropped lines are counted");
    assert!(dropped.parse::<u64>().unwrap() > 0, "{dropped}");
    process.terminate().await;
}

async fn answers_all(world: &World, log: Stdio, events: usize) {
    let process = world.process_logging_to(log);
    publish_and_check(world, events).await;
    process.terminate().await;
}

async fn publish_and_check(world: &World, events: usize) {
    let event = |n: usize| escalation(&format!("e-{n}"), &format!("s-{n}"));
    world.publish((0..events).map(event)).await;
    assert_eq!(by_event(world.outcomes(events).await).len(), events);
}
