//! Routes on a walk: targets, priority, and what happens where nobody is online and the route
//! keeps trying.
//!
//! Rows are read as in `table`; `tell` is the interim outcome. The waits between rounds are 10 s,
//! then 20 s. No row here ever depends on another.

use proptest::prelude::*;
use serde_json::Value;

use super::words::{Script, event, one_of};
use super::{MS, START, Seen, Walked, check_by, drive, policy};
use crate::domain::course::{Course, InterimOutcome, Moment, Policy, Snapshot, Step};
use crate::domain::event::{Event, TransferOptions};
use crate::domain::plan::Target;
use crate::domain::route::{Draft, NoAgentPolicy, Routes};
use crate::domain::wire::outcome::Message;

fn group(group: u64) -> Target {
    Target::Named { agents: Vec::new(), group: Some(group) }
}

/// Every event takes this route.
fn by(draft: Draft) -> Policy {
    let routes = Routes::compile(vec![Draft { name: "r".into(), ..draft }]);
    Policy { routes: routes.unwrap(), ..policy() }
}

pub(super) fn patient() -> Policy {
    let while_nobody_online = NoAgentPolicy::KeepTrying(vec![MS(10_000), MS(20_000)]);
    by(Draft { targets: vec![group(8)], while_nobody_online, ..Draft::default() })
}

#[track_caller]
fn check(words: &str, replies: &str, expected: &str) {
    check_by(&patient(), words, replies, expected);
}

fn json(message: &Message) -> Value {
    serde_json::from_slice(message.value.as_deref().unwrap()).unwrap()
}

fn walk(words: &str, replies: &str) -> Walked {
    drive(&event(words), &patient(), &mut Script::new(replies))
}

/// The interim outcome of a walk.
fn told(walked: &Walked) -> Value {
    let told = |seen: &Seen| match seen {
        Seen::Told(tell) => Some(json(&tell.message)),
        _ => None,
    };
    walked.seen.iter().find_map(told).unwrap()
}

#[test]
fn a_route_adds_its_targets_and_is_told() {
    let policy = by(Draft { targets: vec![group(8), group(9)], ..Draft::default() });
    check_by(&policy, "a@x", "141001 | 141001 | 0", "to a@x, to 8, to 9, = assigned by Reply");
    check_by(
        &policy,
        "a@x",
        "141001 | 141001 | 141001 | 141001",
        "to a@x, to 8, to 9, to default, = no_agent_online by Reply",
    );
    check_by(&policy, "a@x strict", "141001", "to a@x, = no_agent_online by Reply");
    let walked = drive(&event("7"), &policy, &mut Script::new("141001 | 0 b@x"));
    assert_eq!(walked.outcome.route.as_deref(), Some("r"));
    assert_eq!(walked.outcome.target, Some(group(8)));
    assert_eq!(drive(&event("invalid"), &policy, &mut Script::new("")).outcome.route, None);
}

#[test]
fn a_route_gives_the_priority_and_options_that_the_event_leaves_open() {
    let options = TransferOptions { queue_timeout: Some(60), ..TransferOptions::default() };
    let draft = Draft { targets: vec![group(8)], priority: Some(2), options, ..Draft::default() };
    let walked = drive(&event(""), &by(draft), &mut Script::new("0"));
    let Seen::Called(_, body) = &walked.seen[0] else { panic!("{walked:?}") };
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&body["Priority"], &body["QueueTimeout"]), (&2.into(), &60.into()));
}

#[test]
fn nobody_online_is_told_once_and_everybody_asked_again() {
    check(
        "",
        "141001 | 141001 | 141001 | 0 a@x",
        "to 8, to default, tell, park 10000, to 8, to default, = assigned a@x by Reply",
    );
    check(
        "a@x",
        "141001 | 141011 | 141001 | 141001 | 141001 | 141001 | 0 queue",
        "to a@x, to 8, to default, tell, park 10000, to a@x, to 8, to default, park 20000, to a@x, \
         = queued by Reply",
    );
}

