//! The assigned partitions, each with its watermark and the records that wait to be started.
//!
//! Each assignment has an epoch of its own, so that a late result of an earlier assignment of the
//! same partition is recognised and ignored.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::backpressure::PartitionState;
use crate::domain::record::{Record, RecordIdentity};
use crate::domain::watermark::{RecordStart, Watermark};

/// One partition in one assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AssignmentId {
    pub(super) partition: i32,
    epoch: u64,
}

/// A record of a partition in one assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AssignedRecord {
    pub(super) assignment: AssignmentId,
    pub(super) record: RecordIdentity,
}

/// What a task has to know of the assignment of its record.
#[derive(Debug, Clone, Default)]
pub(super) struct AssignmentState {
    /// Cancelled when the partition is being revoked.
    pub(super) draining: CancellationToken,
    /// Set when the topic was created again: Kafka does not deliver the record any more.
    pub(super) record_is_gone: Arc<AtomicBool>,
}

/// A record that may be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WaitingRecord {
    pub(super) record: Record,
    /// Its topic was deleted, and another one of this name has been created.
    pub(super) is_of_old_topic: bool,
}

/// One partition while it is assigned.
#[derive(Debug)]
pub(super) struct Assignment {
    id: AssignmentId,
    since: Instant,
    pub(super) watermark: Watermark,
    pub(super) state: AssignmentState,
    /// Recovery is complete; no record is started before that.
    pub(super) recovered: bool,
    /// Kafka has delivered every record that the partition had.
    end_reached: bool,
    /// The highest offset of which a record was started.
    last_started: Option<i64>,
    /// The records of the events in memory. Kafka may deliver the record of one that came from the
    /// ledger, and the ledger may show one that came from Kafka as parked.
    pub(super) in_memory: HashSet<RecordIdentity>,
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
            watermark: Watermark::default(),
            state: AssignmentState::default(),
            recovered: false,
            end_reached: false,
            last_started: None,
            in_memory: HashSet::new(),
            waiting: VecDeque::new(),
            waiting_of_old_topic: 0,
            waiting_bytes: 0,
            paused,
        }
    }

    pub(super) fn at(&self, record: RecordIdentity) -> AssignedRecord {
        AssignedRecord { assignment: self.id, record }
    }

    pub(super) fn set_recovered(&mut self) {
        self.recovered = true;
    }

    /// Start a record.
    pub(super) fn start(&mut self, record: RecordIdentity) -> RecordStart {
        let started = self.watermark.start(record);
        self.last_started = self.last_started.max(Some(record.offset));
        if let RecordStart::Rewound { from, .. } = started {
            self.last_started = Some(record.offset);
            warn!(
                kafka.partition = self.id.partition,
                expected_offset = from,
                offset = record.offset,
                "offsets went back: the topic shrank or was created again"
            );
        }
        started
    }

    /// Start again, because the topic was deleted and created again. The events in memory and the
    /// waiting records of the old topic are answered all the same, but they finish no offset.
    fn restart(&mut self) {
        self.state.record_is_gone.store(true, Ordering::Relaxed);
        self.state.record_is_gone = Arc::default();
        self.watermark = Watermark::default();
        self.last_started = None;
        self.waiting_of_old_topic = self.waiting.len();
    }

    /// Whether every record ahead of this offset that Kafka still has to deliver was started. The
    /// offset is one that the partition had when it was assigned.
    pub(super) fn has_started_up_to(&self, offset: i64) -> bool {
        let is_behind = |waiting: &Record| waiting.position.offset >= offset;
        let is_read = self.end_reached && self.waiting.front().is_none_or(is_behind);
        self.last_started >= Some(offset) || is_read
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
            span: self.watermark.span(),
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
        let ready = self.partitions.values_mut().filter(|a| a.recovered);
        let firsts = ready.filter_map(|a| Some((a.waiting.front()?.timestamp, a)));
        let (_, oldest) = firsts.min_by_key(|(timestamp, _)| *timestamp)?;
        let record = oldest.waiting.pop_front()?;
        oldest.waiting_bytes -= record.size_bytes();
        let is_of_old_topic = oldest.waiting_of_old_topic > 0;
        oldest.waiting_of_old_topic = oldest.waiting_of_old_topic.saturating_sub(1);
        Some(WaitingRecord { record, is_of_old_topic })
    }

    /// The topic was deleted and created again: the records received until now are of the old one.
    pub(super) fn restart(&mut self) {
        self.partitions.values_mut().filter(|a| !a.is_draining()).for_each(Assignment::restart);
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
            assignment.end_reached = !assignment.is_draining();
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
        let recovered = self.partitions.values().filter(|a| a.recovered && !a.is_draining());
        recovered.map(|a| a.id).collect()
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
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::record::Position;

    fn record(partition: i32, offset: i64, second: i64) -> Record {
        Record {
            position: Position { topic: "t".into(), partition, offset },
            timestamp: Some(Timestamp::from_second(second).unwrap()),
            key: None,
            value: Some(vec![0; 10]),
            headers: vec![],
        }
    }

    fn waiting(assignments: &Assignments) -> usize {
        assignments.states().iter().map(|state| state.waiting_records).sum()
    }

    #[test]
    fn a_partition_that_is_assigned_again_is_another_assignment() {
        let mut assignments = Assignments::default();
        assignments.add(&[3]);
        let id = assignments.get_mut(3).unwrap().id;
        assert!(assignments.is_current(id));
        let draining = assignments.drain(Some(&[3]));
        assert_eq!(draining, [id]);
        assert_eq!(assignments.remove(&draining), [0; 0]);
        assert!(!assignments.is_current(id));
        assignments.add(&[3]);
        assert!(!assignments.is_current(id));
        assert_eq!(assignments.remove(&draining), [0; 0], "a late result removes nothing");
        assert_eq!(assignments.len(), 1);
    }

    #[test]
    fn the_oldest_record_starts_first_in_whatever_order_partitions_were_fetched() {
        let mut assignments = Assignments::default();
        assignments.add(&[0, 1, 2]);
        for (partition, offset, second) in
            [(2, 0, 30), (2, 1, 31), (0, 7, 10), (0, 8, 40), (1, 5, 1)]
        {
            assignments.push(record(partition, offset, second));
        }
        assignments.push(record(9, 0, 0));
        assert_eq!(waiting(&assignments), 5, "one partition is not assigned");
        assert_eq!(assignments.pop_oldest(), None, "recovered events go first");
        for partition in [0, 2] {
            assignments.get_mut(partition).unwrap().recovered = true;
        }
        let mut started = Vec::new();
        while let Some(WaitingRecord { record, .. }) = assignments.pop_oldest() {
            started.push((record.position.partition, record.position.offset));
        }
        assert_eq!(started, [(0, 7), (2, 0), (2, 1), (0, 8)]);
        assert_eq!(waiting(&assignments), 1, "one waits for recovery");
        assignments.drain(None);
        assert_eq!(waiting(&assignments), 0);
        assignments.push(record(0, 9, 50));
        assert_eq!(waiting(&assignments), 0, "the next owner reads it");
        assert!(assignments.states().iter().all(|state| state.waiting_bytes == 0));
    }

    #[test]
    fn a_follower_waits_until_the_records_ahead_of_it_are_started() {
        let mut assignments = Assignments::default();
        assignments.add(&[0]);
        assignments.get_mut(0).unwrap().set_recovered();
        let up_to = |assignments: &mut Assignments, offset| {
            assignments.get_mut(0).unwrap().has_started_up_to(offset)
        };
        assert!(!up_to(&mut assignments, 5), "nothing was read");
        assignments.push(record(0, 4, 1));
        assignments.push(record(0, 7, 1));
        assignments.set_end_reached(0);
        assert!(!up_to(&mut assignments, 5), "the record ahead is not started");
        assert!(up_to(&mut assignments, 4));
        let first = assignments.pop_oldest().unwrap();
        assignments.get_mut(0).unwrap().start(first.record.identity());
        assert!(up_to(&mut assignments, 7), "the rest is behind it");
        assert!(!up_to(&mut assignments, 8));
        assignments.add(&[0]);
        assert!(!up_to(&mut assignments, 4), "the next assignment reads again");
        assignments.drain(None);
        assignments.set_end_reached(0);
        assert!(!up_to(&mut assignments, 4), "waiting records were dropped");
        assignments.add(&[0]);
        assignments.get_mut(0).unwrap().start(record(0, 9, 1).identity());
        assert!(up_to(&mut assignments, 9), "records arrive in their order");
    }

    #[test]
    fn records_of_an_old_topic_finish_no_offset_of_the_new_one() {
        let mut assignments = Assignments::default();
        assignments.add(&[0]);
        let assignment = assignments.get_mut(0).unwrap();
        assignment.recovered = true;
        let [old, waiting, new] = [record(0, 0, 1), record(0, 1, 2), record(0, 0, 9)];
        assert_eq!(assignment.start(old.identity()), RecordStart::New);
        let old_state = assignment.state.clone();
        assignments.push(waiting.clone());
        assignments.restart();
        assert!(old_state.record_is_gone.load(Ordering::Relaxed));
        assignments.push(new.clone());
        let popped = assignments.pop_oldest().unwrap();
        assert_eq!(popped, WaitingRecord { record: waiting.clone(), is_of_old_topic: true });
        assert!(!assignments.pop_oldest().unwrap().is_of_old_topic);
        let assignment = assignments.get_mut(0).unwrap();
        assert_eq!(assignment.start(new.identity()), RecordStart::New);
        assert_eq!(assignment.watermark.finish(old.identity()), None);
        assert_eq!(assignment.watermark.finish(waiting.identity()), None);
        assert_eq!(assignment.watermark.finish(new.identity()), Some(1));
    }

    #[test]
    fn a_paused_partition_is_reported_when_it_is_removed() {
        let mut assignments = Assignments::default();
        assignments.add(&[3, 4]);
        let draining = assignments.drain(Some(&[3]));
        assert_eq!(
            assignments.states().iter().map(|s| s.draining).collect::<Vec<_>>(),
            [true, false]
        );
        assignments.set_paused(&[3], true);
        assert_eq!(assignments.remove(&draining), [3], "the client would keep it paused");
        assert_eq!(assignments.drain(None).len(), 1);
    }

    #[test]
    fn a_paused_partition_that_is_assigned_again_is_still_paused() {
        let mut assignments = Assignments::default();
        assignments.add(&[0]);
        assignments.set_paused(&[0], true);
        assignments.add(&[0]);
        assert!(assignments.states()[0].paused, "so that it will be resumed");
    }
}
