//! Transactions that stay open: nothing behind one is delivered before it ends.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::statistics::Partition;
use tokio::time::Instant;
use tracing::warn;

/// A transaction may hold a partition back for this long before the log says so.
const OPEN_TRANSACTION: Duration = Duration::from_secs(30);

/// The partitions that an open transaction holds back.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions(HashMap<i32, Held>);

#[derive(Debug)]
struct Held {
    stable_offset: i64,
    since: Instant,
    reported: bool,
}

impl OpenTransactions {
    /// Take note of one assigned partition. Returns how many offsets wait behind the transaction
    /// when it has been open for too long, once for each transaction.
    pub(super) fn observe(&mut self, number: i32, partition: &Partition) -> Option<i64> {
        let (stable, end) = (partition.ls_offset, partition.hi_offset);
        // Records ahead of the transaction come first: as long as there are some, it costs nothing.
        if stable < 0 || stable >= end || partition.next_offset < stable {
            self.0.remove(&number);
            return None;
        }
        let new = || Held { stable_offset: stable, since: Instant::now(), reported: false };
        let held = self.0.entry(number).or_insert_with(new);
        if held.stable_offset != stable {
            *held = new();
        }
        let is_due = !held.reported && held.since.elapsed() >= OPEN_TRANSACTION;
        held.reported |= is_due;
        is_due.then_some(end - stable)
    }

    /// Forget a partition that is not assigned.
    pub(super) fn forget(&mut self, number: i32) {
        self.0.remove(&number);
    }
}

/// Log the partitions whose transaction has been open for too long, with the offsets that wait.
pub(super) fn report_held(topic: &str, held: Vec<(i32, i64)>) {
    if held.is_empty() {
        return;
    }
    let (partitions, offsets): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    warn!(
        kafka.topic = topic,
        kafka.partitions = ?partitions,
        offsets = ?offsets,
        repair = "end its producer, or `kafka-transactions.sh abort`; else the broker \
                  aborts it after the producer's transaction.timeout.ms",
        "open transaction holds records back"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_stays_open_is_reported_once() {
        let mut open = OpenTransactions::default();
        let held = Partition { ls_offset: 5, next_offset: 5, hi_offset: 8, ..Partition::default() };
        assert_eq!(open.observe(0, &held), None);
        tokio::time::advance(OPEN_TRANSACTION - Duration::from_millis(1)).await;
        assert_eq!(open.observe(0, &held), None);
        let next = Partition { ls_offset: 7, next_offset: 7, ..held.clone() };
        assert_eq!(open.observe(0, &next), None, "another transaction");
        tokio::time::advance(OPEN_TRANSACTION).await;
        assert_eq!(open.observe(0, &next), Some(1));
        assert_eq!(open.observe(0, &next), None, "once");
        let behind = Partition { next_offset: 6, ..next.clone() };
        assert_eq!(open.observe(0, &behind), None, "there is a record to read ahead of it");
        assert_eq!(open.observe(0, &next), None);
        tokio::time::advance(OPEN_TRANSACTION).await;
        assert_eq!(open.observe(0, &next), Some(1));
    }
}
