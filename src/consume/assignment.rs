//! The partitions that are ours, each with its watermark, and the ones being taken away.
//!
//! Every assignment has an epoch of its own, so that a late result of an earlier assignment of
//! the same partition is recognised and refused.
//! This file never touches a task.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::SyncSender;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ROOM_AFTER_A_PAUSE, over};
use crate::domain::record::Record;
use crate::domain::watermark::Watermark;

/// Where an event belongs: a partition in one assignment, and its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
    epoch: u64,
}

/// One partition while it is ours.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) watermark: Watermark,
    /// Cancelled when the partition is being taken away.
    pub(super) draining: CancellationToken,
    /// It is known what the last owner left open; nothing begins before that.
    pub(super) looked_up: bool,
    /// Records that have come and did not begin, and their bytes.
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    /// Offsets that were taken up from the ledger, and whether they are done.
    pub(super) left_open: HashMap<i64, bool>,
    partition: i32,
    epoch: u64,
    since: Instant,
    paused: bool,
}

/// Assignments being taken away, and who waits for that.
#[derive(Debug)]
pub(super) struct Revocation {
    pub(super) leaving: Vec<Key>,
    /// When its time is up.
    pub(super) until: Instant,
    /// Somebody else's already: nothing may be finished any more.
    pub(super) lost: bool,
    pub(super) done: SyncSender<()>,
}

/// A partition in one assignment.
pub(super) type Key = (i32, u64);

/// All partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    partitions: BTreeMap<i32, Assignment>,
    epochs: u64,
}

/// How much may be read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one partition: offsets from the lowest unfinished one, and records that wait.
    pub(super) span: usize,
    /// Records that wait for a look-up, of all partitions together.
    pub(super) records: usize,
    /// Their bytes.
    pub(super) bytes: usize,
}

impl Place {
    pub(super) fn key(&self) -> Key {
        (self.partition, self.epoch)
    }
}

impl Assignment {
    pub(super) fn place(&self, offset: i64) -> Place {
        Place { partition: self.partition, offset, epoch: self.epoch }
    }
}

impl Assignments {
    /// Partitions of one assignment share an epoch.
    pub(super) fn add(&mut self, partitions: &[i32]) -> u64 {
        // Whatever was not given back before is over.
        self.drain(Some(partitions));
        self.epochs += 1;
        for &partition in partitions {
            // The client keeps a pause as long as nobody resumes it.
            let paused = self.partitions.get(&partition).is_some_and(|before| before.paused);
            let assignment = Assignment {
                watermark: Watermark::default(),
                draining: CancellationToken::new(),
                partition,
                epoch: self.epochs,
                since: Instant::now(),
                looked_up: false,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                left_open: HashMap::new(),
                paused,
            };
            self.partitions.insert(partition, assignment);
        }
        self.epochs
    }

    /// Let these partitions drain; `None`: all of them. What waits of them is dropped: their next
    /// owner reads it again. Returns which assignments that are.
    pub(super) fn drain(&mut self, partitions: Option<&[i32]>) -> Vec<Key> {
        let asked = |a: &&mut Assignment| partitions.is_none_or(|some| some.contains(&a.partition));
        let mut leaving = Vec::new();
        for assignment in self.partitions.values_mut().filter(asked) {
            assignment.draining.cancel();
            assignment.waiting.clear();
            assignment.waiting_bytes = 0;
            leaving.push((assignment.partition, assignment.epoch));
        }
        leaving
    }

    /// A record has come: it waits until there is room. One of a partition that drains, or is
    /// not ours, is somebody else's.
    pub(super) fn push(&mut self, record: Record) {
        let assignment = self.partitions.get_mut(&record.position.partition);
        let Some(assignment) = assignment.filter(|a| !a.draining.is_cancelled()) else { return };
        assignment.waiting_bytes += record.size_bytes();
        assignment.waiting.push_back(record);
    }

    /// The oldest record that may begin: what was fetched first of one partition does not keep
    /// older ones of another waiting.
    pub(super) fn next(&mut self) -> Option<Record> {
        let ready = self.partitions.values_mut().filter(|a| a.looked_up);
        let firsts = ready.filter_map(|a| Some((a.waiting.front()?.timestamp, a)));
        let (_, oldest) = firsts.min_by_key(|(timestamp, _)| *timestamp)?;
        let record = oldest.waiting.pop_front()?;
        oldest.waiting_bytes -= record.size_bytes();
        Some(record)
    }

