//! Two bounded sets of permits, granted oldest event first.
//!
//! A claim permit ([`claim`]) bounds how many events are claimed in the ledger before their call; a
//! call permit ([`call`]) bounds how many calls are in flight. They are separate so that claims run
//! ahead of calls: while `desk.concurrency` calls are in flight, the next events are claimed already
//! and can call at once.

pub(super) mod call;
pub(super) mod claim;

use jiff::Timestamp;

/// Numbers the events of this process in the order of their arrival.
pub type Ticket = u64;

/// The order in which permits are granted: by `requested_at`, then by arrival.
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
