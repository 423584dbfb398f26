//! Two bounded sets of permits: who of the waiting events goes next.
//!
//! A claim permit ([`claim`]) bounds how many events are claimed in the ledger before their call; a
//! call permit ([`call`]) bounds how many calls are in flight. They are separate so that claims run
//! ahead of calls: while `desk.concurrency` calls are in flight, the next events are claimed already
//! and can call at once.
//!
//! First attempts go before re-attempts ([`budget`]); within a class the oldest event goes first. A
//! part of the call permits is a [`lane`] in which the newest first attempts go first while calls
//! hang. Pure bookkeeping: [`Gate`](crate::gate::Gate) locks it, sends the granted permits to their
//! waiters and supplies the time.

mod budget;
pub(super) mod call;
pub(super) mod claim;
mod lane;
mod queue;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::domain::signal::Attempt;

/// Numbers the events of this process in the order of their arrival.
pub type Ticket = u64;

/// The age of an event: by `requested_at`, then by arrival.
///
/// The time counts first so that an event that was read late, after a restart for example, does not
/// wait behind younger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// When the escalation was requested.
    pub requested_at: Timestamp,
    /// Its arrival number.
    pub ticket: Ticket,
}

/// An event that asks for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its age.
    pub rank: Rank,
    /// Its session.
    pub session: SessionHash,
    /// Whether its next call repeats an earlier one.
    pub attempt: Attempt,
}

/// A session as the gate remembers it. Two sessions of the same hash count as one: the gate then
/// misses a witness, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionHash(u64);

impl SessionHash {
    /// The hash of this session id.
    pub fn of(session_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        session_id.hash(&mut hasher);
        Self(hasher.finish())
    }
}
