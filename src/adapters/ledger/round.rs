//! One attempt at a batch that has to be read first: from the rows that are there to the rows to be
//! written, and what each job is told.
//!
//! A change that was made although its acknowledgement was lost is recognized by its version and its
//! story. A row that cannot be read holds up nothing else.
//! This file never reads or writes a row itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::writer::{Change, Found, Job};
use crate::domain::ledger_entry::{
    Actor, ClaimResult, CommandResult, HistoryItem, LedgerCommand, LedgerEntry, apply,
};

/// What the last, failed attempt would have written, and the reply to it.
pub(super) type Doubts = HashMap<Arc<str>, (i64, Vec<HistoryItem>, CommandResult)>;

/// One for each job of a batch; `None`: it is not done yet.
pub(super) type Replies = Vec<Option<CommandResult>>;

/// One attempt at a batch.
pub(super) struct Round<'a> {
    doubts: &'a mut Doubts,
    pub(super) replies: Replies,
    /// The rows to be written; the other replies need no writing.
    pub(super) changes: Arc<[Change]>,
    /// Which job each change is of.
    pub(super) of: Vec<usize>,
}

impl<'a> Round<'a> {
    /// Nothing is decided yet.
    pub(super) fn new(jobs: usize, doubts: &'a mut Doubts) -> Self {
        Self { doubts, replies: vec![None; jobs], changes: Arc::default(), of: Vec::new() }
    }

    /// Decide about each job of the batch: the rows to be written.
    pub(super) fn decide(
        &mut self,
        batch: &[Job],
        found: Vec<Found>,
        actor: Actor<'_>,
    ) -> Arc<[Change]> {
        let mut found: HashMap<Arc<str>, anyhow::Result<LedgerEntry>> =
            found.into_iter().map(|found| (found.key, found.entry)).collect();
        let mut changes = Vec::new();
        for (index, job) in batch.iter().enumerate() {
            let entry = match found.remove(&job.key) {
                Some(Ok(entry)) => Some(entry),
                Some(Err(error)) => {
                    self.replies[index] = Some(unreadable(&job.command, format!("{error:#}")));
                    continue;
                }
                None => None,
            };
            if let Some(reply) = self.done_before(&job.key, entry.as_ref()) {
                self.replies[index] = Some(reply);
                continue;
            }
            if let (Some(entry), LedgerCommand::Claim(_)) = (&entry, &job.command)
                && entry.is_settled()
                && entry.answer.is_none()
            {
                // It has just been forgotten, or it is damaged.
                let why = format!("the row of {:?} has no answer", job.key);
                self.replies[index] = Some(unreadable(&job.command, why));
                continue;
            }
            let (next, reply) = apply(entry, &job.command, actor);
            self.replies[index] = Some(reply.clone());
            if let Some(next) = next {
                self.doubts.insert(job.key.clone(), (next.version, next.history.clone(), reply));
                changes.push(Change { key: job.key.clone(), next });
                self.of.push(index);
            }
        }
        self.changes = changes.into();
        self.changes.clone()
    }

    /// The reply of an attempt that was taken for failed and was not.
    fn done_before(&self, key: &Arc<str>, entry: Option<&LedgerEntry>) -> Option<CommandResult> {
        // The story of a row is never that of another writing.
        let (version, history, reply) = self.doubts.get(key)?;
        let same = |entry: &&LedgerEntry| entry.version == *version && entry.history == *history;
        entry.filter(same).map(|_| reply.clone())
    }
}

/// The reply to a command on a row that cannot be read: nothing was done.
fn unreadable(command: &LedgerCommand, why: String) -> CommandResult {
    match command {
        LedgerCommand::Claim(_) => CommandResult::Claimed(ClaimResult::Unreadable { why }),
        _ => CommandResult::Done(false),
    }
}
