//! How a course ends: which outcome the deadline brings, and what an outcome tells.
//!
//! In doubt, the deadline is followed by a time of grace in which only questions are asked.
//! Every ending but `assigned` and `queued` comes with a sentence for people.
//! This file never calls an effect known that is not.

use jiff::Timestamp;

use super::Course;
use super::in_doubt::InDoubt;
use crate::domain::verdict::VerdictClass;
use crate::domain::wire::outcome::{ConfirmedBy, Outcome, Status, Tried};

/// A final answer in the making.
#[derive(Debug)]
pub(super) struct Settlement {
    status: Status,
    by: Option<ConfirmedBy>,
    agent_id: Option<String>,
    reason: Option<String>,
}

impl Settlement {
    pub(super) fn new(status: Status) -> Self {
        Self { status, by: None, agent_id: None, reason: None }
    }

    pub(super) fn assigned(agent_id: Option<String>) -> Self {
        Self { agent_id, ..Self::new(Status::Assigned) }
    }

    pub(super) fn by(self, by: ConfirmedBy) -> Self {
        Self { by: Some(by), ..self }
    }

    pub(super) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

impl Course<'_> {
    /// At the deadline what is known decides. In doubt it is put off by the grace.
    pub(super) fn judge_deadline(&mut self, now: Timestamp) {
        if self.settled.is_none() && now >= self.gives_up_at() {
            let ending = self.at_deadline();
            self.settle(ending, now);
        }
    }

    fn at_deadline(&self) -> Settlement {
        let Some(last) = &self.last else {
            let reason = "its deadline passed before it was called";
            return Settlement::new(Status::Expired).because(reason);
        };
        let failed = |what: &str| {
            let reason = format!("its deadline passed; {what}; last fault: {}", last.text);
            Settlement::new(Status::Failed).because(reason)
        };
        match self.doubt {
            Some(InDoubt::Ambiguous) => failed("the effect of the last call is unknown"),
            Some(InDoubt::Occupied) => {
                failed("the effect is unknown: whether a human has it could not be asked")
            }
            None if self.unverified => {
                let why = self.cannot_ask.as_deref().unwrap_or_default();
                failed(&format!("the effect of a call is unknown and cannot be asked here ({why})"))
            }
            None if last.class == VerdictClass::NoAgent => {
                let ending = Settlement::new(Status::NoAgentOnline).by(ConfirmedBy::Reply);
                ending.because(&last.text)
            }
            None => {
                let reason = format!("its deadline passed; last fault: {}", last.text);
                Settlement::new(Status::Failed).because(reason)
            }
        }
    }

    /// The first ending is the final one.
    pub(super) fn settle(&mut self, ending: Settlement, now: Timestamp) {
        if self.settled.is_some() {
            return;
        }
        self.pause = None;
        self.settled = Some(Box::new(self.outcome(ending, now)));
    }

    /// What is known so far, as an outcome.
    pub(super) fn outcome(&self, ending: Settlement, now: Timestamp) -> Outcome {
        Outcome {
            agent_id: ending.agent_id,
            route: self.route.map(|route| route.name.clone()),
            target: self.asked.last().map(|last| last.target.clone()),
            tried: self.cascade(),
            desk: self.desk.clone(),
            confirmed_by: ending.by,
            attempts: self.attempts,
            reason: ending.reason,
            ..Outcome::new(self.event, ending.status, now)
        }
    }

    /// Every target that was asked, where there was more than one.
    fn cascade(&self) -> Vec<Tried> {
        if self.asked.len() > 1 { self.asked.clone() } else { Vec::new() }
    }
}
