//! Routes: targets, priority, and what happens when nobody is online and the route keeps trying.
//!
//! Rows read as in `table`; `interim` is the interim outcome. The plan is tried again after 10 s, then
//! every 20 s.

use proptest::prelude::*;
use serde_json::Value;

use super::words::{ReplyScript, event, one_of};
use super::{Driven, MS, Observed, START, check_with, drive, policy};
use crate::domain::course::{Course, InterimOutcome, Policy, Snapshot, Step};
use crate::domain::event::{Event, TransferOptions};
use crate::domain::route::{NoAgentPolicy, RouteConfig, Routes};
use crate::domain::target::Target;
use crate::domain::wire::Message;
use crate::domain::wire::outcome_format::OutcomeFormat;

fn group(group: u64) -> Target {
    Target::Named { agents: Vec::new(), group: Some(group) }
}

/// A policy in which every event takes this route.
fn policy_with_route(route: RouteConfig) -> Policy {
    let routes = Routes::compile(vec![RouteConfig { name: "r".into(), ..route }]);
    Policy { routes: routes.unwrap(), ..policy() }
}

pub(super) fn keeps_trying() -> Policy {
    let while_nobody_online = NoAgentPolicy::KeepTrying(vec![MS(10_000), MS(20_000)]);
    policy_with_route(RouteConfig {
        targets: vec![group(8)],
        while_nobody_online,
        ..RouteConfig::default()
    })
}

#[track_caller]
fn check(words: &str, replies: &str, expected: &str) {
    check_with(&keeps_trying(), words, replies, expected);
}

fn json(message: &Message) -> Value {
    serde_json::from_slice(message.value.as_deref().unwrap()).unwrap()
}

fn drive_keeps_trying(words: &str, replies: &str) -> Driven {
    drive(&event(words), &keeps_trying(), &mut ReplyScript::new(replies))
}

/// The published interim outcome.
fn interim_outcome(driven: &Driven) -> Value {
    let published = |observed: &Observed| match observed {
        Observed::Published(interim) => Some(json(&interim.message)),
        _ => None,
    };
    driven.observed.iter().find_map(published).unwrap()
}

#[test]
fn a_route_adds_its_targets_and_is_named_in_the_outcome() {
    let policy = policy_with_route(RouteConfig {
        targets: vec![group(8), group(9)],
        ..RouteConfig::default()
    });
    check_with(&policy, "a@x", "141001 | 141001 | 0", "to a@x, to 8, to 9, = assigned by Reply");
    check_with(
        &policy,
        "a@x",
        "141001 | 141001 | 141001 | 141001",
        "to a@x, to 8, to 9, to default, = no_agent_online by Reply",
    );
    check_with(&policy, "a@x strict", "141001", "to a@x, = no_agent_online by Reply");
    let driven = drive(&event("7"), &policy, &mut ReplyScript::new("141001 | 0 b@x"));
    assert_eq!(driven.outcome.route.as_deref(), Some("r"));
    assert_eq!(driven.outcome.target, Some(group(8)));
    assert_eq!(drive(&event("invalid"), &policy, &mut ReplyScript::new("")).outcome.route, None);
}

#[test]
fn a_route_supplies_priority_and_options_that_the_event_does_not_set() {
    let options = TransferOptions { queue_timeout: Some(60), ..TransferOptions::default() };
    let route = RouteConfig {
        targets: vec![group(8)],
        priority: Some(2),
        options,
        ..RouteConfig::default()
    };
    let driven = drive(&event(""), &policy_with_route(route), &mut ReplyScript::new("0"));
    let Observed::Called(_, body) = &driven.observed[0] else { panic!("{driven:?}") };
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&body["Priority"], &body["QueueTimeout"]), (&2.into(), &60.into()));
}

#[test]
fn one_interim_outcome_is_published_and_the_plan_tried_again() {
    check(
        "",
        "141001 | 141001 | 141001 | 0 a@x",
        "to 8, to default, interim, park 10000, to 8, to default, = assigned a@x by Reply",
    );
    check(
        "a@x",
        "141001 | 141011 | 141001 | 141001 | 141001 | 141001 | 0 queue",
        "to a@x, to 8, to default, interim, park 10000, to a@x, to 8, to default, park 20000, to a@x, \
         = queued by Reply",
    );
}

