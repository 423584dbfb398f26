//! The tasks that deliver events and send dead letters, one task each.
//!
//! A task runs a delivery, reports its [`TaskEvent`]s and publishes. The session goes on as soon as
//! the answer is settled; the offset is finished only when the answer is acknowledged.
//! Each task ends in [`Tasks::next`], cancelled and panicked ones too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{self, AbortHandle, JoinSet};

use super::assignment::{AssignedRecord, AssignmentId, AssignmentState};
use super::backpressure::{IntakeLimits, MemoryLoad};
use super::current_rules::CurrentRules;
use super::delivery_task::{DeliveryTask, TaskInput, TaskSource, may_reclaim};
use super::identities::HeldRecord;
use super::running::{Deadline, RunningDelivery, RunningTask, TaskEnd, TaskKind, TaskOfEvent};
use super::skipped_kinds::{SkippedKinds, report_repetition};
use super::task_events::TaskEvents;
use super::unreadable::report_not_read;
use super::waiting_rooms::WaitingRooms;
use crate::deliver::{
    Context, Ended, Ports, QueueLimits, SessionArrival, SessionQueues, SharedRules, TaskEvent,
    send_dead_letter,
};
use crate::domain::course;
use crate::domain::event::{Event, Malformed};
use crate::domain::ledger_entry::{RecordOrigin, RecoveredEntry, StoredIdentity};
use crate::domain::repeats::SessionRepeats;
use crate::domain::signal::Attempt;
use crate::domain::wire::escalation::{
    Decoded, StoredRecord, decode_as, decode_stored, decode_with, stored_identity,
};
use crate::domain::wire::reading::ReadingSteps;

/// One in so many of `intake.max_events` may be events that are retried, and as many events that are
/// behind others of their session. The rest is left for those that were never tried.
const RESERVED_PART: usize = 4;

/// What the event loop has to know about a task.
pub(super) enum TaskReport {
    /// The answer of its event is stored.
    Settled { event: TaskOfEvent, found_agent: bool },
    /// The task ended; `event` is `None` for a dead letter.
    Ended { at: AssignedRecord, end: TaskEnd, event: Option<TaskOfEvent> },
}

/// Whether a record is worked on.
#[derive(Debug)]
pub(super) enum StartResult {
    /// A task works on it.
    Started,
    /// It is not an escalation of this service.
    NotForUs,
    /// It repeats another escalation of its session, which is answered instead.
    Repetition,
    /// Its event is unfinished, and the present rules do not read it as that.
    Held(Box<HeldRecord>),
}

/// Whether an event of the ledger is worked on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredResult {
    /// A task works on it.
    Started,
    /// The present rules do not read it as what it was; says how they read it.
    Unreadable(String),
}

/// All tasks.
pub(super) struct Tasks<P: Ports> {
    context: Arc<Context<P>>,
    pub(super) rules: CurrentRules,
    repeats: SessionRepeats,
    skipped_kinds: SkippedKinds,
    tasks: JoinSet<Ended>,
    running: HashMap<task::Id, RunningTask>,
    events: TaskEvents,
    pub(super) session_queues: SessionQueues,
    retry_slots: Arc<Semaphore>,
    /// Events in memory that came from the ledger.
    from_ledger: usize,
    /// Of all events in memory, when one from the ledger is started. Beyond `intake.max_events`, so
    /// that new events do not keep those of the ledger out.
    max_events: usize,
    /// The deadlines of the events that are neither settled nor blocked.
    deadlines: BTreeSet<Deadline>,
    /// The tasks that wait for a ledger entry that cannot be read.
    blocked: HashSet<task::Id>,
    load: MemoryLoad,
}

