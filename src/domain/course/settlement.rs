//! A settlement becomes the final outcome.
//!
//! Every outcome but `assigned` and `queued` carries a reason: one sentence for people.

use jiff::Timestamp;

use super::Course;
use crate::domain::wire::outcome::{ConfirmedBy, Outcome, Status, Tried};

/// What a rule decides about the outcome; the rest is taken from the course.
#[derive(Debug)]
pub(super) struct Settlement {
    status: Status,
    confirmed_by: Option<ConfirmedBy>,
    agent_id: Option<String>,
    reason: Option<String>,
    opens_at: Option<Timestamp>,
}

impl Settlement {
    pub(super) fn new(status: Status) -> Self {
        Self { status, confirmed_by: None, agent_id: None, reason: None, opens_at: None }
    }

    pub(super) fn assigned(agent_id: Option<String>) -> Self {
        Self { agent_id, ..Self::new(Status::Assigned) }
    }

    pub(super) fn confirmed_by(self, confirmed_by: ConfirmedBy) -> Self {
        Self { confirmed_by: Some(confirmed_by), ..self }
    }

    pub(super) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    pub(super) fn opening_at(self, opens_at: Option<Timestamp>) -> Self {
        Self { opens_at, ..self }
    }
}

impl Course<'_> {
    /// End the course. The first settlement is final; later ones are ignored.
    pub(super) fn settle(&mut self, settlement: Settlement, now: Timestamp) {
        if self.settled.is_some() {
            return;
        }
        // A wait for an attempt that is no longer needed must not be returned.
        self.pause = None;
        self.settled = Some(Box::new(self.outcome(settlement, now)));
    }

    /// The settlement together with what is known so far.
    pub(super) fn outcome(&self, settlement: Settlement, now: Timestamp) -> Outcome {
        Outcome {
            agent_id: settlement.agent_id,
            route: self.route.map(|route| route.name.clone()),
            target: self.tried.last().map(|last| last.target.clone()),
            tried: self.cascade(),
            desk: self.last_answer.clone(),
            confirmed_by: settlement.confirmed_by,
            attempts: self.transfers,
            reason: settlement.reason,
            opens_at: settlement.opens_at,
            ..Outcome::new(self.event, settlement.status, now)
        }
    }

    /// Every target that was requested, if there was more than one.
    fn cascade(&self) -> Vec<Tried> {
        if self.tried.len() > 1 { self.tried.clone() } else { Vec::new() }
    }
}
