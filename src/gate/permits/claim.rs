//! Claim permits: how many events may be claimed in the ledger and wait for their call.
//!
//! A claim says that a call may be in flight, so every claimed event has to be reconciled after a
//! crash. These are about 4 x `desk.concurrency` events: those in flight, twice as many with a claim
//! permit, and one behind each call.

use std::time::Duration;

use super::queue::PermitQueue;
use super::{Caller, Rank};
use crate::domain::signal::Attempt;

/// Two events are claimed and ready for each call, so that a call does not wait for a claim.
const PERMITS_PER_CALL: usize = 2;
/// Even a service with few calls at once claims in batches worth a commit.
const MIN_PERMITS: usize = 16;

pub(in crate::gate) struct ClaimPermits<W> {
    permits: usize,
    held_first: usize,
    held_again: usize,
    waiting: PermitQueue<W>,
}

/// A granted claim permit, returned when the event's call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) struct ClaimGrant {
    pub(in crate::gate) rank: Rank,
    pub(in crate::gate) kind: ClaimKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) enum ClaimKind {
    Regular(Attempt),
    /// Outside the bound: the event calls at once, in the lane of the newest or as a probe.
    Lane,
}

impl<W> ClaimPermits<W> {
    pub(in crate::gate) fn new(concurrency: usize) -> Self {
        let permits = MIN_PERMITS.max(PERMITS_PER_CALL * concurrency);
        Self { permits, held_first: 0, held_again: 0, waiting: PermitQueue::default() }
    }

    pub(in crate::gate) fn enqueue(&mut self, caller: Caller, now: Duration, waiter: W) {
        self.waiting.enqueue(caller, now, waiter);
    }

    pub(in crate::gate) fn dequeue(&mut self, rank: Rank) {
        self.waiting.take(rank);
    }

    pub(in crate::gate) fn release(&mut self, kind: ClaimKind) {
        match kind {
            ClaimKind::Regular(Attempt::First) => self.held_first -= 1,
            ClaimKind::Regular(Attempt::Again) => self.held_again -= 1,
            ClaimKind::Lane => {}
        }
    }

    /// Grant a free permit: first attempts before re-attempts, the oldest first. Re-attempts hold at
    /// most half of the permits, so that they cannot keep first attempts from being claimed; and they
    /// get an eighth in any case, so that the retry budget finds some.
    pub(in crate::gate) fn next(&mut self) -> Option<(ClaimGrant, W)> {
        if self.held_first + self.held_again >= self.permits {
            return None;
        }
        let again_has_floor = self.held_again >= self.permits / 8;
        let order = if again_has_floor {
            [Attempt::First, Attempt::Again]
        } else {
            [Attempt::Again, Attempt::First]
        };
        let caller = order
            .into_iter()
            .filter(|attempt| *attempt == Attempt::First || self.held_again < self.permits / 2)
            .find_map(|attempt| self.waiting.oldest(attempt))?;
        match caller.attempt {
            Attempt::First => self.held_first += 1,
            Attempt::Again => self.held_again += 1,
        }
        self.take(caller, ClaimKind::Regular(caller.attempt))
    }

    /// Grant a permit outside the bound to the newest first attempt.
    pub(super) fn grant_newest(&mut self) -> Option<(ClaimGrant, W)> {
        self.take(self.waiting.newest_first_attempt()?, ClaimKind::Lane)
    }

    pub(super) fn waiting(&self) -> &PermitQueue<W> {
        &self.waiting
    }

    fn take(&mut self, caller: Caller, kind: ClaimKind) -> Option<(ClaimGrant, W)> {
        let waiter = self.waiting.take(caller.rank)?;
        Some((ClaimGrant { rank: caller.rank, kind }, waiter))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::gate::SessionHash;

    fn caller(ticket: u64, attempt: Attempt) -> Caller {
        let rank = Rank { requested_at: Timestamp::UNIX_EPOCH, ticket };
        Caller { rank, session: SessionHash::of(&ticket.to_string()), attempt }
    }

    fn permits(callers: &[Caller]) -> ClaimPermits<u64> {
        let mut permits = ClaimPermits::new(1);
        for caller in callers {
            permits.enqueue(*caller, Duration::ZERO, caller.rank.ticket);
        }
        permits
    }

    fn granted(permits: &mut ClaimPermits<u64>) -> Vec<u64> {
        std::iter::from_fn(|| permits.next().map(|(_, ticket)| ticket)).collect()
    }

    #[test]
    fn the_oldest_go_first_and_a_returned_permit_goes_to_the_next() {
        let waiting: Vec<_> = (0..20).rev().map(|n| caller(n, Attempt::First)).collect();
        let mut permits = permits(&waiting);
        assert_eq!(granted(&mut permits), (0..16).collect::<Vec<_>>());
        permits.dequeue(waiting[3].rank);
        permits.release(ClaimKind::Regular(Attempt::First));
        permits.release(ClaimKind::Regular(Attempt::First));
        assert_eq!(granted(&mut permits), [17, 18]);
    }

    #[test]
    fn re_attempts_get_an_eighth_at_least_and_half_at_most() {
        let again = (0..20).map(|n| caller(n, Attempt::Again));
        let first = (20..40).map(|n| caller(n, Attempt::First));
        let mut both = permits(&again.clone().chain(first).collect::<Vec<_>>());
        let expected: Vec<u64> = [0, 1].into_iter().chain(20..34).collect();
        assert_eq!(granted(&mut both), expected);
        let mut alone = permits(&again.collect::<Vec<_>>());
        assert_eq!(granted(&mut alone), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_lane_claim_goes_to_the_newest_and_is_not_counted() {
        let mut permits = permits(&(0..20).map(|n| caller(n, Attempt::First)).collect::<Vec<_>>());
        granted(&mut permits);
        let (grant, ticket) = permits.grant_newest().unwrap();
        assert_eq!((grant.kind, ticket), (ClaimKind::Lane, 19));
        permits.release(grant.kind);
        assert!(granted(&mut permits).is_empty());
    }
}
