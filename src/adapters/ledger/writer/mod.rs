//! The one writer: takes what is queued and does it in one go, a millisecond after it did so last at
//! the earliest. Only an acknowledgement, for which nothing waits but its offset, waits longer for
//! company.
//!
//! A key occurs once per batch, its next command waits for the next batch; keys are sorted, so that
//! two instances never wait for each other crosswise. A row that is known from its last writing is
//! written without being read again; the others are read first (`round`). What failed is done again
//! until it is done or nobody waits for it any more.
//! This file never replies before the database has acknowledged.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Settings;
use super::health::Health;
use super::known::Known;
use super::round::{Doubts, Replies, Round};
use crate::clock::Clock;
use crate::domain::ledger_entry::{Actor, CommandResult, LedgerCommand, LedgerEntry, apply};
use crate::domain::record::Record;

const MAX_JOBS: usize = 256;
/// So long acknowledgements wait for something more urgent.
const COMPANY: Duration = Duration::from_millis(5);
/// Between the beginnings of two batches at least: what comes meanwhile shares a commit. Who comes
/// after a pause waits for nothing. (The clock of timers ticks each millisecond: it may be two.)
const PACE: Duration = Duration::from_millis(1);
const MAX_BYTES: usize = 4 * 1024 * 1024;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Rows that one step of pruning deletes.
pub(super) const PRUNE_ROWS: i64 = 500;

/// A row that is to be read; its answer too, where it is claimed.
pub(super) struct Wanted<'a> {
    pub(super) key: &'a str,
    pub(super) claimed: bool,
}

/// A row as it stands, if it can be read.
pub(super) struct Found {
    pub(super) key: Arc<str>,
    pub(super) partition: i32,
    pub(super) entry: anyhow::Result<LedgerEntry>,
}

/// A row as it shall stand.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Arc<str>,
    pub(super) next: LedgerEntry,
}

