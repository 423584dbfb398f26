//! What the ledger stores of a course, and how a course goes on from it.
//!
//! A course that was parked resumes where it was. One whose process stopped in the middle of a burst
//! may have a call in flight: it starts in doubt and queries the session's state before it transfers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::in_doubt::InDoubt;
use super::no_agent::Interim;
use super::{Course, Policy, Step};
use crate::domain::event::Event;
use crate::domain::reply::DeskStatus;
use crate::domain::verdict::{IfPersistent, Verdict, VerdictClass};
use crate::domain::wire::outcome::Tried;

/// The state of a course as JSON in the ledger. Fields may be missing: another version may have
/// written it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    attempts: u32,
    /// The route so far, for people. The next attempt may find another one.
    #[serde(skip_deserializing)]
    route: Option<String>,
    /// The route was closed, and opens then; for the note.
    #[serde(skip)]
    closed_until: Option<Timestamp>,
    tried: Vec<Tried>,
    target_untried: bool,
    plan_step: usize,
    plan_retries: usize,
    parks: usize,
    interim: Option<Interim>,
    in_doubt: Option<InDoubt>,
    effect_unknown: bool,
    state_query_unsupported: Option<String>,
    last_verdict: Option<Verdict>,
    last_answer: Option<DeskStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_span: Option<String>,
}

impl Snapshot {
    /// What happened last, in one line for people.
    pub fn note(&self) -> String {
        let last = match (&self.closed_until, &self.last_verdict) {
            (Some(_), _) => "outside the hours of the route",
            (None, Some(verdict)) => &verdict.text,
            (None, None) => "not called yet",
        };
        self.route.as_ref().map_or_else(|| last.into(), |route| format!("{last}; route {route}"))
    }
}

impl<'a> Course<'a> {
    /// The state to store in the ledger.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            attempts: self.transfers,
            route: self.route.map(|route| route.name.clone()),
            closed_until: self.closed_until,
            tried: self.tried.clone(),
            target_untried: self.target_untried,
            plan_step: self.plan.step(),
            plan_retries: self.plan_retries,
            parks: self.attempts.parks,
            interim: self.interim.clone(),
            in_doubt: self.in_doubt,
            effect_unknown: self.effect_unknown,
            state_query_unsupported: self.state_query_unsupported.clone(),
            last_verdict: self.last_verdict.clone(),
            last_answer: self.last_answer.clone(),
            first_span: self.first_span.clone(),
        }
    }

    /// The course of an event that was parked or released, and goes on now.
    pub fn resumed(
        event: &'a Event,
        policy: &'a Policy,
        snapshot: Snapshot,
        now: Timestamp,
    ) -> Self {
        Self::restored(event, policy, snapshot, now)
    }

    /// The course of an event whose process stopped while a call may have been in flight.
    pub fn interrupted(
        event: &'a Event,
        policy: &'a Policy,
        snapshot: Snapshot,
        now: Timestamp,
    ) -> Self {
        let mut course = Self::restored(event, policy, snapshot, now);
        if course.settled.is_some() {
            return course;
        }
        course.last_verdict = Some(Verdict {
            class: VerdictClass::Transient,
            in_doubt: true,
            if_persistent: IfPersistent::KeepTrying,
            pause: None,
            code: None,
            text: "the process stopped while a call may have been in flight".into(),
        });
        // The call may have started just before the crash, and Desk may still be working on it.
        course.pause = Some(Step::Wait(policy.settle_time));
        match course.state_query_unsupported {
            Some(_) => course.effect_unknown = true,
            None => course.in_doubt = Some(InDoubt::Ambiguous),
        }
        course
    }

    fn restored(event: &'a Event, policy: &'a Policy, snapshot: Snapshot, now: Timestamp) -> Self {
        let mut course = Self::new(event, policy, now);
        // Routes and hours may have changed since: another plan starts with its first target.
        let goes_on = course.plan.go_on_after(&snapshot.tried, snapshot.plan_step);
        course.attempts.parks = snapshot.parks;
        course.plan_retries = snapshot.plan_retries;
        course.interim = snapshot.interim.map(Interim::restored);
        course.transfers = snapshot.attempts;
        course.target_untried = !goes_on || snapshot.target_untried || snapshot.tried.is_empty();
        course.tried = snapshot.tried;
        course.in_doubt = snapshot.in_doubt;
        course.effect_unknown = snapshot.effect_unknown;
        course.state_query_unsupported = snapshot.state_query_unsupported;
        course.last_verdict = snapshot.last_verdict;
        course.last_answer = snapshot.last_answer;
        course.first_span = snapshot.first_span;
        course
    }
}
