//! Nobody is forgotten in the ledger: neither an event that is due, nor one that is parked behind
//! others which are answered, nor one past its deadline. ([`rooms`](super::rooms) has the same for
//! waiting rooms.)
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
    /// Since when each event that could go on waits.
    waiting: BTreeMap<WaitingEvent, Instant>,
}

/// An event that could go on. One that was tried, or has come due, waits again from then on; one past
/// its deadline does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct WaitingEvent {
    key: Arc<str>,
    /// `None`: it is past its deadline.
    version: Option<i64>,
    is_due: bool,
}

/// Look at the ledger once; must be called about every second.
pub(super) fn check(world: &SimWorld) {
    let mut forgotten = lock(&world.forgotten);
    forgotten.update_owners(world);
    let (now, instant) = (world.now(), Instant::now());
    let entries = world.ledger.entries();
    let waiting: BTreeMap<_, _> = entries
        .iter()
        .filter(|(_, entry)| forgotten.is_owned(entry.source.partition, instant))
        .filter_map(|(key, entry)| {
            let limit = limit(world, &entries, entry, now)?;
            let (key, is_due) = (key.clone(), is_due(entry, now));
            let version = (!is_overdue(entry, now)).then_some(entry.version);
            Some((WaitingEvent { key, version, is_due }, limit))
        })
        .collect();
    forgotten.waiting.retain(|event, _| waiting.contains_key(event));
    for (event, limit) in waiting {
        let since = *forgotten.waiting.entry(event.clone()).or_insert(instant);
        if instant - since > limit {
            let WaitingEvent { key, is_due, .. } = event;
            world.violation(format!("{key} is forgotten in the ledger, due: {is_due}"));
        }
    }
}

/// Whether the event waits for nothing any more but its owner: its time has come, or its session was
/// woken.
fn is_due(entry: &LedgerEntry, now: Timestamp) -> bool {
    match &entry.state {
        EntryState::Parked { until, waits_for: WaitsFor::Time | WaitsFor::Session } => {
            *until <= now
        }
        _ => false,
    }
}

fn is_overdue(entry: &LedgerEntry, now: Timestamp) -> bool {
    entry.deadline.is_some_and(|deadline| deadline <= now)
}

/// How long the event may still wait; `None` where it waits for something.
fn limit(
    world: &SimWorld,
    entries: &[(Arc<str>, LedgerEntry)],
    entry: &LedgerEntry,
    now: Timestamp,
) -> Option<Duration> {
    let EntryState::Parked { waits_for, .. } = &entry.state else { return None };
    if *waits_for == WaitsFor::Redelivery {
        return None;
    }
    let is_first = !entries.iter().any(|(_, other)| is_ahead(other, entry));
    if is_overdue(entry, now) {
        // One that was given up may be in memory with its old deadline: there it waits for its turn,
        // behind events that were recovered before it as well.
        let is_alone = is_first && !entries.iter().any(|(_, other)| is_in_work(other, entry));
        return (is_alone || entry.given_up().is_none()).then_some(LIMIT);
    }
    // Until its own offset is committed, Kafka may still deliver an event ahead of it.
    let is_committed = {
        let kafka = lock(&world.kafka);
        kafka.partitions[entry.source.partition as usize].committed > entry.source.offset
    };
    let could_go_on = match waits_for {
        WaitsFor::Time => is_due(entry, now) && may_start_due(world, entry),
        WaitsFor::Session => !is_due(entry, now) || may_start_due(world, entry),
        // Those in a room are tried one after the other: see `rooms`.
        WaitsFor::Agent(_) | WaitsFor::Redelivery => false,
    };
    (could_go_on && is_first && is_committed).then_some(LIMIT)
}

/// Whether the owner of an event that is due can start it. While its gate is shut, events that are
/// retried wait in memory and hold the retry slots.
fn may_start_due(world: &SimWorld, entry: &LedgerEntry) -> bool {
    let owner = lock(&world.kafka).staying_owner(entry.source.partition);
    owner.is_some_and(|owner| !owner.is_gate_shut())
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
