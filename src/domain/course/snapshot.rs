//! What a course remembers while it is put away, and how it goes on from there.
//!
//! A course that was put away cleanly goes on where it was. One whose worker stopped in the
//! middle of a burst may have a call out: it is in doubt, and asks before it calls.
//! This file never forgets an attempt, a target that was asked, or a doubt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::in_doubt::InDoubt;
use super::no_agent::Interim;
use super::{Course, Policy, Step};
use crate::domain::event::Event;
use crate::domain::reply::DeskStatus;
use crate::domain::verdict::{IfPersistent, Verdict, VerdictClass};
use crate::domain::wire::outcome::Tried;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    attempts: u32,
    asked: Vec<Tried>,
    stepped: bool,
    steps: usize,
    parks: usize,
    rounds: usize,
    interim: Option<Interim>,
    doubt: Option<InDoubt>,
    unverified: bool,
    cannot_ask: Option<String>,
    last: Option<Verdict>,
    desk: Option<DeskStatus>,
}

impl Snapshot {
    /// One short line for people: what was the matter last.
    pub fn note(&self) -> String {
        self.last.as_ref().map_or_else(|| "not called yet".into(), |last| last.text.clone())
    }
}

impl<'a> Course<'a> {
    /// What has to be remembered to go on later.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            attempts: self.attempts,
            asked: self.asked.clone(),
            stepped: self.stepped,
            steps: self.plan.steps(),
            parks: self.tries.parks,
            rounds: self.rounds,
            interim: self.interim.clone(),
            doubt: self.doubt,
            unverified: self.unverified,
            cannot_ask: self.cannot_ask.clone(),
            last: self.last.clone(),
            desk: self.desk.clone(),
        }
    }

    /// Go on with a course that was put away until `due`.
    pub fn resumed(
        event: &'a Event,
        policy: &'a Policy,
        memory: Snapshot,
        (due, now): (Timestamp, Timestamp),
    ) -> Self {
        let mut course = Self::remembering(event, policy, memory, now);
        let left = std::time::Duration::try_from(due.duration_since(now)).unwrap_or_default();
        if course.settled.is_none() && !left.is_zero() {
            course.pause = Some(Step::Park(left));
        }
        course
    }

    /// Go on with a course whose worker stopped while a call may have been out.
    pub fn interrupted(
        event: &'a Event,
        policy: &'a Policy,
        memory: Snapshot,
        now: Timestamp,
    ) -> Self {
        let mut course = Self::remembering(event, policy, memory, now);
        if course.settled.is_some() {
            return course;
        }
        course.last = Some(Verdict {
            class: VerdictClass::Transient,
            in_doubt: true,
            if_persistent: IfPersistent::KeepTrying,
            pause: None,
            code: None,
            text: "the worker stopped while a call may have been out".into(),
        });
        // The call may have begun a moment before we came: Desk may still be at it.
        course.pause = Some(Step::Wait(policy.settle));
        match course.cannot_ask {
            Some(_) => course.unverified = true,
            None => course.doubt = Some(InDoubt::Ambiguous),
        }
        course
    }

    fn remembering(event: &'a Event, policy: &'a Policy, memory: Snapshot, now: Timestamp) -> Self {
        let mut course = Self::new(event, policy, now);
        for _ in 0..memory.steps {
            course.plan.advance();
        }
        course.tries.parks = memory.parks;
        course.rounds = memory.rounds;
        course.interim = memory.interim.map(Interim::remembered);
        course.attempts = memory.attempts;
        course.stepped = memory.stepped || memory.asked.is_empty();
        course.asked = memory.asked;
        course.doubt = memory.doubt;
        course.unverified = memory.unverified;
        course.cannot_ask = memory.cannot_ask;
        course.last = memory.last;
        course.desk = memory.desk;
        course
    }
}
