//! Reads of parked events. One finds those that are due and those that a waiting room may try; a sweep
//! finds what an instance did that had lost the partition: the events that it claimed, and the waiting
//! rooms in which it parked some.

use std::sync::Arc;

use super::assignment::AssignmentId;
use super::tasks::StoredResult;
use super::waiting_rooms::RoomRequest;
use super::{EventLoop, Source};
use crate::deliver::{Context, Ports};
use crate::domain::ledger_entry::{RoomName, WaitsFor};
use crate::ledger::{DueEntries, DueQuery, Ledger as _, ParkedGroup, StoredEntries, WaitingQuery};

/// What was read.
pub(super) enum ParkedRead {
    Due(DueRead),
    Sweep(SweepRead),
}

impl ParkedRead {
    /// The assignments for which it was read. It is void for those that have ended meanwhile.
    pub(super) fn assignments(&self) -> &[AssignmentId] {
        match self {
            Self::Due(read) => &read.assignments,
            Self::Sweep(read) => &read.assignments,
        }
    }
}

/// Which events to read.
pub(super) struct DueRequest {
    pub(super) topic: Arc<str>,
    pub(super) assignments: Vec<AssignmentId>,
    pub(super) query: Option<DueQuery>,
    pub(super) rooms: Vec<RoomRequest>,
    /// How many entries are known to be unreadable: they must not take the place of others.
    pub(super) unreadable: usize,
}

/// The events that are due, and those of rooms.
pub(super) struct DueRead {
    pub(super) due: Option<DueEntries>,
    pub(super) overdue_limit: usize,
    pub(super) due_limit: usize,
    pub(super) assignments: Vec<AssignmentId>,
    pub(super) rooms: Vec<RoomRead>,
}

pub(super) struct RoomRead {
    pub(super) room: RoomName,
    pub(super) limit: usize,
    pub(super) found: StoredEntries,
}

impl DueRequest {
    pub(super) async fn read<P: Ports>(self, context: &Context<P>) -> DueRead {
        let partitions: Vec<_> = self.assignments.iter().map(|id| id.partition).collect();
        let limits = self.query.as_ref().map(|query| (query.overdue_limit, query.due_limit));
        let (overdue_limit, due_limit) = limits.unwrap_or_default();
        let due = match self.query {
            Some(query) => Some(context.ledger.due(query).await),
            None => None,
        };
        let mut rooms = Vec::with_capacity(self.rooms.len());
        for RoomRequest { room, events, trying } in self.rooms {
            let query = WaitingQuery {
                topic: self.topic.clone(),
                partitions: partitions.clone(),
                room: room.clone(),
                // Twice, so that few reads find all that cannot be read ahead of the others.
                limit: events + trying + 2 * self.unreadable,
            };
            let found = context.ledger.waiting(query).await;
            rooms.push(RoomRead { room, limit: events, found });
        }
        DueRead { due, overdue_limit, due_limit, assignments: self.assignments, rooms }
    }
}

/// What a sweep found.
pub(super) struct SweepRead {
    pub(super) assignments: Vec<AssignmentId>,
    /// See [`Ledger::unfinished`](crate::ledger::Ledger::unfinished).
    pub(super) unfinished: StoredEntries,
    /// See [`Ledger::parked_groups`](crate::ledger::Ledger::parked_groups).
    pub(super) parked: Vec<ParkedGroup>,
}

impl SweepRead {
    pub(super) async fn read<P: Ports>(
        context: &Context<P>,
        topic: Arc<str>,
        assignments: Vec<AssignmentId>,
    ) -> Self {
        let partitions: Vec<_> = assignments.iter().map(|id| id.partition).collect();
        let unfinished = context.ledger.unfinished(topic.clone(), partitions.clone()).await;
        let parked = context.ledger.parked_groups(topic, partitions).await;
        Self { assignments, unfinished, parked }
    }
}

/// Whether an event that was read is started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredStart {
    /// It is started. One past its deadline is answered without a call.
    Started { is_overdue: bool },
    /// It is in memory, or its partition is being revoked.
    InWork,
    /// It may be started a little later.
    TooEarly,
    /// The present rules do not read it as what it was; says how they read it. It stays in the ledger.
    Unreadable(String),
}

impl<P: Ports, S: Source> EventLoop<P, S> {
    pub(super) fn on_parked_read(&mut self, read: ParkedRead) {
        let now = self.context.clock.now();
        let Self { parked, tasks, assignments, .. } = self;
        let current = read.assignments().iter().filter(|id| assignments.is_current(**id));
        let partitions: Vec<_> = current.map(|id| id.partition).collect();
        parked.on_read(read, &partitions, |entry, rooms| {
            let (identity, partition) = (entry.record.identity(), entry.record.position.partition);
            let is_current = partitions.contains(&partition);
            let assignment = assignments.get_mut(partition).filter(|_| is_current);
            let Some(assignment) = assignment.filter(|a| !a.is_draining()) else {
                return StoredStart::InWork;
            };
            if assignment.in_memory.contains(&identity) {
                return StoredStart::InWork;
            }
            let (waits_for, is_overdue) = (entry.state.waits_for(), entry.is_overdue(now));
            // Offsets may have gone back since it was read.
            if assignment.is_early(&entry, now) || assignment.is_behind_early(&entry, now) {
                return StoredStart::TooEarly;
            }
            let is_probe = matches!(waits_for, Some(WaitsFor::Agent(_)));
            if !tasks.may_start_stored(!is_overdue && !is_probe) {
                return StoredStart::TooEarly;
            }
            let (at, state) = (assignment.at(identity), assignment.state.clone());
            match tasks.start_stored(entry, at, state, rooms, is_overdue) {
                StoredResult::Unreadable(why) => StoredStart::Unreadable(why),
                StoredResult::Started => {
                    assignment.in_memory.insert(identity);
                    StoredStart::Started { is_overdue }
                }
            }
        });
    }
}
