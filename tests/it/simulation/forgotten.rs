//! Nobody is forgotten in the ledger: neither an event that is parked behind others which are
//! answered, nor one past its deadline. ([`rooms`](super::rooms) has the same for waiting rooms.)
//!
//! Each of them has an owner that could go on. It is forgotten if that owner has worked for a while
//! without a restart, a rebalance or a pause, and the event still waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handoff::domain::ledger_entry::{EntryState, LedgerEntry, WaitsFor};
use jiff::Timestamp;
use tokio::time::Instant;

use super::world::{SimWorld, lock};

/// Longer than every delay of the simulated ledger, and than a retry that waits for a slot.
const LIMIT: Duration = Duration::from_secs(12);

/// What the check remembers.
#[derive(Default)]
pub(super) struct Forgotten {
    /// The owner of each partition, and since when.
    owners: BTreeMap<i32, (String, Instant)>,
    /// Since when an event that could go on waits, by its key.
    waiting: BTreeMap<Arc<str>, Instant>,
}

/// Look at the ledger once; must be called about every second.
pub(super) fn check(world: &SimWorld) {
    let mut forgotten = lock(&world.forgotten);
    forgotten.update_owners(world);
    let (now, instant) = (world.now(), Instant::now());
    let entries = world.ledger.entries();
    let waiting: BTreeMap<_, _> = entries
        .iter()
        .filter_map(|(key, entry)| Some((key.clone(), limit(world, &entries, entry, now)?)))
        .filter(|(key, _)| forgotten.is_owned(entries_source(&entries, key), instant))
        .collect();
    forgotten.waiting.retain(|key, _| waiting.contains_key(key));
    for (key, limit) in waiting {
        let since = *forgotten.waiting.entry(key.clone()).or_insert(instant);
        if instant - since > limit {
            world.violation(format!("{key} is forgotten in the ledger"));
        }
    }
}

fn entries_source(entries: &[(Arc<str>, LedgerEntry)], key: &Arc<str>) -> i32 {
    let entry = entries.iter().find(|(other, _)| other == key);
    entry.map_or(-1, |(_, entry)| entry.source.partition)
}

/// How long the event may still wait; `None` where it waits for something.
fn limit(
    world: &SimWorld,
    entries: &[(Arc<str>, LedgerEntry)],
    entry: &LedgerEntry,
    now: Timestamp,
) -> Option<Duration> {
    let EntryState::Parked { until, waits_for } = &entry.state else { return None };
    if *waits_for == WaitsFor::Redelivery {
        return None;
    }
    let is_first = !entries.iter().any(|(_, other)| is_ahead(other, entry));
    if entry.deadline.is_some_and(|deadline| deadline <= now) {
        // One that was given up may be in memory with its old deadline: there it waits for its turn,
        // behind events that were recovered before it as well.
        let is_alone = is_first && !entries.iter().any(|(_, other)| is_in_work(other, entry));
        return (is_alone || entry.given_up().is_none()).then_some(LIMIT);
    }
    match waits_for {
        // One that was woken may wait for the gate.
        WaitsFor::Session => {
            let is_woken = *until <= now;
            // Until its own offset is committed, Kafka may still deliver an event ahead of it.
            let is_committed = {
                let kafka = lock(&world.kafka);
                kafka.partitions[entry.source.partition as usize].committed > entry.source.offset
            };
            (!is_woken && is_first && is_committed).then_some(LIMIT)
        }
        // Those in a room are tried one after the other: see `rooms`.
        WaitsFor::Time | WaitsFor::Agent(_) | WaitsFor::Redelivery => None,
    }
}

fn is_ahead(other: &LedgerEntry, entry: &LedgerEntry) -> bool {
    other.session_id == entry.session_id
        && other.source.partition == entry.source.partition
        && other.source.offset < entry.source.offset
        && !other.is_settled()
}

/// Whether another event of the session is claimed.
fn is_in_work(other: &LedgerEntry, entry: &LedgerEntry) -> bool {
    other.session_id == entry.session_id && matches!(other.state, EntryState::Open { .. })
}

impl Forgotten {
    fn update_owners(&mut self, world: &SimWorld) {
        let kafka = lock(&world.kafka);
        for (number, partition) in (0..).zip(&kafka.partitions) {
            let now = Instant::now();
            let owner = partition.owner.as_ref();
            let works = owner.is_some_and(|owner| !owner.paused_since(now - 2 * LIMIT));
            let name = owner.filter(|_| works).map_or("", |owner| &owner.name);
            let known = self.owners.entry(number).or_insert_with(|| (name.to_owned(), now));
            if known.0 != name {
                *known = (name.to_owned(), now);
            }
        }
    }

    /// Whether the partition has had one working owner for a while.
    fn is_owned(&self, partition: i32, now: Instant) -> bool {
        let owner = self.owners.get(&partition);
        owner.is_some_and(|(name, since)| !name.is_empty() && now - *since > LIMIT)
    }
}
