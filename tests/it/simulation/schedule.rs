//! What a seed decides about a world before it starts: its size, its policy, its input records and the
//! faults of Desk. What happens by chance later is drawn by the world itself, from the same seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use handoff::domain::backoff::Backoff;
use handoff::domain::course::{Policy, RetryPolicy};
use handoff::domain::hours::{DayTime, Hours};
use handoff::domain::route::{NoAgentPolicy, Opening, OutsideHours, RouteConfig, Routes};
use handoff::domain::target::Target;
use handoff::domain::verdict::Verdicts;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::world::START;

/// Seeds from here on make worlds of one partition and one or two sessions, in which processes crash.
/// There nearly everything happens within a session.
pub(super) const NARROW: u64 = 1_000_000;

#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) partitions: usize,
    pub(super) instances: usize,
    pub(super) crashes: bool,
    pub(super) pauses: bool,
    pub(super) rebalances: bool,
    /// The ledger takes up to 1.5 s to write, instead of 10 ms.
    pub(super) slow_ledger: bool,
    /// Faults are injected for this long.
    pub(super) fault_period: Duration,
    pub(super) drain: Duration,
    /// The group's session timeout: a member that is silent for longer is expelled.
    pub(super) session_timeout: Duration,
    pub(super) commit_every: Duration,
    pub(super) policy: Policy,
    pub(super) inputs: Vec<InputRecord>,
    pub(super) sessions: usize,
    pub(super) desk_faults: Vec<(Duration, Duration, DeskFault)>,
}

/// A record of the escalations topic.
#[derive(Debug, Clone)]
pub(super) struct InputRecord {
    pub(super) at: Duration,
    pub(super) partition: usize,
    pub(super) value: Option<Vec<u8>>,
    pub(super) kind: RecordKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An escalation. Two with the same number are one event that was published twice.
    Event {
        number: u64,
        id: Option<String>,
        session: usize,
        deadline: Timestamp,
    },
    Malformed,
    NotForUs,
}

/// A fault of Desk that lasts for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeskFault {
    Outage,
    NoAgentOnline,
    Misconfigured,
    Throttled,
}

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let fault_period = S(rng.u64(15..60));
        let mut schedule = Self {
            seed,
            partitions: rng.usize(1..=3),
            instances: rng.usize(1..=3),
            crashes: rng.u8(0..4) > 0,
            pauses: rng.u8(0..3) == 0,
            rebalances: rng.bool(),
            slow_ledger: rng.u8(0..4) == 0,
            fault_period,
            drain: S(rng.u64(1..8)),
            session_timeout: S(6),
            commit_every: MS(rng.u64(50..5_000)),
            policy: policy(&mut rng),
            inputs: Vec::new(),
            sessions: rng.usize(1..8),
            desk_faults: Vec::new(),
        };
        if seed >= NARROW {
            (schedule.partitions, schedule.sessions) = (1, rng.usize(1..=2));
            schedule.crashes = true;
        }
        schedule.desk_faults =
            (0..rng.usize(0..3)).map(|_| desk_fault(&mut rng, fault_period)).collect();
        schedule.inputs = inputs(&schedule, &mut rng);
        if schedule.keeps_trying() {
            let (from, to, _) = desk_fault(&mut rng, fault_period);
            let longer = to + S(rng.u64(10..30));
            schedule.desk_faults.push((from, longer, DeskFault::NoAgentOnline));
        }
        schedule
    }

    /// Whether events wait in rooms. Those worlds take longer: a sweep may have to find the rooms.
    fn keeps_trying(&self) -> bool {
        self.policy.routes.names().next().is_some()
    }

    pub(super) fn desk_fault(&self, since_start: Duration) -> Option<DeskFault> {
        let now = self.desk_faults.iter().find(|(from, to, _)| (*from..*to).contains(&since_start));
        now.map(|(_, _, fault)| *fault)
    }

    /// When each event must be past its deadline and grace, whenever it was recovered.
    pub(super) fn horizon(&self) -> Duration {
        self.fault_period + S(60) + self.policy.doubt_grace * 2 + S(60)
    }
}

fn policy(rng: &mut Rng) -> Policy {
    Policy {
        verdicts: Verdicts::default(),
        retry: RetryPolicy {
            backoff: Backoff::new(MS(200), MS(2_000)).unwrap(),
            quick_attempts: rng.u32(1..5),
            park: vec![S(rng.u64(1..5)), S(rng.u64(3..12))],
        },
        settle_time: S(3),
        doubt_grace: S(rng.u64(5..25)),
        default_target: true,
        routes: routes(rng),
        outcome_format: handoff::domain::wire::outcome_format::OutcomeFormat::Native,
    }
}

/// In some worlds a route keeps trying while no agent is online, or is closed for a part of the time;
/// both publish interim outcomes.
fn routes(rng: &mut Rng) -> Routes {
    match rng.u8(0..4) {
        0 => return Routes::default(),
        1 => return with_hours(rng),
        _ => {}
    }
    let waits = vec![S(rng.u64(1..4)), S(rng.u64(2..9))];
    let keep_trying = RouteConfig {
        name: "keep-trying".into(),
        targets: vec![Target::Named { agents: vec![], group: Some(7) }],
        while_nobody_online: NoAgentPolicy::KeepTrying(waits),
        ..RouteConfig::default()
    };
    Routes::compile(vec![keep_trying]).unwrap()
}

