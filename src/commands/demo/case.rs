//! One case of the demo: a record, how Desk treats its session, and the expected result.

use serde_json::{Map, Value, json};

use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::{InjectedFault, SessionChange, SimulatedState};

/// A record to publish and what must come of it.
#[derive(Debug, Clone)]
pub(super) struct DemoCase {
    pub(super) description: String,
    /// The session and the record's key.
    pub(super) session: String,
    /// The event's id; empty if the record is malformed.
    pub(super) event: String,
    /// The record's value.
    pub(super) value: Vec<u8>,
    /// The faults that Desk injects into calls of this session.
    pub(super) faults: Vec<InjectedFault>,
    /// The state of the session before the call.
    pub(super) initial: Option<SessionChange>,
    pub(super) expected: Expectation,
    /// How many transfers must take effect in the session.
    pub(super) transfers: u64,
    /// One of the many that only show the speed.
    pub(super) plain: bool,
}

/// What must come of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    /// One final outcome with this status and, if given, this `confirmed_by`.
    Outcome { status: Status, confirmed_by: Option<&'static str> },
    /// One dead letter of this class.
    DeadLetter(MalformedClass),
    /// Neither outcome nor dead letter.
    Skipped,
}

impl Expectation {
    pub(super) fn describe(self) -> String {
        match self {
            Self::Outcome { status, confirmed_by: None } => format!("{status}, once"),
            Self::Outcome { status, confirmed_by: Some(by) } => {
                format!("{status} (confirmed by {by}), once")
            }
            Self::DeadLetter(class) => format!("dead letter ({}), once", class.as_str()),
            Self::Skipped => "nothing (skipped)".into(),
        }
    }
}

/// An escalation with these fields besides id and session; expected to be assigned.
pub(super) fn escalation(event: &str, session: &str, fields: Value) -> DemoCase {
    let mut value = Map::new();
    value.insert("id".into(), json!(event));
    value.insert("session_id".into(), json!(session));
    if let Value::Object(fields) = fields {
        value.extend(fields);
    }
    DemoCase {
        description: String::new(),
        session: session.to_owned(),
        event: event.to_owned(),
        value: Value::Object(value).to_string().into_bytes(),
        faults: Vec::new(),
        initial: None,
        expected: Expectation::Outcome { status: Status::Assigned, confirmed_by: None },
        transfers: 1,
        plain: false,
    }
}

impl DemoCase {
    pub(super) fn described(self, description: impl Into<String>) -> Self {
        Self { description: description.into(), ..self }
    }

    /// Injects a fault into calls of this session.
    pub(super) fn with_fault(mut self, fault: InjectedFault) -> Self {
        self.faults.push(fault.session(&self.session));
        self
    }

    /// Sets the state of the session before the call.
    pub(super) fn initially(self, state: SimulatedState, agent_id: Option<&str>) -> Self {
        let (session_id, agent_id) = (self.session.clone(), agent_id.map(str::to_owned));
        Self { initial: Some(SessionChange { session_id, state, agent_id }), ..self }
    }

    /// Expects another status than assigned.
    pub(super) fn becomes(self, status: Status) -> Self {
        Self { expected: Expectation::Outcome { status, confirmed_by: None }, ..self }
    }

    /// Expects an assignment that only a state query could confirm.
    pub(super) fn confirmed_by_state(self) -> Self {
        let (status, confirmed_by) = (Status::Assigned, Some("session_state"));
        Self { expected: Expectation::Outcome { status, confirmed_by }, ..self }
    }

    /// Expects no transfer to take effect.
    pub(super) fn without_transfer(self) -> Self {
        Self { transfers: 0, ..self }
    }
}