impl<P: Ports> Tasks<P> {
    pub(super) fn new(context: Arc<Context<P>>, rules: SharedRules, limits: &IntakeLimits) -> Self {
        let part = (limits.max_events / RESERVED_PART).max(1);
        let queue_limits = QueueLimits { per_session: limits.max_per_session, behind: part };
        Self {
            context,
            repeats: SessionRepeats::new(rules.current().input.same_session_within),
            skipped_kinds: SkippedKinds::default(),
            rules: CurrentRules::new(rules),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            events: TaskEvents::new(),
            session_queues: SessionQueues::new(queue_limits),
            retry_slots: Arc::new(Semaphore::new(part)),
            from_ledger: 0,
            max_events: limits.max_events + part,
            deadlines: BTreeSet::new(),
            blocked: HashSet::new(),
            load: MemoryLoad::default(),
        }
    }

    /// Start a task for a record from Kafka.
    pub(super) fn start(
        &mut self,
        input: TaskInput,
        identities: &[StoredIdentity],
        rooms: &WaitingRooms,
    ) -> StartResult {
        let mut steps = ReadingSteps::default();
        let now = self.context.clock.now();
        let decoded = decode_with(&input.record, &self.rules.of_new, now, &mut steps);
        if let Some(identity) = stored_identity(&decoded, &input.record, identities) {
            return self.start_as(identity, input, rooms);
        }
        match decoded {
            Decoded::NotForUs(skip) => {
                self.context.metrics.skipped(skip.reason);
                self.skipped_kinds.report(&skip, &input.record.position);
                return StartResult::NotForUs;
            }
            Decoded::Malformed(malformed) => self.spawn_dead_letter(Some(malformed), input),
            Decoded::Event(event) => {
                self.context.metrics.decoded(steps.into_format());
                if let Some(first) = self.repeats.first_of(&event, &input.record) {
                    report_repetition(&event, &input.record.position, &first.position);
                    return StartResult::Repetition;
                }
                self.spawn_delivery(*event, input, rooms);
            }
        }
        StartResult::Started
    }

    /// Start a task for the event as which this record was first claimed.
    fn start_as(
        &mut self,
        identity: &StoredIdentity,
        input: TaskInput,
        rooms: &WaitingRooms,
    ) -> StartResult {
        let now = self.context.clock.now();
        match decode_as(&input.record, identity, &self.rules.of_accepted, now) {
            Ok(event) => {
                self.spawn_delivery(*event, input, rooms);
                StartResult::Started
            }
            Err(why) => {
                report_not_read(&identity.key, &why);
                let (identity, record) = (identity.clone(), input.record);
                let held = HeldRecord { until: identity.deadline, record, identity };
                StartResult::Held(Box::new(held))
            }
        }
    }

    /// Start a task for an event from the ledger: it was parked, or the previous owner left it
    /// unfinished.
    pub(super) fn start_stored(
        &mut self,
        entry: RecoveredEntry,
        at: AssignedRecord,
        assignment: AssignmentState,
        rooms: &WaitingRooms,
        is_overdue: bool,
    ) -> StoredResult {
        let stored = decode_stored(&entry, &self.rules.of_accepted, self.context.clock.now());
        let RecoveredEntry { record, state, version, first_seen, .. } = entry;
        let source = TaskSource::Ledger { state, version, first_seen, is_overdue };
        let input = TaskInput { record, at, state: assignment, source };
        match stored {
            StoredRecord::Event(event) => self.spawn_delivery(*event, input, rooms),
            StoredRecord::DeadLetter(malformed) => self.spawn_dead_letter(Some(malformed), input),
            StoredRecord::Unreadable(why) => return StoredResult::Unreadable(why),
        }
        StoredResult::Started
    }

    /// `None`: the dead letter is stored.
    pub(super) fn spawn_dead_letter(&mut self, malformed: Option<Malformed>, input: TaskInput) {
        let (at, size_bytes) = (input.at, input.record.size_bytes());
        let (context, events) = (self.context.clone(), self.events.sender());
        let policy = context.policy.current();
        let abort = self.tasks.spawn(async move {
            let report = |event| events.send(event);
            let (record, read_before) = (&input.record, input.source.read_before());
            loop {
                let malformed = malformed.as_ref();
                let end = send_dead_letter(&context, record, malformed, read_before, &report).await;
                if !may_reclaim(&end, &input.state.draining, &policy).await {
                    return end;
                }
            }
        });
        self.insert(at, size_bytes, TaskKind::DeadLetter, abort);
    }

