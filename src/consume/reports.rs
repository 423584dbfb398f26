//! What the event loop does when a task reports: it finishes the offset, and notes what the end of
//! the event means for parked events and waiting rooms.

use futures_util::FutureExt as _;
use tracing::error;

use super::assignment::AssignedOffset;
use super::parked::NewlyParked;
use super::running::{TaskEnd, TaskOfEvent};
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
        if self.parked.has_followers(event.partition) {
            self.parked.check_soon();
        }
        let Some(room) = &event.room else { return };
        if found_agent {
            self.parked.rooms().on_found(room, event.tried);
        } else if event.tried == TriedFrom::Room {
            self.parked.rooms().on_inconclusive(room, self.context.clock.now());
        }
    }

    fn on_event_ended(&mut self, at: AssignedOffset, end: &TaskEnd, event: &TaskOfEvent) {
        if let TaskEnd::Delivered(Ended::Parked { until, waits_for, wait }) = end
            && self.assignments.is_current(at.assignment)
        {
            let (tried, deadline) = (event.tried, event.deadline);
            let (until, wait) = (*until, *wait);
            let parked = NewlyParked { until, waits_for, wait, tried, deadline };
            self.parked.on_parked(event.partition, &parked);
        }
        if *end == TaskEnd::Delivered(Ended::StaysParked) {
            // It may be due already, and was not read while Kafka's record was in memory.
            self.parked.check_soon();
        }
        let is_back_in_room =
            matches!(end, TaskEnd::Delivered(Ended::Parked { waits_for: WaitsFor::Agent(_), .. }));
        let has_settled = matches!(end, TaskEnd::Delivered(Ended::Published));
        if let Some(room) = &event.room
            && event.tried == TriedFrom::Room
            && !is_back_in_room
            && !has_settled
        {
            self.parked.rooms().on_inconclusive(room, self.context.clock.now());
        }
    }

    fn on_task_ended(&mut self, at: AssignedOffset, end: &TaskEnd) {
        let partition = at.assignment.partition;
        match self.assignments.get_mut(partition) {
            Some(assignment) if assignment.is(at.assignment) => {
                assignment.in_memory.remove(&at.offset);
            }
            Some(_) => {}
            None => self.tasks.forget_partition(partition),
        }
        match end {
            TaskEnd::Delivered(
                Ended::Published | Ended::Duplicate | Ended::Parked { .. } | Ended::StaysParked,
            ) => {
                // A late report must not finish an offset of a later assignment.
                if self.assignments.is_current(at.assignment) {
                    self.store(at);
                }
            }
            // Released, or fenced or blocked while draining: the next owner finishes it.
            TaskEnd::Delivered(_) | TaskEnd::Aborted => {}
            TaskEnd::Panicked => {
                let offset = at.offset;
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