/// A route that opens and closes at full minutes; every world starts at one.
fn with_hours(rng: &mut Rng) -> Routes {
    let open = ["10:00-10:01", "10:01-10:02", "10:02-12:00"];
    let times = open.iter().filter(|_| rng.bool()).map(|time| DayTime::read(time).unwrap());
    let times: Vec<_> = times.chain(DayTime::read("10:03-18:00")).collect();
    let weekly = std::array::from_fn(|_| times.clone());
    let hours = Hours::new("office".into(), TimeZone::UTC, weekly, BTreeSet::new()).unwrap();
    let outside =
        if rng.u8(0..4) == 0 { OutsideHours::Answer } else { OutsideHours::ParkUntilOpen };
    let route = RouteConfig {
        name: "with-hours".into(),
        targets: vec![Target::Named { agents: vec![], group: Some(7) }],
        opening: Some(Opening { hours: Arc::new(hours), outside }),
        ..RouteConfig::default()
    };
    Routes::compile(vec![route]).unwrap()
}

fn desk_fault(rng: &mut Rng, fault_period: Duration) -> (Duration, Duration, DeskFault) {
    let from = MS(rng.u64(0..fault_period.as_millis() as u64));
    let kinds = [
        DeskFault::Outage,
        DeskFault::NoAgentOnline,
        DeskFault::Misconfigured,
        DeskFault::Throttled,
    ];
    (from, from + MS(rng.u64(500..15_000)), kinds[rng.usize(0..kinds.len())])
}

fn inputs(schedule: &Schedule, rng: &mut Rng) -> Vec<InputRecord> {
    let mut inputs: Vec<InputRecord> = Vec::new();
    // A burst fills the session queues and the intake; spread inputs meet each fault.
    let burst = rng.bool();
    for number in 0..rng.u64(3..14) {
        let latest = if burst { 2_000 } else { schedule.fault_period.as_millis() as u64 };
        let at = MS(rng.u64(0..latest));
        // Producers retry: one event in six is published twice.
        let again = rng.u8(0..6) == 0;
        let input = match rng.u8(0..12) {
            0 => malformed_or_foreign(at, schedule, rng),
            1 => conflicting(at, &inputs, schedule, rng),
            _ => None,
        };
        let input = input.unwrap_or_else(|| event(number, at, schedule, rng));
        if again && matches!(input.kind, RecordKind::Event { id: Some(_), .. }) {
            let later = MS(rng.u64(0..20_000));
            inputs.push(InputRecord { at: at + later, ..input.clone() });
        }
        inputs.push(input);
    }
    inputs.sort_by_key(|input| input.at);
    inputs
}

fn event(number: u64, at: Duration, schedule: &Schedule, rng: &mut Rng) -> InputRecord {
    let session = rng.usize(0..schedule.sessions);
    let id = (rng.u8(0..8) > 0).then(|| format!("e{number}"));
    let identity = EventIdentity { number, id, session };
    escalation(identity, at, schedule, rng)
}

/// What distinguishes an escalation from others.
struct EventIdentity {
    number: u64,
    id: Option<String>,
    session: usize,
}

fn escalation(
    identity: EventIdentity,
    at: Duration,
    schedule: &Schedule,
    rng: &mut Rng,
) -> InputRecord {
    let EventIdentity { number, id, session } = identity;
    let start: Timestamp = START.parse().unwrap();
    let longest = if schedule.keeps_trying() { 80_000 } else { 40_000 };
    let deadline = start + at + MS(rng.u64(500..longest));
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
    let kind = RecordKind::Event { number, id, session, deadline };
    let value = Some(serde_json::to_vec(&value).unwrap());
    InputRecord { at, partition: session % schedule.partitions, value, kind }
}

/// A record that is malformed or not for this service.
fn malformed_or_foreign(at: Duration, schedule: &Schedule, rng: &mut Rng) -> Option<InputRecord> {
    let (value, kind) = match rng.u8(0..4) {
        0 => (None, RecordKind::Malformed),
        1 => (Some("{oops"), RecordKind::Malformed),
        2 => (Some(r#"{"id":"x"}"#), RecordKind::Malformed),
        _ => (Some(r#"{"type":"other","session_id":"s"}"#), RecordKind::NotForUs),
    };
    let value = value.map(|text| text.as_bytes().to_vec());
    Some(InputRecord { at, partition: rng.usize(0..schedule.partitions), value, kind })
}

/// An escalation with the id of an earlier event in another session.
fn conflicting(
    at: Duration,
    earlier: &[InputRecord],
    schedule: &Schedule,
    rng: &mut Rng,
) -> Option<InputRecord> {
    let (id, session) = earlier.iter().find_map(|input| match &input.kind {
        RecordKind::Event { id: Some(id), session, .. } => Some((id.clone(), *session)),
        _ => None,
    })?;
    let number = 1000 + earlier.len() as u64;
    let identity = EventIdentity { number, id: Some(id), session: session + schedule.sessions };
    Some(escalation(identity, at, schedule, rng))
}
