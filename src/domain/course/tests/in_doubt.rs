//! The contract on doubtful calls, row by row: what the session's state decides, and when.
//!
//! Rows are read as in `table`. The state table of the contract is
//! `after_an_ambiguous_attempt_the_state_decides`, `after_occupied_the_state_decides_at_once`
//! and `where_states_cannot_be_asked_a_transfer_is_repeated_and_said_so`.
//! No row here ever depends on another.

use super::{MS, check, check_by, check_told, policy};
use crate::domain::course::Policy;

#[test]
fn after_an_ambiguous_attempt_the_state_decides() {
    for doubtful in ["141002", "60008", "60013", "70169", "70500", "91000"] {
        let after = |state: &str, expected: &str| {
            let replies = format!("{doubtful} | {state} | 0 b@x");
            check("", &replies, &format!("to default, wait 200, ask, {expected}"));
        };
        after("Agent a@x", "= assigned a@x by SessionState");
        after("WaitingForAgentAnswering a@x", "= assigned a@x by SessionState");
        after("Queueing", "= queued by SessionState");
        after("Chatbot", "to default, = assigned b@x by Reply");
        after("NotInSession", "= rejected by SessionState");
        after("141005", "= rejected by SessionState");
        after("141006", "= rejected by SessionState");
    }
    check_told("", "lost | NotInSession", ("a transfer may have happened", "[]"));
}

#[test]
fn a_call_without_an_answer_is_asked_after_when_desk_is_done_with_it() {
    for silence in ["lost", "http 502", "http 500", "http 200", "http 408"] {
        let check = |took: &str, wait: &str| {
            let replies = format!("{silence}{took} | Agent a@x");
            let expected = format!("to default, wait {wait}, ask, = assigned a@x by SessionState");
            check("", &replies, &expected);
        };
        check("", "3000");
        check("@1000", "2000");
        check("@2900", "200");
        check("@5000", "200");
    }
}

#[test]
fn after_occupied_the_state_decides_at_once() {
    for occupied in ["141003", "141016"] {
        let after = |state: &str, expected: &str| {
            check("", &format!("{occupied} | {state}"), &format!("to default, ask, {expected}"));
        };
        after("Agent a@x", "= assigned a@x by SessionState");
        after("WaitingForAgentAnswering a@x", "= assigned a@x by SessionState");
        after("Queueing", "= queued by SessionState");
        after("Chatbot", "= rejected by SessionState");
        after("NotInSession", "= rejected by SessionState");
        after("141005", "= rejected by SessionState");
    }
    check_told("", "141003 | Chatbot", ("141003: session cannot be transferred; the bot", "[]"));
    check_told("", "141003 | NotInSession", ("the session has ended", "[]"));
}

#[test]
fn where_states_cannot_be_asked_a_transfer_is_repeated_and_said_so() {
    for never in ["http 404", "http 405", "60002", "60009"] {
        check(
            "",
            &format!("141002 | {never} | 0 a@x"),
            "to default, wait 200, ask, [cannot ask], to default, = assigned a@x by Reply",
        );
        check(
            "",
            &format!("141002 | {never} | 141003"),
            "to default, wait 200, ask, [cannot ask], to default, = rejected by Reply",
        );
        check(
            "",
            &format!("141003 | {never}"),
            "to default, ask, [cannot ask], = rejected by Reply",
        );
    }
    // Once known it is not asked again, but Desk still gets its time.
    check(
        "",
        "141002 | http 404 | lost | 0",
        "to default, wait 200, ask, [cannot ask], to default, wait 3000, to default, \
         = assigned by Reply",
    );
    let unasked = "cannot be asked here (HTTP 404)";
    check_told("", "141003 | http 404", (unasked, "[]"));
    check_told("", "lost | http 404 | 141003", (unasked, "[]"));
    check_told("", "lost | http 404 | 141005", (unasked, "[]"));
}

