//! The partitions that are ours, each with its watermark, and the ones being taken away.
//!
//! Every assignment has an epoch of its own, so that a late result of an earlier assignment of
//! the same partition is recognised and refused.
//! This file never touches a task.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::SyncSender;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ROOM_AFTER_A_PAUSE, over};
use crate::domain::progress::Progress;
use crate::domain::record::Record;

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
    pub(super) progress: Progress,
    /// Cancelled when the partition is being taken away.
    pub(super) draining: CancellationToken,
    /// Records that wait until it is known what the last owner left open.
    pub(super) held: Option<Vec<Record>>,
    /// Offsets that were taken up from the ledger, and whether they are done.
    pub(super) left_open: HashMap<i64, bool>,
    partition: i32,
    epoch: u64,
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
        self.epochs += 1;
        for &partition in partitions {
            let assignment = Assignment {
                progress: Progress::default(),
                draining: CancellationToken::new(),
                partition,
                epoch: self.epochs,
                held: Some(Vec::new()),
                left_open: HashMap::new(),
                paused: false,
            };
            self.partitions.insert(partition, assignment);
        }
        self.epochs
    }

    /// Let these partitions drain; `None`: all of them. Returns which assignments that are.
    pub(super) fn drain(&self, partitions: Option<&[i32]>) -> Vec<Key> {
        let asked = |a: &&Assignment| partitions.is_none_or(|some| some.contains(&a.partition));
        let leaving = self.partitions.values().filter(asked);
        leaving
            .map(|assignment| {
                assignment.draining.cancel();
                (assignment.partition, assignment.epoch)
            })
            .collect()
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
    pub(super) fn flow(&mut self, full: bool, max_span: usize) -> (Vec<i32>, Vec<i32>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for assignment in self.partitions.values_mut() {
            let span = assignment.progress.span();
            let too_far = if assignment.paused {
                over(span, max_span, ROOM_AFTER_A_PAUSE)
            } else {
                span >= max_span
            };
            let held = assignment.held.is_some() || assignment.draining.is_cancelled();
            let paused = full || too_far || held;
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
    use super::*;

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

    #[test]
    fn a_draining_partition_is_paused_and_told_so_when_it_goes() {
        let mut ours = Assignments::default();
        ours.add(&[3, 4]);
        for partition in [3, 4] {
            ours.get_mut(partition).unwrap().held = None;
        }
        let leaving = ours.drain(Some(&[3]));
        assert_eq!(ours.flow(false, 8), (vec![3], vec![]));
        assert_eq!(ours.remove(&leaving), [3], "the client would keep the pause for ever");
        assert_eq!(ours.drain(None).len(), 1);
    }

    #[test]
    fn only_the_partition_that_runs_too_far_ahead_is_paused() {
        let mut ours = Assignments::default();
        ours.add(&[0, 1]);
        for partition in [0, 1] {
            ours.get_mut(partition).unwrap().held = None;
        }
        for offset in 0..8 {
            ours.get_mut(1).unwrap().progress.start(offset);
        }
        assert_eq!(ours.flow(false, 8), (vec![1], vec![]));
        assert_eq!(ours.flow(false, 8), (vec![], vec![]));
        ours.get_mut(1).unwrap().progress.finish(0);
        assert_eq!(ours.flow(false, 8), (vec![], vec![]), "seven of eight is still close");
        ours.get_mut(1).unwrap().progress.finish(1);
        assert_eq!(ours.flow(false, 8), (vec![], vec![1]));
        let (mut paused, _) = ours.flow(true, 8);
        paused.sort_unstable();
        assert_eq!(paused, [0, 1]);
    }
}
