//! Mutations: deliberate defects of the service, injected at its ports. The checks must detect each,
//! which proves that they can.

use std::sync::Arc;

use futures_util::FutureExt as _;
use handoff::domain::ledger_entry::{
    Claim, ClaimResult, PriorClaim, RecoveredEntry, WaitsFor, WakeSession,
};
use handoff::ledger::{
    DueEntries, DueQuery, Ledger as _, ParkedGroup, StoredEntries, WaitingQuery,
};
use handoff::sim::ledger::MemoryLedger;

use super::budget;
use super::world::{SimProcess, SimWorld};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Store an offset one past the watermark.
    CommitEarly,
    /// A claim leaves no trace: the next owner believes that nothing was called.
    ForgetClaims,
    /// Publish an answer twice.
    PublishTwice,
    /// Call again at once instead of reconciling a call that may have taken effect.
    SkipReconciliation,
    /// Parked events that are due are not read, nor those past their deadline.
    LoseParkedEvents,
    /// Parked events that are due are not read; those past their deadline are.
    LoseDueEvents,
    /// Nobody wakes the events that are parked behind others of their session.
    ForgetSessions,
    /// Nobody is read from a waiting room.
    ForgetRooms,
    /// A sweep finds no waiting room that another instance has filled.
    SweepPastRooms,
    /// Events in a waiting room are read before its probe is due.
    ImpatientRooms,
    /// An event does not wait for the parked events of its session.
    OvertakeParkedEvents,
    /// An event that was read in the ledger is started although it has changed there since.
    StartStaleEvents,
    /// What an operator gave up is transferred all the same.
    IgnoreGivenUp,
    /// Re-attempts get half of the transfers, whatever the budget is.
    IgnoreRetryBudget,
    /// A previous owner is not informed, and the ledger accepts commands of every owner.
    IgnoreFencing,
}

impl Mutation {
    pub(super) const ALL: [Self; 15] = [
        Self::CommitEarly,
        Self::ForgetClaims,
        Self::PublishTwice,
        Self::SkipReconciliation,
        Self::LoseParkedEvents,
        Self::LoseDueEvents,
        Self::ForgetSessions,
        Self::ForgetRooms,
        Self::SweepPastRooms,
        Self::ImpatientRooms,
        Self::OvertakeParkedEvents,
        Self::StartStaleEvents,
        Self::IgnoreGivenUp,
        Self::IgnoreRetryBudget,
        Self::IgnoreFencing,
    ];
}

/// The ledger with this process as its owner.
pub(super) fn owned_ledger(process: &Arc<SimProcess>) -> MemoryLedger {
    let shared = process.world.is(Mutation::IgnoreFencing);
    process.world.ledger.as_owner(if shared { "shared" } else { &process.name })
}

pub(super) fn claim(process: &Arc<SimProcess>, claim: Claim) -> Claim {
    let ignore = process.world.is(Mutation::StartStaleEvents);
    Claim { expected_version: claim.expected_version.filter(|_| !ignore), ..claim }
}

pub(super) fn claimed(process: &Arc<SimProcess>, claimed: ClaimResult) -> ClaimResult {
    match claimed {
        ClaimResult::Resumed(_) if process.world.is(Mutation::ForgetClaims) => ClaimResult::Fresh,
        ClaimResult::Resumed(mut resumed) if process.world.is(Mutation::SkipReconciliation) => {
            // As if it had been parked in order.
            resumed.parked_until.get_or_insert(resumed.claimed_at);
            ClaimResult::Resumed(resumed)
        }
        ClaimResult::Resumed(resumed) if process.world.is(Mutation::IgnoreGivenUp) => {
            ClaimResult::Resumed(PriorClaim { given_up: None, ..resumed })
        }
        other => other,
    }
}

pub(super) fn due(process: &Arc<SimProcess>, query: &DueQuery, mut due: DueEntries) -> DueEntries {
    if process.world.is(Mutation::ImpatientRooms) {
        due.due.entries.extend(in_rooms(process, query));
    }
    let loses_all = process.world.is(Mutation::LoseParkedEvents);
    if loses_all || process.world.is(Mutation::LoseDueEvents) {
        due.due.entries.clear();
    }
    if loses_all {
        due.overdue.entries.clear();
    }
    due
}

/// One event of each waiting room.
fn in_rooms(process: &Arc<SimProcess>, query: &DueQuery) -> Vec<RecoveredEntry> {
    let topic = &query.topic;
    let partitions: Vec<_> = query.partitions.iter().map(|one| one.partition).collect();
    let ledger = &process.world.ledger;
    let parked = ledger.recover(topic.clone(), partitions.clone()).now_or_never();
    let mut found = Vec::new();
    for group in parked.map(|recovered| recovered.parked).unwrap_or_default() {
        if let WaitsFor::Agent(room) = group.waits_for {
            let (topic, partitions) = (topic.clone(), partitions.clone());
            let query = WaitingQuery { topic, partitions, room, limit: 1 };
            found.extend(ledger.waiting(query).now_or_never().unwrap_or_default().entries);
        }
    }
    found
}

pub(super) fn waiting(process: &Arc<SimProcess>, mut found: StoredEntries) -> StoredEntries {
    if process.world.is(Mutation::ForgetRooms) {
        found.entries.clear();
    }
    found
}

/// What a sweep finds.
pub(super) fn swept(process: &Arc<SimProcess>, mut groups: Vec<ParkedGroup>) -> Vec<ParkedGroup> {
    if process.world.is(Mutation::SweepPastRooms) {
        groups.retain(|group| !matches!(group.waits_for, WaitsFor::Agent(_)));
    }
    groups
}

pub(super) fn wake(process: &Arc<SimProcess>, wake: Option<WakeSession>) -> Option<WakeSession> {
    wake.filter(|_| !process.world.is(Mutation::ForgetSessions))
}

/// The part of the transfers for re-attempts.
pub(super) fn retry_budget(world: &SimWorld) -> f64 {
    if world.is(Mutation::IgnoreRetryBudget) { 0.5 } else { budget::BUDGET }
}

/// Number of additional copies of an answer to publish.
pub(super) fn extra_copies(process: &Arc<SimProcess>) -> usize {
    usize::from(process.world.is(Mutation::PublishTwice) && process.world.one_in(4))
}

pub(super) fn stored(process: &Arc<SimProcess>, offset: i64) -> i64 {
    offset + i64::from(process.world.is(Mutation::CommitEarly))
}