    fn spawn_delivery(&mut self, event: Event, input: TaskInput, rooms: &WaitingRooms) {
        let (at, size_bytes) = (input.at, input.record.size_bytes());
        let (source, origin) = (&input.source, input.source.origin());
        let arrival = SessionArrival {
            requested_at: event.requested_at,
            source: &input.record.position,
            origin,
            is_stored: source.is_answered(),
        };
        let turn = self.session_queues.enqueue(&event.session_id, &arrival);
        // One version of the rules for all of its delivery.
        let policy = self.context.policy.current();
        let now = self.context.clock.now();
        let received_at = source.first_seen().unwrap_or(now);
        let needs = course::needs(&event, &policy, now);
        let room = needs.room.filter(|room| rooms.admits(room));
        let is_retry = source.is_retry();
        let slots = self.retry_slots.clone();
        let running = RunningDelivery {
            turn: turn.clone(),
            received_at,
            deadline: event.deadline,
            room: room.clone(),
            from_room: source.room().cloned(),
            waited_for: source.waits_for().cloned(),
            _retry_slot: if source.takes_slot() { slots.try_acquire_owned().ok() } else { None },
            origin,
        };
        let progress = self.context.activity.unfinished_events().add(&event, received_at);
        let task = DeliveryTask {
            progress,
            context: self.context.clone(),
            needs_call: needs.call && !source.is_answered(),
            policy,
            event,
            origin,
            waited_for_session: source.waited_for_session(),
            attempt: if is_retry { Attempt::Again } else { Attempt::First },
            room,
            retry_slots: self.retry_slots.clone(),
            input,
            turn,
            events: self.events.sender(),
        };
        let abort = self.tasks.spawn(task.run());
        self.from_ledger += usize::from(origin == RecordOrigin::Ledger);
        self.insert(at, size_bytes, TaskKind::Delivery(running), abort);
    }

    fn insert(
        &mut self,
        at: AssignedRecord,
        size_bytes: usize,
        kind: TaskKind,
        abort: AbortHandle,
    ) {
        let id = abort.id();
        let running = RunningTask { at, size_bytes, kind, abort };
        self.deadlines.extend(running.deadline());
        self.load.add(size_bytes);
        self.running.insert(id, running);
    }