#[test]
fn a_doubt_that_cannot_be_asked_is_not_forgotten() {
    let unknown = "the effect of a call is unknown";
    check_told("", "lost | http 404", (unknown, "[]"));
    check_told("", "lost | http 404 | refused", (unknown, "[]"));
    check_told("", "lost | http 404 | 60021", (unknown, "[]"));
    check_told("", "lost | http 404 | 70001 | 60007", (unknown, "[]"));
    check_told("", "5 | http 404 | 5 | 5", (unknown, "[]"));
    // Desk looked for an agent and found none: nothing is unknown any more.
    check_told("", "lost | http 404 | 141001", ("141001: no agent available", "[]"));
    check(
        "a@x",
        "141002 | http 404 | 141001",
        "to a@x, wait 200, ask, [cannot ask], to a@x, held, = no_agent_online by Reply",
    );
}

#[test]
fn what_a_fault_owed_follows_its_question() {
    let once = Policy { quick_attempts: 1, ..policy() };
    check_by(
        &once,
        "",
        "141002 | Chatbot | 0",
        "to default, wait 0, ask, park 30000, to default, = assigned by Reply",
    );
    check_by(
        &once,
        "",
        "lost | 60009 | 0",
        "to default, wait 3000, ask, [cannot ask], park 30000, to default, = assigned by Reply",
    );
    let last = Policy { quick_attempts: 1, park: Vec::new(), ..policy() };
    check_by(&last, "", "141002 | Chatbot", "to default, wait 0, ask, = failed");
    check_by(
        &last,
        "",
        "141002 | Agent a@x",
        "to default, wait 0, ask, = assigned a@x by SessionState",
    );
}

#[test]
fn a_question_without_a_state_is_asked_again() {
    check(
        "",
        "141002 | lost | http 500 | refused | 141002 | 141004 | 0 a@x | Banana | Chatbot | 0",
        "to default, wait 200, ask, wait 200, ask, wait 400, ask, wait 800, ask, wait 1600, ask, \
         wait 3200, ask, wait 6400, ask, wait 10000, ask, to default, = assigned by Reply",
    );
    check(
        "",
        "141003 | 60007 | 60021 | 70001 | 70001 | unsigned | Agent a@x",
        "to default, ask, [slow 0], wait 200, ask, [closed], ask, [resign], ask, [closed], ask, \
         [closed], ask, = assigned a@x by SessionState",
    );
    check(
        "",
        "141003 | http 403 | http 403 | http 403 | Queueing",
        "to default, ask, wait 200, ask, wait 400, ask, [closed], wait 800, ask, \
         = queued by SessionState",
    );
}

#[test]
fn in_doubt_the_deadline_is_followed_by_questions_only() {
    let late = "to default, wait 200, ask, ";
    check("ttl=200", "141002 | Chatbot", &format!("{late}= expired by SessionState"));
    check("ttl=200", "141002 | Agent a@x", &format!("{late}= assigned a@x by SessionState"));
    check("ttl=200", "141002 | Queueing", &format!("{late}= queued by SessionState"));
    check("ttl=200", "141002 | NotInSession", &format!("{late}= rejected by SessionState"));
    check("ttl=200", "141003@300 | Chatbot", "to default, ask, = rejected by SessionState");
    check("ttl=200", "141002 | http 404", &format!("{late}[cannot ask], = failed"));
    check("ttl=200", "141002", "to default, wait 200, held, = failed");
    check("ttl=200", "141003", "to default, held, = failed");
    check("ttl=200", "lost@300 | Chatbot", "to default, wait 2700, ask, = expired by SessionState");
    check("ttl=300", "141002 | Chatbot@100", &format!("{late}= expired by SessionState"));
    check_told("ttl=200", "141002", ("the effect of the last call is unknown", "[]"));
    check_told("ttl=200", "141003", ("the effect is unknown", "[]"));
    check_told("ttl=200", "141002 | Chatbot", ("last fault: 141002", "[]"));
    let graceless = Policy { doubt_grace: MS(0), ..policy() };
    check_by(&graceless, "ttl=100", "141002", "to default, wait 100, = failed");
}
