//! Claim permits: how many events may be claimed in the ledger and wait for their call.
//!
//! A claim says that a call may be in flight, so every claimed event has to be reconciled after a
//! crash. These are about 4 x `desk.concurrency` events: those in flight, twice as many with a claim
//! permit, and one behind each call.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::Rank;

/// Two events are claimed and ready for each call, so that a call does not wait for a claim.
const PERMITS_PER_CALL: usize = 2;
/// Even a service with few calls at once claims in batches worth a commit.
const MIN_PERMITS: usize = 16;

pub(in crate::gate) struct ClaimPermits(Mutex<ClaimQueue>);

struct ClaimQueue {
    free: usize,
    waiting: BTreeMap<Rank, oneshot::Sender<ClaimPermit>>,
}

/// The right to claim one event and to wait for a call permit; returned when dropped.
pub struct ClaimPermit(Arc<ClaimPermits>);

impl ClaimPermits {
    pub(in crate::gate) fn new(concurrency: usize) -> Arc<Self> {
        let free = MIN_PERMITS.max(PERMITS_PER_CALL * concurrency);
        Arc::new(Self(Mutex::new(ClaimQueue { free, waiting: BTreeMap::new() })))
    }

    pub(in crate::gate) async fn acquire(self: &Arc<Self>, rank: Rank) -> ClaimPermit {
        let granted = {
            let mut queue = self.lock();
            // A free permit means an empty queue: a returned permit goes to a waiter if there is one.
            if queue.free > 0 {
                queue.free -= 1;
                return ClaimPermit(self.clone());
            }
            let (tx, rx) = oneshot::channel();
            queue.waiting.insert(rank, tx);
            rx
        };
        let _dequeue = DequeueClaimOnDrop { claim_permits: self, rank };
        match granted.await {
            Ok(permit) => permit,
            // Unreachable: a sender leaves the queue only to be used, or with this future.
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ClaimQueue> {
        self.0.lock()
    }
}

impl Drop for ClaimPermit {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            let next = queue.waiting.pop_first();
            if next.is_none() {
                queue.free += 1;
            }
            next
        };
        if let Some((_, waiter)) = next {
            // Outside the lock: if the waiter is gone, the permit comes straight back to this `drop`.
            drop(waiter.send(Self(self.0.clone())));
        }
    }
}

/// Removes a waiter from the queue when its future is cancelled.
struct DequeueClaimOnDrop<'a> {
    claim_permits: &'a ClaimPermits,
    rank: Rank,
}

impl Drop for DequeueClaimOnDrop<'_> {
    fn drop(&mut self) {
        self.claim_permits.lock().waiting.remove(&self.rank);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_returned_permit_goes_to_the_oldest_event_still_waiting() {
        let permits = ClaimPermits::new(1);
        let rank = |ticket| Rank { requested_at: Timestamp::UNIX_EPOCH, ticket };
        let acquire = |ticket| Box::pin(permits.acquire(rank(ticket)));
        let mut held: Vec<_> =
            (0..16).map(|ticket| acquire(ticket).now_or_never().expect("one is free")).collect();
        let (mut young, mut old, mut cancelled) = (acquire(19), acquire(18), acquire(17));
        for waiting in [&mut young, &mut old, &mut cancelled] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(cancelled);
        held.pop();
        assert!((&mut young).now_or_never().is_none());
        let permit = old.now_or_never().expect("it is the oldest");
        // A permit that was granted but never received goes on to the next waiter.
        let mut not_received = acquire(18);
        assert!((&mut not_received).now_or_never().is_none());
        drop(permit);
        drop(not_received);
        assert!(young.now_or_never().is_some());
    }
}
