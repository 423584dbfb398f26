//! Recovery: read from the ledger what the previous owner of a partition left unfinished.
//!
//! Each assignment is recovered by a task of its own, because the ledger may be unavailable for
//! hours. The records of a partition wait until its recovery is complete. Then another task counts
//! its parked events, for which nothing waits.
//!
//! An event that was recovered waits, too: for the records ahead of it that Kafka delivers again
//! ([`EarlyEvent`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::error;

use super::assignment::EarlyEvent;
use super::identities::{IdentityAnswer, IdentityQuestion};
use super::tasks::StoredResult;
use super::{EventLoop, Source};
use crate::deliver::{Context, Ports};
use crate::domain::ledger_entry::RecoveredEntry;
use crate::domain::record::Position;
use crate::domain::wire::escalation::{StoredRecord, decode_stored};
use crate::ledger::{CountQuery, Ledger as _, ParkedCount, RecordRange, Recovered};

/// Entries that cannot be read are read again after this time: an operator may have repaired them.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// What the ledger holds of some partitions of one assignment.
pub(super) struct RecoveryResult {
    partitions: Vec<i32>,
    /// The epoch of the assignment for which it was read.
    epoch: u64,
    found: Recovered,
}

/// How many events are parked in some partitions of one assignment.
pub(super) struct CountResult {
    partitions: Vec<i32>,
    epoch: u64,
    counts: Vec<ParkedCount>,
}

/// What a task of [`Recovery`] returns.
pub(super) enum RecoveryStep {
    Identified(IdentityAnswer),
    Recovered(RecoveryResult),
    Counted(CountResult),
}

/// The recoveries and counts in progress.
pub(super) struct Recovery<P: Ports> {
    context: Arc<Context<P>>,
    topic: Arc<str>,
    tasks: JoinSet<RecoveryStep>,
    running: Vec<RecoveryTask>,
}

/// A task, and the epoch of its assignment.
struct RecoveryTask {
    epoch: u64,
    task: AbortHandle,
}

impl<P: Ports> Recovery<P> {
    pub(super) fn new(context: Arc<Context<P>>, topic: Arc<str>) -> Self {
        Self { context, topic, tasks: JoinSet::new(), running: Vec::new() }
    }

    /// Read these partitions' unfinished entries after a delay.
    pub(super) fn start(&mut self, partitions: Vec<i32>, epoch: u64, delay: Duration) {
        // An assignment may add nothing, and then nothing waits for the ledger.
        if partitions.is_empty() {
            return;
        }
        let (context, topic) = (self.context.clone(), self.topic.clone());
        let task = self.tasks.spawn(async move {
            sleep(delay).await;
            let found = context.ledger.recover(topic, partitions.clone()).await;
            RecoveryStep::Recovered(RecoveryResult { partitions, epoch, found })
        });
        self.running.push(RecoveryTask { epoch, task });
    }

    /// Read the identities of some records.
    pub(super) fn read_identities(&mut self, question: IdentityQuestion) {
        let epoch = question.assignment.epoch();
        let (topic, partition) = (self.topic.clone(), question.assignment.partition);
        let range = RecordRange { topic, partition, offsets: question.offsets.clone() };
        let context = self.context.clone();
        let task = self.tasks.spawn(async move {
            let found = context.ledger.identities(range).await;
            RecoveryStep::Identified(IdentityAnswer { question, found })
        });
        self.running.push(RecoveryTask { epoch, task });
    }

    /// Count the events that are parked in these partitions. Events that are first seen from now on
    /// are counted where they are parked.
    fn count(&mut self, partitions: Vec<i32>, epoch: u64) {
        let context = self.context.clone();
        let (topic, seen_before) = (self.topic.clone(), context.clock.now());
        let task = self.tasks.spawn(async move {
            let query = CountQuery { topic, partitions: partitions.clone(), seen_before };
            let counts = context.ledger.count_parked(query).await;
            RecoveryStep::Counted(CountResult { partitions, epoch, counts })
        });
        self.running.push(RecoveryTask { epoch, task });
    }

    /// Abort the tasks of assignments that have ended.
    pub(super) fn retain(&mut self, is_assigned: impl Fn(u64) -> bool) {
        self.running.retain(|RecoveryTask { epoch, task }| {
            let keep = is_assigned(*epoch);
            if !keep {
                task.abort();
            }
            keep && !task.is_finished()
        });
    }

