//! The assigned partitions, each with its watermark and the records that wait to be started.
//!
//! Each assignment has an epoch of its own, so that a late result of an earlier assignment of the
//! same partition is recognised and ignored.

mod early;
mod gone;
mod id;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::early::EarlyEvent;
pub(super) use self::id::{AssignedRecord, AssignmentId};

use super::ReadingStart;
use super::backpressure::PartitionState;
use super::identities::{HeldRecord, IdentityQuestion, KnownIdentities};
use crate::deliver::{FinishedBelow, ReadBefore};
use crate::domain::ledger_entry::{StoredIdentities, StoredIdentity};
use crate::domain::record::{Record, RecordIdentity};
use crate::domain::watermark::{RecordStart, Watermark};
use crate::ledger::DuePartition;
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// Of the process: a topic that is created again is so in all its partitions.
static REWOUND: LogThrottle = LogThrottle::new();

/// What a task has to know of the assignment of its record.
#[derive(Debug, Clone, Default)]
pub(super) struct AssignmentState {
    /// Cancelled when the partition is being revoked.
    pub(super) draining: CancellationToken,
    /// Set when the topic was deleted, or may have been: Kafka may not deliver the record any more.
    pub(super) record_is_gone: Arc<AtomicBool>,
    /// The watermark of the reading.
    pub(super) finished_below: Arc<FinishedBelow>,
}

/// A record that may be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WaitingRecord {
    pub(super) record: Record,
    /// Its topic was deleted, and another one of this name has been created.
    pub(super) is_of_old_topic: bool,
}

/// One run through the records of a partition. Nothing of it is left when the next one begins.
#[derive(Debug)]
struct AssignedReading {
    number: u64,
    watermark: Watermark,
    /// Kafka has delivered every record that the partition had.
    end_reached: bool,
    /// The highest offset of which a record was started.
    last_started: Option<i64>,
    /// No record from this offset on was read before, by this reading or by any of the group.
    unread_from: i64,
    /// The first offset that Kafka delivers, once that is known.
    from: Option<i64>,
    identities: KnownIdentities,
    held: Vec<HeldRecord>,
}

impl AssignedReading {
    fn new(number: u64, unread_from: i64) -> Self {
        Self {
            number,
            watermark: Watermark::default(),
            end_reached: false,
            last_started: None,
            unread_from,
            from: None,
            identities: KnownIdentities::default(),
            held: Vec::new(),
        }
    }
}

/// One partition while it is assigned.
#[derive(Debug)]
pub(super) struct Assignment {
    id: AssignmentId,
    since: Instant,
    /// When Kafka has delivered a record last, or could not, because we held it back.
    silent_since: Instant,
    reading: AssignedReading,
    pub(super) state: AssignmentState,
    /// Recovery is complete; no record is started before that.
    pub(super) recovered: bool,
    /// When the ledger was read for the first time; `None`: it was not.
    recovered_since: Option<Instant>,
    /// The records of the events in memory. Kafka may deliver the record of one that came from the
    /// ledger, and the ledger may show one that came from Kafka as parked.
    pub(super) in_memory: HashSet<RecordIdentity>,
    /// Recovered events that wait for the records ahead of them, in their order.
    pub(super) early: Vec<EarlyEvent>,
    /// Records that have been read and not been started.
    waiting: VecDeque<Record>,
    /// How many of them, from the front, are of a topic that was deleted.
    waiting_of_old_topic: usize,
    waiting_bytes: usize,
    paused: bool,
}

impl Assignment {
    fn new(id: AssignmentId, paused: bool) -> Self {
        Self {
            id,
            since: Instant::now(),
            silent_since: Instant::now(),
            // Until the consumer says where it reads from, every record may be one that was read.
            reading: AssignedReading::new(0, i64::MAX),
            state: AssignmentState::default(),
            recovered: false,
            recovered_since: None,
            in_memory: HashSet::new(),
            early: Vec::new(),
            waiting: VecDeque::new(),
            waiting_of_old_topic: 0,
            waiting_bytes: 0,
            paused,
        }
    }

