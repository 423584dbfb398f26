//! From records to ordered deliveries and offsets to commit.
//!
//! One event loop owns the state: which partitions are assigned ([`assignment`]), what the previous
//! owner left unfinished in them ([`recovery`]), which events are worked on ([`tasks`]), and how
//! much may be read ([`backpressure`]). The loop never waits for Desk, Kafka or the ledger: each
//! event has a task of its own. A revoked partition drains within its time; then its tasks are
//! aborted.
//! No offset is committed past an event that is neither answered nor parked in the ledger.

mod assignment;
mod backpressure;
mod recovery;
mod task_events;
mod tasks;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info};

pub use self::backpressure::IntakeLimits;

use self::assignment::{AssignedOffset, AssignmentId, Assignments, RecoveredOffset};
use self::backpressure::{IntakeState, decide};
use self::recovery::{RETRY_DELAY, Recovery, RecoveryResult};
use self::tasks::{StartResult, TaskEnd, TaskReport, Tasks};
use crate::deliver::{Context, Ended, OutcomePublisher as _, Ports};
use crate::domain::ledger_entry::RecoveredEntry;
use crate::domain::record::Record;
use crate::domain::wire::escalation::DecodeRules;
use crate::ledger::Ledger as _;

/// A message of the Kafka consumer, in its order.
#[derive(Debug)]
pub enum Inbound {
    /// The topic's partition count; sent before the first assignment.
    PartitionCount(usize),
    /// These partitions are assigned.
    Assigned(Vec<i32>),
    /// Records of assigned partitions, in the order of each partition.
    Records(Vec<Record>),
    /// The group's coordinator has been silent for so long that another instance may soon own the
    /// partitions.
    CoordinatorSilent,
    /// These partitions are being revoked.
    Revoked {
        /// The partitions.
        partitions: Vec<i32>,
        /// Another instance may own them already: they are not drained.
        lost: bool,
        /// Receives `()` when they are drained and fenced.
        done: SyncSender<()>,
    },
    /// The consumer ends: every assigned partition is revoked.
    Ending {
        /// As in [`Inbound::Revoked`].
        lost: bool,
        /// As in [`Inbound::Revoked`].
        done: SyncSender<()>,
    },
}

/// The Kafka consumer, as the event loop needs it. No method waits for a broker.
pub trait Source: Send + 'static {
    /// Everything below this offset is finished and may be committed.
    fn store(&self, partition: i32, offset: i64);
    /// Deliver no records of these partitions.
    fn pause(&self, partitions: &[i32]);
    /// Deliver the records of these partitions again.
    fn resume(&self, partitions: &[i32]);
}

/// Settings of the intake.
#[derive(Debug, Clone)]
pub struct IntakeSettings {
    /// The topic that is consumed.
    pub topic: Arc<str>,
    /// How records are decoded.
    pub rules: DecodeRules,
    /// How much is read ahead.
    pub limits: IntakeLimits,
    /// How long a revoked partition may drain.
    pub drain: Duration,
}

/// How many more task reports are handled, after the first, before the state that depends on them is updated.
const REPORT_BATCH: usize = 32;

/// Nothing else wakes the loop when a drain's time is up or a hold becomes a pause.
const TICK: Duration = Duration::from_millis(100);

/// Consume until the consumer ends and drops its end of `inbound`.
pub async fn consume<P: Ports, S: Source>(
    mut inbound: mpsc::Receiver<Inbound>,
    source: S,
    settings: IntakeSettings,
    context: Arc<Context<P>>,
) {
    let mut event_loop = EventLoop {
        tasks: Tasks::new(context.clone(), settings.rules.clone()),
        recovery: Recovery::new(context.clone(), settings.topic.clone()),
        assignments: Assignments::default(),
        revocations: Vec::new(),
        full_since: None,
        hold: false,
        partition_count: 0,
        source,
        settings,
        context,
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Work in progress first: it is bounded, and the simulation needs a fixed order.
            biased;
            result = event_loop.recovery.next() => event_loop.on_recovery(result),
            report = event_loop.tasks.next() => event_loop.on_reports(report),
            message = inbound.recv(), if !event_loop.hold => match message {
                Some(message) => event_loop.on_inbound(message),
                None => break,
            },
            _ = tick.tick() => {}
        }
        event_loop.start_waiting_records();
        event_loop.complete_revocations();
        event_loop.apply_backpressure();
        event_loop.report();
    }
}