    /// The next result; pends while no recovery is in progress.
    pub(super) async fn next(&mut self) -> RecoveryStep {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(step)) => {
                    self.running.retain(|running| !running.task.is_finished());
                    return step;
                }
                Some(Err(aborted)) if aborted.is_cancelled() => {}
                Some(Err(panicked)) => {
                    // Its partitions stay unrecovered: reading on could break the sessions' order.
                    error!(error = %panicked, "recovery panicked: a bug; restart to recover");
                    let bug = format!("the recovery of partitions panicked: {panicked}: a bug");
                    self.context.health.report_bug(bug);
                }
                None => std::future::pending().await,
            }
        }
    }
}

impl<P: Ports, S: Source> EventLoop<P, S> {
    pub(super) fn on_recovery_step(&mut self, step: RecoveryStep) {
        match step {
            RecoveryStep::Identified(answer) => self.on_identities(answer),
            RecoveryStep::Recovered(result) => self.on_recovered(result),
            RecoveryStep::Counted(result) => self.on_counted(&result),
        }
    }

    fn on_recovered(&mut self, result: RecoveryResult) {
        let RecoveryResult { partitions, epoch, found } = result;
        for partition in &partitions {
            if let Some(assignment) = self.assignments.of_epoch(*partition, epoch) {
                assignment.begin_recovery();
            }
        }
        for entry in found.entries {
            self.start_recovered(entry, epoch);
        }
        let mut unread = found.blocked_partitions;
        let mut uncounted = Vec::new();
        for partition in partitions.iter().filter(|partition| !unread.contains(partition)) {
            if let Some(assignment) = self.assignments.of_epoch(*partition, epoch) {
                assignment.set_recovered();
                let has_parked = found.parked_partitions.contains(partition);
                self.tasks.set_parked(*partition, has_parked);
                self.parked.on_recovered(*partition, &found.parked);
                if has_parked {
                    uncounted.push(*partition);
                }
            }
        }
        if !uncounted.is_empty() {
            self.recovery.count(uncounted, epoch);
        }
        unread.retain(|partition| {
            let assignment = self.assignments.of_epoch(*partition, epoch);
            assignment.is_some_and(|assignment| !assignment.is_draining())
        });
        if !unread.is_empty() {
            self.recovery.start(unread, epoch, RETRY_DELAY);
        }
    }

    fn on_counted(&mut self, result: &CountResult) {
        for &partition in &result.partitions {
            if self.assignments.of_epoch(partition, result.epoch).is_some() {
                self.parked.on_counted(partition, &result.counts);
            }
        }
    }

    /// Start the recovered events that wait for no record any more.
    pub(super) fn start_all_early(&mut self) {
        for (entry, epoch) in self.assignments.take_ready(self.context.clock.now()) {
            self.start_now(entry, epoch);
        }
    }

    /// Start those that are ahead of a record that was just started, before its event is queued.
    pub(super) fn start_early(&mut self, record: &Position) {
        let Some(assignment) = self.assignments.get_mut(record.partition) else { return };
        let epoch = assignment.epoch();
        for entry in assignment.take_early_up_to(record.offset) {
            self.start_now(entry, epoch);
        }
    }

    fn start_recovered(&mut self, entry: RecoveredEntry, epoch: u64) {
        let (partition, identity) = (entry.record.position.partition, entry.record.identity());
        let now = self.context.clock.now();
        let Some(assignment) = self.assignments.of_epoch(partition, epoch) else { return };
        // A partition with entries that cannot be read is read more than once.
        if assignment.in_memory.contains(&identity) {
            return;
        }
        if assignment.is_early(&entry, now) {
            let unfinished = match decode_stored(&entry, &self.tasks.rules.of_accepted, now) {
                StoredRecord::Event(event) => {
                    let list = self.context.activity.unfinished_events();
                    Some(list.add(&event, entry.first_seen))
                }
                StoredRecord::DeadLetter(_) | StoredRecord::Unreadable(_) => None,
            };
            assignment.early.push(EarlyEvent { entry, _unfinished: unfinished });
        } else {
            self.start_now(entry, epoch);
        }
    }

    fn start_now(&mut self, entry: RecoveredEntry, epoch: u64) {
        let (partition, identity) = (entry.record.position.partition, entry.record.identity());
        let Some(assignment) = self.assignments.of_epoch(partition, epoch) else { return };
        let (at, state) = (assignment.at(identity), assignment.state.clone());
        let is_overdue = entry.is_overdue(self.context.clock.now());
        let rooms = self.parked.rooms();
        let started = self.tasks.start_stored(entry, at, state, rooms, is_overdue);
        // One that is not read any more is reported by the sweeps, which try it again.
        if started == StoredResult::Started {
            assignment.in_memory.insert(identity);
        }
    }
}
