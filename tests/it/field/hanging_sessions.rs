//! Three hundred sessions whose calls hang at Desk, which answers all others.
//!
//! Once the hanging calls held every permit, ten time-outs in a row shut the gate as if Desk were
//! unreachable, each probe went to another hanging session, and nobody was answered. Later the others
//! were answered, but not those whose session already had a human: their state queries waited for
//! permits behind all that hung.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::beside::{ten_others_twice, until};
use crate::support::worker::{World, escalation};

const HANGING: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_whose_calls_hang_delay_no_other_session() {
    let world = World::new("hanging", 4, SimulatedDeskSettings::default()).await;
    let ids: Vec<_> = (0..HANGING).map(|n| format!("hangs-{n}")).collect();
    let hang = InjectedFault::hang().commands(&[ApiCommand::Transfer, ApiCommand::State]);
    for id in &ids {
        world.desk.schedule(hang.clone().session(id).times(0));
    }
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    world.publish(ids.iter().map(|id| escalation(id, id))).await;
    sleep(Duration::from_secs(2)).await;
    for round in 0..6 {
        let next = Instant::now() + Duration::from_secs(3);
        let waited = ten_others_twice(&world, &round.to_string()).await;
        assert!(waited < Duration::from_secs(5), "round {round}: {waited:?}");
        sleep_until(next).await;
    }
    let shut = longest_time_shut(&worker.log());
    assert!(shut <= 2.0, "the gate was shut for {shut} s:\n{}", worker.log());
}

/// In seconds.
fn longest_time_shut(log: &str) -> f64 {
    let (mut longest, mut since): (f64, Option<Timestamp>) = (0.0, None);
    let mut last = None;
    for line in log.lines() {
        let Some(Ok(at)) = line.split_whitespace().next().map(str::parse::<Timestamp>) else {
            continue;
        };
        last = Some(at);
        if line.contains("gate shut: no call can succeed") {
            since = since.or(Some(at));
        } else if let Some(begun) = since.take_if(|_| line.contains("gate open")) {
            longest = longest.max(at.duration_since(begun).as_secs_f64());
        }
    }
    let still_shut =
        since.zip(last).map_or(0.0, |(begun, last)| last.duration_since(begun).as_secs_f64());
    longest.max(still_shut)
}

#[test]
fn the_time_shut_is_read_from_the_log() {
    let log = "2026-11-29T10:00:00Z  INFO started\n\
               2026-11-29T10:00:01Z  WARN gate shut: no call can succeed reason=unreachable\n\
               2026-11-29T10:00:04Z  INFO gate open after_s=3\n";
    assert_eq!(longest_time_shut(log), 3.0);
    let open_end = "2026-11-29T10:00:10Z  WARN gate shut: no call can succeed\n\
                    2026-11-29T10:00:15Z  INFO another line\n";
    assert_eq!(longest_time_shut(&format!("{log}{open_end}")), 5.0);
    assert_eq!(longest_time_shut("2026-11-29T10:00:10Z  INFO started\n"), 0.0);
}