#[test]
fn when_no_try_is_left_before_the_deadline_that_is_the_answer() {
    check("ttl=9999", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
    check("ttl=10000", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
    check(
        "ttl=45000",
        "141001 | 141001 | 141001 | 141001 | 141001 | 141001",
        "to 8, to default, tell, park 10000, to 8, to default, park 20000, to 8, to default, \
         = no_agent_online by Reply",
    );
    let ended = walk("ttl=15000", "141001 | 141001 | 141001 | 141001").outcome;
    let reason = ended.reason.unwrap();
    assert_eq!(reason, "141001: no agent available; its deadline comes before the next try");
    // The gate is shut in the second round until the deadline.
    check(
        "ttl=60000",
        "141001 | 141001",
        "to 8, to default, tell, park 10000, held, = no_agent_online by Reply",
    );
}

#[test]
fn the_interim_outcome_says_what_is_known_and_the_final_one_tells_the_last_round() {
    let walked = walk("ttl=45000", "141001 | 141011 | 141001 | 141012 | 141017 | 0 a@x");
    insta::assert_snapshot!(
        told(&walked),
        @r#"{"attempts":2,"confirmed_by":"reply","decided_at":"2026-11-23T10:00:00Z","desk":{"action_status":"","code":141011,"info":""},"elapsed_ms":0,"event_id":"evt-1","final":false,"id":"evt-1/interim","reason":"141011: named agent is offline; asked again until 2026-11-23T10:00:45Z","route":"r","session_id":"s-1","source":{"offset":0,"partition":0,"topic":"t"},"status":"no_agent_online","target":{"default":true},"tried":[{"code":141001,"target":{"group":8}},{"code":141011,"target":{"default":true}}]}"#
    );
    let outcome = &walked.outcome;
    assert_eq!((outcome.attempts, outcome.is_final), (6, true));
    let codes: Vec<_> = outcome.tried.iter().map(|tried| tried.code.unwrap()).collect();
    assert_eq!(codes, [141_017, 0], "the last round");
    let later = walk("", "141001 | 141011 | 0 a@x").outcome;
    assert_eq!((later.attempts, later.tried.len()), (3, 0), "one target in its last round");
    assert_eq!(later.target, Some(group(8)));
}

#[test]
fn a_fault_in_a_later_round_is_a_fault() {
    check(
        "",
        "141001 | 141001 | refused | lost | Chatbot | 141001 | 0",
        "to 8, to default, tell, park 10000, to 8, wait 200, to 8, wait 3000, ask, to 8, \
         to default, = assigned by Reply",
    );
    check(
        "ttl=11000",
        "141001 | 141001 | refused | refused | refused",
        "to 8, to default, tell, park 10000, to 8, wait 200, to 8, wait 400, to 8, wait 400, \
         = failed",
    );
}

#[test]
fn where_the_session_ends_when_nobody_is_online_there_is_nothing_to_try_again() {
    let options = TransferOptions {
        end_session_when_no_member_online: Some(true),
        ..TransferOptions::default()
    };
    let while_nobody_online = NoAgentPolicy::KeepTrying(vec![MS(10_000)]);
    let targets = vec![group(8)];
    let policy = by(Draft { targets, while_nobody_online, options, ..Draft::default() });
    check_by(&policy, "", "141001 | 141001", "to 8, to default, = no_agent_online by Reply");
}

#[test]
fn desk_prompts_the_user_in_the_first_round_only() {
    let mut event = event("");
    let ask = event.request.as_mut().unwrap();
    ask.options.send_tip_if_no_agent_online = Some(true);
    let walked = drive(&event, &patient(), &mut Script::new("141001 | 141001 | 141001 | 0"));
    let tip = |seen: &Seen| match seen {
        Seen::Called(_, body) => {
            Some(serde_json::from_slice::<Value>(body).unwrap()["SendTipIfNoAgentOnline"] == 1)
        }
        _ => None,
    };
    let tips: Vec<_> = walked.seen.iter().filter_map(tip).collect();
    assert_eq!(tips, [true, true, false, false]);
}

/// A course that is about to tell, and what it remembers.
fn about_to_tell<'a>(event: &'a Event, policy: &'a Policy) -> (Course<'a>, Box<InterimOutcome>) {
    let mut course = Course::new(event, policy, START);
    let mut script = Script::new("141001 | 141001");
    loop {
        match course.next(START) {
            Step::Call(command, body) => {
                let (reply, _) = super::World::call(&mut script, command, &body, START).unwrap();
                let call = super::CompletedCall { command, begun: START, reply };
                course.on_reply(&call, Moment { now: START, jitter: 1.0 });
            }
            Step::PublishInterim(tell) => return (course, tell),
            other => panic!("{other:?}"),
        }
    }
}

/// Through the ledger and back.
fn written(course: &Course<'_>) -> Snapshot {
    serde_json::from_str(&serde_json::to_string(&course.snapshot()).unwrap()).unwrap()
}

#[test]
fn after_a_crash_it_is_looked_for_and_repeated_to_the_letter_or_not_at_all() {
    let (event, policy) = (event(""), patient());
    let (mut course, tell) = about_to_tell(&event, &policy);
    let later = START + MS(5_000);
    let mut resumed = Course::resumed(&event, &policy, written(&course), (START, later));
    let expected = InterimOutcome { message: tell.message.clone(), since: Some(START) };
    assert_eq!(resumed.next(later), Step::PublishInterim(Box::new(expected.clone())));
    resumed.on_interim_published();
    assert!(matches!(resumed.next(later), Step::Call(..)), "then everybody is asked again");
    // In doubt it is not told before the doubt is over.
    let mut interrupted = Course::interrupted(&event, &policy, written(&course), later);
    assert_eq!(interrupted.next(later), Step::Wait(policy.settle));
    assert!(matches!(interrupted.next(later), Step::Call(super::DeskCommand::GetSessionState, _)));
    // Past the deadline only the final answer is left.
    let memory = written(&course);
    let mut late = Course::resumed(&event, &policy, memory, (START, event.deadline));
    assert!(matches!(late.next(event.deadline), Step::Settle(_)));
    course.on_interim_published();
    let due = START + MS(10_000);
    let mut resumed = Course::resumed(&event, &policy, written(&course), (due, later));
    assert_eq!(resumed.next(later), Step::Park(MS(5_000)));
    assert!(matches!(resumed.next(due), Step::Call(..)), "told once");
}

#[test]
fn a_memory_of_an_earlier_version_is_read() {
    let memory: Snapshot = serde_json::from_str(r#"{"attempts":2,"parks":1}"#).unwrap();
    let (event, policy) = (event(""), patient());
    let mut course = Course::resumed(&event, &policy, memory, (START, START));
    assert!(matches!(course.next(START), Step::Call(..)));
}

proptest! {
    #[test]
    fn a_patient_course_settles_and_tells_at_most_once_whatever_comes(
        replies in prop::collection::vec(
            one_of(&["141001", "141001", "141001", "refused", "lost", "141003", "Chatbot", "0"]),
            0..200,
        ),
        ttl in 0u64..400_000,
        requested_target in one_of(&["", "a@x", "a@x 7", "a@x strict"]),
    ) {
        // `Watch` holds the rest: one interim outcome at most, none in doubt, none too late.
        let words = format!("{requested_target} ttl={ttl}");
        let walked = walk(&words, &replies.join(" | "));
        let told = walked.seen.iter().position(|seen| matches!(seen, Seen::Told(_)));
        let parked = walked.seen.iter().position(|seen| *seen == Seen::Parked(MS(10_000)));
        prop_assert!(parked.is_none_or(|parked| told.is_some_and(|told| told < parked)));
    }
}
