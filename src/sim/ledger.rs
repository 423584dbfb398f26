//! A ledger in memory, for tests of the shell and for the simulation.
//!
//! It applies commands through the same [`apply`] as the databases. Several owners may share it;
//! it answers at once and is never unavailable. The service itself never runs on it, because it
//! does not survive the process.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::ledger_entry::{
    Actor, Claim, ClaimResult, CommandResult, EntryState, LedgerCommand, LedgerEntry, OperatorAct,
    OperatorResult, Park, RecordOrigin, Settle, StoredDeadLetter, StoredIdentities, StoredIdentity,
    WaitsFor, WakeSession, WriteResult, apply, just_before, operate,
};
use crate::domain::record::Position;
use crate::ledger::{
    CountQuery, DueEntries, DuePartition, DueQuery, Ledger, ParkedCount, ParkedGroup, RecordRange,
    Recovered, StoredEntries, WaitingQuery,
};

/// The ledger in memory, as one owner sees it.
#[derive(Clone)]
pub struct MemoryLedger {
    entries: Arc<Mutex<BTreeMap<Arc<str>, LedgerEntry>>>,
    /// The latest publication among the pruned entries.
    pruned_until: Arc<Mutex<Option<Timestamp>>>,
    owner: Arc<str>,
    clock: Clock,
}

/// An entry and its key.
struct StoredEntry {
    key: Arc<str>,
    entry: LedgerEntry,
}

impl Deref for StoredEntry {
    type Target = LedgerEntry;

    fn deref(&self) -> &LedgerEntry {
        &self.entry
    }
}

impl MemoryLedger {
    /// An empty one.
    pub fn new(owner: &str, clock: Clock) -> Self {
        Self { entries: Arc::default(), pruned_until: Arc::default(), owner: owner.into(), clock }
    }

    /// The same entries, as another owner sees them.
    pub fn as_owner(&self, owner: &str) -> Self {
        Self { owner: owner.into(), ..self.clone() }
    }

    /// The entry of one event.
    pub fn entry(&self, key: &str) -> Option<LedgerEntry> {
        self.entries.lock().get(key).cloned()
    }

    /// All entries with their keys.
    pub fn entries(&self) -> Vec<(Arc<str>, LedgerEntry)> {
        self.entries.lock().iter().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    /// What an operator does beside the service; `None`: there is no such entry.
    pub fn operate(&self, key: &str, act: &OperatorAct) -> Option<OperatorResult> {
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key)?;
        let result = operate(entry.clone(), act, actor);
        if let OperatorResult::Stored(next) = &result {
            *entry = next.as_ref().clone();
        }
        Some(result)
    }

    /// How many entries have no published answer.
    pub fn unpublished(&self) -> usize {
        let unpublished =
            |entry: &&LedgerEntry| !matches!(entry.state, EntryState::Published { .. });
        self.entries.lock().values().filter(unpublished).count()
    }

    /// Deletes entries that were published before this time; returns how many.
    pub fn prune(&self, before: Timestamp) -> u64 {
        let mut entries = self.entries.lock();
        let count = entries.len();
        let mut until = self.pruned_until.lock();
        entries.retain(|_, entry| match entry.state {
            EntryState::Published { at, .. } if at < before => {
                *until = (*until).max(Some(at));
                false
            }
            _ => true,
        });
        (count - entries.len()) as u64
    }

    fn stored(
        &self,
        topic: &Arc<str>,
        partitions: &[i32],
        wanted: impl Fn(&LedgerEntry) -> bool,
    ) -> Vec<StoredEntry> {
        let is_theirs =
            |source: &Position| source.topic == *topic && partitions.contains(&source.partition);
        let entries = self.entries.lock();
        let found = entries.iter().filter(|(_, entry)| is_theirs(&entry.source) && wanted(entry));
        found.map(|(key, entry)| StoredEntry { key: key.clone(), entry: entry.clone() }).collect()
    }

    fn wake(&self, wake: &WakeSession) {
        let WakeSession { session_id, topic, partition, before_offset } = wake;
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        let of_session = entries.values_mut().filter(|entry| {
            entry.session_id.as_ref() == Some(session_id)
                && (&entry.source.topic, &entry.source.partition) == (topic, partition)
                && entry.record.is_some()
                && !entry.is_settled()
        });
        let first = of_session.min_by_key(|entry| entry.source.offset);
        let is_ahead = |entry: &&mut LedgerEntry| {
            before_offset.is_none_or(|offset| entry.source.offset < offset)
        };
        if let Some(first) = first.filter(is_ahead)
            && first.state.waits_for() == Some(&WaitsFor::Session)
        {
            let until = first.deadline.map_or(now, |deadline| now.min(just_before(deadline)));
            first.state = EntryState::Parked { until, waits_for: WaitsFor::Session };
        }
    }