struct EventLoop<P: Ports, S> {
    tasks: Tasks<P>,
    recovery: Recovery<P>,
    assignments: Assignments,
    revocations: Vec<Revocation>,
    /// Of the last [`backpressure::FlowDecision`], as is `hold`.
    full_since: Option<Instant>,
    hold: bool,
    /// Of the topic; 0 until the consumer has sent it.
    partition_count: usize,
    source: S,
    settings: IntakeSettings,
    context: Arc<Context<P>>,
}

/// Assignments that drain.
#[derive(Debug)]
struct Revocation {
    assignments: Vec<AssignmentId>,
    /// When the tasks that still run are aborted.
    deadline: Instant,
    lost: bool,
    done: SyncSender<()>,
}

impl<P: Ports, S: Source> EventLoop<P, S> {
    fn on_inbound(&mut self, message: Inbound) {
        match message {
            Inbound::PartitionCount(count) => {
                self.partition_count = count;
                self.share_quota();
            }
            Inbound::Assigned(partitions) => {
                info!(kafka.partitions = ?partitions, "partitions assigned");
                let epoch = self.assignments.add(&partitions);
                self.recovery.retain(|epoch| self.assignments.has_epoch(epoch));
                self.share_quota();
                self.recovery.start(partitions, epoch, Duration::ZERO);
                self.context.health.set_joined();
            }
            Inbound::Records(records) => {
                records.into_iter().for_each(|record| self.assignments.push(record));
            }
            // Unsent messages would leave when the network is back, perhaps after another instance
            // has answered. Their deliveries look into the topic first and publish again.
            Inbound::CoordinatorSilent => self.context.outcomes.purge(),
            Inbound::Revoked { partitions, lost, done } => {
                info!(kafka.partitions = ?partitions, lost, "partitions revoked");
                self.drain(Some(&partitions), lost, done);
            }
            Inbound::Ending { lost, done } => self.drain(None, lost, done),
        }
    }

    fn drain(&mut self, partitions: Option<&[i32]>, lost: bool, done: SyncSender<()>) {
        let assignments = self.assignments.drain(partitions);
        // Our share of the quota must end before that of the next owner begins.
        self.share_quota();
        let time = if lost { Duration::ZERO } else { self.settings.drain };
        let deadline = Instant::now() + time;
        self.revocations.push(Revocation { assignments, deadline, lost, done });
    }

    fn start_waiting_records(&mut self) {
        while self.settings.limits.admit(self.tasks.load()) {
            let Some(record) = self.assignments.pop_oldest() else { return };
            self.start(record);
        }
    }

    fn start(&mut self, record: Record) {
        let Some(assignment) = self.assignments.get_mut(record.position.partition) else { return };
        let offset = record.position.offset;
        if !assignment.watermark.start(offset) {
            return;
        }
        let at = assignment.offset(offset);
        match assignment.recovered_offsets.get(&offset) {
            // The recovered event finishes the offset.
            Some(RecoveredOffset::Unfinished) => {}
            Some(RecoveredOffset::Finished) => self.store(at),
            None => {
                let draining = assignment.draining.clone();
                if self.tasks.start(record, at, draining) == StartResult::NotForUs {
                    self.context.metrics.skipped.inc();
                    self.store(at);
                }
            }
        }
    }

    /// Handle a report and those that are ready as well, so that the rest of the loop's round is done
    /// once for all of them.
    fn on_reports(&mut self, first: TaskReport) {
        self.on_report(first);
        for _ in 0..REPORT_BATCH {
            let Some(report) = self.tasks.next().now_or_never() else { break };
            self.on_report(report);
        }
    }

