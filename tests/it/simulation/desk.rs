//! The simulated Desk: sessions with a history, transfers that take effect although their reply is
//! lost, that hang or fail, and state queries that are answered truthfully.
//!
//! The request's `QueueTimeout` carries the event's number, by which a transfer is matched to its
//! event. A second effect for the same event is a violation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use handoff::deliver;
use handoff::domain::reply::{DeskAnswer, DeskStatus, Reply};
use handoff::domain::request::DeskCommand;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::checks;
use super::schedule::{DeskFault, Schedule};
use super::world::{SimProcess, lock};

/// The client's timeout.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimSessionState {
    Bot,
    Queue,
    Agent,
    Ended,
}

pub(super) struct SimDesk {
    rng: Rng,
    /// How long Desk works on a call, at most.
    settle_ms: u64,
    sessions: BTreeMap<String, SimSession>,
    pub(super) transfers: u64,
}

#[derive(Debug, Clone)]
pub(super) struct SimSession {
    state: SimSessionState,
    pub(super) history: Vec<(Timestamp, SimSessionState)>,
    pending: Option<(Timestamp, SimSessionState, Option<u64>)>,
    /// When Desk finishes the transfer that it works on.
    busy_until: Timestamp,
    ends_at: Option<Timestamp>,
    /// The state that the transfer of an event led to, by the event's number.
    pub(super) effects: BTreeMap<u64, SimSessionState>,
}

/// A call that reaches Desk.
pub(super) struct ObservedCall<'a> {
    pub(super) session: &'a str,
    /// The number of the event, of a transfer; `None` for a state query.
    pub(super) number: Option<u64>,
    pub(super) now: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgentsOnline {
    None,
    Some,
}

/// The reply to a call and when it arrives.
struct CallResult {
    reply: Reply,
    after: Duration,
}

impl SimDesk {
    pub(super) fn new(schedule: &Schedule, rng: Rng) -> Self {
        let settle_ms = schedule.policy.settle_time.as_millis() as u64;
        Self { rng, settle_ms, sessions: BTreeMap::new(), transfers: 0 }
    }

    pub(super) fn session(&mut self, id: &str, now: Timestamp) -> &mut SimSession {
        let rng = &mut self.rng;
        let session = self.sessions.entry(id.to_owned()).or_insert_with(|| {
            let states = [
                SimSessionState::Bot,
                SimSessionState::Queue,
                SimSessionState::Agent,
                SimSessionState::Ended,
            ];
            let state =
                if rng.u8(0..8) > 0 { SimSessionState::Bot } else { states[rng.usize(0..4)] };
            let ends = rng.u8(0..6) == 0;
            SimSession {
                state,
                history: vec![(Timestamp::MIN, state)],
                pending: None,
                busy_until: Timestamp::MIN,
                ends_at: ends.then(|| now + Duration::from_millis(rng.u64(0..60_000))),
                effects: BTreeMap::new(),
            }
        });
        session.pass_time(now, rng);
        session
    }

    fn latency(&mut self) -> Duration {
        let latest = if self.rng.bool() { 300 } else { self.settle_ms };
        Duration::from_millis(self.rng.u64(0..latest))
    }

    /// Handle a call while no fault of Desk prevents it.
    fn call(&mut self, call: &ObservedCall<'_>, agents: AgentsOnline) -> CallResult {
        let ObservedCall { session: id, number, now } = *call;
        let latency = self.latency();
        let lost = self.lost();
        let draw = self.rng.u8(0..20);
        // Of 20 calls 16 are carried out; five of those lose their reply or get a late error.
        let acts = draw < 16;
        // A state query may overlap a transfer, so only transfers make the session busy.
        if number.is_some() {
            self.session(id, now).busy_until = now + latency;
        }
        let found = match self.rng.u8(0..8) {
            _ if agents == AgentsOnline::None => None,
            0..=4 => Some(SimSessionState::Agent),
            5 | 6 => Some(SimSessionState::Queue),
            _ => None,
        };
        let answered = match number {
            _ if !acts => code(141_002),
            Some(number) => self.transfer(call, number, found, latency),
            None => self.session(id, now).state_reply(),
        };
        match draw {
            0..=10 => CallResult { reply: answered, after: latency },
            11..=13 | 16 => CallResult { reply: lost, after: CLIENT_TIMEOUT },
            14 | 17 => CallResult { reply: lost, after: latency.min(Duration::from_millis(50)) },
            _ => CallResult { reply: code(141_002), after: latency },
        }
    }

    fn lost(&mut self) -> Reply {
        match self.rng.u8(0..3) {
            0 => Reply::Http { status: 502, retry_after: None },
            1 => Reply::Http { status: 200, retry_after: None },
            _ => Reply::Lost("the answer was lost".into()),
        }
    }

    fn transfer(
        &mut self,
        call: &ObservedCall<'_>,
        number: u64,
        found: Option<SimSessionState>,
        latency: Duration,
    ) -> Reply {
        let session = self.session(call.session, call.now);
        match (session.state, found) {
            (SimSessionState::Bot, None) => code(141_001),
            (SimSessionState::Bot, Some(state)) => {
                session.pending = Some((call.now + latency, state, Some(number)));
                let agent_id = (state == SimSessionState::Agent).then(|| "a@x".to_owned());
                answer(DeskAnswer {
                    agent_id,
                    in_queue: state == SimSessionState::Queue,
                    ..DeskAnswer::default()
                })
            }
            (SimSessionState::Queue | SimSessionState::Agent, _) => code(141_003),
            (SimSessionState::Ended, _) => code(141_005),
        }
    }

