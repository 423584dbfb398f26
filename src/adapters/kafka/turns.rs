//! Whose turn it is to be sent again: what failed keeps its order within its key.
//!
//! As long as something of a key has failed and is not acknowledged, what follows it waits; other
//! keys are not concerned. Who gives up leaves by being dropped.
//! This file never sends anything.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// What failed, by key, each with the number of its first sending.
#[derive(Default)]
pub(super) struct Turns {
    failed: Mutex<HashMap<Vec<u8>, BTreeSet<u64>>>,
    numbers: AtomicU64,
    changed: Notify,
}

/// One that has failed, or waits behind one; it leaves when dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    /// `None`: without a key there is no order.
    key: Option<Vec<u8>>,
    number: u64,
}

impl Turns {
    /// The place of a message among all that are sent.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Something of this key has failed and is not acknowledged yet.
    pub(super) fn holds(&self, key: Option<&[u8]>) -> bool {
        key.is_some_and(|key| self.lock().contains_key(key))
    }

    /// Stand in line, by the number.
    pub(super) fn join(self: &Arc<Self>, key: Option<&[u8]>, number: u64) -> Turn {
        if let Some(key) = key {
            self.lock().entry(key.to_vec()).or_default().insert(number);
        }
        Turn { turns: self.clone(), key: key.map(<[u8]>::to_vec), number }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, BTreeSet<u64>>> {
        self.failed.lock()
    }
}

impl Turn {
    /// Wait until nothing of the key stands before this one.
    pub(super) async fn comes(&self) {
        let Some(key) = &self.key else { return };
        loop {
            let changed = self.turns.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let first = self.turns.lock().get(key).and_then(|line| line.first().copied());
            if first.is_none_or(|first| first >= self.number) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut failed = self.turns.lock();
        if let Some(line) = failed.get_mut(key) {
            line.remove(&self.number);
            if line.is_empty() {
                failed.remove(key);
            }
        }
        drop(failed);
        self.turns.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_failed_goes_again_in_its_order_and_holds_up_its_own_key_only() {
        let turns = Arc::new(Turns::default());
        let (one, two, three) = (turns.number(), turns.number(), turns.number());
        let second = turns.join(Some(b"a"), two);
        let first = turns.join(Some(b"a"), one);
        assert!(turns.holds(Some(b"a")) && !turns.holds(Some(b"b")) && !turns.holds(None));
        let third = turns.join(Some(b"a"), three);
        assert_eq!(first.comes().now_or_never(), Some(()));
        assert_eq!(second.comes().now_or_never(), None);
        let patience = std::time::Duration::from_secs(5);
        let mut waiting = Box::pin(tokio::time::timeout(patience, third.comes()));
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert_eq!(second.comes().now_or_never(), Some(()));
        drop(second);
        waiting.as_mut().await.expect("its turn comes");
        drop(waiting);
        drop(third);
        assert!(!turns.holds(Some(b"a")));
        assert_eq!(turns.join(None, 9).comes().now_or_never(), Some(()));
    }
}
