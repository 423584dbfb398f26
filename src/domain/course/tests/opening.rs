//! The hours of a route: answered or parked outside of them, never called, and true in doubt.
//!
//! Courses start on a Monday at 10:00 UTC.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::words::{ReplyScript, event, reply};
use super::{CompletedCall, Driven, MS, Observed, START, check_with, drive, policy};
use crate::domain::course::{Course, Policy, Snapshot, Step, needs};
use crate::domain::hours::{DayTime, Hours};
use crate::domain::request::DeskCommand;
use crate::domain::route::{NoAgentPolicy, Opening, OutsideHours, RouteConfig, Routes};
use crate::domain::target::Target;
use crate::domain::wire::outcome::Outcome;

/// A policy in which every event takes a route to group 8 that is there at these times of each day.
pub(super) fn open_at(times: &[&str], outside: OutsideHours) -> Policy {
    let times: Vec<_> = times.iter().map(|time| DayTime::read(time).unwrap()).collect();
    let weekly = std::array::from_fn(|_| times.clone());
    let hours = Hours::new("office".into(), TimeZone::UTC, weekly, BTreeSet::new()).unwrap();
    let route = RouteConfig {
        name: "r".into(),
        targets: vec![Target::Named { agents: Vec::new(), group: Some(8) }],
        opening: Some(Opening { hours: Arc::new(hours), outside }),
        ..RouteConfig::default()
    };
    Policy { routes: Routes::compile(vec![route]).unwrap(), ..policy() }
}

fn driven(policy: &Policy, words: &str, replies: &str) -> Driven {
    drive(&event(words), policy, &mut ReplyScript::new(replies))
}

#[track_caller]
fn check_closed(outcome: &Outcome, reason: &str, opens_at: &str) {
    assert_eq!(outcome.reason.as_deref(), Some(reason));
    assert_eq!(outcome.opens_at.map(|at| at.to_string()).as_deref(), Some(opens_at));
    assert_eq!(outcome.route.as_deref(), Some("r"));
}

#[test]
fn outside_the_hours_an_event_is_answered_at_once_without_a_call() {
    let closed = open_at(&["08:00-09:00", "18:00-20:00"], OutsideHours::Answer);
    check_with(&closed, "a@x", "", "= no_agent_online");
    let outcome = driven(&closed, "", "").outcome;
    check_closed(&outcome, "outside the hours \"office\"", "2026-11-23T18:00:00Z");
    assert_eq!((outcome.decided_at, outcome.attempts, outcome.target), (START, 0, None));
    let open = open_at(&["09:00-18:00"], OutsideHours::Answer);
    check_with(&open, "", "0 a@x", "to 8, = assigned a@x by Reply");
    assert!(!needs(&event(""), &closed, START).call && needs(&event(""), &open, START).call);
}