    /// The next report; pends while there is none.
    pub(super) async fn next(&mut self) -> TaskReport {
        loop {
            tokio::select! {
                // A task that settles and ends at once is reported in this order.
                biased;
                Some((id, event)) = self.events.next() => {
                    if let Some(report) = self.on_event(id, event) {
                        return report;
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => {
                    let (id, end) = match joined {
                        Ok((id, delivered)) => (id, TaskEnd::Delivered(delivered)),
                        Err(error) if error.is_panic() => (error.id(), TaskEnd::Panicked),
                        Err(error) => (error.id(), TaskEnd::Aborted),
                    };
                    if let Some((at, event)) = self.remove(id, &end) {
                        return TaskReport::Ended { at, end, event };
                    }
                }
            }
        }
    }

    /// Handle an event of a task; returns what the event loop has to know.
    fn on_event(&mut self, id: task::Id, event: TaskEvent) -> Option<TaskReport> {
        let running = self.running.get_mut(&id)?;
        match event {
            TaskEvent::Settled { found_agent } => {
                if let Some(deadline) = running.deadline() {
                    self.deadlines.remove(&deadline);
                }
                if let TaskKind::Delivery(delivery) = &running.kind {
                    delivery.turn.leave();
                }
                let event = running.report_event()?;
                return Some(TaskReport::Settled { event, found_agent });
            }
            TaskEvent::Blocked => {
                // It is not late: a restart would not help, so `/health` must not ask for one.
                if let Some(deadline) = running.deadline() {
                    self.deadlines.remove(&deadline);
                }
                self.blocked.insert(id);
            }
            TaskEvent::Claimed => {
                if self.blocked.remove(&id) {
                    self.deadlines.extend(running.deadline());
                }
            }
        }
        None
    }

    fn remove(
        &mut self,
        id: task::Id,
        end: &TaskEnd,
    ) -> Option<(AssignedRecord, Option<TaskOfEvent>)> {
        self.blocked.remove(&id);
        let mut task = self.running.remove(&id)?;
        self.load.remove(task.size_bytes);
        if let Some(deadline) = task.deadline() {
            self.deadlines.remove(&deadline);
        }
        if let TaskKind::Delivery(delivery) = &task.kind {
            self.from_ledger -= usize::from(delivery.origin == RecordOrigin::Ledger);
            match end {
                TaskEnd::Delivered(Ended::Parked { .. } | Ended::StaysParked | Ended::Changed) => {
                    delivery.turn.leave_parked();
                }
                TaskEnd::Delivered(Ended::Published | Ended::Duplicate | Ended::BeyondMemory) => {
                    delivery.turn.leave();
                }
                _ => delivery.turn.release(),
            }
        }
        Some((task.at, task.report_event()))
    }

    pub(super) fn load(&self) -> &MemoryLoad {
        &self.load
    }

    /// Whether another event from the ledger may be started. One past its deadline needs no slot.
    pub(super) fn may_start_stored(&self, needs_slot: bool) -> bool {
        let has_slot = self.retry_slots.available_permits() > 0;
        self.load.events() < self.max_events && (has_slot || !needs_slot)
    }

    /// Bound the events that wait in memory for a retry.
    pub(super) fn retry_slots(&self) -> &Semaphore {
        &self.retry_slots
    }

    /// Number of events in memory that came from the ledger.
    pub(super) fn events_from_ledger(&self) -> usize {
        self.from_ledger
    }

    /// Whether the ledger holds parked events of this partition, at the start of its assignment.
    pub(super) fn set_parked(&self, partition: i32, parked: bool) {
        self.session_queues.set_parked(partition, parked);
    }

    /// The partition is no longer assigned.
    pub(super) fn forget_partition(&mut self, partition: i32) {
        self.repeats.forget_partition(partition);
        self.session_queues.forget_partition(partition);
    }

    /// Number of sessions with unsettled events.
    pub(super) fn sessions(&self) -> usize {
        self.session_queues.sessions()
    }

    /// The earliest deadline of an event that is neither settled nor blocked.
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// When the oldest event in memory was first read. Takes as long as there are events.
    pub(super) fn oldest_received_at(&self) -> Option<Timestamp> {
        self.running.values().filter_map(RunningTask::received_at).min()
    }

    /// Number of tasks that wait for a ledger entry that cannot be read.
    pub(super) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// Number of tasks that still run for these assignments.
    pub(super) fn running_in(&self, assignments: &[AssignmentId]) -> usize {
        let is_theirs = |task: &&RunningTask| assignments.contains(&task.at.assignment);
        self.running.values().filter(is_theirs).count()
    }

    /// Abort the tasks that still run for these assignments; returns their number.
    pub(super) fn abort(&self, assignments: &[AssignmentId]) -> usize {
        let is_theirs = |task: &&RunningTask| assignments.contains(&task.at.assignment);
        let mut tasks: Vec<_> = self.running.values().filter(is_theirs).collect();
        // A fixed order, so that a simulation can be replayed.
        tasks.sort_by_key(|task| task.at.record.offset);
        for task in &tasks {
            task.abort.abort();
        }
        tasks.len()
    }
}
