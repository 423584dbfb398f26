//! What the event loop keeps of a task that runs.

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::assignment::AssignedRecord;
use super::waiting_rooms::TriedFrom;
use crate::deliver::{Ended, Turn};
use crate::domain::ledger_entry::{RecordOrigin, RoomName, WaitsFor};
use crate::gate::Ticket;

/// A task that runs.
pub(super) struct RunningTask {
    pub(super) at: AssignedRecord,
    pub(super) size_bytes: usize,
    pub(super) kind: TaskKind,
    pub(super) abort: AbortHandle,
}

pub(super) enum TaskKind {
    Delivery(RunningDelivery),
    DeadLetter,
}

pub(super) struct RunningDelivery {
    pub(super) turn: Turn,
    pub(super) received_at: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) room: Option<RoomName>,
    /// The room that tries it, until its end was reported.
    pub(super) from_room: Option<RoomName>,
    /// What it waited for when it was read in the ledger.
    pub(super) waited_for: Option<WaitsFor>,
    /// Kept by an event that is retried until its task ends.
    pub(super) _retry_slot: Option<OwnedSemaphorePermit>,
    pub(super) origin: RecordOrigin,
}

impl RunningTask {
    /// The event, for a report.
    pub(super) fn report_event(&mut self) -> Option<TaskOfEvent> {
        let TaskKind::Delivery(delivery) = &mut self.kind else { return None };
        Some(TaskOfEvent {
            partition: self.at.assignment.partition,
            received_at: delivery.received_at,
            deadline: delivery.deadline,
            room: delivery.room.clone(),
            from_room: delivery.from_room.take(),
            waited_for: delivery.waited_for.clone(),
        })
    }

    pub(super) fn received_at(&self) -> Option<Timestamp> {
        match &self.kind {
            TaskKind::Delivery(delivery) => Some(delivery.received_at),
            TaskKind::DeadLetter => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        match &self.kind {
            TaskKind::Delivery(delivery) => Some((delivery.deadline, delivery.turn.rank().ticket)),
            TaskKind::DeadLetter => None,
        }
    }
}

/// The deadline of an event; the ticket tells apart those that are due at the same time.
pub(super) type Deadline = (Timestamp, Ticket);

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskEnd {
    /// The delivery returned.
    Delivered(Ended),
    /// It was aborted because its partition was revoked.
    Aborted,
    /// A bug: its record has no answer.
    Panicked,
}

/// The event of a task.
pub(super) struct TaskOfEvent {
    pub(super) partition: i32,
    pub(super) received_at: Timestamp,
    pub(super) deadline: Timestamp,
    /// The room in which it waits while nobody of its plan is online.
    pub(super) room: Option<RoomName>,
    /// The room that tried it; `None` also if that was reported before.
    pub(super) from_room: Option<RoomName>,
    /// What it waited for when it was read in the ledger.
    pub(super) waited_for: Option<WaitsFor>,
}

/// An event that was just parked.
pub(super) struct NewlyParked<'a> {
    pub(super) until: Timestamp,
    pub(super) waits_for: &'a WaitsFor,
    pub(super) tried: TriedFrom,
    pub(super) received_at: Timestamp,
    pub(super) deadline: Timestamp,
}
