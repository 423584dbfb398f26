//! The contract on targets, faults and deadlines, row by row.
//!
//! A row: the event, the replies one after the other, and the walk that must follow. Jitter is
//! 1, so that a wait is the back-off's ceiling; calls take no time unless a row says so.
//! No row here ever depends on another.

use super::{check, check_by, check_told, policy};
use crate::domain::course::Policy;
use crate::domain::verdict::{VerdictClass, Verdicts};

#[test]
fn a_success_is_final() {
    check("", "0 a@x", "to default, = assigned a@x by Reply");
    check("", "0", "to default, = assigned by Reply");
    check("", "0 queue", "to default, = queued by Reply");
}

#[test]
fn a_refusal_is_final() {
    for code in ["141004", "141005", "141006", "90001", "80001", "141099"] {
        check("", code, "to default, = rejected by Reply");
    }
}

#[test]
fn an_invalid_event_is_rejected_without_a_call_even_past_its_deadline() {
    check("invalid", "0", "= rejected");
    check("invalid ttl=0", "0", "= rejected");
    check_told("invalid", "", ("priority is 11", "[]"));
}

#[test]
fn a_request_over_the_limit_is_rejected_without_a_call() {
    check("huge", "0", "= rejected");
    check_told("huge", "", ("DeskStatus allows 12288 (93000)", "[]"));
}

#[test]
fn no_agent_steps_to_the_next_target_at_once() {
    check("", "141001", "to default, = no_agent_online by Reply");
    check("a@x", "141001 | 0 b@x", "to a@x, to default, = assigned b@x by Reply");
    check(
        "a@x b@x 7",
        "141011 | 141012 | 141017",
        "to a@x+b@x+7, to 7, to default, = no_agent_online by Reply",
    );
    check("a@x 7 strict", "141001 | 141013", "to a@x+7, to 7, = no_agent_online by Reply");
    let closed = Policy { default_target: false, ..policy() };
    check_by(&closed, "7", "141001", "to 7, = no_agent_online by Reply");
    check_by(&closed, "", "0 a@x", "to default, = assigned a@x by Reply");
}

