//! One scene of the demo: a record, what Desk does about it, and what has to come of it.
//!
//! This file never knows what really came.

use serde_json::{Map, Value, json};

use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::{Act, SessionChange};

/// One record and its story.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// What was published, in words.
    pub(super) story: String,
    /// The session it is about.
    pub(super) session: String,
    /// The event's id.
    pub(super) event: String,
    /// The record's value.
    pub(super) value: Vec<u8>,
    /// What Desk does in this session.
    pub(super) acts: Vec<Act>,
    /// How the session stands before.
    pub(super) before: Option<SessionChange>,
    pub(super) expected: Expected,
    /// How often the session really has to move.
    pub(super) moves: u64,
    /// One of the many that only show the speed.
    pub(super) plain: bool,
}

/// What has to come of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// One final outcome with this status, known in this way where it matters.
    Outcome(Status, Option<&'static str>),
    /// One dead letter of this class.
    DeadLetter(MalformedClass),
    /// Nothing at all.
    Nothing,
}

impl Expected {
    pub(super) fn text(self) -> String {
        match self {
            Self::Outcome(status, None) => format!("{status}, once"),
            Self::Outcome(status, Some(by)) => format!("{status} (confirmed by {by}), once"),
            Self::DeadLetter(class) => format!("dead letter ({}), once", class.as_str()),
            Self::Nothing => "nothing (skipped)".into(),
        }
    }
}

/// An escalation with these fields beside its id and session, that moves its session.
pub(super) fn escalation(event: &str, session: &str, fields: Value) -> Scene {
    let mut value = Map::new();
    value.insert("id".into(), json!(event));
    value.insert("session_id".into(), json!(session));
    if let Value::Object(fields) = fields {
        value.extend(fields);
    }
    Scene {
        story: String::new(),
        session: session.to_owned(),
        event: event.to_owned(),
        value: Value::Object(value).to_string().into_bytes(),
        acts: Vec::new(),
        before: None,
        expected: Expected::Outcome(Status::Assigned, None),
        moves: 1,
        plain: false,
    }
}

impl Scene {
    pub(super) fn story(self, story: impl Into<String>) -> Self {
        Self { story: story.into(), ..self }
    }

    /// Desk does this in its session.
    pub(super) fn act(mut self, act: Act) -> Self {
        self.acts.push(act.session(&self.session));
        self
    }

    /// Its session stands so already.
    pub(super) fn before(self, change: SessionChange) -> Self {
        let session_id = self.session.clone();
        Self { before: Some(SessionChange { session_id, ..change }), ..self }
    }

    /// Another answer than assigned.
    pub(super) fn becomes(self, status: Status) -> Self {
        Self { expected: Expected::Outcome(status, None), ..self }
    }

    /// Assigned, which Desk's reply did not say: the state of the session did.
    pub(super) fn confirmed_by_state(self) -> Self {
        let expected = Expected::Outcome(Status::Assigned, Some("session_state"));
        Self { expected, ..self }
    }

    /// Its session stays where it is.
    pub(super) fn moves_nothing(self) -> Self {
        Self { moves: 0, ..self }
    }
}