    fn on_report(&mut self, report: TaskReport) {
        match report {
            TaskReport::Parked(at)
            | TaskReport::Ended(at, TaskEnd::Delivered(Ended::Published | Ended::Duplicate)) => {
                // A late report must not finish an offset of a later assignment.
                if self.assignments.is_current(at.assignment) {
                    self.finish(at);
                }
            }
            // Released, or fenced or blocked while draining: the next owner finishes it.
            TaskReport::Ended(_, TaskEnd::Delivered(_) | TaskEnd::Aborted) => {}
            TaskReport::Ended(at, TaskEnd::Panicked) => {
                let (partition, offset) = (at.assignment.partition, at.offset);
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

    fn on_recovery(&mut self, result: RecoveryResult) {
        let RecoveryResult { partitions, epoch, found } = result;
        for entry in found.entries {
            self.start_recovered(entry, epoch);
        }
        let mut unread = found.blocked_partitions;
        for partition in partitions.iter().filter(|partition| !unread.contains(partition)) {
            if let Some(assignment) = self.assignments.of_epoch(*partition, epoch) {
                assignment.recovered = true;
            }
        }
        unread.retain(|partition| {
            let assignment = self.assignments.of_epoch(*partition, epoch);
            assignment.is_some_and(|assignment| !assignment.is_draining())
        });
        if !unread.is_empty() {
            self.recovery.start(unread, epoch, RETRY_DELAY);
        }
    }

    fn start_recovered(&mut self, entry: RecoveredEntry, epoch: u64) {
        let (partition, offset) = (entry.record.position.partition, entry.record.position.offset);
        let Some(assignment) = self.assignments.of_epoch(partition, epoch) else { return };
        let (at, draining) = (assignment.offset(offset), assignment.draining.clone());
        let state = match self.tasks.start_recovered(entry, at, draining) {
            StartResult::Started => RecoveredOffset::Unfinished,
            StartResult::NotForUs => RecoveredOffset::Finished,
        };
        assignment.recovered_offsets.insert(offset, state);
    }

    /// The event is answered or parked: it needs its offset no more.
    fn finish(&mut self, at: AssignedOffset) {
        if let Some(assignment) = self.assignments.get_mut(at.assignment.partition)
            && let Some(state) = assignment.recovered_offsets.get_mut(&at.offset)
        {
            *state = RecoveredOffset::Finished;
        }
        self.store(at);
    }

    fn store(&mut self, at: AssignedOffset) {
        let partition = at.assignment.partition;
        if let Some(assignment) = self.assignments.get_mut(partition)
            && let Some(watermark) = assignment.watermark.finish(at.offset)
        {
            self.source.store(partition, watermark);
        }
    }

    /// Complete the revocations of which nothing runs any more, or whose time is up.
    fn complete_revocations(&mut self) {
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
            error!(events = running, "drain time exceeded; unfinished events are fenced");
        }
        if self.tasks.abort(&revocation.assignments) > 0 {
            // The next owner publishes what has not been sent.
            self.context.outcomes.purge();
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

    /// Tell the gate our share of the group's quota: transfers for the partitions that stay, state
    /// queries also for those that drain, because what is in doubt is reconciled to the end.
    fn share_quota(&self) {
        let all = self.partition_count.max(self.assignments.min_partition_count());
        let (transfers, state_queries) = (self.assignments.staying(), self.assignments.all());
        self.context.gate.set_share(&transfers, &state_queries, all);
    }

    fn apply_backpressure(&mut self) {
        let state = IntakeState {
            now: Instant::now(),
            full_since: self.full_since,
            ledger_unavailable: self.context.ledger.is_unavailable(),
            partitions: self.assignments.states(),
        };
        let decision = decide(&self.settings.limits, &state);
        if !decision.pause.is_empty() {
            self.assignments.set_paused(&decision.pause, true);
            self.source.pause(&decision.pause);
        }
        if !decision.resume.is_empty() {
            self.assignments.set_paused(&decision.resume, false);
            self.source.resume(&decision.resume);
        }
        (self.full_since, self.hold) = (decision.full_since, decision.hold);
        self.context.metrics.intake_paused.set(i64::from(decision.paused));
    }

    /// Update `/health` and the metrics.
    fn report(&self) {
        let health = &self.context.health;
        health.report_progress();
        health.set_earliest_deadline(self.tasks.earliest_deadline());
        health.set_recovering_since(self.assignments.recovering_since());
        health.set_blocked_events(self.tasks.blocked());
        let metrics = &self.context.metrics;
        metrics.partitions.set(self.assignments.len() as i64);
        metrics.unfinished.set(self.tasks.load().events() as i64);
        metrics.sessions.set(self.tasks.sessions() as i64);
    }
}
