//! A ledger in memory, for the tests of the shell and the simulation.
//!
//! It does to its entries what every other ledger does, through the same `apply`; several owners
//! may share one. It answers at once and is always there.
//! It never outlives its process, so the service never runs on it.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ledger_entry::{
    Actor, Claim, ClaimResult, CommandResult, EntryState, LedgerCommand, LedgerEntry, Parking,
    apply,
};
use crate::domain::record::Position;
use crate::domain::wire::outcome::Message;
use crate::ledger::{Ledger, Recovered};

/// The ledger in memory, as one owner sees it.
#[derive(Clone)]
pub struct Memory {
    entries: Arc<Mutex<BTreeMap<Arc<str>, LedgerEntry>>>,
    owner: Arc<str>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Memory {
    /// An empty one.
    pub fn new(owner: &str, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { entries: Arc::default(), owner: owner.into(), now }
    }

    /// The same entries, as another owner sees them.
    pub fn as_owner(&self, owner: &str) -> Self {
        Self { owner: owner.into(), ..self.clone() }
    }

    /// Everything that is known of one event.
    pub fn story(&self, key: &str) -> Option<LedgerEntry> {
        self.lock().get(key).cloned()
    }

    /// How many entries have no published answer yet.
    pub fn unpublished(&self) -> usize {
        let is_open = |entry: &&LedgerEntry| !matches!(entry.state, EntryState::Published { .. });
        self.lock().values().filter(is_open).count()
    }

    /// Forget what was published before then; how many it were.
    pub fn prune(&self, before: Timestamp) -> u64 {
        let mut entries = self.lock();
        let had = entries.len();
        entries.retain(
            |_, entry| !matches!(entry.state, EntryState::Published { at, .. } if at < before),
        );
        (had - entries.len()) as u64
    }

    fn perform(&self, key: &Arc<str>, command: &LedgerCommand) -> CommandResult {
        let actor = Actor { owner: &self.owner, now: (self.now)() };
        let mut entries = self.lock();
        let (changed, reply) = apply(entries.get(key).cloned(), command, actor);
        if let Some(changed) = changed {
            entries.insert(key.clone(), changed);
        }
        reply
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, LedgerEntry>> {
        self.entries.lock()
    }
}

impl Ledger for Memory {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.perform(&claim.key.clone(), &LedgerCommand::Claim(Box::new(claim))) {
            CommandResult::Claimed(claimed) => claimed,
            CommandResult::Done(_) => unreachable!("a claim is answered by what was claimed"),
        }
    }

    async fn park(&self, key: Arc<str>, parking: Parking) -> bool {
        self.perform(&key, &LedgerCommand::Park(parking)) == CommandResult::Done(true)
    }

    async fn settle(&self, key: Arc<str>, answer: Arc<Message>, at: Timestamp) -> bool {
        let command = LedgerCommand::Settle { answer, at };
        self.perform(&key, &command) == CommandResult::Done(true)
    }

    async fn published(&self, key: Arc<str>, place: Option<Position>) {
        self.perform(&key, &LedgerCommand::Publish { place });
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let entries = self.lock();
        let ours =
            |source: &Position| source.topic == topic && partitions.contains(&source.partition);
        let rows = entries.iter().filter(|(_, entry)| ours(&entry.source));
        let mut rows: Vec<_> =
            rows.filter_map(|(key, entry)| entry.clone().recover(key.clone())).collect();
        rows.sort_by_key(|row| (row.record.position.partition, row.record.position.offset));
        Recovered { rows, unread: Vec::new() }
    }
}
