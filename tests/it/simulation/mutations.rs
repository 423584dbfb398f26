//! Mutations: deliberate defects of the service, injected at its ports. The checks must detect each,
//! which proves that they can.

use std::sync::Arc;

use handoff::domain::ledger_entry::{ClaimResult, EntryState, RecoveredEntry};
use handoff::sim::ledger::MemoryLedger;

use super::world::SimProcess;

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
    /// Recovery leaves out parked events.
    LoseParkedEvents,
    /// A previous owner is not informed, and the ledger accepts commands of every owner.
    IgnoreFencing,
}

impl Mutation {
    pub(super) const ALL: [Self; 6] = [
        Self::CommitEarly,
        Self::ForgetClaims,
        Self::PublishTwice,
        Self::SkipReconciliation,
        Self::LoseParkedEvents,
        Self::IgnoreFencing,
    ];
}

/// The ledger with this process as its owner.
pub(super) fn owned_ledger(process: &Arc<SimProcess>) -> MemoryLedger {
    let shared = process.world.is(Mutation::IgnoreFencing);
    process.world.ledger.as_owner(if shared { "shared" } else { &process.name })
}

pub(super) fn claimed(process: &Arc<SimProcess>, claimed: ClaimResult) -> ClaimResult {
    match claimed {
        ClaimResult::Resumed(_) if process.world.is(Mutation::ForgetClaims) => ClaimResult::Fresh,
        ClaimResult::Resumed(mut resumed) if process.world.is(Mutation::SkipReconciliation) => {
            // As if it had been parked in order.
            resumed.parked_until.get_or_insert(resumed.claimed_at);
            ClaimResult::Resumed(resumed)
        }
        other => other,
    }
}

pub(super) fn recover(
    process: &Arc<SimProcess>,
    mut rows: Vec<RecoveredEntry>,
) -> Vec<RecoveredEntry> {
    if process.world.is(Mutation::LoseParkedEvents) {
        rows.retain(|row| !matches!(row.state, EntryState::Parked { .. }));
    }
    rows
}

/// Number of additional copies of an answer to publish.
pub(super) fn extra_copies(process: &Arc<SimProcess>) -> usize {
    usize::from(process.world.is(Mutation::PublishTwice) && process.world.one_in(4))
}

pub(super) fn stored(process: &Arc<SimProcess>, offset: i64) -> i64 {
    offset + i64::from(process.world.is(Mutation::CommitEarly))
}
