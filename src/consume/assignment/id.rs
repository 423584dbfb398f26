//! The names of an assignment, and of a record in it.

use crate::domain::record::RecordIdentity;

/// One partition in one assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consume) struct AssignmentId {
    pub(in crate::consume) partition: i32,
    pub(super) epoch: u64,
}

impl AssignmentId {
    pub(in crate::consume) fn epoch(self) -> u64 {
        self.epoch
    }
}

/// A record of a partition in one assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consume) struct AssignedRecord {
    pub(in crate::consume) assignment: AssignmentId,
    pub(in crate::consume) record: RecordIdentity,
}
