//! Events of the ledger that have to wait, because Kafka may still deliver events ahead of them.
//!
//! Events of one session may come both ways. One that was parked, and was claimed behind a call that a
//! crash has cut off, comes from the ledger; the event of that call comes from Kafka. So an event that
//! was recovered joins the queue of its session when nothing is ahead of it any more
//! ([`Assignment::nothing_ahead_below`]). Until then it is in no task, but counts as unfinished.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{AssignedReading, Assignment, Assignments};
use crate::activity::UnfinishedEntry;
use crate::domain::ledger_entry::{EntryState, RecoveredEntry, WaitsFor};

/// A stored answer waits no longer than this after its recovery. The records ahead of it are delivered
/// within a second or two, unless memory is full of events that wait for Desk; and it keeps its
/// customer's conversation waiting.
const MAX_WAIT_OF_ANSWERS: Duration = Duration::from_secs(5);

/// If Kafka delivers nothing of a partition for this long, events of the ledger start. An event that
/// starts earlier may be called ahead of another one of its session, so this is longer than brokers
/// take to restart or to elect a leader.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// A recovered event that waits for the records ahead of it.
#[derive(Debug)]
pub(in crate::consume) struct EarlyEvent {
    pub(in crate::consume) entry: RecoveredEntry,
    /// Shows it as unfinished; `None` for one that the present rules do not read.
    pub(in crate::consume) _unfinished: Option<UnfinishedEntry>,
}

impl EarlyEvent {
    fn offset(&self) -> i64 {
        self.entry.record.position.offset
    }
}

impl Assignment {
    /// Every record below this offset that Kafka still had to deliver was started. Of an event that was
    /// stored before the partition was assigned, none of those ahead of it may be missing.
    pub(in crate::consume) fn nothing_ahead_below(&self) -> i64 {
        if self.silent_since.elapsed() >= MAX_SILENCE {
            return i64::MAX;
        }
        let AssignedReading { from, last_started, end_reached, .. } = self.reading;
        // Records arrive in their order.
        let next = self.waiting.get(self.waiting_of_old_topic).map(|next| next.position.offset);
        let read_up_to = next.or(end_reached.then_some(i64::MAX));
        let started_below = last_started.map(|last| last.saturating_add(1));
        read_up_to.or(from.max(started_below)).unwrap_or(0)
    }

    /// Whether Kafka may still deliver events of the session of this event that are ahead of it. One
    /// that is parked for a time or for an agent has had its turn. One past its deadline waits for no
    /// other, unless its answer is stored: answers are published in order whatever their deadlines are.
    pub(in crate::consume) fn is_early(&self, entry: &RecoveredEntry, now: Timestamp) -> bool {
        let has_order = match &entry.state {
            EntryState::Settled { .. } => {
                let since = self.recovered_since;
                since.is_some_and(|since| since.elapsed() < MAX_WAIT_OF_ANSWERS)
            }
            EntryState::Open { .. } => !entry.is_overdue(now),
            state => state.waits_for() == Some(&WaitsFor::Session) && !entry.is_overdue(now),
        };
        // A dead letter has no session.
        has_order
            && entry.session_id.is_some()
            && entry.record.position.offset > self.nothing_ahead_below()
    }

    /// Whether an event of its session that is ahead of this parked one is still to be started.
    pub(in crate::consume) fn is_behind_early(
        &self,
        entry: &RecoveredEntry,
        now: Timestamp,
    ) -> bool {
        let offset = entry.record.position.offset;
        let is_ahead = |early: &EarlyEvent| {
            early.entry.session_id == entry.session_id && early.offset() < offset
        };
        entry.session_id.is_some() && !entry.is_overdue(now) && self.early.iter().any(is_ahead)
    }

    /// What the ledger holds of the partition is going to be handed in. It may be read more than once,
    /// because some of it cannot be read: what waits still is read again then.
    pub(in crate::consume) fn begin_recovery(&mut self) {
        self.early.clear();
        self.recovered_since.get_or_insert_with(Instant::now);
    }

    /// Those up to the offset of a record, whose event is going to be queued, are not early any more.
    pub(in crate::consume) fn take_early_up_to(&mut self, offset: i64) -> Vec<RecoveredEntry> {
        let taken = self.early.extract_if(.., |early| early.offset() <= offset);
        let taken = taken.map(|early| early.entry).collect();
        self.without_those_in_memory(taken)
    }

    /// Those that are not early any more.
    fn take_ready(&mut self, now: Timestamp) -> Vec<RecoveredEntry> {
        if self.early.iter().all(|early| self.is_early(&early.entry, now)) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.early).into_iter();
        let (early, ready): (Vec<_>, Vec<_>) =
            all.partition(|early| self.is_early(&early.entry, now));
        self.early = early;
        self.without_those_in_memory(ready.into_iter().map(|ready| ready.entry).collect())
    }

    /// A sweep may have started one, at its deadline.
    fn without_those_in_memory(&self, mut taken: Vec<RecoveredEntry>) -> Vec<RecoveredEntry> {
        taken.retain(|entry| !self.in_memory.contains(&entry.record.identity()));
        taken
    }
}

impl Assignments {
    /// The recovered events that are not early any more, with the epochs of their assignments.
    pub(in crate::consume) fn take_ready(&mut self, now: Timestamp) -> Vec<(RecoveredEntry, u64)> {
        let mut all = Vec::new();
        for assignment in self.partitions.values_mut() {
            let epoch = assignment.epoch();
            all.extend(assignment.take_ready(now).into_iter().map(|entry| (entry, epoch)));
        }
        all
    }

    /// Note how long Kafka has been silent. A partition that the backpressure has paused, and one
    /// whose records wait for memory, are not silent; an operator's pause of the intake has no end
    /// that could be waited for.
    pub(in crate::consume) fn note_silence(&mut self, intake_is_paused: bool) {
        let now = Instant::now();
        for assignment in self.partitions.values_mut() {
            let is_held_back = assignment.paused || !assignment.waiting.is_empty();
            if is_held_back && !intake_is_paused {
                assignment.silent_since = now;
            }
        }
    }

    /// Number of recovered events that wait for the records ahead of them.
    pub(in crate::consume) fn early(&self) -> usize {
        self.partitions.values().map(|a| a.early.len()).sum()
    }

    /// When the oldest of them was first read. Takes as long as there are events.
    pub(in crate::consume) fn oldest_early(&self) -> Option<Timestamp> {
        let early = self.partitions.values().flat_map(|a| &a.early);
        early.map(|early| early.entry.first_seen).min()
    }
}
