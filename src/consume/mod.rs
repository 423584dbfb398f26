//! From records to ordered deliveries and offsets to commit.
//!
//! One event loop owns the state: which partitions are assigned ([`assignment`]), what the previous
//! owner left unfinished in them ([`recovery`]), which events are worked on ([`tasks`]), which are
//! parked in the ledger ([`parked`], [`waiting_rooms`]), and how much may be read
//! ([`backpressure`]). The loop never waits for Desk, Kafka or the ledger: each
//! event has a task of its own. A revoked partition drains within its time; then its tasks are
//! aborted.
//! No offset is committed past an event that is neither answered nor parked in the ledger.

mod assignment;
mod backpressure;
mod current_rules;
mod delivery_task;
mod event_count;
mod identities;
mod oldest_parked;
mod parked;
mod parked_reads;
mod recovery;
mod reports;
mod revocations;
mod running;
mod skipped_kinds;
mod task_events;
mod tasks;
mod unreadable;
mod waiting_rooms;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

pub use self::backpressure::IntakeLimits;

use self::assignment::{AssignedRecord, Assignments, WaitingRecord};
use self::backpressure::{IntakeState, decide};
use self::delivery_task::{TaskInput, TaskSource};
use self::parked::ParkedEvents;
use self::recovery::Recovery;
use self::revocations::Revocation;
use self::tasks::{StartResult, Tasks};
use crate::deliver::{Context, OutcomePublisher as _, Ports, SharedRules};
use crate::domain::ledger_entry::StoredIdentity;
use crate::domain::record::Record;
use crate::domain::watermark::RecordStart;
use crate::ledger::Ledger as _;
use crate::telemetry::RebalanceKind;

/// A message of the Kafka consumer, in its order.
#[derive(Debug)]
pub enum Inbound {
    /// The topic's partition count; sent before the first assignment.
    PartitionCount(usize),
    /// These partitions are assigned.
    Assigned(Vec<i32>),
    /// Records of assigned partitions, in the order of each partition.
    Records(Vec<Record>),
    /// These partitions are read from a start that was chosen now: once after an assignment, and
    /// again where the topic was deleted and created again. Records received before are of the old
    /// topic.
    ReadingStarts(Vec<ReadingStart>),
    /// Every record that this partition had when its reading began was sent. Once per reading.
    EndReached(i32),
    /// Another instance may own the partitions, or may soon: the group's coordinator has been silent for
    /// long, or the client has lost them.
    OwnershipInDoubt,
    /// Kafka delivers none of the records of these partitions again that it has delivered so far, because
    /// their topic was deleted. Sent before they are revoked.
    TopicGone {
        /// The partitions.
        partitions: Vec<i32>,
        /// It was deleted; otherwise it may have been.
        is_certain: bool,
    },
    /// These partitions are being revoked.
    Revoked {
        /// The partitions.
        partitions: Vec<i32>,
        /// Another instance may own them already: they are not drained.
        lost: bool,
        /// Receives `()` when they are drained and fenced.
        done: SyncSender<()>,
    },
    /// The consumer's client ends, so every assigned partition is revoked. Another client may
    /// follow, whose messages come through the same channel.
    Ending {
        /// As in [`Inbound::Revoked`].
        lost: bool,
        /// As in [`Inbound::Revoked`].
        done: SyncSender<()>,
    },
}

/// One run through the records of a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingStart {
    /// The partition.
    pub partition: i32,
    /// Names this reading: what is stored for another one is ignored.
    pub reading: u64,
    /// No record ahead of this offset will be delivered. `None`: the client has no offset, and
    /// reports that as an error.
    pub from: Option<i64>,
    /// No record from this offset on was ever read by the group, as far as its offsets prove that.
    pub unread_from: i64,
}

/// The Kafka consumer, as the event loop needs it. No method waits for a broker.
pub trait Source: Send + 'static {
    /// Everything below this offset is finished in this reading, and is to be committed, also where
    /// a higher one was: that would skip records once the partition has grown beyond it.
    fn store(&self, partition: i32, reading: u64, offset: i64);
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
    pub rules: SharedRules,
    /// How much is read ahead.
    pub limits: IntakeLimits,
    /// How long a revoked partition may drain.
    pub drain: Duration,
}

/// Nothing else wakes the loop when a drain's time is up or a hold becomes a pause.
const TICK: Duration = Duration::from_millis(100);

/// From one update of what takes time to find out to the next.
const SLOW_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// From one look for parked events that an operator has made due or given up to the next.
const OPERATOR_INTERVAL: Duration = Duration::from_secs(2);

