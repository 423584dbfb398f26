//! Every outcome is true: checked against a small model of Desk.
//!
//! The model has one session, acts on transfers and loses answers. A transfer whose answer was lost may
//! take effect later, within the settle time. At the end the outcome must agree with the session's state.

use std::iter::Cycle;
use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;
use proptest::prelude::*;

use super::no_agent::keeps_trying;
use super::opening::open_at;
use super::words::{event, one_of, reply, target};
use super::{DeskDouble, Driven, MS, Observed, START, drive, policy, policy_with};
use crate::domain::course::Policy;
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;
use crate::domain::route::OutsideHours;
use crate::domain::wire::outcome::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionModel {
    Bot,
    Queue,
    Agent,
    Ended,
}

/// How the model handles one call.
#[derive(Debug, Clone)]
enum CallFate {
    /// Performed and answered.
    Answered,
    /// Performed after this time; the reply does not show it.
    Performed(&'static str, Duration),
    /// Not performed; this came back.
    Ignored(&'static str),
}

#[derive(Debug, Clone)]
struct ModelTurn {
    fate: CallFate,
    took: Duration,
    /// What Desk's allocation finds.
    finds: Option<SessionModel>,
}

#[derive(Debug)]
struct DeskModel {
    session: SessionModel,
    /// The next state of the session, and when it begins.
    pending: Option<(Timestamp, SessionModel)>,
    ends_at: Option<Timestamp>,
    has_state_query: bool,
    turns: Cycle<IntoIter<ModelTurn>>,
    /// The targets of the transfers, in order.
    targets: Vec<String>,
    /// The state that a transfer caused, if one did.
    effect: Option<SessionModel>,
    /// Transfers made although an earlier one had taken effect.
    needless: u32,
}

impl DeskDouble for DeskModel {
    fn call(
        &mut self,
        command: DeskCommand,
        body: &[u8],
        now: Timestamp,
    ) -> Option<(Reply, Duration)> {
        self.pass_time(now);
        let turn = self.turns.next().unwrap();
        let words = match (command, &turn.fate) {
            (DeskCommand::GetSessionState, _) if !self.has_state_query => "http 404".into(),
            (_, CallFate::Ignored(words)) => (*words).to_owned(),
            (DeskCommand::GetSessionState, CallFate::Answered) => self.state(),
            (DeskCommand::GetSessionState, CallFate::Performed(words, _)) => (*words).to_owned(),
            (DeskCommand::TransferToHuman, CallFate::Answered) => self.transfer(&turn, now),
            (DeskCommand::TransferToHuman, CallFate::Performed(words, late)) => {
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

impl DeskModel {
    fn pass_time(&mut self, now: Timestamp) {
        if let Some((at, session)) = self.pending
            && at <= now
        {
            self.pending = None;
            if self.session == SessionModel::Bot {
                (self.session, self.effect) = (session, Some(session));
            }
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            self.session = SessionModel::Ended;
        }
    }

    /// Perform a transfer at this time; returns what an answer would say.
    fn transfer(&mut self, turn: &ModelTurn, at: Timestamp) -> String {
        assert_eq!(self.pending, None, "called while Desk was at work");
        self.needless += u32::from(self.effect.is_some());
        if self.session == SessionModel::Bot {
            self.pending = turn.finds.map(|session| (at, session));
        }
        let words = match (self.session, turn.finds) {
            (SessionModel::Bot, None) => "141001",
            (SessionModel::Bot, Some(SessionModel::Agent)) => "0 a@x",
            (SessionModel::Bot, Some(_)) => "0 queue",
            (SessionModel::Agent | SessionModel::Queue, _) => "141003",
            (SessionModel::Ended, _) => "141005",
        };
        words.to_owned()
    }

    fn state(&self) -> String {
        let words = match self.session {
            SessionModel::Bot => "Chatbot",
            SessionModel::Queue => "Queueing",
            SessionModel::Agent => "Agent a@x",
            SessionModel::Ended => "NotInSession",
        };
        words.to_owned()
    }

    fn check(&mut self, driven: &Driven) {
        let state_then = self.session;
        // What is still pending happens after the outcome: it must not make it untrue.
        let ended = self.ends_at.take();
        self.pass_time(Timestamp::MAX);
        let outcome = &driven.outcome;
        let reason = outcome.reason.as_deref().unwrap_or_default();
        match outcome.status {
            Status::Assigned => {
                assert!(
                    self.effect == Some(SessionModel::Agent) || state_then == SessionModel::Agent
                );
                assert!(outcome.agent_id.as_deref().is_none_or(|agent| agent == "a@x"));
            }
            Status::Queued => {
                assert!(
                    self.effect == Some(SessionModel::Queue) || state_then == SessionModel::Queue
                );
            }
            Status::NoAgentOnline | Status::Expired => assert_eq!(self.effect, None, "{reason}"),
            Status::Rejected => {
                let ended_meanwhile = state_then == SessionModel::Ended && ended.is_some();
                let admitted = reason.contains("may have") || reason.contains("cannot be asked");
                assert!(self.effect.is_none() || admitted, "{reason}");
                assert!(
                    self.session == SessionModel::Bot || ended_meanwhile || admitted,
                    "{reason}"
                );
            }
            Status::Failed => {
                assert!(self.effect.is_none() || reason.contains("unknown"), "{reason}");
            }
        }
        assert!(
            self.needless == 0 || !self.has_state_query,
            "a transfer after one that took effect"
        );
        self.targets.dedup();
        if driven.observed.iter().any(|observed| matches!(observed, Observed::Published(_))) {
            // Of several passes the outcome lists only the last.
            return;
        }
        let tried: Vec<_> = outcome.tried.iter().map(|tried| &tried.target).collect();
        assert!(tried.is_empty() || tried.len() == self.targets.len(), "{tried:?}");
        assert!(!tried.is_empty() || self.targets.len() <= 1, "{:?}", self.targets);
    }
}

fn any_turn() -> impl Strategy<Value = ModelTurn> {
    let lost = one_of(&["lost", "http 502", "http 200"]);
    let in_doubt = one_of(&["141002", "60008", "70500", "70999"]);
    let faults = ["refused", "60014", "60007", "60021", "70001", "70050", "http 403", "141002"];
    let late = (0u64..=policy().settle_time.as_millis() as u64).prop_map(MS);
    let fate = prop_oneof![
        3 => Just(CallFate::Answered),
        3 => (lost.clone(), late).prop_map(|(words, late)| CallFate::Performed(words, late)),
        1 => in_doubt.prop_map(|words| CallFate::Performed(words, MS(0))),
        3 => one_of(&faults).prop_map(CallFate::Ignored),
        1 => lost.prop_map(CallFate::Ignored),
    ];
    let found = [Some(SessionModel::Agent), Some(SessionModel::Queue), None];
    let took = prop_oneof![Just(0), 0u64..=5_000].prop_map(MS);
    (fate, took, one_of(&found)).prop_map(|(fate, took, finds)| ModelTurn { fate, took, finds })
}

fn any_model() -> impl Strategy<Value = DeskModel> {
    let sessions = [
        SessionModel::Bot,
        SessionModel::Bot,
        SessionModel::Bot,
        SessionModel::Queue,
        SessionModel::Agent,
    ];
    let ends = prop_oneof![2 => Just(None), 1 => (0u64..60_000).prop_map(Some)];
    let turns = prop::collection::vec(any_turn(), 1..20);
    (one_of(&sessions), ends, prop::bool::weighted(0.8), turns).prop_map(
        |(session, ends, has_state_query, turns)| DeskModel {
            session,
            pending: None,
            ends_at: ends.map(|ms| START + MS(ms)),
            has_state_query,
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
    fn the_outcome_agrees_with_what_desk_did(
        mut desk in any_model(), ttl in 0u64..120_000, quick in 1u32..5, grace in 0u64..90_000,
        requested_target in one_of(&["", "a@x", "a@x 7"]),
        routes in one_of(&[
            policy().routes,
            keeps_trying().routes,
            open_at(&["09:00-10:01"], OutsideHours::Answer).routes,
            open_at(&["10:01-10:02"], OutsideHours::ParkUntilOpen).routes,
        ]),
    ) {
        let policy = policy_with(quick, &[30_000, 60_000]);
        let policy = Policy { doubt_grace: MS(grace), routes, ..policy };
        let driven = drive(&event(&format!("{requested_target} ttl={ttl}")), &policy, &mut desk);
        desk.check(&driven);
    }
}
