//! The tasks that deliver events and send dead letters, one task each.
//!
//! A task runs a delivery, reports its [`TaskEvent`]s and publishes. The session goes on as soon as
//! the answer is settled; the offset is finished only when the answer is acknowledged.
//! Each task ends in [`Tasks::next`], cancelled and panicked ones too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::assignment::{AssignedOffset, AssignmentId};
use super::backpressure::MemoryLoad;
use super::task_events::{TaskEventSender, TaskEvents};
use crate::deliver::{
    Context, Delivery, Ended, Ports, SessionQueues, TaskEvent, Turn, send_dead_letter,
};
use crate::domain::course::Policy;
use crate::domain::event::{Event, Malformed};
use crate::domain::ledger_entry::{EntryState, RecoveredEntry};
use crate::domain::record::Record;
use crate::domain::signal::Attempt;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::gate::Ticket;

/// If another instance claims our event, wait this many settle times before claiming it back: a
/// live owner has reconciled and answered by then.
const RECLAIM_AFTER_SETTLE_TIMES: u32 = 3;
const MIN_RECLAIM_DELAY: Duration = Duration::from_secs(1);

/// A task that runs.
struct RunningTask {
    offset: AssignedOffset,
    size_bytes: usize,
    kind: TaskKind,
    /// The ledger holds the record: the task keeps no offset from being committed.
    parked: bool,
    abort: AbortHandle,
}

enum TaskKind {
    Delivery { turn: Turn, deadline: Timestamp },
    DeadLetter,
}

impl RunningTask {
    fn deadline(&self) -> Option<Deadline> {
        match &self.kind {
            TaskKind::Delivery { turn, deadline } => Some((*deadline, turn.rank().ticket)),
            TaskKind::DeadLetter => None,
        }
    }
}

/// The deadline of an event; the ticket tells apart those that are due at the same time.
type Deadline = (Timestamp, Ticket);

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskEnd {
    /// The delivery returned.
    Delivered(Ended),
    /// It was aborted because its partition was revoked.
    Aborted,
    /// A bug: its record has no answer.
    Panicked,
}

/// What the event loop has to know about a task.
pub(super) enum TaskReport {
    /// Its event was parked.
    Parked(AssignedOffset),
    Ended(AssignedOffset, TaskEnd),
}

/// Whether a record is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartResult {
    /// A task works on it.
    Started,
    /// It is not an escalation of this service.
    NotForUs,
}

/// What every task needs.
struct TaskInput {
    record: Record,
    offset: AssignedOffset,
    draining: CancellationToken,
}

/// All tasks.
pub(super) struct Tasks<P: Ports> {
    context: Arc<Context<P>>,
    rules: DecodeRules,
    tasks: JoinSet<Ended>,
    running: HashMap<task::Id, RunningTask>,
    events: TaskEvents,
    session_queues: SessionQueues,
    /// The deadlines of the events that are neither settled nor blocked.
    deadlines: BTreeSet<Deadline>,
    /// The tasks that wait for a ledger entry that cannot be read.
    blocked: HashSet<task::Id>,
    load: MemoryLoad,
}

impl<P: Ports> Tasks<P> {
    pub(super) fn new(context: Arc<Context<P>>, rules: DecodeRules) -> Self {
        Self {
            context,
            rules,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            events: TaskEvents::new(),
            session_queues: SessionQueues::default(),
            deadlines: BTreeSet::new(),
            blocked: HashSet::new(),
            load: MemoryLoad::default(),
        }
    }

    /// Start a task for a record from Kafka.
    pub(super) fn start(
        &mut self,
        record: Record,
        offset: AssignedOffset,
        draining: CancellationToken,
    ) -> StartResult {
        let decoded = decode(&record, &self.rules, self.context.clock.now());
        self.start_decoded(decoded, TaskInput { record, offset, draining }, AnswerState::Unknown)
    }

    /// Start a task for an event that the previous owner left unfinished.
    pub(super) fn start_recovered(
        &mut self,
        entry: RecoveredEntry,
        offset: AssignedOffset,
        draining: CancellationToken,
    ) -> StartResult {
        // It was accepted once, and no other instance will deliver it: a rule that has changed since
        // must not reject it.
        let decoded = decode(&entry.record, &self.rules.of_accepted(), entry.first_seen);
        let answer = match entry.state {
            EntryState::Settled { .. } => AnswerState::Stored,
            _ => AnswerState::Unknown,
        };
        self.start_decoded(decoded, TaskInput { record: entry.record, offset, draining }, answer)
    }

    fn start_decoded(
        &mut self,
        decoded: Decoded,
        input: TaskInput,
        answer: AnswerState,
    ) -> StartResult {
        match decoded {
            Decoded::NotForUs => return StartResult::NotForUs,
            Decoded::Malformed(malformed) => self.spawn_dead_letter(malformed, input),
            Decoded::Event(event) => self.spawn_delivery(*event, input, answer),
        }
        StartResult::Started
    }

    fn spawn_dead_letter(&mut self, malformed: Malformed, input: TaskInput) {
        let (offset, size_bytes) = (input.offset, input.record.size_bytes());
        let (context, events) = (self.context.clone(), self.events.sender());
        let abort = self.tasks.spawn(async move {
            let report = |event| events.send(event);
            loop {
                let end = send_dead_letter(&context, &input.record, &malformed, &report).await;
                if !may_reclaim(end, &input.draining, &context.policy).await {
                    return end;
                }
            }
        });
        self.insert(offset, size_bytes, TaskKind::DeadLetter, abort);
    }