    /// The offset of the first waiting record, where it is of the topic that is read.
    fn first_waiting(&self) -> Option<i64> {
        let first = self.waiting.front().filter(|_| self.waiting_of_old_topic == 0)?;
        Some(first.position.offset)
    }

    /// Whether it is known if the first waiting record is that of an event in the ledger.
    pub(super) fn is_identified(&self) -> bool {
        let AssignedReading { identities, unread_from, .. } = &self.reading;
        let unknown = |offset| identities.unknown(offset, *unread_from);
        self.first_waiting().and_then(unknown).is_none()
    }

    fn ask_identities(&mut self) -> Option<IdentityQuestion> {
        let first = self.first_waiting().filter(|_| !self.is_draining())?;
        let AssignedReading { number, identities, unread_from, .. } = &mut self.reading;
        let offsets = identities.ask(first, *unread_from)?;
        Some(IdentityQuestion { assignment: self.id, reading: *number, offsets })
    }

    /// The answer to a question of this reading, or of an earlier one.
    pub(super) fn on_identities(&mut self, question: &IdentityQuestion, found: StoredIdentities) {
        if question.reading == self.reading.number {
            self.reading.identities.on_read(&question.offsets, found);
        }
    }

    /// See [`KnownIdentities::has_dead_letter`].
    pub(super) fn has_dead_letter(&self, record: &Record) -> bool {
        self.reading.identities.has_dead_letter(record)
    }

    /// The identities that the ledger has for the record at this offset, which is started now.
    pub(super) fn take_identities(&mut self, offset: i64) -> Vec<StoredIdentity> {
        self.reading.identities.take(offset)
    }

    /// Keep a started record until its time.
    pub(super) fn hold(&mut self, record: HeldRecord) {
        self.reading.held.push(record);
    }

    pub(super) fn at(&self, record: RecordIdentity) -> AssignedRecord {
        AssignedRecord { assignment: self.id, record }
    }

    pub(super) fn set_recovered(&mut self) {
        self.recovered = true;
    }

    /// The number of the reading in progress.
    pub(super) fn reading(&self) -> u64 {
        self.reading.number
    }

    /// Start a record.
    pub(super) fn start(&mut self, record: RecordIdentity) -> RecordStart {
        let reading = &mut self.reading;
        let started = reading.watermark.start(record);
        reading.last_started = reading.last_started.max(Some(record.offset));
        if let RecordStart::Rewound { from, .. } = started {
            reading.last_started = Some(record.offset);
            // What was known of the records between here and there has become wrong.
            reading.from = Some(record.offset);
            reading.end_reached = false;
            reading.unread_from = reading.unread_from.max(from);
            reading.identities = KnownIdentities::default();
            self.state.finished_below.set(record.offset);
            warn_throttled!(
                REWOUND,
                kafka.partition = self.id.partition,
                expected_offset = from,
                offset = record.offset,
                "offsets went back: the topic shrank or was created again"
            );
        }
        started
    }

    /// Finish a record. Returns the offset to commit, if that has changed.
    pub(super) fn finish(&mut self, record: RecordIdentity) -> Option<i64> {
        let watermark = self.reading.watermark.finish(record);
        if let Some(watermark) = watermark {
            self.state.finished_below.set(watermark);
        }
        watermark
    }

    /// Whether a record may have been read before.
    pub(super) fn read_before(&self, record: &RecordIdentity) -> ReadBefore {
        if record.offset < self.reading.unread_from { ReadBefore::Maybe } else { ReadBefore::Never }
    }

    /// Read from another start, because the topic was deleted and created again. The events in memory
    /// and the waiting records of the old topic are answered all the same, but they finish no offset.
    fn begin_reading(&mut self, start: &ReadingStart) {
        self.state.record_is_gone.store(true, Ordering::Relaxed);
        self.state.record_is_gone = Arc::default();
        // The tasks of the reading before keep its watermark; those that wait for one get this.
        if self.state.finished_below.get().is_some() {
            self.state.finished_below = Arc::default();
        }
        // Without an offset Kafka delivers nothing.
        self.state.finished_below.set(start.from.unwrap_or(i64::MAX));
        self.reading = AssignedReading::new(start.reading, start.unread_from);
        self.reading.from = start.from;
        self.silent_since = Instant::now();
        self.waiting_of_old_topic = self.waiting.len();
    }

