//! The [`Turn`] of one event: its position in its session, and what its end means for the others.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{QueuePosition, QueuedEvent, Queues, SessionQueues};
use crate::domain::ledger_entry::WakeSession;
use crate::domain::record::Position;
use crate::gate::Rank;

/// The entry of one event in the queue of its session. Clones share it.
#[derive(Clone)]
pub struct Turn {
    queues: SessionQueues,
    session: Arc<str>,
    source: Position,
    rank: Rank,
    changed: Arc<Notify>,
}

impl Turn {
    pub(super) fn new(
        queues: SessionQueues,
        session: Arc<str>,
        source: Position,
        rank: Rank,
        changed: Arc<Notify>,
    ) -> Self {
        Self { queues, session, source, rank, changed }
    }

    /// The event's rank at the gate.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Wait until the event has come this far; returns its position then. At most one task may
    /// wait for an event at a time.
    pub async fn reaches(&self, at_least: QueuePosition) -> QueuePosition {
        loop {
            let position = self.position();
            if position >= at_least {
                return position;
            }
            // A change between the two lines is not lost: `Notify` stores one permit.
            self.changed.notified().await;
        }
    }

    /// Whether the answer of the event is stored already, as far as is known.
    pub fn set_stored(&self, stored: bool) {
        self.with_queue(|queue, index| {
            let before = std::mem::replace(&mut queue[index].stored, stored);
            if before && !stored {
                notify_stored_behind(queue, &self.source);
            }
        });
    }

    /// See [`Self::set_stored`].
    pub fn is_stored(&self) -> bool {
        self.with_queue(|queue, index| queue[index].stored).unwrap_or(false)
    }

    /// Wait until no event ahead has a stored answer that is to be published. At most one task may wait
    /// for an event at a time.
    pub async fn follows_stored(&self) {
        let is_ahead = |queued: &QueuedEvent| queued.stored && queued.is_ahead_of(&self.source);
        while self.with_queue(|queue, _| queue.iter().any(is_ahead)).unwrap_or(false) {
            self.changed.notified().await;
        }
    }

    /// The event's call has been sent to Desk: the event behind it may be claimed.
    pub fn call_started(&self) {
        self.with_queue(|queue, index| {
            queue[index].calling = true;
            if let Some(behind) = queue.get_mut(index + 1) {
                behind.set_next();
            }
        });
    }

    /// The call returned and did not settle the event: an event that is enqueued now is not next.
    pub fn call_returned(&self) {
        self.with_queue(|queue, index| queue[index].calling = false);
    }

    /// The rank of the event behind this one, if there is one that may be called.
    pub fn rank_behind(&self) -> Option<Rank> {
        self.with_queue(|queue, index| {
            let behind = queue.get(index + 1).filter(|behind| !behind.must_park);
            behind.map(|behind| behind.rank)
        })
        .flatten()
    }

    /// Whether an earlier event of the session may be parked.
    pub fn may_be_behind_parked(&self) -> bool {
        self.queues.0.lock().parked_partitions.contains(&self.source.partition)
    }

    /// The offsets of the events that are ahead of this one in its queue, and whose records are. One that
    /// was parked, and has come back behind this one, is not: this one has to be parked behind it.
    pub fn offsets_ahead(&self) -> Vec<i64> {
        let ahead = self.with_queue(|queue, index| {
            let ahead = queue.iter().take(index).filter(|queued| queued.is_ahead_of(&self.source));
            ahead.map(|queued| queued.source.offset).collect()
        });
        ahead.unwrap_or_default()
    }

    /// The event is about to be parked. The events behind it, which arrive or are in memory, have
    /// to ask the ledger from now on.
    pub fn will_park(&self) {
        self.queues.0.lock().parked_partitions.insert(self.source.partition);
    }

    /// The ledger holds a parked event ahead of this one.
    pub fn must_park(&self) {
        self.with_queue(|queue, index| queue[index].must_park = true);
    }

    /// The event is past its deadline, and was still parked behind others: they wake those behind
    /// them.
    pub fn set_out_of_turn(&self) {
        self.with_queue(|queue, index| queue[index].out_of_turn = true);
    }

