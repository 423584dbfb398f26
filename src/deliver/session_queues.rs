//! Session queues: the events of one session in the order in which they arrived.
//!
//! `consume` enqueues each event and removes it when its answer is settled. The [`Turn`] that it
//! gets for the event tells the delivery its position. An event may be claimed in the ledger while
//! the call of the event ahead of it is at Desk, so that its own call can follow at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::gate::{Rank, Ticket};

/// How far an event has come in the queue of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueuePosition {
    /// Other events are ahead of it.
    Queued,
    /// The event ahead of it has been sent to Desk: this one may be claimed.
    Next,
    /// No event is ahead of it: this one may be called.
    Head,
}

/// The queues of all sessions. Clones share them.
#[derive(Clone, Default)]
pub struct SessionQueues(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    /// Sorted by ticket, because tickets ascend and events join at the back. Never empty.
    by_session: HashMap<Arc<str>, VecDeque<QueuedEvent>>,
    last_ticket: Ticket,
}

struct QueuedEvent {
    rank: Rank,
    /// Its call is at Desk.
    calling: bool,
    /// Stays set when the call of the event ahead returns without an answer: the event may have
    /// been claimed by then.
    is_next: bool,
    changed: Arc<Notify>,
}

impl QueuedEvent {
    fn set_next(&mut self) {
        self.is_next = true;
        self.changed.notify_one();
    }
}

impl SessionQueues {
    /// Append an event to the queue of its session.
    pub fn enqueue(&self, session: &Arc<str>, requested_at: Timestamp) -> Turn {
        let changed = Arc::new(Notify::new());
        let mut queues = self.0.lock();
        queues.last_ticket += 1;
        let rank = Rank { requested_at, ticket: queues.last_ticket };
        let queue = queues.by_session.entry(session.clone()).or_default();
        let is_next = queue.back().is_some_and(|ahead| ahead.calling);
        queue.push_back(QueuedEvent { rank, calling: false, is_next, changed: changed.clone() });
        drop(queues);
        Turn { queues: self.clone(), session: session.clone(), rank, changed }
    }

    /// Number of sessions with unsettled events.
    pub fn sessions(&self) -> usize {
        self.0.lock().by_session.len()
    }
}

/// The entry of one event in the queue of its session. Clones share it.
#[derive(Clone)]
pub struct Turn {
    queues: SessionQueues,
    session: Arc<str>,
    rank: Rank,
    changed: Arc<Notify>,
}

impl Turn {
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

    /// The rank of the event behind this one, if there is one.
    pub fn rank_behind(&self) -> Option<Rank> {
        self.with_queue(|queue, index| queue.get(index + 1).map(|behind| behind.rank)).flatten()
    }

    /// Remove the event from its queue; the event behind it moves up. Does nothing the second time.
    pub fn leave(&self) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.by_session.get_mut(&self.session) else { return };
        let Some(index) = self.index_in(queue) else { return };
        queue.remove(index);
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
        if queue.is_empty() {
            queues.by_session.remove(&self.session);
        }
    }

    fn position(&self) -> QueuePosition {
        let position = self.with_queue(|queue, index| match index {
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

    fn index_in(&self, queue: &VecDeque<QueuedEvent>) -> Option<usize> {
        queue.binary_search_by_key(&self.rank.ticket, |queued| queued.rank.ticket).ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::QueuePosition::{Head, Next, Queued};
    use super::*;

    fn enqueue(queues: &SessionQueues, session: &str) -> Turn {
        queues.enqueue(&session.into(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_event_behind_a_call_is_next_whether_it_joins_before_or_after_the_call() {
        let queues = SessionQueues::default();
        let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
        assert_eq!(first.reaches(Next).now_or_never(), Some(Head));
        assert_eq!(second.reaches(Next).now_or_never(), None);
        first.call_started();
        assert_eq!(second.reaches(Next).now_or_never(), Some(Next));
        assert_eq!(second.reaches(Head).now_or_never(), None);
        first.leave();
        assert_eq!(second.reaches(Next).now_or_never(), Some(Head));
        second.call_started();
        let third = enqueue(&queues, "a");
        assert_eq!(third.reaches(Next).now_or_never(), Some(Next));
        assert_eq!(second.rank_behind(), Some(third.rank()));
    }

    #[test]
    fn an_event_enqueued_after_the_call_returned_is_not_next() {
        let queues = SessionQueues::default();
        let first = enqueue(&queues, "a");
        first.call_started();
        first.call_returned();
        assert_eq!(enqueue(&queues, "a").position(), Queued);
    }

    #[test]
    fn leaving_out_of_turn_does_not_move_the_head() {
        let queues = SessionQueues::default();
        let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
        let other = enqueue(&queues, "b");
        assert_eq!(
            [&first, &second, &third, &other].map(Turn::position),
            [Head, Queued, Queued, Head]
        );
        assert_eq!(queues.sessions(), 2);
        second.leave();
        assert_eq!(first.rank_behind(), Some(third.rank()));
        assert_eq!(third.position(), Queued);
        first.leave();
        first.leave();
        assert_eq!(third.reaches(Head).now_or_never(), Some(Head));
        assert_eq!(third.rank_behind(), None);
        third.leave();
        other.leave();
        assert_eq!(queues.sessions(), 0);
    }

    #[test]
    fn the_event_that_moves_up_behind_a_call_is_next() {
        let queues = SessionQueues::default();
        let [first, second, third] = [(); 3].map(|()| enqueue(&queues, "a"));
        first.call_started();
        second.leave();
        assert_eq!(third.reaches(Next).now_or_never(), Some(Next));
    }

    #[tokio::test]
    async fn an_event_that_moves_up_is_woken() {
        let queues = SessionQueues::default();
        let [first, second] = [(); 2].map(|()| enqueue(&queues, "a"));
        let waiting = second.reaches(Head);
        tokio::pin!(waiting);
        assert_eq!((&mut waiting).now_or_never(), None);
        first.leave();
        assert_eq!(waiting.await, Head);
    }
}
