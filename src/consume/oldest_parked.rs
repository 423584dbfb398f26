//! When the customer of the oldest parked event began to wait, for a metric. Events for which nobody is
//! online are left aside: they are old by the rules of their route.
//!
//! It is known at once when an event is parked here. Which one comes after it is known only to the
//! ledger, which each sweep asks: until then the time can be that of an event that has been answered.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::ledger_entry::WaitsFor;
use crate::ledger::ParkedGroup;

/// The oldest one of each partition that has some.
#[derive(Debug, Default)]
pub(super) struct OldestParked(BTreeMap<i32, Timestamp>);

impl OldestParked {
    /// An event was parked.
    pub(super) fn on_parked(&mut self, partition: i32, waits_for: &WaitsFor, since: Timestamp) {
        if counts(waits_for) {
            let oldest = self.0.entry(partition).or_insert(since);
            *oldest = since.min(*oldest);
        }
    }

    /// The ledger has these groups of parked events in these partitions.
    pub(super) fn on_read(&mut self, partitions: &[i32], groups: &[ParkedGroup]) {
        self.0.retain(|partition, _| !partitions.contains(partition));
        for group in groups.iter().filter(|group| partitions.contains(&group.partition)) {
            self.on_parked(group.partition, &group.waits_for, group.oldest);
        }
    }

    /// The partition may have another owner now.
    pub(super) fn remove_partition(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// The oldest one of all partitions.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }
}

fn counts(waits_for: &WaitsFor) -> bool {
    matches!(waits_for, WaitsFor::Time | WaitsFor::Session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_that_was_parked_until_a_sweep_knows_better() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut oldest = OldestParked::default();
        oldest.on_parked(0, &WaitsFor::Time, at(20));
        oldest.on_parked(1, &WaitsFor::Session, at(10));
        oldest.on_parked(1, &WaitsFor::Agent("room".into()), at(1));
        assert_eq!(oldest.oldest(), Some(at(10)));
        let group = |partition, waits_for, second| {
            let (oldest, oldest_until) = (at(second), at(99));
            ParkedGroup { partition, waits_for, oldest, oldest_until }
        };
        // The event of partition 1 was answered; partition 2 was revoked since the sweep began.
        let groups = [
            group(0, WaitsFor::Time, 20),
            group(1, WaitsFor::Time, 30),
            group(2, WaitsFor::Time, 5),
        ];
        oldest.on_read(&[0, 1], &groups);
        assert_eq!(oldest.oldest(), Some(at(20)));
        oldest.remove_partition(0);
        assert_eq!(oldest.oldest(), Some(at(30)));
    }
}