    pub(super) fn epoch(&self) -> u64 {
        self.id.epoch
    }

    pub(super) fn is(&self, id: AssignmentId) -> bool {
        self.id == id
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.draining.is_cancelled()
    }

    fn partition_state(&self) -> PartitionState {
        PartitionState {
            partition: self.id.partition,
            paused: self.paused,
            draining: self.is_draining(),
            recovered: self.recovered,
            span: self.reading.watermark.span(),
            waiting_records: self.waiting.len(),
            waiting_bytes: self.waiting_bytes,
        }
    }
}

/// All assigned partitions, those that drain included.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    partitions: BTreeMap<i32, Assignment>,
    last_epoch: u64,
}

impl Assignments {
    /// Add partitions that were assigned together; returns their common epoch.
    pub(super) fn add(&mut self, partitions: &[i32]) -> u64 {
        // An earlier assignment of them that was never revoked is over.
        self.drain(Some(partitions));
        self.last_epoch += 1;
        for &partition in partitions {
            // The client keeps a partition paused across assignments until it is resumed.
            let paused = self.partitions.get(&partition).is_some_and(|before| before.paused);
            let id = AssignmentId { partition, epoch: self.last_epoch };
            self.partitions.insert(partition, Assignment::new(id, paused));
        }
        self.last_epoch
    }

    /// Start to drain these partitions, or all for `None`. Their waiting records are dropped: the
    /// next owner reads them again. Returns the assignments that drain.
    pub(super) fn drain(&mut self, partitions: Option<&[i32]>) -> Vec<AssignmentId> {
        let is_revoked =
            |a: &&mut Assignment| partitions.is_none_or(|some| some.contains(&a.id.partition));
        let mut draining = Vec::new();
        for assignment in self.partitions.values_mut().filter(is_revoked) {
            assignment.state.draining.cancel();
            assignment.early.clear();
            assignment.waiting.clear();
            assignment.waiting_of_old_topic = 0;
            assignment.waiting_bytes = 0;
            draining.push(assignment.id);
        }
        draining
    }

    /// Queue a record until it may be started. A record of a partition that drains, or is not
    /// assigned, is left to the partition's owner.
    pub(super) fn push(&mut self, record: Record) {
        let assignment = self.partitions.get_mut(&record.position.partition);
        let Some(assignment) = assignment.filter(|a| !a.is_draining()) else { return };
        assignment.waiting_bytes += record.size_bytes();
        assignment.waiting.push_back(record);
    }

    /// The oldest record that may be started, by its timestamp: the order in which partitions were
    /// fetched must not delay older records of another partition.
    pub(super) fn pop_oldest(&mut self) -> Option<WaitingRecord> {
        let ready = self.partitions.values_mut().filter(|a| a.recovered && a.is_identified());
        let firsts = ready.filter_map(|a| Some((a.waiting.front()?.timestamp, a)));
        let (_, oldest) = firsts.min_by_key(|(timestamp, _)| *timestamp)?;
        let record = oldest.waiting.pop_front()?;
        oldest.waiting_bytes -= record.size_bytes();
        let is_of_old_topic = oldest.waiting_of_old_topic > 0;
        oldest.waiting_of_old_topic = oldest.waiting_of_old_topic.saturating_sub(1);
        Some(WaitingRecord { record, is_of_old_topic })
    }

    /// What has to be read in the ledger before waiting records can be started.
    pub(super) fn ask_identities(&mut self) -> Vec<IdentityQuestion> {
        self.partitions.values_mut().filter_map(Assignment::ask_identities).collect()
    }

    /// The records that were held until this time.
    pub(super) fn take_held(&mut self, now: Timestamp) -> Vec<HeldRecord> {
        let staying = self.partitions.values_mut().filter(|a| !a.is_draining());
        let due = staying.flat_map(|a| a.reading.held.extract_if(.., |held| held.until <= now));
        due.collect()
    }

