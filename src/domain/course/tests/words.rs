//! The short words in which the tables are written.
//!
//! - An event: `a@x 7 strict ttl=60000` (agents, group, flags).
//! - A reply: `0 a@x`, `0 queue`, `141002`, `lost@5000` (after 5 s), `http 502`, `refused`, `unsigned`;
//!   to a state query `Agent a@x`, `Chatbot`.
//! - What follows: `to 7`, `query`, `wait 200`, `park 30000`, `interim`, `held` (by a gate that stays
//!   shut), a signal such as `[throttled 0]`, and `= assigned a@x by Reply`.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Select;

use super::{DeskDouble, Driven, MS, Observed, START, TIME_TO_LIVE};
use crate::domain::event::{Correlation, Event, TransferRequest};
use crate::domain::record::Position;
use crate::domain::reply::{DeskAnswer, DeskStatus, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;

pub(super) fn event(words: &str) -> Event {
    let mut request = TransferRequest::default();
    let (mut ttl, mut invalid) = (TIME_TO_LIVE, false);
    for word in words.split_whitespace() {
        match word {
            "strict" => request.requested_target.strict = true,
            "invalid" => invalid = true,
            "huge" => request.requested_target.agents = vec!["agent@example.com".into(); 1000],
            word if word.contains('@') => request.requested_target.agents.push(word.into()),
            word => match word.strip_prefix("ttl=") {
                Some(ms) => ttl = MS(ms.parse().unwrap()),
                None => request.requested_target.group = Some(word.parse().unwrap()),
            },
        }
    }
    Event {
        id: "evt-1".into(),
        session_id: "s-1".into(),
        source: Position { topic: "t".into(), partition: 0, offset: 0 },
        requested_at: START,
        deadline: START + ttl,
        trace: Vec::new(),
        request: if invalid { Err("priority is 11; allowed is ...".into()) } else { Ok(request) },
        notes: Vec::new(),
        correlation: Correlation::default(),
    }
}

/// Replies one after the other; after the last one the gate stays shut.
pub(super) struct ReplyScript<'a>(std::str::Split<'a, &'static str>);

impl<'a> ReplyScript<'a> {
    pub(super) fn new(replies: &'a str) -> Self {
        Self(replies.split(" | "))
    }
}

impl DeskDouble for ReplyScript<'_> {
    fn call(&mut self, _: DeskCommand, _: &[u8], _: Timestamp) -> Option<(Reply, Duration)> {
        self.0.next().filter(|words| !words.is_empty()).map(reply)
    }
}

pub(super) fn reply(words: &str) -> (Reply, Duration) {
    let (words, ms) = match words.rsplit_once('@') {
        Some((words, ms)) if ms.parse::<u64>().is_ok() => (words, ms.parse().unwrap()),
        _ => (words, 0),
    };
    let mut words = words.split_whitespace();
    let (word, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
    let reply = match word {
        "lost" => Reply::Lost("timed out".into()),
        "refused" => Reply::NotSent("connection refused".into()),
        "unsigned" => Reply::Unsigned("no key".into()),
        "http" => Reply::Http {
            status: rest[0].parse().unwrap(),
            retry_after: rest.get(1).map(|ms| MS(ms.parse().unwrap())),
        },
        code_or_state => Reply::Answer(answer(code_or_state, &rest)),
    };
    (reply, MS(ms))
}

fn answer(word: &str, rest: &[&str]) -> DeskAnswer {
    let code = word.parse().ok();
    let in_queue = rest == ["queue"];
    DeskAnswer {
        desk: DeskStatus { code: code.unwrap_or(0), ..DeskStatus::default() },
        agent_id: rest.first().filter(|_| !in_queue).map(|agent| (*agent).into()),
        in_queue,
        state: code.is_none().then(|| word.to_owned()),
        request_id: None,
    }
}

/// A driven course in words: its steps, and `=` with its outcome.
pub(super) fn shown(driven: &Driven) -> String {
    let mut words: Vec<String> = driven.observed.iter().filter_map(observed).collect();
    let outcome = &driven.outcome;
    let mut end = format!("= {}", outcome.status);
    if let Some(agent) = &outcome.agent_id {
        end += &format!(" {agent}");
    }
    if let Some(by) = outcome.confirmed_by {
        end += &format!(" by {by:?}");
    }
    words.push(end);
    words.join(", ")
}

fn observed(observed: &Observed) -> Option<String> {
    Some(match observed {
        Observed::Called(DeskCommand::GetSessionState, _) => "query".into(),
        Observed::Called(DeskCommand::TransferToHuman, body) => format!("to {}", target(body)),
        Observed::Waited(wait) => format!("wait {}", wait.as_millis()),
        Observed::Parked(wait) => format!("park {}", wait.as_millis()),
        Observed::Published(_) => "interim".into(),
        Observed::Held => "held".into(),
        Observed::Signalled(Signal::Success) => return None,
        Observed::Signalled(Signal::NoResponse(_) | Signal::Misrouted(_)) => return None,
        Observed::Signalled(Signal::Throttled(pause)) => {
            format!("[throttled {}]", pause.map_or(0, |pause| pause.as_millis()))
        }
        Observed::Signalled(Signal::Reauthenticating) => "[reauthenticate]".into(),
        Observed::Signalled(Signal::Misconfigured(_)) => "[shut]".into(),
        Observed::Signalled(Signal::StateQueryUnsupported(_)) => "[unsupported]".into(),
    })
}

/// The target named in the body of a transfer: `a@x+7`, `7` or `default`.
pub(super) fn target(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let agents = body["AgentIdList"].as_array().into_iter().flatten();
    let mut parts: Vec<_> = agents.map(|agent| agent.as_str().unwrap().to_owned()).collect();
    parts.extend(body["AgentGroupId"].as_u64().map(|group| group.to_string()));
    if parts.is_empty() { "default".into() } else { parts.join("+") }
}

/// One of these, at random.
pub(super) fn one_of<T: Clone + Debug>(values: &[T]) -> Select<T> {
    prop::sample::select(values.to_vec())
}
