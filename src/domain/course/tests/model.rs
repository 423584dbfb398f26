//! The truth of every outcome, against a small model of Desk.
//!
//! The model has one session, acts on transfers, and loses answers; what it did before an
//! answer was lost may take effect later, within the time Desk allows itself. At the end the
//! outcome must say what the session's state says.
//! The model never tells the course anything but through its replies.

use std::iter::Cycle;
use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;
use proptest::prelude::*;

use super::no_agent::patient;
use super::words::{event, one_of, reply, target};
use super::{MS, START, Seen, Walked, World, drive, policy};
use crate::domain::course::Policy;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::wire::outcome::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    Bot,
    Queue,
    Agent,
    Ended,
}

/// What becomes of one call.
#[derive(Debug, Clone)]
enum Fate {
    /// Acted on and answered.
    Answered,
    /// Acted on after so long; the reply says nothing about it.
    ActedOn(&'static str, Duration),
    /// Not acted on, and this came back.
    Ignored(&'static str),
}

#[derive(Debug, Clone)]
struct Turn {
    fate: Fate,
    took: Duration,
    /// What the console's allocation finds.
    finds: Option<Session>,
}

#[derive(Debug)]
struct Model {
    session: Session,
    /// What the session will be, and when.
    pending: Option<(Timestamp, Session)>,
    ends_at: Option<Timestamp>,
    can_ask: bool,
    turns: Cycle<IntoIter<Turn>>,
    /// Whom the transfers named, in order.
    targets: Vec<String>,
    /// The state our transfers brought about, if they did.
    effect: Option<Session>,
    /// Transfers made although an earlier one had taken effect.
    needless: u32,
}

impl World for Model {
    fn call(
        &mut self,
        command: DeskCommand,
        body: &[u8],
        now: Timestamp,
    ) -> Option<(Reply, Duration)> {
        self.pass_time(now);
        let turn = self.turns.next().unwrap();
        let words = match (command, &turn.fate) {
            (DeskCommand::GetSessionState, _) if !self.can_ask => "http 404".into(),
            (_, Fate::Ignored(words)) => (*words).to_owned(),
            (DeskCommand::GetSessionState, Fate::Answered) => self.state(),
            (DeskCommand::GetSessionState, Fate::ActedOn(words, _)) => (*words).to_owned(),
            (DeskCommand::TransferToHuman, Fate::Answered) => self.transfer(&turn, now),
            (DeskCommand::TransferToHuman, Fate::ActedOn(words, late)) => {
                self.transfer(&turn, now + *late);
                (*words).to_owned()
            }
        };
        let (reply, _) = reply(&words);
        if command == DeskCommand::TransferToHuman && !matches!(reply, Reply::NotSent(_)) {
            self.targets.push(target(body));
        }
        self.pass_time(now);
        Some((reply, turn.took))
    }
}

impl Model {
    fn pass_time(&mut self, now: Timestamp) {
        if let Some((at, session)) = self.pending
            && at <= now
        {
            self.pending = None;
            if self.session == Session::Bot {
                (self.session, self.effect) = (session, Some(session));
            }
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            self.session = Session::Ended;
        }
    }

    /// Act at that time; what an answer would say.
    fn transfer(&mut self, turn: &Turn, at: Timestamp) -> String {
        assert_eq!(self.pending, None, "called while DeskStatus was at work");
        self.needless += u32::from(self.effect.is_some());
        if self.session == Session::Bot {
            self.pending = turn.finds.map(|session| (at, session));
        }
        let words = match (self.session, turn.finds) {
            (Session::Bot, None) => "141001",
            (Session::Bot, Some(Session::Agent)) => "0 a@x",
            (Session::Bot, Some(_)) => "0 queue",
            (Session::Agent | Session::Queue, _) => "141003",
            (Session::Ended, _) => "141005",
        };
        words.to_owned()
    }

    fn state(&self) -> String {
        let words = match self.session {
            Session::Bot => "Chatbot",
            Session::Queue => "Queueing",
            Session::Agent => "Agent a@x",
            Session::Ended => "NotInSession",
        };
        words.to_owned()
    }

    fn check(&mut self, walked: &Walked) {
        let state_then = self.session;
        // What is still under way happens after the outcome is told: it must not prove it wrong.
        let ended = self.ends_at.take();
        self.pass_time(Timestamp::MAX);
        let outcome = &walked.outcome;
        let reason = outcome.reason.as_deref().unwrap_or_default();
        match outcome.status {
            Status::Assigned => {
                assert!(self.effect == Some(Session::Agent) || state_then == Session::Agent);
                assert!(outcome.agent_id.as_deref().is_none_or(|agent| agent == "a@x"));
            }
            Status::Queued => {
                assert!(self.effect == Some(Session::Queue) || state_then == Session::Queue);
            }
            Status::NoAgentOnline | Status::Expired => assert_eq!(self.effect, None, "{reason}"),
            Status::Rejected => {
                let gone = state_then == Session::Ended && ended.is_some();
                let said = reason.contains("may have") || reason.contains("cannot be asked");
                assert!(self.effect.is_none() || said, "{reason}");
                assert!(self.session == Session::Bot || gone || said, "{reason}");
            }
            Status::Failed => {
                assert!(self.effect.is_none() || reason.contains("unknown"), "{reason}");
            }
        }
        assert!(self.needless == 0 || !self.can_ask, "a transfer after one that took effect");
        self.targets.dedup();
        if walked.seen.iter().any(|seen| matches!(seen, Seen::Told(_))) {
            // Of several rounds only the last is told.
            return;
        }
        let tried: Vec<_> = outcome.tried.iter().map(|tried| &tried.target).collect();
        assert!(tried.is_empty() || tried.len() == self.targets.len(), "{tried:?}");
        assert!(!tried.is_empty() || self.targets.len() <= 1, "{:?}", self.targets);
    }
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let lost = one_of(&["lost", "http 502", "http 200"]);
    let doubtful = one_of(&["141002", "60008", "70500", "70999"]);
    let faults = ["refused", "60014", "60007", "60021", "70001", "70050", "http 403", "141002"];
    let late = (0u64..=policy().settle.as_millis() as u64).prop_map(MS);
    let fate = prop_oneof![
        3 => Just(Fate::Answered),
        3 => (lost.clone(), late).prop_map(|(words, late)| Fate::ActedOn(words, late)),
        1 => doubtful.prop_map(|words| Fate::ActedOn(words, MS(0))),
        3 => one_of(&faults).prop_map(Fate::Ignored),
        1 => lost.prop_map(Fate::Ignored),
    ];
    let found = [Some(Session::Agent), Some(Session::Queue), None];
    let took = prop_oneof![Just(0), 0u64..=5_000].prop_map(MS);
    (fate, took, one_of(&found)).prop_map(|(fate, took, finds)| Turn { fate, took, finds })
}

fn any_model() -> impl Strategy<Value = Model> {
    let sessions = [Session::Bot, Session::Bot, Session::Bot, Session::Queue, Session::Agent];
    let ends = prop_oneof![2 => Just(None), 1 => (0u64..60_000).prop_map(Some)];
    let turns = prop::collection::vec(any_turn(), 1..20);
    (one_of(&sessions), ends, prop::bool::weighted(0.8), turns).prop_map(
        |(session, ends, can_ask, turns)| Model {
            session,
            pending: None,
            ends_at: ends.map(|ms| START + MS(ms)),
            can_ask,
            turns: turns.into_iter().cycle(),
            targets: Vec::new(),
            effect: None,
            needless: 0,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_outcome_says_what_desk_did(
        mut desk in any_model(), ttl in 0u64..120_000, quick in 1u32..5, grace in 0u64..90_000,
        requested_target in one_of(&["", "a@x", "a@x 7"]), routes in one_of(&[policy().routes, patient().routes]),
    ) {
        let policy = Policy { quick_attempts: quick, doubt_grace: MS(grace), routes, ..policy() };
        let walked = drive(&event(&format!("{requested_target} ttl={ttl}")), &policy, &mut desk);
        desk.check(&walked);
    }
}