/// Consume until the consumer ends and drops its end of `inbound`.
pub async fn consume<P: Ports, S: Source>(
    mut inbound: mpsc::Receiver<Inbound>,
    source: S,
    settings: IntakeSettings,
    context: Arc<Context<P>>,
) {
    let mut event_loop = EventLoop {
        tasks: Tasks::new(context.clone(), settings.rules.clone(), &settings.limits),
        parked: ParkedEvents::new(context.clone(), settings.topic.clone()),
        recovery: Recovery::new(context.clone(), settings.topic.clone()),
        assignments: Assignments::default(),
        revocations: Vec::new(),
        full_since: None,
        hold: false,
        slowly_reported: None,
        looked_at: Instant::now(),
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
            step = event_loop.recovery.next() => event_loop.on_recovery_step(step),
            read = event_loop.parked.next() => event_loop.on_parked_read(read),
            report = event_loop.tasks.next() => event_loop.on_reports(report),
            message = inbound.recv(), if !event_loop.hold => match message {
                Some(message) => event_loop.on_inbound(message),
                None => break,
            },
            _ = tick.tick() => {
                event_loop.report_slowly();
                event_loop.look_for_operator();
                event_loop.start_held();
            }
        }
        event_loop.ask_identities();
        event_loop.assignments.note_silence(event_loop.context.activity.intake_is_paused());
        event_loop.start_all_early();
        event_loop.start_waiting_records();
        event_loop.read_due();
        event_loop.complete_revocations();
        event_loop.apply_backpressure();
        event_loop.report();
    }
}

