//! Partitions whose topic was deleted, or may have been: events that are released keep their records.

use std::sync::atomic::Ordering;

use super::{AssignmentId, Assignments};

impl Assignments {
    /// Kafka may not deliver the records of these partitions again that it has delivered. Returns how
    /// many of them have not been started.
    pub(in crate::consume) fn set_records_gone(&self, partitions: &[i32]) -> usize {
        let theirs = partitions.iter().filter_map(|partition| self.partitions.get(partition));
        theirs.fold(0, |waiting, assignment| {
            assignment.state.record_is_gone.store(true, Ordering::Relaxed);
            waiting + assignment.waiting.len()
        })
    }

    /// Whether Kafka may not deliver the records of one of these assignments again.
    pub(in crate::consume) fn is_record_gone(&self, assignments: &[AssignmentId]) -> bool {
        let theirs = self.partitions.values().filter(|a| assignments.contains(&a.id));
        theirs.map(|a| &a.state).any(|state| state.record_is_gone.load(Ordering::Relaxed))
    }

    /// The present assignments of these partitions.
    pub(in crate::consume) fn of(&self, partitions: &[i32]) -> Vec<AssignmentId> {
        let theirs = self.partitions.values().filter(|a| partitions.contains(&a.id.partition));
        theirs.map(|assignment| assignment.id).collect()
    }
}