    /// Whether the event is answered although the events ahead of it are not.
    pub fn is_out_of_turn(&self) -> bool {
        self.with_queue(|queue, index| queue[index].out_of_turn).unwrap_or(false)
    }

    /// The event goes on although it had to be parked: it is past its deadline.
    pub fn stay(&self) {
        self.with_queue(|queue, index| queue[index].must_park = false);
    }

    /// The parked events that the answer of this event makes due. `None`: there are none, or an
    /// event in memory is ahead of them.
    pub fn wake(&self) -> Option<WakeSession> {
        self.with_queues(|queue| {
            let is_deferred = self.is_out_of_turn_in(queue.queued)
                || queue.queued.iter().any(|queued| queued.will_wake(&self.source));
            if is_deferred { None } else { self.wake_from(queue) }
        })
    }

    /// The answer of this event is stored, or it needs none; `woken` says whether [`Self::wake`]
    /// went with it. Returns what is left to be woken.
    pub fn answered(&self, woken: bool) -> Option<WakeSession> {
        self.with_queues(|queue| {
            let index = self.index_in(queue.queued)?;
            let own = &mut queue.queued[index];
            own.answered = true;
            let (out_of_turn, wake_after) = (own.out_of_turn, own.wake_after);
            if out_of_turn {
                // An event ahead may have been answered while this one was in work: one of the two
                // wakes those behind.
                self.defer(queue);
                return None;
            }
            let behind = queue.queued.iter_mut().filter(|queued| queued.is_behind(&self.source));
            if let Some(next) = behind.min_by_key(|queued| queued.source.offset) {
                next.out_of_turn = false;
            }
            if woken && !wake_after { None } else { self.wake_or_defer(queue) }
        })
    }

    /// The event is parked behind others. Returns what is left to be woken: perhaps this event, if
    /// the answers ahead of it are stored.
    pub fn parked(&self) -> Option<WakeSession> {
        self.with_queues(|queue| {
            let index = self.index_in(queue.queued)?;
            queue.queued[index].parked = true;
            self.wake_or_defer(queue)
        })
    }

    /// The event is parked, and it is its turn.
    pub fn wake_itself(&self) -> Option<WakeSession> {
        self.with_queues(|queue| {
            let wake = self.wake_from(queue)?;
            Some(WakeSession { before_offset: Some(self.source.offset + 1), ..wake })
        })
    }

    /// Remove the event from its queue; the event behind it moves up. Does nothing the second time.
    pub fn leave(&self) {
        self.remove(|_| {});
    }

    /// Remove the event, which is parked: the events behind it must be parked as well.
    pub fn leave_parked(&self) {
        self.remove(|queue| {
            let behind = queue.iter_mut().filter(|queued| queued.is_behind(&self.source));
            behind.for_each(QueuedEvent::set_must_park);
        });
    }

    /// Remove the event, which is left to the next owner of its partition: until then it is ahead of
    /// the parked events behind it.
    pub fn release(&self) {
        // One that has left its queue is settled. And if the partition is assigned again, nothing would
        // forget the release: the wake of each later event of the session would be left out.
        let is_left =
            self.with_queue(|queue, index| !queue[index].is_of_earlier_assignment).unwrap_or(false);
        if is_left {
            self.queues.0.lock().release(&self.session, &self.source);
        }
        self.leave();
    }

