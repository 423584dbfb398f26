//! Records that were removed from the topic before they were read: by its retention, by an operator.
//!
//! The client then goes on with the first record that is left. The API does not tell of it, but a line of
//! librdkafka's log does; a test on a real broker holds the form of that line. How many are missing is
//! known with the next record, or at the end of the partition.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::statistics::Partition;
use tracing::warn;

use crate::telemetry::Metrics;

/// Partitions whose position was reset, and has not been seen since.
pub(super) struct RemovedRecords {
    topic: Arc<str>,
    metrics: Arc<Metrics>,
    /// By partition: the offset that would have been read next.
    resets: Mutex<HashMap<i32, i64>>,
    /// So that a record costs no lock.
    has_resets: AtomicBool,
}

impl RemovedRecords {
    pub(super) fn new(topic: Arc<str>, metrics: Arc<Metrics>) -> Self {
        Self { topic, metrics, resets: Mutex::default(), has_resets: AtomicBool::new(false) }
    }

    /// Read a line of librdkafka's log.
    pub(super) fn on_log(&self, line: &str) {
        if let Some((partition, offset)) = self.parse(line) {
            // Several resets in a row skip more: the first one counts.
            self.resets.lock().entry(partition).or_insert(offset);
            self.has_resets.store(true, Ordering::Relaxed);
        }
    }

    /// "in \[0\]: offset reset (at offset 5 (leader epoch 0), broker 1) to .."
    fn parse(&self, line: &str) -> Option<(i32, i64)> {
        let (head, rest) = line.split_once("]: offset reset (at offset ")?;
        let (topic, partition) = head.rsplit_once(" [")?;
        // The thread's name may be ahead of the topic's.
        if topic.rsplit(' ').next() != Some(&*self.topic) {
            return None;
        }
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((partition.parse().ok()?, digits.parse().ok()?))
    }

    /// A record has been read: report what was skipped before it.
    pub(super) fn on_record(&self, partition: i32, offset: i64) {
        if self.has_resets.load(Ordering::Relaxed)
            && let Some(offsets) = self.take(partition, offset)
        {
            self.report(partition, &offsets);
        }
    }

    /// Look at the statistics of a partition: report what was skipped where no record is left.
    pub(super) fn observe(&self, number: i32, partition: &Partition) {
        if partition.fetchq_cnt == 0 && partition.next_offset == partition.hi_offset.max(0) {
            self.on_record(number, partition.next_offset);
        }
    }

    fn report(&self, partition: i32, offsets: &Range<i64>) {
        let count = offsets.end - offsets.start;
        self.metrics.removed_unread.inc_by(count.unsigned_abs());
        warn!(
            kafka.topic = %self.topic,
            kafka.partition = partition,
            ?offsets,
            count,
            "records were removed from the topic before they were read"
        );
    }

    fn take(&self, partition: i32, next: i64) -> Option<Range<i64>> {
        let mut resets = self.resets.lock();
        let expected = resets.remove(&partition)?;
        self.has_resets.store(!resets.is_empty(), Ordering::Relaxed);
        // Not ahead: the topic shrank or was created again, and nothing is skipped.
        (expected < next).then_some(expected..next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[thrd:main]: in [4]: offset reset (at offset 5 (leader epoch 0), broker 1) to \
                        cached BEGINNING offset offset 15 (leader epoch -1): fetch failed due to \
                        requested offset not available on the broker: Broker: Offset out of range";

    fn removed() -> RemovedRecords {
        RemovedRecords::new("in".into(), Arc::new(Metrics::new()))
    }

    #[test]
    fn what_is_missing_is_known_with_the_next_record() {
        let removed = removed();
        assert_eq!(removed.take(4, 5), None);
        removed.on_log(&LINE.replace(" in [", " other-in ["));
        removed.on_log(&LINE.replace("offset 5", "INVALID"));
        assert_eq!(removed.take(4, 5), None, "another topic, and no offset");
        removed.on_log(LINE);
        assert_eq!(removed.take(3, 8), None, "another partition");
        assert_eq!(removed.take(4, 15), Some(5..15));
        assert_eq!(removed.take(4, 16), None, "once");
        removed.on_log(LINE);
        assert_eq!(removed.take(4, 0), None, "the topic shrank");
    }

    #[test]
    fn what_is_missing_is_known_at_the_end_of_the_partition() {
        let removed = removed();
        removed.on_log(LINE);
        let count_at = |next_offset, fetchq_cnt| {
            let partition =
                Partition { next_offset, fetchq_cnt, hi_offset: 9, ..Partition::default() };
            removed.observe(4, &partition);
            removed.metrics.removed_unread.get()
        };
        assert_eq!(count_at(5, 0), 0, "the new position is not known yet");
        assert_eq!(count_at(9, 1), 0, "a record is still to be handed on");
        assert_eq!(count_at(9, 0), 4);
        assert_eq!(count_at(9, 0), 4, "once");
    }
}
