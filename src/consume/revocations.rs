//! Giving partitions up: their tasks drain within a time, then what still runs is aborted.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::assignment::AssignmentId;
use super::{EventLoop, Source};
use crate::deliver::{OutcomePublisher as _, Ports};
use crate::telemetry::RebalanceKind;

/// Events of lost partitions may take this long to be released, where Kafka may not deliver their records
/// to another instance.
const LOST_RELEASE_TIME: Duration = Duration::from_secs(1);

/// Assignments that drain.
#[derive(Debug)]
pub(super) struct Revocation {
    assignments: Vec<AssignmentId>,
    /// When the tasks that still run are aborted.
    deadline: Instant,
    lost: bool,
    done: SyncSender<()>,
}

impl<P: Ports, S: Source> EventLoop<P, S> {
    /// Kafka may not deliver the records of these partitions again: events that are released keep theirs.
    pub(super) fn on_topic_gone(&mut self, partitions: &[i32], is_certain: bool) {
        let waiting = self.assignments.set_records_gone(partitions);
        let events = self.tasks.running_in(&self.assignments.of(partitions));
        let topic = &*self.settings.topic;
        if is_certain {
            warn!(
                kafka.topic = topic,
                kafka.partitions = ?partitions,
                events,
                waiting,
                "topic deleted; claimed events are released with their records"
            );
        } else {
            info!(
                kafka.topic = topic,
                kafka.partitions = ?partitions,
                events,
                "no broker says whether the topic is there; events are released with their records"
            );
        }
    }

    pub(super) fn drain(&mut self, partitions: Option<&[i32]>, lost: bool, done: SyncSender<()>) {
        let kind = if lost { RebalanceKind::Lost } else { RebalanceKind::Revoked };
        self.context.metrics.rebalanced(kind);
        let assignments = self.assignments.drain(partitions);
        // Our share of the quota must end before that of the next owner begins.
        self.share_quota();
        let time = match lost {
            false => self.settings.drain,
            // The lease is interrupted, so nothing is called or published meanwhile, and the ledger refuses
            // what another instance has claimed.
            true if self.assignments.is_record_gone(&assignments) => LOST_RELEASE_TIME,
            true => Duration::ZERO,
        };
        let deadline = Instant::now() + time;
        self.revocations.push(Revocation { assignments, deadline, lost, done });
    }

    /// Complete the revocations of which nothing runs any more, or whose time is up.
    pub(super) fn complete_revocations(&mut self) {
        let now = Instant::now();
        for revocation in std::mem::take(&mut self.revocations) {
            let running = self.tasks.running_in(&revocation.assignments);
            if running > 0 && now < revocation.deadline {
                self.revocations.push(revocation);
            } else {
                self.complete(revocation, running);
            }
        }
    }

    fn complete(&mut self, revocation: Revocation, running: usize) {
        if running > 0 && !revocation.lost {
            let unacknowledged = self.context.metrics.unacknowledged.get();
            error!(
                events = running,
                unacknowledged, "drain time exceeded; unfinished events are fenced"
            );
        }
        if self.tasks.abort(&revocation.assignments) > 0 {
            // The next owner publishes what has not been sent.
            self.context.outcomes.purge();
        }
        for id in &revocation.assignments {
            if self.assignments.is_current(*id) {
                self.parked.remove_partition(id.partition);
                self.tasks.forget_partition(id.partition);
            }
        }
        let paused = self.assignments.remove(&revocation.assignments);
        self.recovery.retain(|epoch| self.assignments.has_epoch(epoch));
        self.share_quota();
        if !paused.is_empty() {
            // The client keeps a partition paused across assignments, but a new assignment starts
            // unpaused here.
            self.source.resume(&paused);
        }
        // Fails where the consumer has stopped to wait; the partitions are fenced all the same.
        revocation.done.send(()).unwrap_or_default();
    }
}
