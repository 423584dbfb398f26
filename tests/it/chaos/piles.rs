//! Piles: many events that cannot be answered now, or events that would hurt others if they could.
//!
//! Each is published beside the ordinary records, which must be answered as if it were not there
//! ([`freshness`](super::freshness)). A pile is drawn from the seed; its number makes its sessions.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use handoff::sim::desk::{Agent, FaultSchedule, InjectedFault, ScheduledStaffChange, StaffChange};
use serde_json::json;

use super::checker::ExpectedResult;
use super::escalations::{GeneratedRecord, event};

/// The group that is left without agents.
const NIGHT_GROUP: i64 = 2480;
/// How long the staff of the night group is away in a run of full size.
const NIGHT: Duration = Duration::from_secs(120);
/// More than a call's time-out and its repetitions.
const HANGING_CALLS: u32 = 3;

/// The route of those who wait for the night group.
pub(super) const ROUTES: &str = r#"
[[routes]]
name = "night"
when = { room = "night" }
targets = [{ group = 2480 }]
default_target = false
while_nobody_online = "keep_trying"
retry_ms = [2000]
"#;

/// A pile; the numbers are events or sessions.
pub(super) enum Pile {
    /// People wait for a group that has no agent online for this time.
    EmptyGroup { waiting: u64, time: Duration },
    /// Escalations of one session.
    Flood { events: u64 },
    /// Sessions to which Desk always gives a code that could be about the whole account.
    Poison { sessions: u64, code: i64 },
    /// Sessions whose calls get no answer.
    Hanging { sessions: u64 },
}

impl Pile {
    /// `size` is a part of a pile of full size, above 0 and at most 1.
    pub(super) fn draw(rng: &mut Rng, size: f64) -> Self {
        let part = |full: f64| (full * size).ceil() as u64;
        match rng.u32(..4) {
            0 => Self::EmptyGroup { waiting: part(2000.0), time: NIGHT.mul_f64(size) },
            1 => Self::Flood { events: part(600.0) },
            2 => {
                let codes = [70_107, 60_005, 60_010];
                Self::Poison { sessions: part(5.0), code: codes[rng.usize(..codes.len())] }
            }
            _ => Self::Hanging { sessions: part(300.0) },
        }
    }

    /// Whether its records arrive one by one. At once they would delay the others for no other reason
    /// than that each needs a call before them.
    pub(super) fn is_spread(&self) -> bool {
        matches!(self, Self::EmptyGroup { .. })
    }

    /// What Desk has to do before the records are published, if anything.
    pub(super) fn schedule(&self, number: usize) -> Option<FaultSchedule> {
        let of_sessions = |sessions: u64, fault: InjectedFault| FaultSchedule {
            faults: (0..sessions).map(|n| fault.clone().session(session(number, n))).collect(),
            ..FaultSchedule::default()
        };
        Some(match self {
            Self::EmptyGroup { time, .. } => FaultSchedule {
                staff_changes: vec![staff_change(Duration::ZERO, false), staff_change(*time, true)],
                ..FaultSchedule::default()
            },
            Self::Flood { .. } => return None,
            Self::Poison { sessions, code } => {
                of_sessions(*sessions, InjectedFault::error(*code).times(0))
            }
            Self::Hanging { sessions } => {
                of_sessions(*sessions, InjectedFault::hang().times(HANGING_CALLS))
            }
        })
    }

    pub(super) fn records(&self, number: usize) -> Vec<GeneratedRecord> {
        let own_session = |n: u64| (format!("p{number}-{n}"), session(number, n));
        let of_sessions = |count: u64, expected: ExpectedResult, fields: serde_json::Value| {
            let ids = (0..count).map(own_session);
            ids.map(|(id, session)| event(&id, &session, expected, fields.clone())).collect()
        };
        match self {
            Self::EmptyGroup { waiting, .. } => {
                let fields = json!({"attributes": {"room": "night"}});
                of_sessions(*waiting, ExpectedResult::FromDesk, fields)
            }
            Self::Flood { events } => {
                let one = session(number, 0);
                let of_one =
                    |n| event(&format!("p{number}-{n}"), &one, ExpectedResult::FromDesk, json!({}));
                (0..*events).map(of_one).collect()
            }
            Self::Poison { sessions, .. } => {
                of_sessions(*sessions, ExpectedResult::Failed, json!({}))
            }
            Self::Hanging { sessions } => {
                of_sessions(*sessions, ExpectedResult::FromDesk, json!({}))
            }
        }
    }
}

impl fmt::Display for Pile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyGroup { waiting, time } => {
                write!(f, "{waiting} people wait for a group without agents for {time:.0?}")
            }
            Self::Flood { events } => write!(f, "{events} events of one session"),
            Self::Poison { sessions, code } => write!(f, "{code} always for {sessions} sessions"),
            Self::Hanging { sessions } => write!(f, "calls of {sessions} sessions hang"),
        }
    }
}

/// The staff of a run: one agent for all, one for the night group.
pub(super) fn staff() -> StaffChange {
    let night = Agent { group: Some(NIGHT_GROUP), ..Agent::new("night@example.com") };
    StaffChange::exactly(vec![Agent::new("day@example.com"), night])
}

fn staff_change(after: Duration, online: bool) -> ScheduledStaffChange {
    ScheduledStaffChange {
        after_ms: Some(after.as_millis() as u64),
        after_transfers: None,
        change: StaffChange::group(NIGHT_GROUP, online),
    }
}

fn session(number: usize, n: u64) -> String {
    format!("pile-{number}-{n}")
}
