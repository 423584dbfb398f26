//! One read of parked events: which are due, which a waiting room may try, and which a fenced
//! instance has claimed.

use std::sync::Arc;

use super::assignment::AssignmentId;
use super::waiting_rooms::RoomRequest;
use crate::deliver::{Context, Ports};
use crate::domain::ledger_entry::RoomName;
use crate::ledger::{DueEntries, DueQuery, Ledger as _, StoredEntries, WaitingQuery};

/// Which events to read.
pub(super) struct DueRequest {
    pub(super) topic: Arc<str>,
    /// The assignments for which it reads. Its answer is void for those that have ended meanwhile.
    pub(super) assignments: Vec<AssignmentId>,
    pub(super) query: Option<DueQuery>,
    pub(super) rooms: Vec<RoomRequest>,
    pub(super) sweep: bool,
    /// How many entries are known to be unreadable: they must not take the place of others.
    pub(super) unreadable: usize,
}

/// What was read.
pub(super) struct DueRead {
    pub(super) due: Option<DueEntries>,
    pub(super) overdue_limit: usize,
    pub(super) due_limit: usize,
    /// Those of the request.
    pub(super) assignments: Vec<AssignmentId>,
    pub(super) rooms: Vec<RoomRead>,
    pub(super) unfinished: Option<StoredEntries>,
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
                limit: events + trying + self.unreadable,
            };
            let found = context.ledger.waiting(query).await;
            rooms.push(RoomRead { room, limit: events, found });
        }
        let unfinished = if self.sweep {
            Some(context.ledger.unfinished(self.topic, partitions).await)
        } else {
            None
        };
        DueRead { due, overdue_limit, due_limit, assignments: self.assignments, rooms, unfinished }
    }
}

/// Whether an event that was read is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredStart {
    /// It is started. One past its deadline is answered without a call.
    Started { is_overdue: bool },
    /// It is in memory, or its partition is being revoked.
    InWork,
    /// It may be started a little later.
    TooEarly,
}
