//! The last stretch before the gate: so many events at once may be claimed and wait for their call.
//!
//! A claim says that a call may be out. So only what is called soon is claimed: after a crash few
//! events are in doubt, and a partition that is given up leaves few behind.
//! This file never lets a younger event overtake an older one that waits.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Rank;

/// For each call that may be out at once; and at least so many in all.
const PER_PLACE: usize = 2;
const AT_LEAST: usize = 16;

pub(super) struct ClaimPermits(Mutex<Inner>);

struct Inner {
    free: usize,
    waiting: BTreeMap<Rank, oneshot::Sender<ClaimPermit>>,
}

/// The right to be claimed and to wait for a pass; given back when dropped.
pub struct ClaimPermit(Arc<ClaimPermits>);

impl ClaimPermits {
    pub(super) fn new(concurrency: usize) -> Arc<Self> {
        let free = AT_LEAST.max(PER_PLACE * concurrency);
        Arc::new(Self(Mutex::new(Inner { free, waiting: BTreeMap::new() })))
    }

    /// Wait for room. The oldest goes first.
    pub(super) async fn acquire(self: &Arc<Self>, rank: Rank) -> ClaimPermit {
        let room = {
            let mut inner = self.lock();
            if inner.free > 0 {
                // Nobody waits where there is room.
                inner.free -= 1;
                return ClaimPermit(self.clone());
            }
            let (tx, rx) = oneshot::channel();
            inner.waiting.insert(rank, tx);
            rx
        };
        let _leaves = Leaves { claim_permits: self, rank };
        match room.await {
            Ok(near) => near,
            // An event waits once at a time, and nobody is dropped who waits.
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }
}

impl Drop for ClaimPermit {
    fn drop(&mut self) {
        let next = {
            let mut inner = self.0.lock();
            let next = inner.waiting.pop_first();
            if next.is_none() {
                inner.free += 1;
            }
            next
        };
        if let Some((_, waiter)) = next {
            // Outside the lock: one that nobody takes comes back through `drop`.
            drop(waiter.send(Self(self.0.clone())));
        }
    }
}

/// Takes one out of the queue when its owner stops waiting.
struct Leaves<'a> {
    claim_permits: &'a ClaimPermits,
    rank: Rank,
}

impl Drop for Leaves<'_> {
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
    fn room_goes_to_the_oldest_who_still_waits() {
        let claim_permits = ClaimPermits::new(1);
        let rank = |ticket| (Timestamp::UNIX_EPOCH, ticket);
        let enter = |ticket| Box::pin(claim_permits.acquire(rank(ticket)));
        let mut inside: Vec<_> =
            (0..16).map(|ticket| enter(ticket).now_or_never().expect("there is room")).collect();
        let (mut young, mut old, mut gone) = (enter(19), enter(18), enter(17));
        for waiting in [&mut young, &mut old, &mut gone] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(gone);
        inside.pop();
        assert!((&mut young).now_or_never().is_none());
        let near = old.now_or_never().expect("it is its turn");
        // What was given and not taken goes on to the next.
        let mut taken_not = enter(18);
        assert!((&mut taken_not).now_or_never().is_none());
        drop(near);
        drop(taken_not);
        assert!(young.now_or_never().is_some());
    }
}
