//! Where a partition is to be read from: the question, and its answer.

use std::sync::Arc;

use tokio::time::Instant;

/// A partition of which nobody knows yet where it is to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnknownStart {
    pub(super) partition: i32,
    /// The number of the reading that will begin.
    pub(super) reading: u64,
    /// The id of the topic that was read in this assignment so far.
    pub(super) read_before: Option<Arc<str>>,
    pub(super) since: Instant,
}

impl UnknownStart {
    pub(super) fn new(partition: i32, reading: u64, read_before: Option<Arc<str>>) -> Self {
        Self { partition, reading, read_before, since: Instant::now() }
    }
}

/// Where a partition is read from.
#[derive(Debug)]
pub(super) struct PartitionStart {
    /// The question that this answers.
    pub(super) due: UnknownStart,
    /// `None`: there is no offset, and `auto.offset.reset` calls that an error, which the client
    /// reports.
    pub(super) offset: Option<i64>,
    /// The end of the partition.
    pub(super) end: i64,
    /// No record of the partition from this offset on was ever read by the group.
    pub(super) unread_from: i64,
    /// The id of the topic that has these offsets.
    pub(super) topic_id: Option<Arc<str>>,
    /// The offset is not the committed one.
    pub(super) is_new: bool,
    /// The committed offset, where it does not count and nothing has been logged about that yet.
    pub(super) discarded: Option<DiscardedOffset>,
}

/// A committed offset of an earlier topic, or beyond the end.
#[derive(Debug)]
pub(super) struct DiscardedOffset {
    pub(super) committed: i64,
    /// The end of the partition.
    pub(super) end: i64,
}