#[test]
fn a_form_of_outcomes_without_interim_ones_only_keeps_trying() {
    let policy = Policy { outcome_format: OutcomeFormat::HandoffStatus, ..keeps_trying() };
    let expected = "to 8, to default, park 10000, to 8, to default, = assigned a@x by Reply";
    check_with(&policy, "", "141001 | 141001 | 141001 | 0 a@x", expected);
}

#[test]
fn without_another_attempt_before_the_deadline_no_agent_is_final() {
    check("ttl=9999", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
    check("ttl=10000", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
    check(
        "ttl=45000",
        "141001 | 141001 | 141001 | 141001 | 141001 | 141001",
        "to 8, to default, interim, park 10000, to 8, to default, park 20000, to 8, to default, \
         = no_agent_online by Reply",
    );
    let ended = drive_keeps_trying("ttl=15000", "141001 | 141001 | 141001 | 141001").outcome;
    let reason = ended.reason.unwrap();
    assert_eq!(reason, "141001: no agent available; the deadline comes before the next attempt");
    // The gate is shut in the second pass until the deadline.
    check(
        "ttl=60000",
        "141001 | 141001",
        "to 8, to default, interim, park 10000, held, = no_agent_online by Reply",
    );
}

#[test]
fn the_final_outcome_lists_the_last_pass_through_the_plan() {
    let driven =
        drive_keeps_trying("ttl=45000", "141001 | 141011 | 141001 | 141012 | 141017 | 0 a@x");
    insta::assert_snapshot!(
        interim_outcome(&driven),
        @r#"{"attempts":2,"confirmed_by":"reply","decided_at":"2026-11-23T10:00:00Z","desk":{"action_status":"","code":141011,"info":""},"elapsed_ms":0,"event_id":"evt-1","final":false,"id":"evt-1/interim","reason":"141011: named agent is offline; retried until 2026-11-23T10:00:45Z","route":"r","session_id":"s-1","source":{"offset":0,"partition":0,"topic":"t"},"status":"no_agent_online","target":{"default":true},"tried":[{"code":141001,"target":{"group":8}},{"code":141011,"target":{"default":true}}]}"#
    );
    let outcome = &driven.outcome;
    assert_eq!((outcome.attempts, outcome.is_final), (6, true));
    let codes: Vec<_> = outcome.tried.iter().map(|tried| tried.code.unwrap()).collect();
    assert_eq!(codes, [141_017, 0], "the last pass");
    let later = drive_keeps_trying("", "141001 | 141011 | 0 a@x").outcome;
    assert_eq!((later.attempts, later.tried.len()), (3, 0), "one target in the last pass");
    assert_eq!(later.target, Some(group(8)));
}

#[test]
fn a_fault_after_a_plan_retry_is_handled_like_any_other() {
    check(
        "",
        "141001 | 141001 | refused | lost | Chatbot | 141001 | 0",
        "to 8, to default, interim, park 10000, to 8, wait 200, to 8, wait 3000, query, to 8, \
         to default, = assigned by Reply",
    );
    check(
        "ttl=11000",
        "141001 | 141001 | refused | refused | refused",
        "to 8, to default, interim, park 10000, to 8, wait 200, to 8, wait 400, to 8, wait 400, \
         = failed",
    );
}

#[test]
fn a_session_that_desk_ends_is_not_retried() {
    let options = TransferOptions {
        end_session_when_no_member_online: Some(true),
        ..TransferOptions::default()
    };
    let while_nobody_online = NoAgentPolicy::KeepTrying(vec![MS(10_000)]);
    let targets = vec![group(8)];
    let policy = policy_with_route(RouteConfig {
        targets,
        while_nobody_online,
        options,
        ..RouteConfig::default()
    });
    check_with(&policy, "", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
}

#[test]
fn desk_prompts_the_user_in_the_first_pass_only() {
    let mut event = event("");
    let request = event.request.as_mut().unwrap();
    request.options.send_tip_if_no_agent_online = Some(true);
    let driven =
        drive(&event, &keeps_trying(), &mut ReplyScript::new("141001 | 141001 | 141001 | 0"));
    let tip = |observed: &Observed| match observed {
        Observed::Called(_, body) => {
            Some(serde_json::from_slice::<Value>(body).unwrap()["SendTipIfNoAgentOnline"] == 1)
        }
        _ => None,
    };
    let tips: Vec<_> = driven.observed.iter().filter_map(tip).collect();
    assert_eq!(tips, [true, true, false, false]);
}

/// A course whose next step is to publish its interim outcome, and that step.
fn about_to_publish<'a>(event: &'a Event, policy: &'a Policy) -> (Course<'a>, Box<InterimOutcome>) {
    let mut course = Course::new(event, policy, START);
    let mut script = ReplyScript::new("141001 | 141001");
    loop {
        match course.next(START) {
            Step::Call(command, body) => {
                let (reply, _) =
                    super::DeskDouble::call(&mut script, command, &body, START).unwrap();
                let call =
                    super::CompletedCall { command, started_at: START, finished_at: START, reply };
                course.on_reply(&call, 1.0);
            }
            Step::PublishInterim(interim) => return (course, interim),
            other => panic!("{other:?}"),
        }
    }
}

/// The snapshot after a round trip through the ledger.
fn stored(course: &Course<'_>) -> Snapshot {
    serde_json::from_str(&serde_json::to_string(&course.snapshot()).unwrap()).unwrap()
}

#[test]
fn after_a_crash_the_stored_interim_outcome_is_published_byte_for_byte() {
    let (event, policy) = (event(""), keeps_trying());
    let (mut course, interim) = about_to_publish(&event, &policy);
    let later = START + MS(5_000);
    let mut resumed = Course::resumed(&event, &policy, stored(&course), later);
    let expected = InterimOutcome { message: interim.message.clone(), since: Some(START) };
    assert_eq!(resumed.next(later), Step::PublishInterim(Box::new(expected.clone())));
    // Also where outcomes have another form by now.
    let outcome_format = OutcomeFormat::CloudEvents { kind: "k".into(), source: "s".into() };
    let changed = Policy { outcome_format, ..keeps_trying() };
    let mut of_other_form = Course::resumed(&event, &changed, stored(&course), later);
    assert_eq!(of_other_form.next(later), Step::PublishInterim(Box::new(expected)));
    resumed.on_interim_published();
    assert!(matches!(resumed.next(later), Step::Call(..)), "then the plan is tried again");
    // In doubt it is published only after the reconciliation.
    let mut interrupted = Course::interrupted(&event, &policy, stored(&course), later);
    assert_eq!(interrupted.next(later), Step::Wait(policy.settle_time));
    assert!(matches!(interrupted.next(later), Step::Call(super::DeskCommand::GetSessionState, _)));
    // Past the deadline only the final outcome is left.
    let snapshot = stored(&course);
    let mut late = Course::resumed(&event, &policy, snapshot, event.deadline);
    assert!(matches!(late.next(event.deadline), Step::Settle(_)));
    course.on_interim_published();
    let mut resumed = Course::resumed(&event, &policy, stored(&course), later);
    assert!(matches!(resumed.next(later), Step::Call(..)), "published once");
}

#[test]
fn a_snapshot_without_some_fields_is_read() {
    let snapshot: Snapshot = serde_json::from_str(r#"{"attempts":2,"parks":1}"#).unwrap();
    let (event, policy) = (event(""), keeps_trying());
    let mut course = Course::resumed(&event, &policy, snapshot, START);
    assert!(matches!(course.next(START), Step::Call(..)));
}

proptest! {
    #[test]
    fn a_course_that_keeps_trying_publishes_at_most_one_interim_outcome(
        replies in prop::collection::vec(
            one_of(&["141001", "141001", "141001", "refused", "lost", "141003", "Chatbot", "0"]),
            0..200,
        ),
        ttl in 0u64..400_000,
        requested_target in one_of(&["", "a@x", "a@x 7", "a@x strict"]),
    ) {
        // `Invariants` checks the rest: one interim outcome at most, none in doubt, none too late.
        let words = format!("{requested_target} ttl={ttl}");
        let driven = drive_keeps_trying(&words, &replies.join(" | "));
        let position = |wanted: fn(&Observed) -> bool| driven.observed.iter().position(wanted);
        let published = position(|observed| matches!(observed, Observed::Published(_)));
        let parked = position(|observed| *observed == Observed::Parked(MS(10_000)));
        prop_assert!(parked.is_none() || published.is_some_and(|at| at < parked.unwrap()));
    }
}
