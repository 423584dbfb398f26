//! The cases of the demo: the staff of Desk, the records to publish, and what goes wrong.
//!
//! Each case states its own expected result. To extend the demo, add a case here.

use serde_json::json;

use super::case::{DemoCase, Expectation, escalation};
use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::{Agent, InjectedFault, SimulatedState};

const ANNA: &str = "anna@example.com";
const BEN: &str = "ben@example.com";
const CARL: &str = "carl@example.com";
const DORA: &str = "dora@example.com";
const EVE: &str = "eve@example.com";

const SALES: i64 = 2473;
const BILLING: i64 = 3001;
const NIGHT: i64 = 4000;

/// The agents of the simulated Desk.
pub(super) fn staff() -> Vec<Agent> {
    let of = |group, id| Agent { group: Some(group), ..Agent::new(id) };
    vec![
        of(SALES, ANNA),
        of(SALES, BEN),
        Agent { capacity: Some(0), ..of(BILLING, CARL) },
        Agent { online: false, ..of(NIGHT, DORA) },
    ]
}

/// All cases in the order of publication, followed by `plain` escalations without a fault.
pub(super) fn all(plain: u64) -> Vec<DemoCase> {
    let mut cases = everyday();
    cases.extend(faults());
    cases.extend(bad_records());
    cases.extend((1..=plain).map(|n| {
        let (event, session) = (format!("plain-{n}"), format!("plain-{n}"));
        DemoCase { plain: true, ..escalation(&event, &session, json!({})).described("plain") }
    }));
    cases
}

fn everyday() -> Vec<DemoCase> {
    vec![
        escalation("evt-01", "chat-01", json!({"target": {"agents": [ANNA]}}))
            .described("for Anna"),
        escalation("evt-02", "chat-02", json!({"target": {"group": SALES}}))
            .described("for group 2473 (Anna, Ben)"),
        escalation("evt-03", "chat-03", json!({"reason": "user_requested"}))
            .described("for anybody"),
        escalation("evt-04", "chat-04", json!({"target": {"group": BILLING}}))
            .described("for group 3001, where all are busy")
            .becomes(Status::Queued),
        escalation("evt-05", "chat-05", json!({"target": {"agents": [DORA], "strict": true}}))
            .described("for Dora only, who is offline")
            .becomes(Status::NoAgentOnline)
            .without_transfer(),
        escalation("evt-06", "chat-06", json!({"target": {"agents": [DORA], "group": NIGHT}}))
            .described("for Dora, else her group, else any"),
        escalation("evt-07", "chat-07", json!({"target": {"agents": [ANNA]}}))
            .described("two of one session: the first"),
        escalation("evt-08", "chat-07", json!({"target": {"agents": [BEN]}}))
            .described("two of one session: the second")
            .confirmed_by_state(),
        escalation("evt-09", "chat-08", json!({}))
            .described("already with an agent (Eve)")
            .initially(SimulatedState::Agent, Some(EVE))
            .confirmed_by_state()
            .without_transfer(),
    ]
}

fn faults() -> Vec<DemoCase> {
    vec![
        escalation("evt-10", "chat-09", json!({}))
            .described("internal error 141002 twice")
            .with_fault(InjectedFault::error(141_002).times(2)),
        escalation("evt-11", "chat-10", json!({}))
            .described("lost answer: connection closed")
            .with_fault(InjectedFault::lost_answer())
            .confirmed_by_state(),
        escalation("evt-12", "chat-11", json!({}))
            .described("lost answer: time-out")
            .with_fault(InjectedFault::hang().with_effect())
            .confirmed_by_state(),
        escalation("evt-13", "chat-12", json!({}))
            .described("lost call: connection closed")
            .with_fault(InjectedFault::close()),
    ]
}

fn bad_records() -> Vec<DemoCase> {
    let malformed = escalation("", "chat-16", json!({})).described("not JSON");
    let skipped = escalation("evt-17", "chat-17", json!({"type": "feedback"}));
    vec![
        escalation("evt-14", "chat-13", json!({"priority": 11}))
            .described("priority 11")
            .becomes(Status::Rejected)
            .without_transfer(),
        escalation("evt-15", "chat-14", json!({}))
            .described("a session unknown to Desk")
            .initially(SimulatedState::NotInSession, None)
            .becomes(Status::Rejected)
            .without_transfer(),
        escalation("evt-16", "chat-15", json!({"expires_at": "2026-01-01T00:00:00Z"}))
            .described("expired long ago")
            .becomes(Status::Expired)
            .without_transfer(),
        DemoCase {
            value: b"please help me".to_vec(),
            expected: Expectation::DeadLetter(MalformedClass::NotJson),
            ..malformed.without_transfer()
        },
        DemoCase {
            expected: Expectation::Skipped,
            ..skipped.described("another type").without_transfer()
        },
    ]
}
