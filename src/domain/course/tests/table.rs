//! Targets, faults and deadlines, row by row.
//!
//! A row is the event, the replies one after the other, and the steps that must follow, in the short
//! words of `words`. The jitter is 1, so a wait is the ceiling of the back-off; a call takes no time
//! unless the row says so.

use super::{check, check_reported, check_with, policy, policy_with};
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
    check_reported("invalid", "", "priority is 11", "[]");
}

#[test]
fn a_request_over_the_limit_is_rejected_without_a_call() {
    check("huge", "0", "= rejected");
    check_reported("huge", "", "Desk allows 12288 (93000)", "[]");
}

#[test]
fn no_agent_moves_to_the_next_target_at_once() {
    check("", "141001", "to default, = no_agent_online by Reply");
    check("a@x", "141001 | 0 b@x", "to a@x, to default, = assigned b@x by Reply");
    check(
        "a@x b@x 7",
        "141011 | 141012 | 141017",
        "to a@x+b@x+7, to 7, to default, = no_agent_online by Reply",
    );
    check("a@x 7 strict", "141001 | 141013", "to a@x+7, to 7, = no_agent_online by Reply");
    let no_default = Policy { default_target: false, ..policy() };
    check_with(&no_default, "7", "141001", "to 7, = no_agent_online by Reply");
    check_with(&no_default, "", "0 a@x", "to default, = assigned a@x by Reply");
}

