//! Session queues: the events of one session in the order in which they arrived.
//!
//! `consume` enqueues each event and removes it when its answer is settled or it is parked. The
//! [`Turn`] that it gets for the event tells the delivery its position. An event may be claimed in
//! the ledger while the call of the event ahead of it is at Desk, so that its own call can follow at
//! once.
//!
//! The ledger continues a queue: once an event is parked, the events behind it are parked too, and
//! each answer makes the next of them due ([`WakeSession`](crate::domain::ledger_entry::WakeSession)). [`Turn`] decides who must park
//! and whose answer has to wake whom, so that neither a crash nor a race leaves an event that nobody wakes.

mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::ledger_entry::RecordOrigin;
use crate::domain::record::Position;
use crate::gate::{Rank, Ticket};

pub use self::turn::Turn;

/// How far an event has come in the queue of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueuePosition {
    /// Other events are ahead of it.
    Queued,
    /// The event ahead of it has been sent to Desk: this one may be claimed.
    Next,
    /// No event is ahead of it: this one may be called.
    Head,
    /// It must be parked: an event ahead of it is parked, or the queue is full.
    MustPark,
}

/// The queues of all sessions. Clones share them.
#[derive(Clone)]
pub struct SessionQueues(Arc<Mutex<Queues>>);

/// How many events may be queued in memory.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Of one session.
    pub per_session: usize,
    /// Of all sessions, apart from the first event of each.
    pub behind: usize,
}

/// An event that joins the queue of its session.
#[derive(Debug, Clone, Copy)]
pub struct SessionArrival<'a> {
    /// When its escalation was requested.
    pub requested_at: Timestamp,
    /// The position of its record.
    pub source: &'a Position,
    /// Where its record was read.
    pub origin: RecordOrigin,
    /// Its answer is known to be stored: those behind it wait for it from the moment it joins.
    pub is_stored: bool,
}

struct Queues {
    limits: QueueLimits,
    /// Sorted by ticket, because tickets ascend and events join at the back. Never empty.
    by_session: HashMap<Arc<str>, VecDeque<QueuedEvent>>,
    events: usize,
    last_ticket: Ticket,
    /// The partitions of which events may be parked. Only there a session may have parked events that
    /// have to be waited for, or woken.
    parked_partitions: HashSet<i32>,
    /// The events that were released, until their partitions have been taken away or are assigned
    /// again.
    released: HashMap<Arc<str>, Vec<Position>>,
}

impl Queues {
    fn release(&mut self, session: &Arc<str>, source: &Position) {
        self.released.entry(session.clone()).or_default().push(source.clone());
    }

    fn forget_released(&mut self, partition: i32) {
        self.released.retain(|_, sources| {
            sources.retain(|source| source.partition != partition);
            !sources.is_empty()
        });
    }
}

struct QueuedEvent {
    rank: Rank,
    source: Position,
    /// Its call is at Desk.
    calling: bool,
    /// Stays set when the call of the event ahead returns without an answer: the event may have
    /// been claimed by then.
    is_next: bool,
    must_park: bool,
    /// It is parked.
    parked: bool,
    /// Its answer was stored before its record was read: it is published as soon as it is known whether
    /// that was done.
    stored: bool,
    /// Its answer says nothing about the events ahead of it: it is past its deadline, and was
    /// still parked behind them.
    out_of_turn: bool,
    /// Its answer is stored, so it wakes nobody any more.
    answered: bool,
    /// An event behind it was parked, perhaps after the answer of this one was stored.
    wake_after: bool,
    /// Its partition has been assigned again since: the event is delivered once more.
    is_of_earlier_assignment: bool,
    changed: Arc<Notify>,
}

impl QueuedEvent {
    fn set_next(&mut self) {
        self.is_next = true;
        self.changed.notify_one();
    }

    fn set_must_park(&mut self) {
        self.must_park = true;
        self.changed.notify_one();
    }

    /// Whether its answer, or its parking, will wake the parked events behind `source`.
    fn will_wake(&self, source: &Position) -> bool {
        self.is_ahead_of(source) && !self.parked && !self.answered && !self.out_of_turn
    }

    fn is_ahead_of(&self, source: &Position) -> bool {
        self.source.partition == source.partition && self.source.offset < source.offset
    }

    fn is_behind(&self, source: &Position) -> bool {
        self.source.partition == source.partition && self.source.offset > source.offset
    }
}

impl SessionQueues {
    /// Empty queues.
    pub fn new(limits: QueueLimits) -> Self {
        Self(Arc::new(Mutex::new(Queues {
            limits,
            by_session: HashMap::new(),
            events: 0,
            last_ticket: 0,
            parked_partitions: HashSet::new(),
            released: HashMap::new(),
        })))
    }

    /// Append an event to the queue of its session.
    pub fn enqueue(&self, session: &Arc<str>, arrival: &SessionArrival<'_>) -> Turn {
        let SessionArrival { requested_at, source, origin, is_stored } = *arrival;
        let changed = Arc::new(Notify::new());
        let mut queues = self.0.lock();
        queues.last_ticket += 1;
        let rank = Rank { requested_at, ticket: queues.last_ticket };
        let behind = queues.events - queues.by_session.len();
        let QueueLimits { per_session, behind: max_behind } = queues.limits;
        let queue = queues.by_session.entry(session.clone()).or_default();
        let is_full = queue.len() >= per_session || !queue.is_empty() && behind >= max_behind;
        let is_behind_parked =
            queue.iter().any(|queued| queued.must_park && queued.is_ahead_of(source));
        // An event of the ledger is there because nothing is ahead of it.
        let must_park = origin == RecordOrigin::Kafka && (is_full || is_behind_parked);
        queue.push_back(QueuedEvent {
            rank,
            source: source.clone(),
            calling: false,
            is_next: queue.back().is_some_and(|ahead| ahead.calling),
            must_park,
            parked: false,
            stored: is_stored,
            out_of_turn: false,
            answered: false,
            wake_after: false,
            is_of_earlier_assignment: false,
            changed: changed.clone(),
        });
        queues.events += 1;
        if must_park {
            queues.parked_partitions.insert(source.partition);
        }
        drop(queues);
        let (session, source) = (session.clone(), source.clone());
        Turn::new(self.clone(), session, source, rank, changed)
    }

    /// These partitions are assigned from now on. What is queued of them is of an earlier assignment.
    pub fn begin_assignment(&self, partitions: &[i32]) {
        let mut queues = self.0.lock();
        let queued = queues.by_session.values_mut().flatten();
        let theirs = queued.filter(|queued| partitions.contains(&queued.source.partition));
        theirs.for_each(|queued| queued.is_of_earlier_assignment = true);
    }

    /// Whether the ledger holds parked events of this partition, at the start of its assignment.
    pub fn set_parked(&self, partition: i32, parked: bool) {
        let mut queues = self.0.lock();
        queues.forget_released(partition);
        if parked {
            queues.parked_partitions.insert(partition);
        } else {
            queues.parked_partitions.remove(&partition);
        }
    }

    /// The partition is no longer assigned.
    pub fn forget_partition(&self, partition: i32) {
        let mut queues = self.0.lock();
        queues.forget_released(partition);
        queues.parked_partitions.remove(&partition);
    }

    /// Number of sessions with unsettled events.
    pub fn sessions(&self) -> usize {
        self.0.lock().by_session.len()
    }
}

#[cfg(test)]
mod tests;