    fn perform(&self, key: &Arc<str>, command: &LedgerCommand) -> CommandResult {
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let mut entries = self.entries.lock();
        let applied = apply(entries.get(key).cloned(), command, actor);
        if let Some(next) = applied.next {
            entries.insert(key.clone(), next);
        }
        applied.result
    }

    fn write(&self, key: &Arc<str>, command: &LedgerCommand) -> WriteResult {
        match self.perform(key, command) {
            CommandResult::Write(result) => result,
            CommandResult::Claim(_) => unreachable!("only a claim has a claim result"),
        }
    }
}

impl Ledger for MemoryLedger {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.perform(&claim.key.clone(), &LedgerCommand::Claim(Box::new(claim))) {
            CommandResult::Claim(result) => result,
            CommandResult::Write(_) => unreachable!("a claim has a claim result"),
        }
    }

    async fn park(&self, key: Arc<str>, park: Park) -> WriteResult {
        self.write(&key, &LedgerCommand::Park(park))
    }

    async fn settle(&self, key: Arc<str>, settle: Settle) -> WriteResult {
        let wake = settle.wake.clone();
        let result = self.write(&key, &LedgerCommand::Settle(settle));
        if let Some(wake) = wake.filter(|_| result.is_done()) {
            self.wake(&wake);
        }
        result
    }

    async fn wake_session(&self, wake: WakeSession) {
        self.wake(&wake);
    }

    async fn is_session_parked(
        &self,
        session_id: Arc<str>,
        before: Position,
        in_memory: Vec<i64>,
    ) -> bool {
        self.entries.lock().values().any(|entry| {
            let Position { topic, partition, offset } = &entry.source;
            entry.session_id.as_ref() == Some(&session_id)
                && (topic, partition) == (&before.topic, &before.partition)
                && *offset < before.offset
                && (is_parked(entry) || is_from_ledger(entry) && !in_memory.contains(offset))
        })
    }

    async fn is_behind_unpublished(
        &self,
        session_id: Arc<str>,
        position: Position,
        from: i64,
    ) -> bool {
        let Position { topic, partition, offset } = &position;
        let ahead = self.stored(topic, &[*partition], |entry| {
            (from..*offset).contains(&entry.source.offset)
                && entry.session_id.as_ref() == Some(&session_id)
        });
        ahead.iter().any(|stored| matches!(stored.entry.state, EntryState::Settled { .. }))
    }

    async fn forgot(&self, key: Arc<str>, recorded: Timestamp) -> bool {
        self.pruned_until.lock().is_some_and(|until| until >= recorded)
            && !self.entries.lock().contains_key(&key)
    }

    async fn identities(&self, range: RecordRange) -> StoredIdentities {
        let RecordRange { topic, partition, offsets } = range;
        let found =
            self.stored(&topic, &[partition], |entry| offsets.contains(&entry.source.offset));
        let mut identities = StoredIdentities::default();
        for StoredEntry { key, entry } in found {
            let (offset, recorded_at) = (entry.source.offset, entry.recorded_at);
            let is_answered = entry.is_settled();
            match (entry.session_id, entry.deadline) {
                (Some(session_id), Some(deadline)) => identities.events.push(StoredIdentity {
                    offset,
                    recorded_at,
                    key,
                    session_id,
                    first_seen: entry.first_seen,
                    deadline,
                    is_answered,
                }),
                _ if is_answered => {
                    identities.dead_letters.push(StoredDeadLetter { offset, recorded_at });
                }
                _ => {}
            }
        }
        identities.events.sort_by_key(|event| event.offset);
        identities.dead_letters.sort_by_key(|dead_letter| dead_letter.offset);
        identities
    }

    async fn mark_published(&self, key: Arc<str>, position: Option<Position>) {
        // Refused where another instance has stored it already.
        self.write(&key, &LedgerCommand::Publish { position });
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let parked = self.parked_groups(topic.clone(), partitions.clone()).await;
        let StoredEntries { entries, .. } = self.unfinished(topic, partitions).await;
        let parked_partitions = parked.iter().map(|group| group.partition).collect();
        Recovered { entries, blocked_partitions: Vec::new(), parked, parked_partitions }
    }

    async fn count_parked(&self, query: CountQuery) -> Vec<ParkedCount> {
        let CountQuery { topic, partitions, seen_before } = query;
        let parked = self.stored(&topic, &partitions, |entry| {
            is_parked(entry) && entry.first_seen < seen_before
        });
        let mut counts: Vec<ParkedCount> = Vec::new();
        for entry in parked {
            let Some(waits_for) = entry.state.waits_for() else { continue };
            let partition = entry.source.partition;
            let same = |count: &&mut ParkedCount| {
                count.partition == partition && count.waits_for == *waits_for
            };
            match counts.iter_mut().find(same) {
                Some(count) => count.events += 1,
                None => {
                    let waits_for = waits_for.clone();
                    counts.push(ParkedCount { partition, waits_for, events: 1 });
                }
            }
        }
        counts
    }

    async fn unfinished(&self, topic: Arc<str>, partitions: Vec<i32>) -> StoredEntries {
        let mut entries = self.stored(&topic, &partitions, only_in_ledger);
        entries.sort_by_key(|entry| (entry.source.partition, entry.source.offset));
        first(entries, usize::MAX)
    }

    async fn parked_groups(&self, topic: Arc<str>, partitions: Vec<i32>) -> Vec<ParkedGroup> {
        groups(&self.stored(&topic, &partitions, is_parked))
    }

    async fn due(&self, query: DueQuery) -> DueEntries {
        let DueQuery { topic, partitions, now, overdue_limit, due_limit } = query;
        let numbers: Vec<_> = partitions.iter().map(|one| one.partition).collect();
        let mut parked = self.stored(&topic, &numbers, is_parked);
        let future = |time: &Timestamp| *time > now;
        let next_deadline = parked.iter().filter_map(|entry| entry.deadline).filter(future).min();
        let has_time = |entry: &&StoredEntry| entry.state.waits_for() == Some(&WaitsFor::Time);
        let next_due =
            parked.iter().filter(has_time).filter_map(|entry| own_time(entry)).filter(future).min();
        let is_early = |entry: &LedgerEntry| {
            let is_theirs = |one: &&DuePartition| one.partition == entry.source.partition;
            let partition = partitions.iter().find(is_theirs);
            is_woken(entry) && partition.is_none_or(|one| entry.source.offset > one.woken_up_to)
        };
        let has_early = parked.iter().any(|entry| is_early(entry));
        parked.sort_by_key(|entry| entry.deadline);
        let is_overdue = |entry: &LedgerEntry| entry.deadline.is_some_and(|time| time <= now);
        let (overdue, mut others): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|entry| is_overdue(entry));
        others.retain(|entry| own_time(entry).is_some_and(|time| time <= now) && !is_early(entry));
        others.sort_by_key(|entry| own_time(entry));
        DueEntries {
            overdue: first(overdue, overdue_limit),
            due: first(others, due_limit),
            next_deadline,
            next_due,
            has_early,
        }
    }

    async fn waiting(&self, query: WaitingQuery) -> StoredEntries {
        let WaitingQuery { topic, partitions, room, limit } = query;
        let is_member =
            |entry: &LedgerEntry| entry.state.waits_for() == Some(&WaitsFor::Agent(room.clone()));
        let mut members = self.stored(&topic, &partitions, is_member);
        members.sort_by_key(|entry| entry.first_seen);
        first(members, limit)
    }
}

