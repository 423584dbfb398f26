//! The simulated Desk: sessions with a history, transfers that act and lose their answer, hang,
//! fail, or come too early, and truthful answers to questions.
//!
//! It knows which event a transfer is for by a number that the request carries along.
//! It never does anything twice for one event without counting it as a fault.

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
use super::plan::{Plan, Weather};
use super::world::{Life, lock};

/// The client's time limit.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Bot,
    Queue,
    Agent,
    Ended,
}

/// All sessions.
pub(super) struct Floor {
    chance: Rng,
    /// Desk itself works on a call for at most so long.
    settle_ms: u64,
    sessions: BTreeMap<String, Session>,
    pub(super) transfers: u64,
}

/// One session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    state: State,
    pub(super) history: Vec<(Timestamp, State)>,
    pending: Option<(Timestamp, State, Option<u64>)>,
    /// Until then Desk is at work on a transfer.
    busy_until: Timestamp,
    ends_at: Option<Timestamp>,
    /// What a transfer of this event brought about.
    pub(super) effects: BTreeMap<u64, State>,
}

/// What becomes of a call.
struct Turn {
    reply: Reply,
    after: Duration,
}

impl Floor {
    pub(super) fn new(plan: &Plan, chance: Rng) -> Self {
        let settle_ms = plan.policy.settle.as_millis() as u64;
        Self { chance, settle_ms, sessions: BTreeMap::new(), transfers: 0 }
    }

    pub(super) fn session(&mut self, id: &str, now: Timestamp) -> &mut Session {
        let chance = &mut self.chance;
        let session = self.sessions.entry(id.to_owned()).or_insert_with(|| {
            let states = [State::Bot, State::Queue, State::Agent, State::Ended];
            let state = if chance.u8(0..8) > 0 { State::Bot } else { states[chance.usize(0..4)] };
            let ends = chance.u8(0..6) == 0;
            Session {
                state,
                history: vec![(Timestamp::MIN, state)],
                pending: None,
                busy_until: Timestamp::MIN,
                ends_at: ends.then(|| now + Duration::from_millis(chance.u64(0..60_000))),
                effects: BTreeMap::new(),
            }
        });
        session.pass_time(now, chance);
        session
    }

    fn late(&mut self) -> Duration {
        let latest = if self.chance.bool() { 300 } else { self.settle_ms };
        Duration::from_millis(self.chance.u64(0..latest))
    }

    /// A call that arrives in calm weather.
    fn turn(&mut self, (id, number): (&str, Option<u64>), now: Timestamp, nobody: bool) -> Turn {
        let late = self.late();
        let lost = self.lost();
        let fate = self.chance.u8(0..20);
        let acts = fate < 16;
        if number.is_some() {
            self.session(id, now).busy_until = now + late;
        }
        let found = match self.chance.u8(0..8) {
            _ if nobody => None,
            0..=4 => Some(State::Agent),
            5 | 6 => Some(State::Queue),
            _ => None,
        };
        let answered = match number {
            _ if !acts => code(141_002),
            Some(number) => self.transfer((id, number), found, (now, late)),
            None => self.session(id, now).told(),
        };
        match fate {
            0..=10 => Turn { reply: answered, after: late },
            11..=13 | 16 => Turn { reply: lost, after: LIMIT },
            14 | 17 => Turn { reply: lost, after: late.min(Duration::from_millis(50)) },
            _ => Turn { reply: code(141_002), after: late },
        }
    }

    fn lost(&mut self) -> Reply {
        match self.chance.u8(0..3) {
            0 => Reply::Http { status: 502, retry_after: None },
            1 => Reply::Http { status: 200, retry_after: None },
            _ => Reply::Lost("the answer was lost".into()),
        }
    }

    fn transfer(
        &mut self,
        (id, number): (&str, u64),
        found: Option<State>,
        (now, late): (Timestamp, Duration),
    ) -> Reply {
        let session = self.session(id, now);
        match (session.state, found) {
            (State::Bot, None) => code(141_001),
            (State::Bot, Some(state)) => {
                session.pending = Some((now + late, state, Some(number)));
                let agent_id = (state == State::Agent).then(|| "a@x".to_owned());
                answer(DeskAnswer {
                    agent_id,
                    in_queue: state == State::Queue,
                    ..DeskAnswer::default()
                })
            }
            (State::Queue | State::Agent, _) => code(141_003),
            (State::Ended, _) => code(141_005),
        }
    }