struct EventLoop<P: Ports, S> {
    tasks: Tasks<P>,
    recovery: Recovery<P>,
    parked: ParkedEvents<P>,
    assignments: Assignments,
    revocations: Vec<Revocation>,
    /// Of the last [`backpressure::FlowDecision`], as is `hold`.
    full_since: Option<Instant>,
    hold: bool,
    slowly_reported: Option<Instant>,
    /// When it looked for what an operator has changed.
    looked_at: Instant,
    /// Of the topic; 0 until the consumer has sent it.
    partition_count: usize,
    source: S,
    settings: IntakeSettings,
    context: Arc<Context<P>>,
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
                self.context.metrics.rebalanced(RebalanceKind::Assigned);
                let epoch = self.assignments.add(&partitions);
                // The client may have forgotten that it was to pause them.
                let paused = self.assignments.paused(&partitions);
                if !paused.is_empty() {
                    self.source.pause(&paused);
                }
                self.tasks.session_queues.begin_assignment(&partitions);
                self.recovery.retain(|epoch| self.assignments.has_epoch(epoch));
                self.share_quota();
                self.recovery.start(partitions, epoch, Duration::ZERO);
                self.context.health.set_joined();
            }
            Inbound::Records(records) => {
                records.into_iter().for_each(|record| self.assignments.push(record));
            }
            Inbound::EndReached(partition) => self.assignments.set_end_reached(partition),
            Inbound::ReadingStarts(starts) => self.assignments.begin_reading(&starts),
            // Unsent messages would leave when the network is back, perhaps after another instance
            // has answered. Their deliveries look into the topic first and publish again.
            Inbound::OwnershipInDoubt => self.context.outcomes.purge(),
            Inbound::TopicGone { partitions, is_certain } => {
                self.on_topic_gone(&partitions, is_certain);
            }
            Inbound::Revoked { partitions, lost, done } => {
                info!(kafka.partitions = ?partitions, lost, "partitions revoked");
                self.drain(Some(&partitions), lost, done);
            }
            Inbound::Ending { lost, done } => self.drain(None, lost, done),
        }
    }

    fn start_waiting_records(&mut self) {
        while self.settings.limits.admit(self.tasks.load())
            && !self.context.activity.intake_is_paused()
        {
            let Some(waiting) = self.assignments.pop_oldest() else { return };
            self.start(waiting);
        }
    }

    fn start(&mut self, WaitingRecord { record, is_of_old_topic }: WaitingRecord) {
        let partition = record.position.partition;
        let Some(assignment) = self.assignments.get_mut(partition) else { return };
        let (mut identities, mut has_dead_letter) = (Vec::new(), false);
        if !is_of_old_topic {
            match assignment.start(record.identity()) {
                RecordStart::New => {}
                RecordStart::Again => return,
                RecordStart::Rewound { watermark, .. } => {
                    self.source.store(partition, assignment.reading(), watermark);
                }
            }
            has_dead_letter = assignment.has_dead_letter(&record);
            identities = assignment.take_identities(record.position.offset);
            self.start_early(&record.position);
        }
        self.start_task(record, &identities, has_dead_letter);
    }

    /// Start a task for a record; `identities` are those that the ledger has for its offset. One that has
    /// a dead letter stays one, whatever today's rules make of it.
    fn start_task(&mut self, record: Record, identities: &[StoredIdentity], has_dead_letter: bool) {
        let partition = record.position.partition;
        let Some(assignment) = self.assignments.get_mut(partition) else { return };
        let identity = record.identity();
        let read_before = assignment.read_before(&identity);
        // The task of the event that came from the ledger finishes the offset.
        if assignment.in_memory.contains(&identity) {
            return;
        }
        let (at, state) = (assignment.at(identity), assignment.state.clone());
        let is_answered =
            identities.iter().any(|stored| stored.is_answered && stored.is_of(&record));
        let source = TaskSource::Kafka { read_before, is_answered };
        let input = TaskInput { record, at, state, source };
        let started = if has_dead_letter {
            self.tasks.spawn_dead_letter(None, input);
            StartResult::Started
        } else {
            self.tasks.start(input, identities, self.parked.rooms())
        };
        match started {
            StartResult::Started => {
                assignment.in_memory.insert(identity);
            }
            StartResult::NotForUs => self.store(at),
            StartResult::Held(record) => assignment.hold(*record),
            StartResult::Repetition => {
                self.context.metrics.duplicates.inc();
                self.store(at);
            }
        }
    }

    /// Read the parked events that are due, and look for those that nobody here knows.
    fn read_due(&mut self) {
        let Self { parked, tasks, assignments, .. } = self;
        parked.sweep(assignments);
        parked.read_due(assignments, tasks.retry_slots(), tasks.events_from_ledger());
    }

    fn store(&mut self, at: AssignedRecord) {
        let partition = at.assignment.partition;
        if let Some(assignment) = self.assignments.get_mut(partition)
            && let Some(watermark) = assignment.finish(at.record)
        {
            self.source.store(partition, assignment.reading(), watermark);
        }
    }

    /// Tell the gate our share of the group's quota: transfers for the partitions that stay, state
    /// queries also for those that drain, because what is in doubt is reconciled to the end.
    fn share_quota(&self) {
        let all = self.partition_count.max(self.assignments.min_partition_count());
        self.context.metrics.topic_partitions.set(self.partition_count as i64);
        let (transfers, state_queries) = (self.assignments.staying(), self.assignments.all());
        self.context.gate.set_share(&transfers, &state_queries, all);
        self.context.activity.set_assigned(state_queries, self.partition_count);
    }

    fn apply_backpressure(&mut self) {
        let is_unavailable = self.context.ledger.is_unavailable();
        let is_paused = self.context.activity.intake_is_paused();
        let state = IntakeState {
            now: Instant::now(),
            full_since: self.full_since,
            must_pause: is_unavailable || is_paused,
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
        // An operator's pause has a series of its own.
        let by_backpressure = decision.paused && (is_unavailable || !is_paused);
        self.context.metrics.paused_by_backpressure.set(i64::from(by_backpressure));
    }

    /// Update what takes time to find out, once a second: the waiting rooms that `/status` shows, and the
    /// oldest unfinished event.
    fn report_slowly(&mut self) {
        let now = Instant::now();
        if self.slowly_reported.is_none_or(|last| now - last >= SLOW_REPORT_INTERVAL) {
            self.slowly_reported = Some(now);
            self.context.health.set_rooms(self.parked.room_status());
            let in_tasks = self.tasks.oldest_received_at();
            let oldest = [in_tasks, self.parked.oldest.oldest(), self.assignments.oldest_early()];
            let oldest = oldest.into_iter().flatten().min();
            self.context.metrics.oldest_unfinished(oldest);
        }
    }

    /// Read due events soon if any is parked: an operator may have made one due, or given one up.
    fn look_for_operator(&mut self) {
        let is_time = self.looked_at.elapsed() >= OPERATOR_INTERVAL;
        if is_time && self.parked.counts() != [0; 3] {
            self.looked_at = Instant::now();
            self.parked.check_soon();
        }
    }

    /// Update `/health` and the metrics.
    fn report(&self) {
        let health = &self.context.health;
        health.report_progress();
        health.set_earliest_deadline(self.tasks.earliest_deadline());
        health.set_recovering_since(self.assignments.recovering_since());
        health.set_blocked_events(self.tasks.blocked() + self.assignments.held());
        let metrics = &self.context.metrics;
        metrics.partitions.set(self.assignments.len() as i64);
        let in_memory = self.tasks.load().events() + self.assignments.early();
        metrics.in_memory.set(in_memory as i64);
        metrics.sessions.set(self.tasks.sessions() as i64);
        metrics.parked_events(self.parked.counts());
    }
}
