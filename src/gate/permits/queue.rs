//! Events that wait for a permit, by class and age.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Caller, Rank, SessionHash};
use crate::domain::signal::Attempt;

/// `W` is what the gate uses to wake a waiter.
pub(super) struct PermitQueue<W> {
    first: BTreeMap<Rank, QueuedCaller<W>>,
    again: BTreeMap<Rank, QueuedCaller<W>>,
}

pub(super) struct QueuedCaller<W> {
    pub(super) session: SessionHash,
    /// When it was enqueued.
    pub(super) since: Duration,
    waiter: W,
}

impl<W> Default for PermitQueue<W> {
    fn default() -> Self {
        Self { first: BTreeMap::new(), again: BTreeMap::new() }
    }
}

impl<W> PermitQueue<W> {
    pub(super) fn enqueue(&mut self, caller: Caller, now: Duration, waiter: W) {
        let queued = QueuedCaller { session: caller.session, since: now, waiter };
        match caller.attempt {
            Attempt::First => self.first.insert(caller.rank, queued),
            Attempt::Again => self.again.insert(caller.rank, queued),
        };
    }

    /// Remove an event, wherever it waits.
    pub(super) fn take(&mut self, rank: Rank) -> Option<W> {
        let queued = self.first.remove(&rank).or_else(|| self.again.remove(&rank));
        queued.map(|queued| queued.waiter)
    }

    pub(super) fn of(&self, attempt: Attempt) -> &BTreeMap<Rank, QueuedCaller<W>> {
        match attempt {
            Attempt::First => &self.first,
            Attempt::Again => &self.again,
        }
    }

    pub(super) fn oldest(&self, attempt: Attempt) -> Option<Caller> {
        self.of(attempt).first_key_value().map(|(rank, queued)| queued.caller(*rank, attempt))
    }

    /// The newest event that waits for its first attempt.
    pub(super) fn newest_first_attempt(&self) -> Option<Caller> {
        self.first.last_key_value().map(|(rank, queued)| queued.caller(*rank, Attempt::First))
    }

    /// Since when the oldest event has waited for its first attempt.
    pub(super) fn first_attempts_wait_since(&self) -> Option<Duration> {
        self.first.first_key_value().map(|(_, queued)| queued.since)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Caller> {
        let class = |attempt| {
            self.of(attempt).iter().map(move |(rank, queued)| queued.caller(*rank, attempt))
        };
        class(Attempt::First).chain(class(Attempt::Again))
    }
}

impl<W> QueuedCaller<W> {
    fn caller(&self, rank: Rank, attempt: Attempt) -> Caller {
        Caller { rank, session: self.session, attempt }
    }
}