    /// Records that wait for room, and their bytes. What waits for a look-up is not among them:
    /// each such partition has a bound of its own, and holds up no other.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let ready = self.partitions.values().filter(|a| a.looked_up);
        ready.fold((0, 0), |(records, bytes), a| {
            (records + a.waiting.len(), bytes + a.waiting_bytes)
        })
    }

    /// Something of this assignment is still ours.
    pub(super) fn has(&self, epoch: u64) -> bool {
        self.partitions.values().any(|a| a.epoch == epoch)
    }

    /// Since when the first of them waits for its look-up.
    pub(super) fn held_since(&self) -> Option<Instant> {
        let staying = self.partitions.values().filter(|a| !a.draining.is_cancelled());
        staying.filter(|a| !a.looked_up).map(|a| a.since).min()
    }

    /// Forget these assignments. Returns the partitions of theirs that were paused.
    pub(super) fn remove(&mut self, leaving: &[Key]) -> Vec<i32> {
        let mut paused = Vec::new();
        for (partition, epoch) in leaving {
            if self.partitions.get(partition).is_some_and(|a| a.epoch == *epoch)
                && let Some(gone) = self.partitions.remove(partition)
            {
                paused.extend(gone.paused.then_some(*partition));
            }
        }
        paused
    }

    pub(super) fn get_mut(&mut self, partition: i32) -> Option<&mut Assignment> {
        self.partitions.get_mut(&partition)
    }

    /// The partition, if it is still ours by this very assignment.
    pub(super) fn of_epoch(&mut self, partition: i32, epoch: u64) -> Option<&mut Assignment> {
        self.partitions.get_mut(&partition).filter(|a| a.epoch == epoch)
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Those that are not being taken away.
    pub(super) fn staying(&self) -> Vec<i32> {
        let staying = self.partitions.iter().filter(|(_, a)| !a.draining.is_cancelled());
        staying.map(|(partition, _)| *partition).collect()
    }

    /// The topic has at least so many partitions.
    pub(super) fn at_least(&self) -> usize {
        self.partitions.keys().next_back().map_or(1, |last| *last as usize + 1)
    }

    /// The place belongs to an assignment that is still ours.
    pub(super) fn is_current(&self, place: Place) -> bool {
        self.partitions.get(&place.partition).is_some_and(|a| a.epoch == place.epoch)
    }

    /// Which partitions to pause and which to resume now.
    pub(super) fn flow(&mut self, full: bool, bounds: Bounds) -> (Vec<i32>, Vec<i32>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        let part = |bound: usize| (bound / self.partitions.len().max(1)).max(1);
        let (records, bytes) = (part(bounds.records), part(bounds.bytes));
        for assignment in self.partitions.values_mut() {
            let ahead = assignment.watermark.span() + assignment.waiting.len();
            let too_far = if assignment.paused {
                over(ahead, bounds.span, ROOM_AFTER_A_PAUSE)
            } else {
                ahead >= bounds.span
            };
            let held = !assignment.looked_up
                && (assignment.waiting.len() >= records || assignment.waiting_bytes >= bytes);
            let paused = full || too_far || held || assignment.draining.is_cancelled();
            if paused != assignment.paused {
                assignment.paused = paused;
                if paused { &mut pause } else { &mut resume }.push(assignment.partition);
            }
        }
        (pause, resume)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::record::Position;

    const BOUNDS: Bounds = Bounds { span: 8, records: 100, bytes: 1000 };

    #[test]
    fn a_partition_that_comes_back_is_another_assignment() {
        let mut ours = Assignments::default();
        ours.add(&[3]);
        let place = ours.get_mut(3).unwrap().place(7);
        assert!(ours.is_current(place));
        let leaving = ours.drain(Some(&[3]));
        assert_eq!(ours.remove(&leaving), [0; 0]);
        assert!(!ours.is_current(place));
        ours.add(&[3]);
        assert!(!ours.is_current(place));
        assert_eq!(ours.remove(&leaving), [0; 0], "a late answer takes nothing away");
        assert_eq!(ours.len(), 1);
    }

    fn record(partition: i32, offset: i64, second: i64) -> Record {
        Record {
            position: Position { topic: "t".into(), partition, offset },
            timestamp: Some(Timestamp::from_second(second).unwrap()),
            key: None,
            value: Some(vec![0; 10]),
            headers: vec![],
        }
    }

    #[test]
    fn the_oldest_record_begins_first_whatever_was_fetched_first() {
        let mut ours = Assignments::default();
        ours.add(&[0, 1, 2]);
        for (partition, offset, second) in
            [(2, 0, 30), (2, 1, 31), (0, 7, 10), (0, 8, 40), (1, 5, 1)]
        {
            ours.push(record(partition, offset, second));
        }
        ours.push(record(9, 0, 0));
        assert_eq!(ours.waiting(), (0, 0), "nothing waits for room");
        assert_eq!(ours.next(), None, "what the last owner left open goes first");
        for partition in [0, 2] {
            ours.get_mut(partition).unwrap().looked_up = true;
        }
        assert_eq!(ours.waiting().0, 4, "one waits for the look-up, one was not for us");
        let mut begun = Vec::new();
        while let Some(record) = ours.next() {
            begun.push((record.position.partition, record.position.offset));
        }
        assert_eq!(begun, [(0, 7), (2, 0), (2, 1), (0, 8)]);
        ours.drain(None);
        assert_eq!(ours.waiting(), (0, 0));
        ours.push(record(0, 9, 50));
        assert_eq!(ours.waiting(), (0, 0), "its next owner reads it");
    }

    #[test]
    fn a_draining_partition_is_paused_and_told_so_when_it_goes() {
        let mut ours = Assignments::default();
        ours.add(&[3, 4]);
        let leaving = ours.drain(Some(&[3]));
        assert_eq!(ours.flow(false, BOUNDS), (vec![3], vec![]));
        assert_eq!(ours.remove(&leaving), [3], "the client would keep the pause for ever");
        assert_eq!(ours.drain(None).len(), 1);
    }

    #[test]
    fn what_waits_for_a_look_up_holds_up_its_own_partition_only() {
        let mut ours = Assignments::default();
        ours.add(&[0, 1]);
        ours.get_mut(1).unwrap().looked_up = true;
        let bounds = Bounds { span: 1000, records: 6, bytes: 1 << 20 };
        for offset in 0..20 {
            ours.push(record(0, offset, 1));
        }
        assert_eq!(ours.waiting(), (0, 0));
        assert_eq!(ours.flow(false, bounds), (vec![0], vec![]));
        let few_bytes = Bounds { records: 1000, bytes: 20, ..bounds };
        assert_eq!(ours.flow(false, few_bytes), (vec![], vec![]), "bytes count as well");
        ours.get_mut(0).unwrap().looked_up = true;
        assert_eq!(ours.waiting().0, 20, "now it takes the room of all");
        assert_eq!(ours.flow(false, bounds), (vec![], vec![0]));
    }

    #[test]
    fn a_partition_assigned_anew_is_resumed_if_it_was_paused() {
        let mut ours = Assignments::default();
        ours.add(&[0]);
        ours.flow(true, BOUNDS);
        ours.add(&[0]);
        assert_eq!(ours.flow(false, BOUNDS), (vec![], vec![0]), "the client still pauses it");
    }

    #[test]
    fn what_waits_counts_as_read_ahead() {
        let mut ours = Assignments::default();
        ours.add(&[0]);
        ours.get_mut(0).unwrap().looked_up = true;
        for offset in 0..8 {
            ours.push(record(0, offset, 1));
        }
        assert_eq!(ours.flow(false, BOUNDS), (vec![0], vec![]));
    }

    #[test]
    fn only_the_partition_that_runs_too_far_ahead_is_paused() {
        let mut ours = Assignments::default();
        ours.add(&[0, 1]);
        for offset in 0..8 {
            ours.get_mut(1).unwrap().watermark.start(offset);
        }
        assert_eq!(ours.flow(false, BOUNDS), (vec![1], vec![]));
        assert_eq!(ours.flow(false, BOUNDS), (vec![], vec![]));
        ours.get_mut(1).unwrap().watermark.finish(0);
        assert_eq!(ours.flow(false, BOUNDS), (vec![], vec![]), "seven of eight is still close");
        ours.get_mut(1).unwrap().watermark.finish(1);
        assert_eq!(ours.flow(false, BOUNDS), (vec![], vec![1]));
        let (mut paused, _) = ours.flow(true, BOUNDS);
        paused.sort_unstable();
        assert_eq!(paused, [0, 1]);
    }
}
