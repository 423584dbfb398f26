//! Calls in doubt, row by row: what the session's state decides, and when it is queried.
//!
//! Rows read as in `table`. [`after_an_ambiguous_attempt_the_state_decides`],
//! [`after_occupied_the_state_decides_at_once`] and
//! [`without_state_queries_a_transfer_is_repeated_and_the_outcome_says_so`] are the contract's table.

use super::{MS, check, check_reported, check_with, policy, policy_with};
use crate::domain::course::Policy;

#[test]
fn after_an_ambiguous_attempt_the_state_decides() {
    for code in ["141002", "60008", "60013", "70169", "70500", "91000"] {
        let after = |state: &str, expected: &str| {
            let replies = format!("{code} | {state} | 0 b@x");
            check("", &replies, &format!("to default, wait 200, query, {expected}"));
        };
        after("Agent a@x", "= assigned a@x by SessionState");
        after("WaitingForAgentAnswering a@x", "= assigned a@x by SessionState");
        after("Queueing", "= queued by SessionState");
        after("Chatbot", "to default, = assigned b@x by Reply");
        after("NotInSession", "= rejected by SessionState");
        after("141005", "= rejected by SessionState");
        after("141006", "= rejected by SessionState");
    }
    check_reported("", "lost | NotInSession", "a transfer may have happened", "[]");
}

#[test]
fn a_call_without_an_answer_is_reconciled_after_the_settle_time() {
    for no_answer in ["lost", "http 502", "http 500", "http 200", "http 408"] {
        let check = |took: &str, wait: &str| {
            let replies = format!("{no_answer}{took} | Agent a@x");
            let expected =
                format!("to default, wait {wait}, query, = assigned a@x by SessionState");
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
            check("", &format!("{occupied} | {state}"), &format!("to default, query, {expected}"));
        };
        after("Agent a@x", "= assigned a@x by SessionState");
        after("WaitingForAgentAnswering a@x", "= assigned a@x by SessionState");
        after("Queueing", "= queued by SessionState");
        after("Chatbot", "= rejected by SessionState");
        after("NotInSession", "= rejected by SessionState");
        after("141005", "= rejected by SessionState");
    }
    check_reported("", "141003 | Chatbot", "141003: session cannot be transferred; the bot", "[]");
    check_reported("", "141003 | NotInSession", "the session has ended", "[]");
}

#[test]
fn without_state_queries_a_transfer_is_repeated_and_the_outcome_says_so() {
    for unsupported in ["http 404", "http 405", "60002", "60009"] {
        check(
            "",
            &format!("141002 | {unsupported} | 0 a@x"),
            "to default, wait 200, query, [unsupported], to default, = assigned a@x by Reply",
        );
        check(
            "",
            &format!("141002 | {unsupported} | 141003"),
            "to default, wait 200, query, [unsupported], to default, = rejected by Reply",
        );
        check(
            "",
            &format!("141003 | {unsupported}"),
            "to default, query, [unsupported], = rejected by Reply",
        );
    }
    // Once known it is not queried again, but Desk still gets its settle time.
    check(
        "",
        "141002 | http 404 | lost | 0",
        "to default, wait 200, query, [unsupported], to default, wait 3000, to default, \
         = assigned by Reply",
    );
    let unqueried = "cannot be asked here (HTTP 404)";
    check_reported("", "141003 | http 404", unqueried, "[]");
    check_reported("", "lost | http 404 | 141003", unqueried, "[]");
    check_reported("", "lost | http 404 | 141005", unqueried, "[]");
}

#[test]
fn an_effect_that_cannot_be_reconciled_stays_unknown() {
    let unknown = "the effect of a call is unknown";
    check_reported("", "lost | http 404", unknown, "[]");
    check_reported("", "lost | http 404 | refused", unknown, "[]");
    check_reported("", "lost | http 404 | 60021", unknown, "[]");
    check_reported("", "lost | http 404 | 70001 | 60007", unknown, "[]");
    check_reported("", "5 | http 404 | 5 | 5", unknown, "[]");
    // Desk looked for an agent and found none, so nothing is unknown any more.
    check_reported("", "lost | http 404 | 141001", "141001: no agent available", "[]");
    check(
        "a@x",
        "141002 | http 404 | 141001",
        "to a@x, wait 200, query, [unsupported], to a@x, held, = no_agent_online by Reply",
    );
}

#[test]
fn the_deferred_action_of_a_fault_follows_its_state_query() {
    let once = policy_with(1, &[30_000, 60_000]);
    check_with(
        &once,
        "",
        "141002 | Chatbot | 0",
        "to default, wait 0, query, park 30000, to default, = assigned by Reply",
    );
    check_with(
        &once,
        "",
        "lost | 60009 | 0",
        "to default, wait 3000, query, [unsupported], park 30000, to default, = assigned by Reply",
    );
    let last = policy_with(1, &[]);
    check_with(&last, "", "141002 | Chatbot", "to default, wait 0, query, = failed");
    check_with(
        &last,
        "",
        "141002 | Agent a@x",
        "to default, wait 0, query, = assigned a@x by SessionState",
    );
}

#[test]
fn a_state_query_without_a_state_is_repeated() {
    check(
        "",
        "141002 | lost | http 500 | refused | 141002 | 141004 | 0 a@x | Banana | Chatbot | 0",
        "to default, wait 200, query, wait 200, query, wait 400, query, wait 800, query, \
         wait 1600, query, wait 3200, query, wait 6400, query, wait 10000, query, to default, = assigned by Reply",
    );
    check(
        "",
        "141003 | 60007 | 60021 | 70001 | 70001 | unsigned | Agent a@x",
        "to default, query, [throttled 0], wait 1000, query, [shut], query, [reauthenticate], query, \
         [shut], query, [shut], query, = assigned a@x by SessionState",
    );
    check(
        "",
        "141003 | http 403 | http 403 | http 403 | Queueing",
        "to default, query, wait 200, query, wait 400, query, [shut], wait 800, query, \
         = queued by SessionState",
    );
}

#[test]
fn after_the_deadline_a_course_in_doubt_only_queries_the_state() {
    let late = "to default, wait 200, query, ";
    check("ttl=200", "141002 | Chatbot", &format!("{late}= expired by SessionState"));
    check("ttl=200", "141002 | Agent a@x", &format!("{late}= assigned a@x by SessionState"));
    check("ttl=200", "141002 | Queueing", &format!("{late}= queued by SessionState"));
    check("ttl=200", "141002 | NotInSession", &format!("{late}= rejected by SessionState"));
    check("ttl=200", "141003@300 | Chatbot", "to default, query, = rejected by SessionState");
    check("ttl=200", "141002 | http 404", &format!("{late}[unsupported], = failed"));
    check("ttl=200", "141002", "to default, wait 200, held, = failed");
    check("ttl=200", "141003", "to default, held, = failed");
    check(
        "ttl=200",
        "lost@300 | Chatbot",
        "to default, wait 2700, query, = expired by SessionState",
    );
    check("ttl=300", "141002 | Chatbot@100", &format!("{late}= expired by SessionState"));
    check_reported("ttl=200", "141002", "the effect of the last call is unknown", "[]");
    check_reported("ttl=200", "141003", "the effect is unknown", "[]");
    check_reported("ttl=200", "141002 | Chatbot", "last fault: 141002", "[]");
    let without_grace = Policy { doubt_grace: MS(0), ..policy() };
    check_with(&without_grace, "ttl=100", "141002", "to default, wait 100, = failed");
}
