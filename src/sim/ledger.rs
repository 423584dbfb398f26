//! A ledger in memory, for tests of the shell and for the simulation.
//!
//! It applies commands through the same [`apply`] as the databases. Several owners may share it;
//! it answers at once and is never unavailable. The service itself never runs on it, because it
//! does not survive the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::ledger_entry::{
    Actor, Claim, ClaimResult, CommandResult, EntryState, LedgerCommand, LedgerEntry, Park,
    WriteResult, apply,
};
use crate::domain::record::Position;
use crate::domain::wire::Message;
use crate::ledger::{Ledger, Recovered};

/// The ledger in memory, as one owner sees it.
#[derive(Clone)]
pub struct MemoryLedger {
    entries: Arc<Mutex<BTreeMap<Arc<str>, LedgerEntry>>>,
    owner: Arc<str>,
    clock: Clock,
}

impl MemoryLedger {
    /// An empty one.
    pub fn new(owner: &str, clock: Clock) -> Self {
        Self { entries: Arc::default(), owner: owner.into(), clock }
    }

    /// The same entries, as another owner sees them.
    pub fn as_owner(&self, owner: &str) -> Self {
        Self { owner: owner.into(), ..self.clone() }
    }

    /// The entry of one event.
    pub fn entry(&self, key: &str) -> Option<LedgerEntry> {
        self.entries.lock().get(key).cloned()
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
        entries.retain(
            |_, entry| !matches!(entry.state, EntryState::Published { at, .. } if at < before),
        );
        (count - entries.len()) as u64
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

    async fn settle(&self, key: Arc<str>, answer: Arc<Message>, at: Timestamp) -> WriteResult {
        self.write(&key, &LedgerCommand::Settle { answer, at })
    }

    async fn mark_published(&self, key: Arc<str>, position: Option<Position>) {
        // Refused where another instance has stored it already.
        self.write(&key, &LedgerCommand::Publish { position });
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let entries = self.entries.lock();
        let wanted =
            |source: &Position| source.topic == topic && partitions.contains(&source.partition);
        let found = entries.values().filter(|entry| wanted(&entry.source));
        let mut found: Vec<_> = found.filter_map(|entry| entry.clone().recover()).collect();
        found.sort_by_key(|found| (found.record.position.partition, found.record.position.offset));
        Recovered { entries: found, blocked_partitions: Vec::new() }
    }
}