    /// Number of records that are held.
    pub(super) fn held(&self) -> usize {
        self.partitions.values().map(|a| a.reading.held.len()).sum()
    }

    /// Partitions are read from these starts. Those that drain are not read any more.
    pub(super) fn begin_reading(&mut self, starts: &[ReadingStart]) {
        for start in starts {
            let assignment = self.partitions.get_mut(&start.partition);
            if let Some(assignment) = assignment.filter(|assignment| !assignment.is_draining()) {
                assignment.begin_reading(start);
            }
        }
    }

    /// Forget these assignments. Returns those of their partitions that were paused.
    pub(super) fn remove(&mut self, assignments: &[AssignmentId]) -> Vec<i32> {
        let mut paused = Vec::new();
        for id in assignments {
            if self.is_current(*id)
                && let Some(removed) = self.partitions.remove(&id.partition)
                && removed.paused
            {
                paused.push(id.partition);
            }
        }
        paused
    }

    /// Those of these partitions that are paused.
    pub(super) fn paused(&self, partitions: &[i32]) -> Vec<i32> {
        let is_paused = |partition: &&i32| self.partitions.get(partition).is_some_and(|a| a.paused);
        partitions.iter().filter(is_paused).copied().collect()
    }

    /// Remember which partitions are paused from now on.
    pub(super) fn set_paused(&mut self, partitions: &[i32], paused: bool) {
        for partition in partitions {
            if let Some(assignment) = self.partitions.get_mut(partition) {
                assignment.paused = paused;
            }
        }
    }

    /// Kafka has delivered every record that the partition had.
    pub(super) fn set_end_reached(&mut self, partition: i32) {
        if let Some(assignment) = self.partitions.get_mut(&partition) {
            assignment.reading.end_reached = !assignment.is_draining();
        }
    }

    pub(super) fn get_mut(&mut self, partition: i32) -> Option<&mut Assignment> {
        self.partitions.get_mut(&partition)
    }

    /// The partition, if it is assigned by the assignment of this epoch.
    pub(super) fn of_epoch(&mut self, partition: i32, epoch: u64) -> Option<&mut Assignment> {
        self.partitions.get_mut(&partition).filter(|a| a.id.epoch == epoch)
    }

    /// A partition of this epoch is still assigned.
    pub(super) fn has_epoch(&self, epoch: u64) -> bool {
        self.partitions.values().any(|a| a.id.epoch == epoch)
    }

    pub(super) fn is_current(&self, id: AssignmentId) -> bool {
        self.partitions.get(&id.partition).is_some_and(|a| a.id == id)
    }

    /// When the first of the partitions that wait for recovery was assigned.
    pub(super) fn recovering_since(&self) -> Option<Instant> {
        let staying = self.partitions.values().filter(|a| !a.is_draining());
        staying.filter(|a| !a.recovered).map(|a| a.since).min()
    }

    /// The assignments whose parked events may be read.
    pub(super) fn recovered(&self) -> Vec<AssignmentId> {
        self.readable().map(|a| a.id).collect()
    }

    /// What of their partitions may be due.
    pub(super) fn due_partitions(&self) -> Vec<DuePartition> {
        let due = |a: &Assignment| DuePartition {
            partition: a.id.partition,
            woken_up_to: a.nothing_ahead_below(),
        };
        self.readable().map(due).collect()
    }

    fn readable(&self) -> impl Iterator<Item = &Assignment> {
        self.partitions.values().filter(|a| a.recovered && !a.is_draining())
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    pub(super) fn all(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// The partitions that do not drain.
    pub(super) fn staying(&self) -> Vec<i32> {
        let staying = self.partitions.iter().filter(|(_, a)| !a.is_draining());
        staying.map(|(partition, _)| *partition).collect()
    }

    /// A lower bound of the topic's partition count.
    pub(super) fn min_partition_count(&self) -> usize {
        self.partitions.keys().next_back().map_or(1, |last| *last as usize + 1)
    }

    /// The state of each partition, for the backpressure.
    pub(super) fn states(&self) -> Vec<PartitionState> {
        self.partitions.values().map(Assignment::partition_state).collect()
    }
}

#[cfg(test)]
mod tests;