#[test]
fn tried_lists_every_target_of_a_cascade_that_was_requested() {
    let a = r#"{"target":{"agents":["a@x"]},"code":141011}"#;
    let by_default = |code: &str| format!(r#"[{a},{{"target":{{"default":true}}{code}}}]"#);
    check_reported("", "141001", "141001: no agent available", "[]");
    check_reported("a@x", "0 a@x", "", "[]");
    check_reported("a@x", "141011 | 0 b@x", "", &by_default(r#","code":0"#));
    check_reported("a@x", "141011 | 141001", "141001", &by_default(r#","code":141001"#));
    check_reported("a@x", "141011 | lost | Agent b@x", "", &by_default(""));
    check_reported("a@x", "141011 | 60007 | lost | Chatbot", "", &by_default(r#","code":60007"#));
    // The plan moved on, but no request for this target was sent.
    check_reported("a@x", "141011", "141011: named agent is offline", "[]");
    check_reported("a@x", "141011 | refused", "connection refused", "[]");
}

#[test]
fn a_fault_is_retried_with_growing_waits_and_then_parked() {
    check("", "refused | 0 a@x", "to default, wait 200, to default, = assigned a@x by Reply");
    check(
        "",
        "60014 | refused | 60014 | refused | 60014 | 0 a@x",
        "to default, wait 200, to default, wait 400, to default, wait 800, to default, \
         park 30000, to default, wait 200, to default, = assigned a@x by Reply",
    );
    let once = policy_with(1, &[30_000, 60_000]);
    check_with(
        &once,
        "",
        "refused | refused | refused | 0",
        "to default, park 30000, to default, park 60000, to default, park 60000, to default, \
         = assigned by Reply",
    );
    let no_park = policy_with(2, &[]);
    check_with(&no_park, "", "refused | refused", "to default, wait 200, to default, = failed");
}

#[test]
fn a_new_target_starts_a_new_burst() {
    check(
        "a@x",
        "refused | refused | refused | 141001 | refused | 0",
        "to a@x, wait 200, to a@x, wait 400, to a@x, wait 800, to a@x, to default, wait 200, \
         to default, = assigned by Reply",
    );
}

#[test]
fn an_unknown_code_is_attempted_three_times_with_state_queries() {
    check(
        "",
        "70999 | Chatbot | 70999 | Chatbot | 70999 | Chatbot",
        "to default, wait 200, query, to default, wait 400, query, to default, wait 0, query, = failed",
    );
    // Other faults in between do not count.
    check(
        "",
        "http 403 | 70999 | Chatbot | http 403 | 0",
        "to default, wait 200, to default, wait 400, query, to default, wait 800, to default, \
         = assigned by Reply",
    );
    check_reported("", "5 | Chatbot | 5 | Chatbot | 5 | Chatbot", "5: unknown code", "[]");
}

#[test]
fn a_wrong_host_or_path_shuts_the_gate_after_three_in_a_row() {
    for status in ["404", "403", "301", "400"] {
        let replies = [&format!("http {status}"); 4].map(String::as_str).join(" | ") + " | 0";
        check(
            "",
            &replies,
            "to default, wait 200, to default, wait 400, to default, [shut], to default, \
             [shut], to default, = assigned by Reply",
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
fn throttling_signals_the_gate_and_uses_up_no_quick_attempt() {
    check(
        "",
        "60007 | 60011 | 60018 | 60019 | http 429 7000 | refused | 0",
        "to default, [throttled 0], wait 1000, to default, [throttled 0], wait 1000, to default, \
         [throttled 0], wait 1000, to default, [throttled 0], wait 1600, to default, [throttled 7000], \
         wait 3200, to default, wait 200, to default, = assigned by Reply",
    );
    // A longer pause than a minute is capped; every event would expire.
    check(
        "",
        "http 429 99999999 | 0",
        "to default, [throttled 60000], wait 1000, to default, = assigned by Reply",
    );
}

#[test]
fn a_signature_is_renewed_once_and_then_misconfigured() {
    check("", "70001 | 0", "to default, [reauthenticate], to default, = assigned by Reply");
    check(
        "",
        "70009 | 70009 | 70009 | 0",
        "to default, [reauthenticate], to default, [shut], to default, [shut], to default, \
         = assigned by Reply",
    );
    // An answer to the request shows that the signature was good; no answer shows nothing.
    check(
        "a@x",
        "70001 | 141001 | 70052 | 0",
        "to a@x, [reauthenticate], to a@x, to default, [reauthenticate], to default, = assigned by Reply",
    );
    check(
        "",
        "70001 | refused | 70001 | 0",
        "to default, [reauthenticate], to default, wait 200, to default, [shut], to default, \
         = assigned by Reply",
    );
    // 70050 means throttled and a bad signature at once.
    check(
        "",
        "70050 | 70003 | 0",
        "to default, [throttled 60000], wait 1000, to default, [shut], to default, \
         = assigned by Reply",
    );
}

#[test]
fn a_misconfiguration_uses_up_no_attempt() {
    for code in ["60021", "70020", "90009", "141000", "unsigned"] {
        let replies = format!("{code} | {code} | 0 a@x");
        check(
            "",
            &replies,
            "to default, [shut], to default, [shut], to default, = assigned a@x by Reply",
        );
    }
    check(
        "ttl=12000",
        "60021 | 60021 | 60021",
        "to default, [shut], to default, [shut], to default, [shut], = failed",
    );
}

#[test]
fn at_the_deadline_the_last_verdict_decides() {
    check("ttl=0", "0", "= expired");
    check("", "", "held, = expired");
    check("a@x", "141001", "to a@x, held, = no_agent_online by Reply");
    check("", "60007", "to default, [throttled 0], wait 1000, held, = failed");
    check(
        "ttl=10000",
        "refused | refused | refused | refused",
        "to default, wait 200, to default, wait 400, to default, wait 800, to default, park 8600, = failed",
    );
    check("ttl=100", "refused", "to default, wait 100, = failed");
    check("ttl=100", "0 a@x@5000", "to default, = assigned a@x by Reply");
    check("a@x ttl=100", "141001@5000", "to a@x, = no_agent_online by Reply");
    check_reported("", "", "the deadline passed before Desk was called", "[]");
    check_reported("", "60021", "the deadline passed; last fault: 60021: source IP", "[]");
}

#[test]
fn the_configuration_overrides_the_class_of_a_code() {
    let verdicts =
        Verdicts::new([(141003, VerdictClass::Rejected), (70999, VerdictClass::NoAgent)].into());
    let policy = Policy { verdicts, ..policy() };
    check_with(&policy, "", "141003", "to default, = rejected by Reply");
    check_with(&policy, "a@x", "70999 | 0", "to a@x, to default, = assigned by Reply");
}
