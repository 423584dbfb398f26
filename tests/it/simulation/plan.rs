//! What a seed makes of a world: its size, its rules, its records and its weather.
//!
//! Everything here is drawn before the world begins; what happens by chance later is drawn by
//! the world itself, from the same seed.
//! This file never looks at what the service does.

use std::time::Duration;

use fastrand::Rng;
use handoff::domain::backoff::Backoff;
use handoff::domain::course::Policy;
use handoff::domain::plan::Target;
use handoff::domain::route::{Draft, NoAgentPolicy, Routes};
use handoff::domain::verdict::Verdicts;
use jiff::Timestamp;
use serde_json::json;

use super::world::START;

/// A world, before it begins.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) partitions: usize,
    pub(super) instances: usize,
    pub(super) crashes: bool,
    pub(super) freezes: bool,
    pub(super) rebalances: bool,
    /// A database that answers within a second, not at once.
    pub(super) slow_ledger: bool,
    /// How long there is trouble.
    pub(super) trouble: Duration,
    pub(super) drain: Duration,
    /// The group gives up a member it has not heard of for so long.
    pub(super) session: Duration,
    pub(super) commit_every: Duration,
    pub(super) policy: Policy,
    pub(super) inputs: Vec<Input>,
    pub(super) sessions: usize,
    pub(super) weather: Vec<(Duration, Duration, Weather)>,
}

/// One record that somebody publishes.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) at: Duration,
    pub(super) partition: usize,
    pub(super) value: Option<Vec<u8>>,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An escalation; those with one number are one event, published again.
    Event {
        number: u64,
        id: Option<String>,
        session: usize,
        deadline: Timestamp,
    },
    Malformed,
    NotForUs,
}

/// What is the matter with Desk for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Outage,
    NobodyOnline,
    WrongAddress,
    TooFast,
}

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let trouble = S(rng.u64(15..60));
        let mut plan = Self {
            seed,
            partitions: rng.usize(1..=3),
            instances: rng.usize(1..=3),
            crashes: rng.u8(0..4) > 0,
            freezes: rng.u8(0..3) == 0,
            rebalances: rng.bool(),
            slow_ledger: rng.u8(0..4) == 0,
            trouble,
            drain: S(rng.u64(1..8)),
            session: S(6),
            commit_every: MS(rng.u64(50..5_000)),
            policy: policy(&mut rng),
            inputs: Vec::new(),
            sessions: rng.usize(1..8),
            weather: Vec::new(),
        };
        plan.weather = (0..rng.usize(0..3)).map(|_| weather(&mut rng, trouble)).collect();
        plan.inputs = inputs(&plan, &mut rng);
        plan
    }

    pub(super) fn weather(&self, since_start: Duration) -> Option<Weather> {
        let now = self.weather.iter().find(|(from, to, _)| (*from..*to).contains(&since_start));
        now.map(|(_, _, weather)| *weather)
    }

    /// All of it is past its deadline and its grace, whoever took it up when.
    pub(super) fn horizon(&self) -> Duration {
        self.trouble + S(60) + self.policy.doubt_grace * 2 + S(60)
    }
}

fn policy(rng: &mut Rng) -> Policy {
    Policy {
        verdicts: Verdicts::default(),
        backoff: Backoff::new(MS(200), MS(2_000)).unwrap(),
        quick_attempts: rng.u32(1..5),
        park: vec![S(rng.u64(1..5)), S(rng.u64(3..12))],
        settle: S(3),
        doubt_grace: S(rng.u64(5..25)),
        default_target: true,
        routes: routes(rng),
    }
}

/// In some worlds it is tried again where nobody is online, and told so.
fn routes(rng: &mut Rng) -> Routes {
    if rng.bool() {
        return Routes::default();
    }
    let waits = vec![S(rng.u64(1..4)), S(rng.u64(2..9))];
    let patient = Draft {
        name: "patient".into(),
        targets: vec![Target::Named { agents: vec![], group: Some(7) }],
        while_nobody_online: NoAgentPolicy::KeepTrying(waits),
        ..Draft::default()
    };
    Routes::compile(vec![patient]).unwrap()
}

fn weather(rng: &mut Rng, trouble: Duration) -> (Duration, Duration, Weather) {
    let from = MS(rng.u64(0..trouble.as_millis() as u64));
    let kinds = [Weather::Outage, Weather::NobodyOnline, Weather::WrongAddress, Weather::TooFast];
    (from, from + MS(rng.u64(500..15_000)), kinds[rng.usize(0..kinds.len())])
}

fn inputs(plan: &Plan, rng: &mut Rng) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    let burst = rng.bool();
    for number in 0..rng.u64(3..14) {
        let latest = if burst { 2_000 } else { plan.trouble.as_millis() as u64 };
        let at = MS(rng.u64(0..latest));
        let again = rng.u8(0..6) == 0;
        let input = match rng.u8(0..12) {
            0 => poison(at, plan, rng),
            1 => conflicting(at, (plan, rng), &inputs),
            _ => None,
        };
        let input = input.unwrap_or_else(|| event((number, at), plan, rng));
        if again && matches!(input.kind, Kind::Event { id: Some(_), .. }) {
            let later = MS(rng.u64(0..20_000));
            inputs.push(Input { at: at + later, ..input.clone() });
        }
        inputs.push(input);
    }
    inputs.sort_by_key(|input| input.at);
    inputs
}

fn event((number, at): (u64, Duration), plan: &Plan, rng: &mut Rng) -> Input {
    let session = rng.usize(0..plan.sessions);
    let id = (rng.u8(0..8) > 0).then(|| format!("e{number}"));
    escalation((number, id, session), at, (plan, rng))
}

fn escalation(
    (number, id, session): (u64, Option<String>, usize),
    at: Duration,
    (plan, rng): (&Plan, &mut Rng),
) -> Input {
    let start: Timestamp = START.parse().unwrap();
    let deadline = start + at + MS(rng.u64(500..40_000));
    let mut value = json!({
        "session_id": format!("s{session}"),
        "expires_at": deadline.to_string(),
        "options": { "queue_timeout": number },
    });
    if let Some(id) = &id {
        value["id"] = json!(id);
    }
    if rng.u8(0..3) == 0 {
        value["target"] = json!({ "agents": ["a@x"], "group": 7 });
    }
    let kind = Kind::Event { number, id, session, deadline };
    let value = Some(serde_json::to_vec(&value).unwrap());
    Input { at, partition: session % plan.partitions, value, kind }
}

/// Malformed, or not for us.
fn poison(at: Duration, plan: &Plan, rng: &mut Rng) -> Option<Input> {
    let (value, kind) = match rng.u8(0..4) {
        0 => (None, Kind::Malformed),
        1 => (Some("{oops"), Kind::Malformed),
        2 => (Some(r#"{"id":"x"}"#), Kind::Malformed),
        _ => (Some(r#"{"type":"other","session_id":"s"}"#), Kind::NotForUs),
    };
    let value = value.map(|text| text.as_bytes().to_vec());
    Some(Input { at, partition: rng.usize(0..plan.partitions), value, kind })
}

/// The id of another event, in another session.
fn conflicting(at: Duration, (plan, rng): (&Plan, &mut Rng), earlier: &[Input]) -> Option<Input> {
    let (id, session) = earlier.iter().find_map(|input| match &input.kind {
        Kind::Event { id: Some(id), session, .. } => Some((id.clone(), *session)),
        _ => None,
    })?;
    let number = 1000 + earlier.len() as u64;
    Some(escalation((number, Some(id), session + plan.sessions), at, (plan, rng)))
}