    fn faulty_call(&mut self, fault: DeskFault) -> Option<CallResult> {
        let after = self.latency();
        let reply = match fault {
            DeskFault::Misconfigured => code(60_021),
            DeskFault::Throttled => code(60_007),
            DeskFault::NoAgentOnline => return None,
            DeskFault::Outage => match self.rng.u8(0..3) {
                0 => Reply::NotSent("connection refused".into()),
                _ => self.lost(),
            },
        };
        Some(CallResult { reply, after })
    }
}

impl SimSession {
    fn pass_time(&mut self, now: Timestamp, rng: &mut Rng) {
        while let Some((at, state, number)) = self.pending
            && at <= now
        {
            self.pending = None;
            if matches!(
                (self.state, number),
                (SimSessionState::Bot, _) | (SimSessionState::Queue, None)
            ) {
                self.enter(state, at);
                if let Some(number) = number {
                    self.effects.insert(number, state);
                }
            }
            if self.state == SimSessionState::Queue {
                let served = at + Duration::from_millis(rng.u64(2_000..60_000));
                self.pending = Some((served, SimSessionState::Agent, None));
            }
        }
        if let Some(at) = self.ends_at
            && at <= now
            && self.state != SimSessionState::Ended
        {
            self.enter(SimSessionState::Ended, at);
        }
    }

    fn enter(&mut self, state: SimSessionState, at: Timestamp) {
        self.state = state;
        self.history.push((at, state));
    }

    fn state_reply(&self) -> Reply {
        let (state, agent_id) = match self.state {
            SimSessionState::Bot => ("Chatbot", None),
            SimSessionState::Queue => ("Queueing", None),
            SimSessionState::Agent => ("Agent", Some("a@x".to_owned())),
            SimSessionState::Ended => return code(141_005),
        };
        answer(DeskAnswer { state: Some(state.to_owned()), agent_id, ..DeskAnswer::default() })
    }

    /// It was in this state at some time from `from` to `to`.
    pub(super) fn was(&self, state: SimSessionState, from: Timestamp, to: Timestamp) -> bool {
        let ends = self.history.iter().skip(1).map(|(at, _)| *at).chain([Timestamp::MAX]);
        let spans = self.history.iter().zip(ends);
        spans.into_iter().any(|((since, is), until)| *is == state && *since <= to && until >= from)
    }

    /// A transfer of the event with this number has taken effect, or will.
    pub(super) fn has_effect(&self, number: u64) -> bool {
        let pending = self.pending.is_some_and(|(_, _, by)| by == Some(number));
        pending || self.effects.contains_key(&number)
    }

    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.busy_until > now
    }
}

fn answer(answer: DeskAnswer) -> Reply {
    let desk = DeskStatus { code: 0, info: String::new(), action_status: "OK".into() };
    Reply::Answer(DeskAnswer { desk, ..answer })
}

fn code(code: i64) -> Reply {
    let desk = DeskStatus { code, info: String::new(), action_status: "FAIL".into() };
    Reply::Answer(DeskAnswer { desk, ..DeskAnswer::default() })
}

/// One process's client for Desk.
pub(super) struct SimDeskClient {
    pub(super) process: Arc<SimProcess>,
}

impl deliver::DeskApi for SimDeskClient {
    async fn call(&self, command: DeskCommand, body: Vec<u8>, _after: Option<Timestamp>) -> Reply {
        let process = &self.process;
        if process.paused_until().is_some() {
            // The pause lasted past the connect timeout.
            process.until_running().await;
            return Reply::NotSent("connect timeout after a pause".into());
        }
        process.crash_point("a call is about to be sent").await;
        let begun = Instant::now();
        let result = self.arrive(command, &body);
        sleep(result.after.min(CLIENT_TIMEOUT)).await;
        process.crash_point("a call is in flight").await;
        let timed_out = begun.elapsed() > CLIENT_TIMEOUT + Duration::from_secs(1);
        if timed_out && process.world.one_in(2) {
            Reply::Lost("timed out".into())
        } else {
            result.reply
        }
    }
}

impl SimDeskClient {
    fn arrive(&self, command: DeskCommand, body: &[u8]) -> CallResult {
        let world = &self.process.world;
        let body: Value = serde_json::from_slice(body).unwrap();
        let id = body["SessionId"].as_str().unwrap();
        let number = body["QueueTimeout"].as_u64();
        assert_eq!(number.is_some(), command == DeskCommand::TransferToHuman);
        let now = world.now();
        let call = ObservedCall { session: id, number, now };
        checks::check_call(&self.process, &call);
        let since_start =
            Duration::try_from(now.duration_since(world.clock().timestamp(Duration::ZERO)));
        let fault = world.schedule.desk_fault(since_start.unwrap_or_default());
        let mut desk = lock(&world.desk);
        desk.transfers += u64::from(number.is_some());
        let faulted = fault.and_then(|fault| desk.faulty_call(fault));
        let agents = match fault {
            Some(DeskFault::NoAgentOnline) => AgentsOnline::None,
            _ => AgentsOnline::Some,
        };
        let result = faulted.unwrap_or_else(|| desk.call(&call, agents));
        drop(desk);
        let name = &self.process.name;
        world.log(|| match number {
            Some(number) => format!("{name} transfers {id} for {number}: {}", describe(&result)),
            None => format!("{name} queries the state of {id}: {}", describe(&result)),
        });
        result
    }
}

fn describe(result: &CallResult) -> String {
    let reply = match &result.reply {
        Reply::Answer(answer) => match &answer.state {
            Some(state) => state.clone(),
            None => format!("{} queue={}", answer.desk.code, answer.in_queue),
        },
        other => format!("{other:?}"),
    };
    format!("{reply} after {} ms", result.after.as_millis())
}