#[test]
fn tried_lists_every_target_that_was_asked_where_there_was_a_cascade() {
    let a = r#"{"target":{"agents":["a@x"]},"code":141011}"#;
    let by_default = |code: &str| format!(r#"[{a},{{"target":{{"default":true}}{code}}}]"#);
    check_told("", "141001", ("141001: no agent available", "[]"));
    check_told("a@x", "0 a@x", ("", "[]"));
    check_told("a@x", "141011 | 0 b@x", ("", &by_default(r#","code":0"#)));
    check_told("a@x", "141011 | 141001", ("141001", &by_default(r#","code":141001"#)));
    check_told("a@x", "141011 | lost | Agent b@x", ("", &by_default("")));
    check_told("a@x", "141011 | 60007 | lost | Chatbot", ("", &by_default(r#","code":60007"#)));
    // Stepped on, but never asked: it was not tried.
    check_told("a@x", "141011", ("141011: named agent is offline", "[]"));
    check_told("a@x", "141011 | refused", ("connection refused", "[]"));
}

#[test]
fn a_fault_is_retried_with_growing_waits_then_parked() {
    check("", "refused | 0 a@x", "to default, wait 200, to default, = assigned a@x by Reply");
    check(
        "",
        "60014 | refused | 60014 | refused | 60014 | 0 a@x",
        "to default, wait 200, to default, wait 400, to default, wait 800, to default, \
         park 30000, to default, wait 200, to default, = assigned a@x by Reply",
    );
    let once = Policy { quick_attempts: 1, ..policy() };
    check_by(
        &once,
        "",
        "refused | refused | refused | 0",
        "to default, park 30000, to default, park 60000, to default, park 60000, to default, \
         = assigned by Reply",
    );
    let never = Policy { quick_attempts: 2, park: Vec::new(), ..policy() };
    check_by(&never, "", "refused | refused", "to default, wait 200, to default, = failed");
}

#[test]
fn a_new_target_begins_a_new_burst() {
    check(
        "a@x",
        "refused | refused | refused | 141001 | refused | 0",
        "to a@x, wait 200, to a@x, wait 400, to a@x, wait 800, to a@x, to default, wait 200, \
         to default, = assigned by Reply",
    );
}

#[test]
fn an_unknown_code_is_tried_three_times_asking_in_between() {
    check(
        "",
        "70999 | Chatbot | 70999 | Chatbot | 70999 | Chatbot",
        "to default, wait 200, ask, to default, wait 400, ask, to default, wait 0, ask, = failed",
    );
    // Other faults in between do not count.
    check(
        "",
        "http 403 | 70999 | Chatbot | http 403 | 0",
        "to default, wait 200, to default, wait 400, ask, to default, wait 800, to default, \
         = assigned by Reply",
    );
    check_told("", "5 | Chatbot | 5 | Chatbot | 5 | Chatbot", ("5: unknown code", "[]"));
}

#[test]
fn a_wrong_host_or_path_shuts_the_gate_after_three_in_a_row() {
    for status in ["404", "403", "301", "400"] {
        let replies = [&format!("http {status}"); 4].map(String::as_str).join(" | ") + " | 0";
        check(
            "",
            &replies,
            "to default, wait 200, to default, wait 400, to default, [closed], to default, \
             [closed], to default, = assigned by Reply",
        );
    }
    check(
        "",
        "http 404 | http 404 | 60014 | http 404 | 0",
        "to default, wait 200, to default, wait 400, to default, wait 800, to default, \
         park 30000, to default, = assigned by Reply",
    );
}

#[test]
fn too_fast_slows_the_worker_and_costs_no_attempt_of_the_burst() {
    check(
        "",
        "60007 | 60011 | 60018 | 60019 | http 429 7000 | refused | 0",
        "to default, [slow 0], wait 200, to default, [slow 0], wait 400, to default, [slow 0], \
         wait 800, to default, [slow 0], wait 1600, to default, [slow 7000], wait 3200, \
         to default, wait 200, to default, = assigned by Reply",
    );
    // A longer pause than a minute is not believed: it would let everything expire.
    check(
        "",
        "http 429 99999999 | 0",
        "to default, [slow 60000], wait 200, to default, = assigned by Reply",
    );
}

#[test]
fn signed_again_once_then_misconfigured() {
    check("", "70001 | 0", "to default, [resign], to default, = assigned by Reply");
    check(
        "",
        "70009 | 70009 | 70009 | 0",
        "to default, [resign], to default, [closed], to default, [closed], to default, \
         = assigned by Reply",
    );
    // An answer to the matter itself shows that the signature was good; silence does not.
    check(
        "a@x",
        "70001 | 141001 | 70052 | 0",
        "to a@x, [resign], to a@x, to default, [resign], to default, = assigned by Reply",
    );
    check(
        "",
        "70001 | refused | 70001 | 0",
        "to default, [resign], to default, wait 200, to default, [closed], to default, \
         = assigned by Reply",
    );
    // 70050 is too fast and signed wrongly at once.
    check(
        "",
        "70050 | 70003 | 0",
        "to default, [slow 60000], wait 200, to default, [closed], to default, \
         = assigned by Reply",
    );
}

#[test]
fn misconfigured_waits_for_the_repair_and_costs_nothing() {
    for code in ["60021", "70020", "90009", "141000", "unsigned"] {
        let replies = format!("{code} | {code} | 0 a@x");
        check(
            "",
            &replies,
            "to default, [closed], to default, [closed], to default, = assigned a@x by Reply",
        );
    }
    check(
        "ttl=12000",
        "60021 | 60021 | 60021",
        "to default, [closed], to default, [closed], to default, [closed], = failed",
    );
}

#[test]
fn at_the_deadline_what_is_known_decides() {
    check("ttl=0", "0", "= expired");
    check("", "", "held, = expired");
    check("a@x", "141001", "to a@x, held, = no_agent_online by Reply");
    check("", "60007", "to default, [slow 0], wait 200, held, = failed");
    check(
        "ttl=10000",
        "refused | refused | refused | refused",
        "to default, wait 200, to default, wait 400, to default, wait 800, to default, park 8600, = failed",
    );
    check("ttl=100", "refused", "to default, wait 100, = failed");
    check("ttl=100", "0 a@x@5000", "to default, = assigned a@x by Reply");
    check("a@x ttl=100", "141001@5000", "to a@x, = no_agent_online by Reply");
    check_told("", "", ("its deadline passed before it was called", "[]"));
    check_told("", "60021", ("its deadline passed; last fault: 60021: source IP", "[]"));
}

#[test]
fn the_configuration_may_judge_a_code_otherwise() {
    let verdicts =
        Verdicts::new([(141003, VerdictClass::Rejected), (70999, VerdictClass::NoAgent)].into());
    let policy = Policy { verdicts, ..policy() };
    check_by(&policy, "", "141003", "to default, = rejected by Reply");
    check_by(&policy, "a@x", "70999 | 0", "to a@x, to default, = assigned by Reply");
}