    fn hindered(&mut self, weather: Weather) -> Option<Turn> {
        let after = self.late();
        let reply = match weather {
            Weather::WrongAddress => code(60_021),
            Weather::TooFast => code(60_007),
            Weather::NobodyOnline => return None,
            Weather::Outage => match self.chance.u8(0..3) {
                0 => Reply::NotSent("connection refused".into()),
                _ => self.lost(),
            },
        };
        Some(Turn { reply, after })
    }
}

impl Session {
    fn pass_time(&mut self, now: Timestamp, chance: &mut Rng) {
        while let Some((at, state, number)) = self.pending
            && at <= now
        {
            self.pending = None;
            if matches!((self.state, number), (State::Bot, _) | (State::Queue, None)) {
                self.become_(state, at);
                if let Some(number) = number {
                    self.effects.insert(number, state);
                }
            }
            if self.state == State::Queue {
                let served = at + Duration::from_millis(chance.u64(2_000..60_000));
                self.pending = Some((served, State::Agent, None));
            }
        }
        if let Some(at) = self.ends_at
            && at <= now
            && self.state != State::Ended
        {
            self.become_(State::Ended, at);
        }
    }

    fn become_(&mut self, state: State, at: Timestamp) {
        self.state = state;
        self.history.push((at, state));
    }

    fn told(&self) -> Reply {
        let (state, agent_id) = match self.state {
            State::Bot => ("Chatbot", None),
            State::Queue => ("Queueing", None),
            State::Agent => ("Agent", Some("a@x".to_owned())),
            State::Ended => return code(141_005),
        };
        answer(DeskAnswer { state: Some(state.to_owned()), agent_id, ..DeskAnswer::default() })
    }

    /// It was in this state at some time in between.
    pub(super) fn was(&self, state: State, (from, to): (Timestamp, Timestamp)) -> bool {
        let ends = self.history.iter().skip(1).map(|(at, _)| *at).chain([Timestamp::MAX]);
        let spans = self.history.iter().zip(ends);
        spans.into_iter().any(|((since, is), until)| *is == state && *since <= to && until >= from)
    }

    /// A transfer of this event has taken effect, or will.
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

/// The way of one process to Desk.
pub(super) struct Client {
    pub(super) life: Arc<Life>,
}

impl deliver::DeskApi for Client {
    async fn call(&self, command: DeskCommand, body: Vec<u8>, _after: Option<Timestamp>) -> Reply {
        let life = &self.life;
        if life.frozen().is_some() {
            // It slept through the time in which it meant to connect.
            life.go_on().await;
            return Reply::NotSent("woke up late".into());
        }
        life.point("a call is about to leave").await;
        let begun = Instant::now();
        let turn = self.arrive(command, &body);
        sleep(turn.after.min(LIMIT)).await;
        life.point("a call is out").await;
        let slept = begun.elapsed() > LIMIT + Duration::from_secs(1);
        if slept && life.world.one_in(2) { Reply::Lost("timed out".into()) } else { turn.reply }
    }
}

impl Client {
    fn arrive(&self, command: DeskCommand, body: &[u8]) -> Turn {
        let world = &self.life.world;
        let body: Value = serde_json::from_slice(body).unwrap();
        let id = body["SessionId"].as_str().unwrap();
        let number = body["QueueTimeout"].as_u64();
        assert_eq!(number.is_some(), command == DeskCommand::TransferToHuman);
        let now = world.now();
        checks::at_call(&self.life, (id, number), now);
        let since_start =
            Duration::try_from(now.duration_since(world.clock().time(Duration::ZERO)));
        let weather = world.plan.weather(since_start.unwrap_or_default());
        let mut floor = lock(&world.floor);
        floor.transfers += u64::from(number.is_some());
        let hindered = weather.and_then(|weather| floor.hindered(weather));
        let nobody = weather == Some(Weather::NobodyOnline);
        let turn = hindered.unwrap_or_else(|| floor.turn((id, number), now, nobody));
        drop(floor);
        let name = &self.life.name;
        world.say(|| match number {
            Some(number) => format!("{name} transfers {id} for {number}: {}", shown(&turn)),
            None => format!("{name} asks after {id}: {}", shown(&turn)),
        });
        turn
    }
}

fn shown(turn: &Turn) -> String {
    let reply = match &turn.reply {
        Reply::Answer(answer) => match &answer.state {
            Some(state) => state.clone(),
            None => format!("{} queue={}", answer.desk.code, answer.in_queue),
        },
        other => format!("{other:?}"),
    };
    format!("{reply} after {} ms", turn.after.as_millis())
}