    fn remove(&self, then: impl FnOnce(&mut VecDeque<QueuedEvent>)) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.by_session.get_mut(&self.session) else { return };
        let Some(index) = self.index_in(queue) else { return };
        let removed = queue.remove(index);
        then(queue);
        if removed.is_some_and(|removed| removed.stored) {
            notify_stored_behind(queue, &self.source);
        }
        match index.checked_sub(1) {
            None => {
                if let Some(head) = queue.front() {
                    head.changed.notify_one();
                }
            }
            // It left out of turn: an expired event waits for no other.
            Some(ahead) => {
                let calling = queue[ahead].calling;
                if let Some(behind) = queue.get_mut(index).filter(|_| calling) {
                    behind.set_next();
                }
            }
        }
        let is_empty = queue.is_empty();
        queues.events -= 1;
        if is_empty {
            queues.by_session.remove(&self.session);
        }
    }

    fn is_out_of_turn_in(&self, queue: &VecDeque<QueuedEvent>) -> bool {
        self.index_in(queue).is_some_and(|index| queue[index].out_of_turn)
    }

    /// Leave the waking to an event in memory that is ahead, if there is one.
    fn wake_or_defer(&self, queue: &mut SessionQueue<'_>) -> Option<WakeSession> {
        if self.defer(queue) { None } else { self.wake_from(queue) }
    }

    /// Whether an event in memory that is ahead will wake those behind this one.
    fn defer(&self, queue: &mut SessionQueue<'_>) -> bool {
        let ahead = queue.queued.iter_mut().filter(|queued| queued.will_wake(&self.source));
        match ahead.max_by_key(|queued| queued.source.offset) {
            Some(ahead) => {
                ahead.wake_after = true;
                true
            }
            None => false,
        }
    }

    /// `None` where an event ahead was released: its next owner wakes those behind it.
    fn wake_from(&self, queue: &SessionQueue<'_>) -> Option<WakeSession> {
        let Position { topic, partition, offset } = &self.source;
        let released = || queue.released.iter().filter(|source| source.partition == *partition);
        if released().any(|source| source.offset < *offset) {
            return None;
        }
        // A stored answer behind has woken what is behind that.
        let queued = queue.queued.iter();
        let queued = queued.filter(|queued| !queued.parked && !queued.answered && !queued.stored);
        let queued = queued.map(|queued| &queued.source).chain(released());
        let behind = queued.filter(|source| source.partition == *partition);
        Some(WakeSession {
            session_id: self.session.clone(),
            topic: topic.clone(),
            partition: *partition,
            before_offset: behind.map(|source| source.offset).filter(|o| o > offset).min(),
        })
    }

    pub(super) fn position(&self) -> QueuePosition {
        let position = self.with_queue(|queue, index| match index {
            _ if queue[index].must_park => QueuePosition::MustPark,
            0 => QueuePosition::Head,
            _ if queue[index].is_next => QueuePosition::Next,
            _ => QueuePosition::Queued,
        });
        // An event that has left its queue waits for no other.
        position.unwrap_or(QueuePosition::Head)
    }

    /// Read or change the queue; `None` where the event has left it.
    fn with_queue<T>(&self, f: impl FnOnce(&mut VecDeque<QueuedEvent>, usize) -> T) -> Option<T> {
        let mut queues = self.queues.0.lock();
        let queue = queues.by_session.get_mut(&self.session)?;
        let index = self.index_in(queue)?;
        Some(f(queue, index))
    }

    /// Read or change the queue where events of the partition may be parked.
    fn with_queues(
        &self,
        f: impl FnOnce(&mut SessionQueue<'_>) -> Option<WakeSession>,
    ) -> Option<WakeSession> {
        let mut queues = self.queues.0.lock();
        if !queues.parked_partitions.contains(&self.source.partition) {
            return None;
        }
        let Queues { by_session, released, .. } = &mut *queues;
        let queued = by_session.get_mut(&self.session)?;
        let released = released.get(&self.session).map_or(&[][..], Vec::as_slice);
        f(&mut SessionQueue { queued, released })
    }

    fn index_in(&self, queue: &VecDeque<QueuedEvent>) -> Option<usize> {
        queue.binary_search_by_key(&self.rank.ticket, |queued| queued.rank.ticket).ok()
    }
}

/// Notify the next event with a stored answer.
fn notify_stored_behind(queue: &VecDeque<QueuedEvent>, source: &Position) {
    let behind = queue.iter().filter(|queued| queued.stored && queued.is_behind(source));
    if let Some(next) = behind.min_by_key(|queued| queued.source.offset) {
        next.changed.notify_one();
    }
}

/// What decides about waking.
struct SessionQueue<'a> {
    queued: &'a mut VecDeque<QueuedEvent>,
    released: &'a [Position],
}
