//! What keeps the service from answering: the reasons behind `/health` and `/ready`.

use std::time::Duration;

use super::View;
use crate::adapters::ledger::LedgerOutage;
use crate::gate::{GateShut, GateStage};
use crate::health::ActiveFault;

/// A reason why events cannot be answered, or only some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The service does not start before this is repaired.
    NotStarted(String),
    /// A fault of Kafka.
    Fault(ActiveFault),
    /// It is not a member of its group yet.
    NotJoined,
    /// The group's coordinator has been silent for so long.
    CutOff { silence: Duration, text: String },
    /// The ledger does not work.
    LedgerAway(LedgerOutage),
    /// Entries cannot be read.
    Blocked(String),
    /// No call can succeed, for so long.
    GateShut { shut: GateShut, lasts: Duration },
}

impl Obstacle {
    /// As `/ready` says it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotStarted(text) | Self::Blocked(text) | Self::CutOff { text, .. } => {
                text.clone()
            }
            Self::Fault(fault) => fault.to_string(),
            Self::NotJoined => "not a member of the consumer group yet".into(),
            Self::LedgerAway(outage) => format!("the ledger is unavailable: {}", outage.error),
            Self::GateShut { shut, .. } => format!("{}: {}", shut.reason.as_str(), shut.repair),
        }
    }
}

impl View {
    /// What has stalled, if anything has: what `/health` says.
    pub(crate) fn stalled(&self) -> Option<String> {
        // While the ledger is unavailable events become overdue, and a restart would not help.
        self.health.stalled(self.clock.now(), (self.outage)().is_some())
    }

    /// The first reason why events cannot be answered: each of them hides those after it.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.obstacles().first().map(Obstacle::text)
    }

    /// All reasons; one may be the cause of those after it.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let health = &self.health;
        let mut obstacles = Vec::new();
        obstacles.extend(health.waiting_for().map(Obstacle::NotStarted));
        obstacles.extend(health.faults().active().into_iter().map(Obstacle::Fault));
        if !health.has_joined() {
            obstacles.push(Obstacle::NotJoined);
        }
        let silence = health.coordinator_silence().zip(health.cut_off());
        obstacles.extend(silence.map(|(silence, text)| Obstacle::CutOff { silence, text }));
        obstacles.extend((self.outage)().map(Obstacle::LedgerAway));
        obstacles.extend(health.blocked().map(Obstacle::Blocked));
        let gate = self.gate.status();
        if let GateStage::Shut(shut) = gate.stage {
            let lasts = gate.held_for.unwrap_or_default();
            obstacles.push(Obstacle::GateShut { shut, lasts });
        }
        obstacles
    }
}
