//! What the event loop does when a task reports: it finishes the offset, and notes what the end of
//! the event means for parked events and waiting rooms.

use futures_util::FutureExt as _;
use tracing::error;

use super::assignment::AssignedRecord;
use super::running::{NewlyParked, TaskEnd, TaskOfEvent};
use super::tasks::TaskReport;
use super::waiting_rooms::TriedFrom;
use super::{EventLoop, Source};
use crate::deliver::{Ended, Ports};
use crate::domain::ledger_entry::WaitsFor;

/// How many more task reports are handled, after the first, before the state that depends on them is updated.
const REPORT_BATCH: usize = 32;

impl<P: Ports, S: Source> EventLoop<P, S> {
    /// Handle a report and those that are ready as well, so that the rest of the loop's round is done
    /// once for all of them.
    pub(super) fn on_reports(&mut self, first: TaskReport) {
        self.on_report(first);
        for _ in 0..REPORT_BATCH {
            let Some(report) = self.tasks.next().now_or_never() else { break };
            self.on_report(report);
        }
    }

    fn on_report(&mut self, report: TaskReport) {
        match report {
            TaskReport::Settled { event, found_agent } => self.on_settled(&event, found_agent),
            TaskReport::Ended { at, end, event } => {
                if let Some(event) = &event {
                    self.on_event_ended(at, &end, event);
                }
                self.on_task_ended(at, &end);
            }
        }
    }

    fn on_settled(&mut self, event: &TaskOfEvent, found_agent: bool) {
        self.check_followers(event);
        let now = self.context.clock.now();
        let rooms = self.parked.rooms();
        if let Some(from) = &event.from_room {
            rooms.on_ended(from);
            if !found_agent {
                rooms.on_inconclusive(from, now);
            }
        }
        if found_agent {
            // They differ where the routes have changed since it was parked: those who wait with it follow
            // it to its new targets.
            let left = event.from_room.as_ref().filter(|from| Some(*from) != event.room.as_ref());
            event.room.iter().chain(left).for_each(|room| rooms.on_found(room));
        }
    }

    fn on_event_ended(&mut self, at: AssignedRecord, end: &TaskEnd, event: &TaskOfEvent) {
        self.check_followers(event);
        if let Some(from) = &event.from_room {
            self.parked.rooms().on_ended(from);
        }
        let mut is_back_in_room = false;
        if let TaskEnd::Delivered(Ended::Parked { until, waits_for }) = end
            && self.assignments.is_current(at.assignment)
        {
            let room = if let WaitsFor::Agent(room) = waits_for { Some(room) } else { None };
            is_back_in_room = room.is_some() && room == event.from_room.as_ref();
            let tried = if is_back_in_room { TriedFrom::Room } else { TriedFrom::Outside };
            let (received_at, deadline) = (event.received_at, event.deadline);
            let parked = NewlyParked { until: *until, waits_for, tried, received_at, deadline };
            self.parked.on_parked(event.partition, &parked);
        }
        if *end == TaskEnd::Delivered(Ended::Changed) {
            self.on_changed(at, event);
        }
        if *end == TaskEnd::Delivered(Ended::StaysParked) {
            // It may be due already, and was not read while Kafka's record was in memory.
            self.parked.check_soon();
        }
        if let Some(from) = &event.from_room
            && !is_back_in_room
        {
            let now = self.context.clock.now();
            self.parked.rooms().on_inconclusive(from, now);
        }
    }

    /// An event that was read in the ledger has changed there. If it is still parked, it was started
    /// in vain: it counts as parked again, and is read again.
    fn on_changed(&mut self, at: AssignedRecord, event: &TaskOfEvent) {
        if let Some(waits_for) = &event.waited_for
            && self.assignments.is_current(at.assignment)
        {
            let (until, tried) = (self.context.clock.now(), TriedFrom::Outside);
            let (received_at, deadline) = (event.received_at, event.deadline);
            let parked = NewlyParked { until, waits_for, tried, received_at, deadline };
            self.parked.on_parked(event.partition, &parked);
        }
        self.parked.check_soon();
    }

    /// The end of an event may have woken one that is parked behind it.
    fn check_followers(&mut self, event: &TaskOfEvent) {
        if self.parked.has_followers(event.partition) {
            self.parked.check_soon();
        }
    }

    fn on_task_ended(&mut self, at: AssignedRecord, end: &TaskEnd) {
        let partition = at.assignment.partition;
        match self.assignments.get_mut(partition) {
            Some(assignment) if assignment.is(at.assignment) => {
                assignment.in_memory.remove(&at.record);
            }
            Some(_) => {}
            None => self.tasks.forget_partition(partition),
        }
        match end {
            TaskEnd::Delivered(
                Ended::Published
                | Ended::Duplicate
                | Ended::BeyondMemory
                | Ended::Parked { .. }
                | Ended::StaysParked
                | Ended::Changed,
            ) => {
                // A late report must not finish an offset of a later assignment.
                if self.assignments.is_current(at.assignment) {
                    self.store(at);
                }
            }
            // Released, or fenced or blocked while draining: the next owner finishes it.
            TaskEnd::Delivered(_) | TaskEnd::Aborted => {}
            TaskEnd::Panicked => {
                let offset = at.record.offset;
                error!(
                    kafka.partition = partition,
                    kafka.offset = offset,
                    "delivery panicked: a bug; its offset stays uncommitted until a restart"
                );
                let bug = format!("the delivery of {partition}/{offset} panicked: a bug");
                self.context.health.report_bug(bug);
            }
        }
    }
}
