//! Whatever comes back, in whatever order, every course settles in time and with few calls.
//!
//! Replies are drawn from all codes, states and transport results, without regard to what Desk could
//! really send, and repeat without end. [`Invariants`](super::Invariants) checks every step.

use std::iter::Cycle;
use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;
use proptest::prelude::*;

use super::no_agent::keeps_trying;
use super::opening::open_at;
use super::words::{event, one_of, reply};
use super::{DeskDouble, LONGEST_CALL, MS, START, drive, policy};
use crate::domain::codes::CODES;
use crate::domain::course::{Policy, RetryPolicy};
use crate::domain::event::Event;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::route::{OutsideHours, Routes};
use crate::domain::wire::outcome::Status;

struct RandomDesk {
    replies: Cycle<IntoIter<(Reply, Duration)>>,
    jitters: Cycle<IntoIter<f64>>,
}

impl DeskDouble for RandomDesk {
    fn call(&mut self, _: DeskCommand, _: &[u8], _: Timestamp) -> Option<(Reply, Duration)> {
        self.replies.next()
    }

    fn jitter(&mut self) -> f64 {
        self.jitters.next().unwrap()
    }
}

fn any_reply() -> impl Strategy<Value = (Reply, Duration)> {
    let known = one_of(CODES).prop_map(|row| row.code.to_string());
    let unknown = prop_oneof![-5i64..100_000, 140_990i64..141_100].prop_map(|c| c.to_string());
    let states = ["NotInSession", "Chatbot", "WaitingForAgentAnswering", "Queueing", "Agent", "X"];
    let no_answer = ["lost", "refused", "unsigned", "http 502", "http 404", "http 403", "http 429"];
    let in_doubt = ["141002", "60008", "lost", "141003", "Chatbot"];
    let words = prop_oneof![
        3 => known,
        1 => unknown,
        3 => one_of(&states).prop_map(str::to_owned),
        3 => one_of(&no_answer).prop_map(str::to_owned),
        3 => one_of(&in_doubt).prop_map(str::to_owned),
    ];
    let longest = LONGEST_CALL.as_millis() as u64;
    (words, prop_oneof![Just(0), 0..=longest]).prop_map(|(words, ms)| (reply(&words).0, MS(ms)))
}

fn any_desk() -> impl Strategy<Value = RandomDesk> {
    let replies = prop::collection::vec(any_reply(), 1..40);
    // With a jitter of zero alone every wait would be zero, and time would not pass.
    let jitters = prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0f64], 0..8)
        .prop_map(|jitters| [jitters, vec![0.5]].concat());
    (replies, jitters).prop_map(|(replies, jitters)| RandomDesk {
        replies: replies.into_iter().cycle(),
        jitters: jitters.into_iter().cycle(),
    })
}

impl std::fmt::Debug for RandomDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RandomDesk")
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let targets = ["", "a@x", "7", "a@x b@x 7", "a@x 7 strict", "invalid"];
    let ttl = prop_oneof![Just(0u64), 0..5_000u64, 0..600_000u64];
    (one_of(&targets), ttl)
        .prop_map(|(requested_target, ttl)| event(&format!("{requested_target} ttl={ttl}")))
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let park = prop_oneof![
        Just(vec![]),
        Just(vec![MS(30_000)]),
        Just(vec![MS(30_000), MS(60_000), MS(300_000)])
    ];
    let minutes = ["09:00-10:01", "10:02-10:03", "10:04-10:09"];
    let routes = [
        Routes::default(),
        keeps_trying().routes,
        open_at(&minutes, OutsideHours::Answer).routes,
        open_at(&minutes, OutsideHours::ParkUntilOpen).routes,
    ];
    (1u32..6, park, 0u64..90_000, any::<bool>(), one_of(&routes)).prop_map(
        |(quick, park, grace, default, routes)| Policy {
            retry: RetryPolicy { quick_attempts: quick, park, ..policy().retry },
            doubt_grace: MS(grace),
            default_target: default,
            routes,
            ..policy()
        },
    )
}

/// The bound: bursts, targets and calls at the gate's pace (at most one per second), and one more for
/// each that requested a new signature.
fn most_transfers(event: &Event, policy: &Policy) -> u64 {
    let seconds = Duration::try_from(event.deadline.duration_since(START)).unwrap().as_secs();
    // Passes of five targets, 10 s and then 20 s apart.
    let passes = if policy.routes == Routes::default() { 1 } else { seconds / 20 + 2 };
    let bursts = seconds / 30 + 2 + 3 + 5 * passes;
    2 * (bursts * u64::from(policy.retry.quick_attempts) + seconds + 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_course_settles_in_time_with_few_calls(
        event in any_event(), policy in any_policy(), mut desk in any_desk(),
    ) {
        let driven = drive(&event, &policy, &mut desk);
        let most = most_transfers(&event, &policy);
        prop_assert!(u64::from(driven.outcome.attempts) <= most, "{}", driven.outcome.attempts);
        let called = driven.outcome.desk.is_some() || driven.outcome.attempts > 0;
        prop_assert!(!called || event.request.is_ok());
        prop_assert!(driven.outcome.status != Status::Expired || event.request.is_ok());
    }
}
