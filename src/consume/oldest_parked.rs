//! When the oldest parked event was first read, for a metric. Events for which nobody is online, and those
//! that wait until their route opens, are left aside: they are old by the rules of their route.
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

/// An event that is parked in a partition.
pub(super) struct ParkedSince<'w> {
    pub(super) partition: i32,
    pub(super) waits_for: &'w WaitsFor,
    /// When it was first read.
    pub(super) since: Timestamp,
    /// When it is due by itself.
    pub(super) until: Timestamp,
}

impl OldestParked {
    /// An event was parked. No retry is later than `latest_retry`: what is due after it waits until its
    /// route opens.
    pub(super) fn on_parked(&mut self, parked: &ParkedSince<'_>, latest_retry: Timestamp) {
        let ParkedSince { partition, waits_for, since, until } = *parked;
        let counts = match waits_for {
            WaitsFor::Time => until <= latest_retry,
            WaitsFor::Session => true,
            WaitsFor::Agent(_) | WaitsFor::Redelivery => false,
        };
        if counts {
            let oldest = self.0.entry(partition).or_insert(since);
            *oldest = since.min(*oldest);
        }
    }

    /// The ledger has these groups of parked events in these partitions.
    pub(super) fn on_read(
        &mut self,
        partitions: &[i32],
        groups: &[ParkedGroup],
        latest_retry: Timestamp,
    ) {
        self.0.retain(|partition, _| !partitions.contains(partition));
        for group in groups.iter().filter(|group| partitions.contains(&group.partition)) {
            let ParkedGroup { partition, waits_for, oldest: since, oldest_until: until } = group;
            let (partition, since, until) = (*partition, *since, *until);
            self.on_parked(&ParkedSince { partition, waits_for, since, until }, latest_retry);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_that_was_parked_until_a_sweep_knows_better() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut oldest = OldestParked::default();
        let mut park = |partition, waits_for: &WaitsFor, since, until| {
            let (since, until) = (at(since), at(until));
            oldest.on_parked(&ParkedSince { partition, waits_for, since, until }, at(200));
        };
        park(0, &WaitsFor::Time, 20, 200);
        park(1, &WaitsFor::Session, 10, 900);
        park(1, &WaitsFor::Agent("room".into()), 1, 30);
        // Until its route opens.
        park(1, &WaitsFor::Time, 2, 201);
        assert_eq!(oldest.oldest(), Some(at(10)));
        let group = |partition, waits_for, since, until| {
            let (oldest, oldest_until) = (at(since), at(until));
            ParkedGroup { partition, waits_for, oldest, oldest_until }
        };
        // The event of partition 1 was answered; partition 2 was revoked since the sweep began.
        let groups = [
            group(0, WaitsFor::Time, 20, 200),
            group(1, WaitsFor::Time, 30, 99),
            group(2, WaitsFor::Time, 5, 99),
        ];
        oldest.on_read(&[0, 1], &groups, at(200));
        assert_eq!(oldest.oldest(), Some(at(20)));
        oldest.remove_partition(0);
        assert_eq!(oldest.oldest(), Some(at(30)));
    }
}
