//! The batch of the demo: who works at Desk, what is published, and what goes wrong.
//!
//! Every scene says for itself what has to come of it; a new one is a few lines here.
//! This file never starts anything.

use serde_json::json;

use super::scene::{Expected, Scene, escalation};
use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::{Act, Agent, SessionChange, State};

const ANNA: &str = "anna@example.com";
const BEN: &str = "ben@example.com";
const CARL: &str = "carl@example.com";
const DORA: &str = "dora@example.com";
const EVE: &str = "eve@example.com";

const SALES: i64 = 2473;
const BILLING: i64 = 3001;
const NIGHT: i64 = 4000;

/// Who works at Desk.
pub(super) fn staff() -> Vec<Agent> {
    let of = |group, id| Agent { group: Some(group), ..Agent::new(id) };
    vec![
        of(SALES, ANNA),
        of(SALES, BEN),
        Agent { capacity: Some(0), ..of(BILLING, CARL) },
        Agent { online: false, ..of(NIGHT, DORA) },
    ]
}

/// Everything that is published, in its order.
pub(super) fn scenes(plain: u64) -> Vec<Scene> {
    let mut scenes = everyday();
    scenes.extend(faults());
    scenes.extend(bad_records());
    scenes.extend((1..=plain).map(|n| {
        let (event, session) = (format!("plain-{n}"), format!("plain-{n}"));
        Scene { plain: true, ..escalation(&event, &session, json!({})).story("plain") }
    }));
    scenes
}

fn everyday() -> Vec<Scene> {
    vec![
        escalation("evt-01", "chat-01", json!({"target": {"agents": [ANNA]}})).story("for Anna"),
        escalation("evt-02", "chat-02", json!({"target": {"group": SALES}}))
            .story("for group 2473 (Anna, Ben)"),
        escalation("evt-03", "chat-03", json!({"reason": "user_requested"})).story("for anybody"),
        escalation("evt-04", "chat-04", json!({"target": {"group": BILLING}}))
            .story("for group 3001, where all are busy")
            .becomes(Status::Queued),
        escalation("evt-05", "chat-05", json!({"target": {"agents": [DORA], "strict": true}}))
            .story("for Dora only, who is offline")
            .becomes(Status::NoAgentOnline)
            .moves_nothing(),
        escalation("evt-06", "chat-06", json!({"target": {"agents": [DORA], "group": NIGHT}}))
            .story("for Dora, else her group, else any"),
        escalation("evt-07", "chat-07", json!({"target": {"agents": [ANNA]}}))
            .story("two of one session: the first"),
        escalation("evt-08", "chat-07", json!({"target": {"agents": [BEN]}}))
            .story("two of one session: the second")
            .confirmed_by_state(),
        escalation("evt-09", "chat-08", json!({}))
            .story("a human (Eve) has it already")
            .before(SessionChange {
                session_id: String::new(),
                state: State::Agent,
                agent_id: Some(EVE.into()),
            })
            .confirmed_by_state()
            .moves_nothing(),
    ]
}

fn faults() -> Vec<Scene> {
    vec![
        escalation("evt-10", "chat-09", json!({}))
            .story("internal error 141002 twice")
            .act(Act::error(141_002).times(2)),
        escalation("evt-11", "chat-10", json!({}))
            .story("lost answer: done, line closed")
            .act(Act::lost_answer())
            .confirmed_by_state(),
        escalation("evt-12", "chat-11", json!({}))
            .story("lost answer: done, then silence")
            .act(Act::hang().with_effect())
            .confirmed_by_state(),
        escalation("evt-13", "chat-12", json!({}))
            .story("lost call: line closed, not done")
            .act(Act::close()),
    ]
}

fn bad_records() -> Vec<Scene> {
    let malformed = escalation("", "chat-16", json!({})).story("not JSON");
    let skipped = escalation("evt-17", "chat-17", json!({"type": "feedback"}));
    vec![
        escalation("evt-14", "chat-13", json!({"priority": 11}))
            .story("priority 11")
            .becomes(Status::Rejected)
            .moves_nothing(),
        escalation("evt-15", "chat-14", json!({}))
            .story("a session that Desk does not know")
            .before(SessionChange {
                session_id: String::new(),
                state: State::NotInSession,
                agent_id: None,
            })
            .becomes(Status::Rejected)
            .moves_nothing(),
        escalation("evt-16", "chat-15", json!({"expires_at": "2026-01-01T00:00:00Z"}))
            .story("expired long ago")
            .becomes(Status::Expired)
            .moves_nothing(),
        Scene {
            value: b"please help me".to_vec(),
            expected: Expected::DeadLetter(MalformedClass::NotJson),
            ..malformed.moves_nothing()
        },
        Scene { expected: Expected::Nothing, ..skipped.story("another type").moves_nothing() },
    ]
}