/// Whether it is in work, and Kafka may not deliver it again.
fn only_in_ledger(entry: &LedgerEntry) -> bool {
    is_from_ledger(entry) || matches!(entry.state, EntryState::Settled { .. })
}

/// Whether it is claimed, and its record was read in the ledger.
fn is_from_ledger(entry: &LedgerEntry) -> bool {
    matches!(entry.state, EntryState::Open { origin: RecordOrigin::Ledger })
}

/// Whether it waits in the ledger, with its record.
fn is_parked(entry: &LedgerEntry) -> bool {
    entry.state.waits_for().is_some_and(|waits_for| *waits_for != WaitsFor::Redelivery)
}

/// Whether it waits for its session, which was woken: until then it is parked until its deadline.
fn is_woken(entry: &LedgerEntry) -> bool {
    match &entry.state {
        EntryState::Parked { until, waits_for: WaitsFor::Session } => {
            entry.deadline.is_some_and(|deadline| *until < deadline)
        }
        _ => false,
    }
}

/// When it is due by itself.
fn own_time(entry: &LedgerEntry) -> Option<Timestamp> {
    match &entry.state {
        EntryState::Parked { until, waits_for: WaitsFor::Time | WaitsFor::Session } => Some(*until),
        _ => None,
    }
}

fn first(entries: Vec<StoredEntry>, limit: usize) -> StoredEntries {
    let recover = |StoredEntry { key, entry }| LedgerEntry::recover(entry, key);
    let entries = entries.into_iter().take(limit).filter_map(recover).collect();
    StoredEntries { entries, unreadable: Vec::new() }
}

fn groups(parked: &[StoredEntry]) -> Vec<ParkedGroup> {
    let mut groups: Vec<ParkedGroup> = Vec::new();
    for entry in parked {
        let EntryState::Parked { until, waits_for } = &entry.state else { continue };
        let (partition, first_seen) = (entry.source.partition, entry.first_seen);
        let same = |group: &&mut ParkedGroup| {
            group.partition == partition && group.waits_for == *waits_for
        };
        match groups.iter_mut().find(same) {
            Some(group) => {
                let oldest = (group.oldest, group.oldest_until).min((first_seen, *until));
                (group.oldest, group.oldest_until) = oldest;
            }
            None => groups.push(ParkedGroup {
                partition,
                waits_for: waits_for.clone(),
                oldest: first_seen,
                oldest_until: *until,
            }),
        }
    }
    groups
}
