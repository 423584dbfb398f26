//! One attempt at a batch whose rows have to be read first: from the rows to the changes and to
//! the result of each command.
//!
//! A lost connection leaves it unknown whether the last attempt was written. The next attempt finds
//! out by version and history, see [`UnconfirmedWrites`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::take;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::database::{RowChange, StoredRow};
use crate::domain::ledger_entry::{
    Actor, Applied, ClaimResult, CommandResult, HistoryItem, LedgerCommand, LedgerEntry,
    WakeSession, WriteResult, apply,
};
use crate::domain::record::Record;

/// A command and the sender that waits for its result.
pub(super) struct PendingCommand {
    pub(super) key: Arc<str>,
    pub(super) command: LedgerCommand,
    pub(super) reply: oneshot::Sender<CommandResult>,
}

impl PendingCommand {
    /// Whether only an offset depends on it, so that it may linger.
    pub(super) fn may_linger(&self) -> bool {
        matches!(self.command, LedgerCommand::Publish { .. })
    }

    pub(super) fn is_claim(&self) -> bool {
        matches!(self.command, LedgerCommand::Claim(_))
    }

    /// The session to be woken in the transaction of this command.
    pub(super) fn wake(&self) -> Option<&WakeSession> {
        match &self.command {
            LedgerCommand::Settle(settle) => settle.wake.as_ref(),
            _ => None,
        }
    }

    /// The size of what it writes, apart from a few hundred bytes of columns.
    pub(super) fn size_bytes(&self) -> usize {
        match &self.command {
            LedgerCommand::Park(park) => {
                park.snapshot.len() + park.record.as_ref().map_or(0, Record::size_bytes)
            }
            LedgerCommand::Settle(settle) => settle.answer.value.as_ref().map_or(0, Vec::len),
            LedgerCommand::Claim(_) | LedgerCommand::Publish { .. } => 0,
        }
    }
}

/// A write that failed, although the database may have performed it.
pub(super) struct UnconfirmedWrite {
    version: i64,
    history: Vec<HistoryItem>,
    result: CommandResult,
}

impl UnconfirmedWrite {
    pub(super) fn new(next: LedgerEntry, result: CommandResult) -> Self {
        Self { version: next.version, history: next.history, result }
    }

    /// Whether the row is the one that this write would have stored: histories contain owners and
    /// times, so no other write stores the same one.
    fn is_stored_in(&self, entry: &LedgerEntry) -> bool {
        entry.version == self.version && entry.history == self.history
    }
}

/// The unconfirmed writes of a batch by their keys.
pub(super) type UnconfirmedWrites = HashMap<Arc<str>, UnconfirmedWrite>;

/// How far a command of a batch is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CommandProgress {
    /// Its effect is stored, or it has none.
    Done(CommandResult),
    /// It is to be tried again, and its row read before.
    Undone,
    /// It is to be tried again later: another session has locked its row.
    Locked,
}

/// One for each command of a batch.
pub(super) type BatchResults = Vec<CommandProgress>;

/// One attempt at a batch.
pub(super) struct BatchAttempt<'a> {
    unconfirmed: &'a mut UnconfirmedWrites,
    pub(super) results: BatchResults,
    /// The rows to write. A command without a change has its result already.
    pub(super) changes: Arc<[RowChange]>,
    /// For each change, the index of its command in the batch.
    pub(super) command_indexes: Vec<usize>,
    /// Entries that a claim has left as they are, by their keys.
    pub(super) unchanged: HashMap<Arc<str>, LedgerEntry>,
}

impl<'a> BatchAttempt<'a> {
    pub(super) fn new(commands: usize, unconfirmed: &'a mut UnconfirmedWrites) -> Self {
        Self {
            unconfirmed,
            results: vec![CommandProgress::Undone; commands],
            changes: Arc::default(),
            command_indexes: Vec::new(),
            unchanged: HashMap::new(),
        }
    }

    /// Applies each command to its row, and returns the rows to write.
    pub(super) fn decide(
        &mut self,
        batch: &[PendingCommand],
        rows: Vec<StoredRow>,
        actor: Actor<'_>,
    ) -> Arc<[RowChange]> {
        let mut rows: HashMap<Arc<str>, anyhow::Result<LedgerEntry>> =
            rows.into_iter().map(|row| (row.key, row.entry)).collect();
        let mut changes = Vec::new();
        for (index, pending) in batch.iter().enumerate() {
            let entry = match rows.remove(&pending.key).transpose() {
                Ok(entry) => entry,
                // An unreadable row must not block the other events of the batch.
                Err(error) => {
                    let why = format!("{error:#}");
                    self.results[index] = CommandProgress::Done(unreadable(pending, why));
                    continue;
                }
            };
            if let Some(result) = self.result_of_earlier_attempt(&pending.key, entry.as_ref()) {
                self.results[index] = CommandProgress::Done(result);
                continue;
            }
            if let Some(entry) = &entry
                && pending.is_claim()
                && entry.is_settled()
                && entry.answer.is_none()
            {
                // The row was pruned after it was read, or it is damaged.
                let why = format!("the row of {:?} has no answer", pending.key);
                self.results[index] = CommandProgress::Done(unreadable(pending, why));
                continue;
            }
            let claimed = if pending.is_claim() { entry.clone() } else { None };
            let Applied { next, result } = apply(entry, &pending.command, actor);
            if let Some(entry) = claimed.filter(|_| next.is_none()) {
                self.unchanged.insert(pending.key.clone(), entry);
            }
            if let Some(next) = next {
                let write = UnconfirmedWrite::new(next.clone(), result.clone());
                self.unconfirmed.insert(pending.key.clone(), write);
                let wake = pending.wake().cloned();
                changes.push(RowChange { key: pending.key.clone(), next, wake });
                self.command_indexes.push(index);
            }
            self.results[index] = CommandProgress::Done(result);
        }
        self.changes = changes.into();
        self.changes.clone()
    }

    fn result_of_earlier_attempt(
        &self,
        key: &Arc<str>,
        entry: Option<&LedgerEntry>,
    ) -> Option<CommandResult> {
        let write = self.unconfirmed.get(key)?;
        entry.filter(|entry| write.is_stored_in(entry)).map(|_| write.result.clone())
    }
}

/// Answers the queued claims of entries that no claim changes, as if they had been in the batch that has
/// read them: they were queued before. A batch has one command per key, so a flood of one repeated id
/// would need a batch for each.
pub(super) fn answer_alike(
    queued: &mut VecDeque<PendingCommand>,
    unchanged: &HashMap<Arc<str>, LedgerEntry>,
    actor: Actor<'_>,
) {
    if unchanged.is_empty() {
        return;
    }
    // Commands on one key keep their order.
    let mut changed: HashSet<Arc<str>> = HashSet::new();
    for pending in take(queued) {
        let key = &pending.key;
        let entry = unchanged.get(key).filter(|_| !changed.contains(key) && pending.is_claim());
        let applied = entry.map(|entry| apply(Some(entry.clone()), &pending.command, actor));
        match applied {
            // The caller may be gone.
            Some(Applied { next: None, result }) => pending.reply.send(result).unwrap_or_default(),
            _ => {
                if unchanged.contains_key(key) {
                    changed.insert(key.clone());
                }
                queued.push_back(pending);
            }
        }
    }
}

fn unreadable(pending: &PendingCommand, why: String) -> CommandResult {
    if pending.is_claim() {
        CommandResult::Claim(ClaimResult::Unreadable { why })
    } else {
        CommandResult::Write(WriteResult::Refused)
    }
}