    fn spawn_delivery(&mut self, event: Event, input: TaskInput, answer: AnswerState) {
        let (offset, size_bytes, deadline) =
            (input.offset, input.record.size_bytes(), event.deadline);
        let turn = self.session_queues.enqueue(&event.session_id, event.requested_at);
        let task = DeliveryTask {
            context: self.context.clone(),
            needs_call: event.request.is_ok() && answer == AnswerState::Unknown,
            event,
            input,
            turn: turn.clone(),
            events: self.events.sender(),
        };
        let abort = self.tasks.spawn(task.run());
        let kind = TaskKind::Delivery { turn, deadline };
        self.insert(offset, size_bytes, kind, abort);
    }

    fn insert(
        &mut self,
        offset: AssignedOffset,
        size_bytes: usize,
        kind: TaskKind,
        abort: AbortHandle,
    ) {
        let id = abort.id();
        let running = RunningTask { offset, size_bytes, kind, parked: false, abort };
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
                    if let Some(parked) = self.on_event(id, event) {
                        return TaskReport::Parked(parked);
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => {
                    let (id, end) = match joined {
                        Ok((id, delivered)) => (id, TaskEnd::Delivered(delivered)),
                        Err(error) if error.is_panic() => (error.id(), TaskEnd::Panicked),
                        Err(error) => (error.id(), TaskEnd::Aborted),
                    };
                    if let Some(offset) = self.remove(id) {
                        return TaskReport::Ended(offset, end);
                    }
                }
            }
        }
    }

    /// Handle an event of a task; returns the task's offset if its event has been parked.
    fn on_event(&mut self, id: task::Id, event: TaskEvent) -> Option<AssignedOffset> {
        let running = self.running.get_mut(&id)?;
        match event {
            TaskEvent::Parked => {
                if !std::mem::replace(&mut running.parked, true) {
                    self.load.park(running.size_bytes);
                }
                return Some(running.offset);
            }
            TaskEvent::Settled => Self::leave_session(&mut self.deadlines, running),
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

    fn remove(&mut self, id: task::Id) -> Option<AssignedOffset> {
        self.blocked.remove(&id);
        let task = self.running.remove(&id)?;
        if task.parked {
            self.load.remove_parked(task.size_bytes);
        } else {
            self.load.remove(task.size_bytes);
        }
        // An aborted task has not settled: its session goes on here.
        Self::leave_session(&mut self.deadlines, &task);
        Some(task.offset)
    }

    fn leave_session(deadlines: &mut BTreeSet<Deadline>, task: &RunningTask) {
        if let TaskKind::Delivery { turn, .. } = &task.kind {
            turn.leave();
        }
        if let Some(deadline) = task.deadline() {
            deadlines.remove(&deadline);
        }
    }

    pub(super) fn load(&self) -> &MemoryLoad {
        &self.load
    }

    /// Number of sessions with unsettled events.
    pub(super) fn sessions(&self) -> usize {
        self.session_queues.sessions()
    }

    /// The earliest deadline of an event that is neither settled nor blocked.
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Number of tasks that wait for a ledger entry that cannot be read.
    pub(super) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// Number of tasks that still run for these assignments.
    pub(super) fn running_in(&self, assignments: &[AssignmentId]) -> usize {
        let is_theirs = |task: &&RunningTask| assignments.contains(&task.offset.assignment);
        self.running.values().filter(is_theirs).count()
    }

    /// Abort the tasks that still run for these assignments; returns their number.
    pub(super) fn abort(&self, assignments: &[AssignmentId]) -> usize {
        let is_theirs = |task: &&RunningTask| assignments.contains(&task.offset.assignment);
        let mut tasks: Vec<_> = self.running.values().filter(is_theirs).collect();
        // A fixed order, so that a simulation can be replayed.
        tasks.sort_by_key(|task| task.offset.offset);
        for task in &tasks {
            task.abort.abort();
        }
        tasks.len()
    }
}

/// Whether the answer of an event is stored when its task starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerState {
    Unknown,
    /// The ledger holds it; it may not have been published.
    Stored,
}

/// After a delivery that was fenced or blocked: wait until it may be tried again. Returns false
/// where there is nothing to try again, or the partition drains.
async fn may_reclaim(end: Ended, draining: &CancellationToken, policy: &Policy) -> bool {
    if !matches!(end, Ended::Fenced | Ended::Blocked) {
        return false;
    }
    // While the partition stays ours, the instance that fenced us had lost the partition without
    // knowing it, and will not answer.
    tokio::select! {
        biased;
        () = draining.cancelled() => false,
        () = sleep((policy.settle_time * RECLAIM_AFTER_SETTLE_TIMES).max(MIN_RECLAIM_DELAY)) => true,
    }
}

/// The task of one event.
struct DeliveryTask<P: Ports> {
    context: Arc<Context<P>>,
    event: Event,
    input: TaskInput,
    needs_call: bool,
    turn: Turn,
    events: TaskEventSender,
}

impl<P: Ports> DeliveryTask<P> {
    async fn run(self) -> Ended {
        let delivery = Delivery {
            context: &self.context,
            event: &self.event,
            record: &self.input.record,
            turn: &self.turn,
            needs_call: self.needs_call,
            attempt: Attempt::First,
            draining: &self.input.draining,
            on_event: &|event| self.events.send(event),
        };
        loop {
            let end = delivery.run().await;
            if !may_reclaim(end, &self.input.draining, &self.context.policy).await {
                return end;
            }
        }
    }
}
