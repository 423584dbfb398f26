//! How the gate is at one moment, for people.

use std::time::Duration;

use super::breaker::GateShut;

/// How the gate is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct GateStatus {
    /// What it lets through.
    pub stage: GateStage,
    /// For how long it has been held, or since the last outage ended; `None`: open, or not known.
    pub held_for: Option<Duration>,
    /// How long until the next probe may go out.
    pub next_probe_in: Option<Duration>,
    /// Transfers per second that are allowed now; `None`: no limit.
    pub calls_per_second: Option<f64>,
    /// The most calls in flight at once.
    pub concurrency: usize,
}

/// What the gate lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateStage {
    /// Every call, within the quota.
    Open,
    /// Few calls at once, after an outage.
    SlowStart,
    /// Fewer calls per second than the quota, because Desk said "too fast".
    Throttled,
    /// Only a call of another session: one was refused for a reason that usually concerns all.
    Suspected(GateShut),
    /// Only probes.
    Shut(GateShut),
}

impl GateStage {
    /// Whether only probes may start.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Suspected(_) | Self::Shut(_))
    }
}
