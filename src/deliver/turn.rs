//! The turn of an event in its session: it comes when the answer of the one before is settled.
//!
//! While the one before is with Desk, the event may be claimed already, so that its own call can
//! follow at once. `consume` links the events of a session and gives the turn; the delivery waits.
//! This file never decides whose turn it is.

use parking_lot::{Mutex, MutexGuard};
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use crate::gate::Rank;

/// How near the turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Others are before it.
    Far,
    /// The one before it is with Desk.
    Next,
    /// It has come.
    Come,
}

/// The turn of one event.
pub struct Turn {
    rank: Rank,
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    nearness: Nearness,
    /// Its event is with Desk.
    with_desk: bool,
    /// The turn of the event behind it; weak, so that a long line is not freed in one go.
    next: Weak<Turn>,
}

impl Turn {
    /// The turn of an event of this rank.
    pub fn new(rank: Rank) -> Arc<Self> {
        let inner = Inner { nearness: Nearness::Far, with_desk: false, next: Weak::new() };
        Arc::new(Self { rank, inner: Mutex::new(inner), changed: Notify::new() })
    }

    /// The event's rank at the gate.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// It has come.
    pub fn give(&self) {
        self.come_to(Nearness::Come);
    }

    /// This one is behind it.
    pub fn precedes(&self, next: &Arc<Self>) {
        let mut inner = self.lock();
        inner.next = Arc::downgrade(next);
        let with_desk = inner.with_desk;
        drop(inner);
        if with_desk {
            next.come_to(Nearness::Next);
        }
    }

    /// Its event goes to Desk.
    pub fn called(&self) {
        let mut inner = self.lock();
        inner.with_desk = true;
        let next = inner.next.upgrade();
        drop(inner);
        if let Some(next) = next {
            next.come_to(Nearness::Next);
        }
    }

    /// Its event is not with Desk any more, and has no answer yet: whoever comes behind it now has
    /// time.
    pub fn came_back(&self) {
        self.lock().with_desk = false;
    }

    /// The rank of the event behind it, where there is one.
    pub fn next(&self) -> Option<Rank> {
        Some(self.lock().next.upgrade()?.rank)
    }

    /// Wait until it is so near; how near it is then. One waits at a time.
    pub async fn is(&self, near: Nearness) -> Nearness {
        loop {
            let nearness = self.lock().nearness;
            if nearness >= near {
                return nearness;
            }
            self.changed.notified().await;
        }
    }

    fn come_to(&self, near: Nearness) {
        let mut inner = self.lock();
        inner.nearness = inner.nearness.max(near);
        drop(inner);
        // It is kept for who comes to wait later.
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_next_one_is_near_while_this_one_is_with_desk_whoever_came_first() {
        let turn = |ticket| Turn::new(Rank { requested_at: Timestamp::UNIX_EPOCH, ticket });
        let (first, second, third) = (turn(1), turn(2), turn(3));
        first.precedes(&second);
        assert_eq!(second.is(Nearness::Next).now_or_never(), None);
        first.called();
        assert_eq!(second.is(Nearness::Next).now_or_never(), Some(Nearness::Next));
        assert_eq!(second.is(Nearness::Come).now_or_never(), None);
        second.give();
        assert_eq!(second.is(Nearness::Next).now_or_never(), Some(Nearness::Come));
        second.called();
        second.precedes(&third);
        assert_eq!(third.is(Nearness::Next).now_or_never(), Some(Nearness::Next));
        assert_eq!(second.next(), Some(third.rank()));
        let fourth = turn(4);
        third.called();
        third.came_back();
        third.precedes(&fourth);
        assert_eq!(fourth.is(Nearness::Next).now_or_never(), None);
        drop(third);
        assert_eq!(second.next(), None);
    }
}