#[test]
fn an_event_is_parked_until_its_route_opens_with_one_interim_outcome() {
    let opens = open_at(&["10:05-18:00"], OutsideHours::ParkUntilOpen);
    check_with(&opens, "", "0 a@x", "interim, park 300000, to 8, = assigned a@x by Reply");
    let driven = driven(&opens, "", "0 a@x");
    let Observed::Published(interim) = &driven.observed[0] else { panic!("{driven:?}") };
    let interim: Value = serde_json::from_slice(interim.message.value.as_deref().unwrap()).unwrap();
    insta::assert_snapshot!(interim, @r#"{"attempts":0,"decided_at":"2026-11-23T10:00:00Z","elapsed_ms":0,"event_id":"evt-1","final":false,"id":"evt-1/interim","opens_at":"2026-11-23T10:05:00Z","reason":"outside the hours \"office\"; parked until they begin","route":"r","session_id":"s-1","source":{"offset":0,"partition":0,"topic":"t"},"status":"no_agent_online"}"#);
    assert_eq!(driven.outcome.opens_at, None);
}

#[test]
fn an_event_is_not_parked_past_its_deadline() {
    let opens = open_at(&["10:05-18:00"], OutsideHours::ParkUntilOpen);
    check_with(&opens, "ttl=300001", "0", "interim, park 300000, to 8, = assigned by Reply");
    check_with(&opens, "ttl=300000", "", "= no_agent_online");
    check_closed(
        &driven(&opens, "ttl=300000", "").outcome,
        "outside the hours \"office\"; the deadline comes before they begin",
        "2026-11-23T10:05:00Z",
    );
}

#[test]
fn hours_that_end_while_an_event_waits_count_before_its_next_call() {
    // The fifth attempt would be at 10:00:31.4.
    let ends = |times: &[&str], outside| {
        let mut policy = open_at(times, outside);
        policy.retry.park = vec![MS(70_000)];
        policy
    };
    let faults = "refused | refused | refused | refused";
    let quick = "to 8, wait 200, to 8, wait 400, to 8, wait 800, to 8, park 70000";
    let answer = ends(&["09:00-10:01"], OutsideHours::Answer);
    check_with(&answer, "", faults, &format!("{quick}, = no_agent_online"));
    let outcome = driven(&answer, "", faults).outcome;
    check_closed(&outcome, "outside the hours \"office\"", "2026-11-24T09:00:00Z");
    let again = ends(&["09:00-10:01", "10:04-18:00"], OutsideHours::ParkUntilOpen);
    check_with(
        &again,
        "",
        &format!("{faults} | 0"),
        &format!("{quick}, interim, park 168600, to 8, = assigned by Reply"),
    );
    // Nobody was online while it was open: that stays confirmed by Desk's reply.
    let mut keeps_trying = RouteConfig {
        name: "r".into(),
        targets: vec![Target::Named { agents: Vec::new(), group: Some(8) }],
        while_nobody_online: NoAgentPolicy::KeepTrying(vec![MS(70_000)]),
        ..RouteConfig::default()
    };
    keeps_trying.default_target = false;
    keeps_trying.opening = {
        let weekly = std::array::from_fn(|_| vec![DayTime::read("09:00-10:01").unwrap()]);
        let hours = Hours::new("office".into(), TimeZone::UTC, weekly, BTreeSet::new());
        Some(Opening { hours: Arc::new(hours.unwrap()), outside: OutsideHours::ParkUntilOpen })
    };
    let routes = Routes::compile(vec![keeps_trying]).unwrap();
    let expected = "to 8, interim, park 70000, = no_agent_online by Reply";
    check_with(&Policy { routes, ..policy() }, "", "141001", expected);
}

#[test]
fn a_call_that_waited_at_the_gate_is_not_made_once_the_route_has_closed() {
    let (event, ends) = (event(""), open_at(&["09:00-10:01"], OutsideHours::Answer));
    let mut course = Course::new(&event, &ends, START);
    assert!(matches!(course.next(START), Step::Call(..)));
    assert!(course.may_call(START + MS(59_999)) && !course.may_call(START + MS(60_000)));
    // A state query is made all the same.
    let lost = reply("lost").0;
    let (command, finished_at) = (DeskCommand::TransferToHuman, START + MS(5_000));
    course.on_reply(&CompletedCall { command, started_at: START, finished_at, reply: lost }, 1.0);
    assert!(course.in_doubt() && course.may_call(START + MS(60_000)));
    assert!(!course.may_call(course.gives_up_at()));
}

/// Takes in a reply to a transfer at [`START`], and to each state query a minute and more later.
fn after_replies(policy: &Policy, replies: &[&str]) -> Vec<Step> {
    let event = event("");
    let mut course = Course::new(&event, policy, START);
    let (mut now, mut steps) = (START, Vec::new());
    let mut replies = replies.iter();
    loop {
        let step = course.next(now);
        if let Step::Call(command, _) = &step {
            let words = replies.next().expect("a reply to each call");
            let call = CompletedCall {
                command: *command,
                started_at: now,
                finished_at: now,
                reply: reply(words).0,
            };
            course.on_reply(&call, 1.0);
            now += MS(61_000);
        }
        let is_over = matches!(step, Step::Settle(_));
        steps.push(step);
        if is_over {
            return steps;
        }
    }
}

#[test]
fn a_call_in_doubt_is_reconciled_outside_the_hours_too() {
    let ends = open_at(&["09:00-10:01"], OutsideHours::Answer);
    let ended = |replies: &[&str]| match after_replies(&ends, replies).pop() {
        Some(Step::Settle(outcome)) => outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(ended(&["lost", "Agent b@x"]).agent_id.as_deref(), Some("b@x"));
    let nothing_happened = ended(&["lost", "Chatbot"]);
    check_closed(&nothing_happened, "outside the hours \"office\"", "2026-11-24T09:00:00Z");
    assert_eq!(nothing_happened.attempts, 1);
    // Where the state cannot be queried, "nobody is there" could be untrue.
    let unknown = ended(&["lost", "http 404", "http 404", "http 404"]);
    let reason = unknown.reason.unwrap();
    assert_eq!(unknown.status.as_str(), "failed", "{reason}");
    assert!(reason.contains("the effect of a call is unknown"), "{reason}");
}

fn stored(course: &Course<'_>) -> Snapshot {
    serde_json::from_str(&serde_json::to_string(&course.snapshot()).unwrap()).unwrap()
}

#[test]
fn a_parked_event_meets_the_routes_of_its_next_attempt_and_its_note_names_the_last() {
    let closed = open_at(&["10:05-18:00"], OutsideHours::ParkUntilOpen);
    let event = event("");
    let mut course = Course::new(&event, &closed, START);
    let room = "default #".into();
    assert!(!course.may_wait_in(&room), "the room of another plan");
    let keeps_trying = super::no_agent::keeps_trying();
    let room = needs(&event, &keeps_trying, START).room.unwrap();
    assert!(Course::new(&event, &keeps_trying, START).may_wait_in(&room));
    assert!(matches!(course.next(START), Step::PublishInterim(_)));
    course.on_interim_published();
    assert_eq!(course.next(START), Step::Park(MS(300_000)));
    assert_eq!(course.snapshot().note(), "outside the hours of the route; route r");
    let snapshot = stored(&course);
    // Reloaded meanwhile: another route, and Desk's default is not asked.
    let named = |group| Target::Named { agents: Vec::new(), group: Some(group) };
    let route = |name: &str, groups: &[u64]| RouteConfig {
        name: name.into(),
        targets: groups.iter().map(|group| named(*group)).collect(),
        default_target: false,
        ..RouteConfig::default()
    };
    let with = |route| Policy { routes: Routes::compile(vec![route]).unwrap(), ..policy() };
    let new = with(route("new", &[7, 6]));
    let mut resumed = Course::resumed(&event, &new, snapshot, START + MS(60_000));
    assert_eq!(target_of(&mut resumed), "7");
    resumed.on_reply(&answered("141001"), 1.0);
    assert_eq!(target_of(&mut resumed), "6");
    resumed.on_reply(&answered("refused"), 1.0);
    assert_eq!(resumed.snapshot().note(), "connection refused; route new");
    // The same plan goes on where it was; another one starts with its first target.
    let same = with(route("renamed", &[7, 6, 5]));
    let go_on =
        |policy: &Policy| target_of(&mut Course::resumed(&event, policy, stored(&resumed), START));
    assert_eq!([go_on(&new), go_on(&same)], ["6", "6"]);
    assert_eq!(go_on(&with(route("new", &[9, 6]))), "9");
    assert_eq!(go_on(&with(route("new", &[7]))), "7");
}

fn target_of(course: &mut Course<'_>) -> String {
    match course.next(START + MS(60_000)) {
        Step::Call(DeskCommand::TransferToHuman, body) => super::words::target(&body),
        other => panic!("{other:?}"),
    }
}

fn answered(words: &str) -> CompletedCall {
    let at = START + MS(60_000);
    let command = DeskCommand::TransferToHuman;
    CompletedCall { command, started_at: at, finished_at: at, reply: reply(words).0 }
}
