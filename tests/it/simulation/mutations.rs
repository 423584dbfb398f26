//! Deliberately broken variants of the service, made at its ports: the checks must see each.
//!
//! Nothing here is switched on in the worlds that are expected to be well.

use std::sync::Arc;

use handoff::domain::ledger_entry::{ClaimResult, EntryState, RecoveredEntry};
use handoff::sim::ledger::Memory;

use super::world::Life;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// An offset is stored one further than what is finished.
    CommitEarly,
    /// A claim leaves no mark: whoever comes later believes that nothing was called.
    ForgetTheMark,
    /// An answer is handed over twice.
    PublishTwice,
    /// What may be out is not asked after: it is called again at once.
    CallBeforeAsking,
    /// What was put away is not taken up again.
    LoseAParkedEvent,
    /// A former owner is not told, and the ledger does not mind who writes.
    IgnoreTheFence,
}

impl Mutation {
    pub(super) const ALL: [Self; 6] = [
        Self::CommitEarly,
        Self::ForgetTheMark,
        Self::PublishTwice,
        Self::CallBeforeAsking,
        Self::LoseAParkedEvent,
        Self::IgnoreTheFence,
    ];
}

/// The ledger as this process sees it.
pub(super) fn owner(life: &Arc<Life>) -> Memory {
    let everybody = life.world.is(Mutation::IgnoreTheFence);
    life.world.ledger.as_owner(if everybody { "everybody" } else { &life.name })
}

pub(super) fn claimed(life: &Arc<Life>, claimed: ClaimResult) -> ClaimResult {
    match claimed {
        ClaimResult::Resumed(_) if life.world.is(Mutation::ForgetTheMark) => ClaimResult::Fresh,
        ClaimResult::Resumed(mut resumed) if life.world.is(Mutation::CallBeforeAsking) => {
            // Put away cleanly, it seems.
            resumed.parked_until.get_or_insert(resumed.claimed_at);
            ClaimResult::Resumed(resumed)
        }
        other => other,
    }
}

pub(super) fn recover(life: &Arc<Life>, mut rows: Vec<RecoveredEntry>) -> Vec<RecoveredEntry> {
    if life.world.is(Mutation::LoseAParkedEvent) {
        rows.retain(|row| !matches!(row.state, EntryState::Parked { .. }));
    }
    rows
}

/// How many copies of an answer are published beside it.
pub(super) fn copies(life: &Arc<Life>) -> usize {
    usize::from(life.world.is(Mutation::PublishTwice) && life.world.one_in(4))
}

pub(super) fn stored(life: &Arc<Life>, offset: i64) -> i64 {
    offset + i64::from(life.world.is(Mutation::CommitEarly))
}