/// From the rows that are there to the rows to be written.
pub(super) type Decide<'a> = &'a mut (dyn FnMut(Vec<Found>) -> Arc<[Change]> + Send + 'a);

/// A database, as the writer needs it.
pub(super) trait Store: Send + 'static {
    /// Write without reading, durably: each row as the next version of what is there; which of
    /// them were written. What is not written stays as it is.
    fn advance(
        &mut self,
        changes: &[Change],
    ) -> impl Future<Output = anyhow::Result<Vec<bool>>> + Send;

    /// Read, decide, write, durably; which of the changes were written. A row that somebody else
    /// changed in between is not written.
    fn exchange(
        &mut self,
        wanted: &[Wanted<'_>],
        decide: Decide<'_>,
    ) -> impl Future<Output = anyhow::Result<Vec<bool>>> + Send;

    /// Delete some of what was published before then; how many rows.
    fn prune(&mut self, before: Timestamp) -> impl Future<Output = anyhow::Result<u64>> + Send;

    /// Is it there?
    fn ping(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Leave it in good order.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What the writer is asked for.
pub(super) enum Order {
    Do(Job),
    Prune(Timestamp, oneshot::Sender<u64>),
}

/// A command somebody waits for.
pub(super) struct Job {
    pub(super) key: Arc<str>,
    pub(super) command: LedgerCommand,
    pub(super) reply: oneshot::Sender<CommandResult>,
}

impl Job {
    fn has_time(&self) -> bool {
        matches!(self.command, LedgerCommand::Publish { .. })
    }

    fn size_bytes(&self) -> usize {
        match &self.command {
            LedgerCommand::Claim(_) => 0,
            LedgerCommand::Park(parking) => {
                parking.memory.len() + parking.record.as_ref().map_or(0, Record::size_bytes)
            }
            LedgerCommand::Settle { answer, .. } => answer.value.as_ref().map_or(0, Vec::len),
            LedgerCommand::Publish { .. } => 0,
        }
    }
}

pub(super) struct Writer<S> {
    store: S,
    owner: Arc<str>,
    clock: Clock,
    health: Arc<Health>,
    orders: mpsc::UnboundedReceiver<Order>,
    waiting: VecDeque<Job>,
    prunes: VecDeque<(Timestamp, oneshot::Sender<u64>)>,
    known: Known,
    /// When the last batch began.
    begun: Instant,
}

impl<S: Store> Writer<S> {
    pub(super) fn new(
        store: S,
        settings: &Settings,
        (orders, health): (mpsc::UnboundedReceiver<Order>, Arc<Health>),
    ) -> Self {
        let (owner, clock) = (settings.owner.clone(), settings.clock.clone());
        let (waiting, prunes) = (VecDeque::new(), VecDeque::new());
        let known = Known::default();
        let begun = Instant::now();
        Self { store, owner, clock, health, orders, waiting, prunes, known, begun }
    }

    /// Work until nobody can order anything any more.
    pub(super) async fn run(mut self) {
        while self.fill().await {
            self.begun = Instant::now();
            let batch = self.next_batch();
            if !batch.is_empty() {
                self.perform(batch).await;
            }
            if let Some((before, reply)) = self.prunes.pop_front() {
                self.prune(before, reply).await;
            }
        }
        self.store.close().await;
    }

    /// Everything that is queued; false: nothing is, and nothing will be.
    async fn fill(&mut self) -> bool {
        if self.waiting.is_empty() && self.prunes.is_empty() {
            let Some(order) = self.orders.recv().await else { return false };
            self.take(order);
        }
        sleep_until(self.begun + PACE).await;
        self.take_all();
        if self.prunes.is_empty() && self.waiting.iter().all(Job::has_time) {
            // What comes or does not come in this time is taken all the same.
            if let Ok(Some(order)) = timeout(COMPANY, self.orders.recv()).await {
                self.take(order);
                self.take_all();
            }
        }
        true
    }

    fn take_all(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.take(order);
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Do(job) => self.waiting.push_back(job),
            Order::Prune(before, reply) => self.prunes.push_back((before, reply)),
        }
    }

    /// The oldest jobs, at most one per key, sorted by key.
    fn next_batch(&mut self) -> Vec<Job> {
        let (mut batch, mut later) = (Vec::new(), VecDeque::new());
        let mut keys: HashSet<Arc<str>> = HashSet::new();
        let mut bytes = 0;
        while let Some(job) = self.waiting.pop_front() {
            if job.reply.is_closed() {
                continue;
            }
            if !batch.is_empty()
                && (batch.len() >= MAX_JOBS || bytes + job.size_bytes() > MAX_BYTES)
            {
                self.waiting.push_front(job);
                break;
            }
            if keys.insert(job.key.clone()) {
                bytes += job.size_bytes();
                batch.push(job);
            } else {
                later.push_back(job);
            }
        }
        // What had to wait for its key stays in front of what came after it.
        later.append(&mut self.waiting);
        self.waiting = later;
        batch.sort_by(|a: &Job, b: &Job| a.key.cmp(&b.key));
        batch
    }

    async fn perform(&mut self, mut batch: Vec<Job>) {
        let mut doubts = Doubts::new();
        let mut pause = RETRY_FIRST;
        while !batch.is_empty() {
            let attempt = match self.advance(&batch, &mut doubts).await {
                Ok(replies) if replies.iter().any(Option::is_some) => Ok(replies),
                Ok(_) => self.exchange(&batch, &mut doubts).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(replies) => {
                    self.health.well();
                    batch = answer(batch, replies);
                }
                Err(error) => {
                    self.health.ill(&error);
                    batch.iter().for_each(|job| self.known.forget(&job.key));
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                    batch.retain(|job| !job.reply.is_closed());
                    if batch.is_empty() {
                        self.recover().await;
                    }
                }
            }
        }
    }

    /// Write what can be written without reading; the replies of what was.
    async fn advance(&mut self, batch: &[Job], doubts: &mut Doubts) -> anyhow::Result<Replies> {
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let (mut changes, mut answers) = (Vec::new(), Vec::new());
        for (index, job) in batch.iter().enumerate() {
            // What may have been written although nobody said so is read.
            if doubts.contains_key(&job.key) {
                continue;
            }
            let Some(entry) = self.known.take(&job.key, &job.command) else { continue };
            if let (Some(next), reply) = apply(entry, &job.command, actor) {
                changes.push(Change { key: job.key.clone(), next });
                answers.push((index, reply));
            }
        }
        let mut replies = vec![None; batch.len()];
        if changes.is_empty() {
            return Ok(replies);
        }
        let written = match self.store.advance(&changes).await {
            Ok(written) => written,
            Err(error) => {
                for (Change { key, next }, (_, reply)) in changes.into_iter().zip(answers) {
                    doubts.insert(key, (next.version, next.history, reply));
                }
                return Err(error);
            }
        };
        for ((Change { key, next }, (index, reply)), written) in
            changes.into_iter().zip(answers).zip(written)
        {
            if written {
                self.known.keep(&key, next);
                replies[index] = Some(reply);
            } else {
                self.known.forget(&key);
            }
        }
        Ok(replies)
    }

    /// Read, decide and write; the replies of what is done.
    async fn exchange(&mut self, batch: &[Job], doubts: &mut Doubts) -> anyhow::Result<Replies> {
        let claimed = |job: &Job| matches!(job.command, LedgerCommand::Claim(_));
        let wanted: Vec<_> =
            batch.iter().map(|job| Wanted { key: &job.key, claimed: claimed(job) }).collect();
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let mut round = Round::new(batch.len(), doubts);
        let mut decide = |found: Vec<Found>| round.decide(batch, found, actor);
        let written = self.store.exchange(&wanted, &mut decide).await?;
        let Round { mut replies, changes, of, .. } = round;
        for ((Change { key, next }, index), written) in changes.iter().zip(of).zip(written) {
            if written {
                self.known.keep(key, next.clone());
            } else {
                replies[index] = None;
            }
        }
        Ok(replies)
    }

    async fn prune(&mut self, before: Timestamp, reply: oneshot::Sender<u64>) {
        while !reply.is_closed() {
            match self.store.prune(before).await {
                Ok(rows) => {
                    self.health.well();
                    // Whoever asked may be gone: what is deleted is deleted.
                    reply.send(rows).unwrap_or_default();
                    return;
                }
                Err(error) => self.health.ill(&error),
            }
            sleep(RETRY_LAST).await;
        }
    }

    /// Nobody waits, but readiness does: look until the database is back or somebody asks.
    async fn recover(&mut self) {
        while self.orders.is_empty() {
            match self.store.ping().await {
                Ok(()) => return self.health.well(),
                Err(error) => self.health.ill(&error),
            }
            if self.orders.is_closed() {
                return;
            }
            sleep(RETRY_LAST).await;
        }
    }
}

/// Tell who is done; the jobs that are left.
fn answer(batch: Vec<Job>, replies: Replies) -> Vec<Job> {
    let mut left = Vec::new();
    for (job, reply) in batch.into_iter().zip(replies) {
        match reply {
            // Whoever asked may be gone: what is done is done.
            Some(reply) => job.reply.send(reply).unwrap_or_default(),
            None => left.push(job),
        }
    }
    left
}

#[cfg(test)]
mod tests;
