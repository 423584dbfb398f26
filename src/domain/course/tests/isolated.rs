//! Desk refuses this session and accepts others.

use std::time::Duration;

use jiff::Timestamp;

use super::words::{ReplyScript, event, shown};
use super::{DeskDouble, drive, policy};
use crate::domain::course::{Course, Step};
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::signal::Attempt;

struct RefusingDesk<'a>(ReplyScript<'a>);

impl DeskDouble for RefusingDesk<'_> {
    fn call(
        &mut self,
        command: DeskCommand,
        body: &[u8],
        now: Timestamp,
    ) -> Option<(Reply, Duration)> {
        self.0.call(command, body, now)
    }

    fn refuses_only_this_session(&self) -> bool {
        true
    }
}

#[track_caller]
fn check(replies: &str, expected: &str, reason: &str) {
    let mut desk = RefusingDesk(ReplyScript::new(replies));
    let driven = drive(&event(""), &policy(), &mut desk);
    assert_eq!(shown(&driven), expected, "{replies}");
    let actual = driven.outcome.reason.unwrap_or_default();
    assert!(actual.contains(reason), "{actual}");
}

#[test]
fn the_event_fails_after_three_refusals_in_a_row() {
    check(
        "70107 | 70107 | 70107",
        "to default, [shut], wait 200, to default, [shut], wait 400, to default, [shut], = failed",
        "Desk refuses this session only: 70107",
    );
    check(
        "http 403 | http 403 | http 403",
        "to default, wait 200, to default, wait 400, to default, [shut], = failed",
        "Desk refuses this session only: HTTP 403",
    );
    check(
        "60021 | 60021 | 0 a@x",
        "to default, [shut], wait 200, to default, [shut], wait 400, to default, = assigned a@x by Reply",
        "",
    );
}

#[test]
fn a_refused_signature_is_the_first_of_them() {
    check(
        "70001 | 70001 | 70001",
        "to default, [reauthenticate], to default, [shut], wait 400, to default, [shut], = failed",
        "Desk refuses this session only: 70001",
    );
}

#[test]
fn another_answer_in_between_starts_the_count_again() {
    check(
        "60021 | 60021 | 60014 | 60021 | 60021 | 0",
        "to default, [shut], wait 200, to default, [shut], wait 400, to default, wait 200, \
         to default, [shut], wait 200, to default, [shut], wait 400, to default, = assigned by Reply",
        "",
    );
}

#[test]
fn a_call_in_doubt_is_queried_until_the_end() {
    let mut desk =
        RefusingDesk(ReplyScript::new("141002 | 60021 | 60021 | 60021 | 60021 | Agent a@x"));
    let driven = drive(&event(""), &policy(), &mut desk);
    assert!(shown(&driven).ends_with("= assigned a@x by SessionState"), "{}", shown(&driven));
}

#[test]
fn a_further_target_is_a_first_attempt_and_what_is_repeated_is_none() {
    let (policy, event) = (policy(), event("a@x 7"));
    let attempts = |replies: &str| {
        let mut course = Course::new(&event, &policy, super::START);
        let mut desk = ReplyScript::new(replies);
        let (mut attempts, mut now) = (vec![course.attempt()], super::START);
        for _ in 0..replies.split('|').count() {
            let (command, body) = loop {
                match course.next(now) {
                    Step::Call(command, body) => break (command, body),
                    Step::Wait(wait) | Step::Park(wait) => now += wait,
                    other => panic!("{other:?}"),
                }
            };
            let (reply, took) = desk.call(command, &body, now).unwrap();
            let call =
                super::CompletedCall { command, started_at: now, finished_at: now + took, reply };
            course.on_reply(&call, 1.0);
            attempts.push(course.attempt());
        }
        attempts
    };
    let (first, again) = (Attempt::First, Attempt::Again);
    assert_eq!(attempts("141001 | 141001"), [first, first, first]);
    for fault in ["60014", "60007", "60021", "70001", "http 403"] {
        assert_eq!(attempts(fault), [first, again], "{fault}");
    }
    assert_eq!(
        attempts("141002 | 60014 | Chatbot"),
        [first, first, again, again],
        "{}",
        "in doubt"
    );
}
