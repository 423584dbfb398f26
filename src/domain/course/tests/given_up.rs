//! An operator gives an event up: no further transfer is made, and a call in doubt is reconciled first.

use jiff::Timestamp;

use super::words::{event, reply};
use super::{MS, START, policy};
use crate::domain::course::{CompletedCall, Course, Snapshot, Step};
use crate::domain::event::Event;
use crate::domain::ledger_entry::GivenUp;
use crate::domain::wire::outcome::Outcome;

const GIVEN_UP: Timestamp = Timestamp::constant(1_795_428_010, 0);

fn given_up() -> GivenUp {
    GivenUp { at: GIVEN_UP, by: "ann".into(), reason: "called the hotline".into() }
}

/// The outcome of a course that is given up; Desk answers `reply` to a state query and is never asked
/// for a transfer.
fn outcome(mut course: Course<'_>, state: &str) -> Outcome {
    course.give_up(given_up());
    let mut now = GIVEN_UP;
    loop {
        match course.next(now) {
            Step::Settle(outcome) => return *outcome,
            Step::Wait(wait) => now += wait,
            Step::Call(command, body) => {
                assert_eq!(command.as_str(), "get_session_state", "{body:?}");
                let (reply, took) = reply(state);
                let call =
                    CompletedCall { command, started_at: now, finished_at: now + took, reply };
                course.on_reply(&call, 1.0);
                now += took;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn check(course: Course<'_>, state: &str, expected: &str) {
    let outcome = outcome(course, state);
    let reason = outcome.reason.unwrap_or_default();
    assert_eq!(format!("{} {reason}", outcome.status).trim(), expected);
}

/// A course after this reply to its first transfer.
fn after<'a>(event: &'a Event, policy: &'a super::Policy, words: &str) -> Course<'a> {
    let mut course = Course::new(event, policy, START);
    let Step::Call(command, _) = course.next(START) else { panic!("it calls") };
    let (reply, _) = reply(words);
    course.on_reply(&CompletedCall { command, started_at: START, finished_at: START, reply }, 1.0);
    course
}

#[test]
fn an_event_that_is_given_up_fails_without_another_transfer() {
    let (event, policy) = (event("7"), policy());
    let new = Course::new(&event, &policy, START);
    check(new, "", "failed given up by ann: called the hotline; Desk was not called");
    let refused = after(&event, &policy, "60014");
    let reason = outcome(refused, "").reason.unwrap();
    assert!(reason.starts_with("given up by ann: called the hotline; last: "), "{reason}");
    let nobody = after(&event, &policy, "141001");
    assert!(outcome(nobody, "").reason.unwrap().contains("; last: "));
}

#[test]
fn a_call_in_doubt_is_reconciled_first() {
    let (event, policy) = (event("7"), policy());
    let in_doubt = || Course::interrupted(&event, &policy, Snapshot::default(), GIVEN_UP);
    let assigned = outcome(in_doubt(), "Agent a@x");
    assert_eq!((assigned.status.as_str(), assigned.agent_id.as_deref()), ("assigned", Some("a@x")));
    let fault = "the process stopped while a call may have been in flight";
    let text = format!("failed given up by ann: called the hotline; last fault: {fault}");
    check(in_doubt(), "Chatbot", &text);
    let text = format!(
        "failed given up by ann: called the hotline; the effect of the last call is unknown; last: \
         {fault}"
    );
    check(in_doubt(), "lost@1000", &text);
}

#[test]
fn desk_gets_the_time_to_settle_a_call_in_doubt_that_is_resumed_early() {
    let (event, policy) = (event("7"), policy());
    let in_doubt = after(&event, &policy, "lost@1000").snapshot();
    let mut course = Course::resumed(&event, &policy, in_doubt, GIVEN_UP);
    course.on_resumed_early();
    course.give_up(given_up());
    assert_eq!(course.next(GIVEN_UP), Step::Wait(policy.settle_time));
    assert!(matches!(course.next(GIVEN_UP + policy.settle_time), Step::Call(..)));
    let refused = after(&event, &policy, "60014").snapshot();
    let mut course = Course::resumed(&event, &policy, refused, GIVEN_UP);
    course.on_resumed_early();
    assert!(matches!(course.next(GIVEN_UP), Step::Call(..)), "nothing is in doubt");
}

#[test]
fn an_event_that_is_given_up_ends_at_once_and_not_at_its_deadline() {
    let (event, policy) = (event("7"), policy());
    let mut course = after(&event, &policy, "60014");
    assert_eq!(course.gives_up_at(), event.deadline);
    course.give_up(given_up());
    assert_eq!(course.gives_up_at(), GIVEN_UP);
    assert!(matches!(course.next(GIVEN_UP + MS(1)), Step::Settle(_)));
}
