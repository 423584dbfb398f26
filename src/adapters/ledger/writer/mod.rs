//! The only writer of this process: collects commands into batches, and writes each batch in one
//! transaction.
//!
//! Group commit: at most one batch per millisecond. A batch of acknowledgements alone lingers up to
//! 5 ms, because only an offset depends on it. A failed batch is repeated until it succeeds or every
//! caller has given up. A cached row is written at once; the other rows are read first, see `batch`.
//! A batch has one command per key; repeats of a claim that changes nothing are answered with it.
//! Pruning and waking that fail delay no command: commands go on before the next attempt. What another
//! session has locked is set aside in `locked`, and the rest of the batch goes on.

mod locked;

use std::collections::{HashSet, VecDeque};
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::locked::{LOCKED_EVENT, LockedWork, PendingWake};
use super::availability::{Availability, WriteWatch};
use super::batch::{
    BatchAttempt, BatchResults, CommandProgress, PendingCommand, UnconfirmedWrite,
    UnconfirmedWrites, answer_alike,
};
use super::database::{Database, RowChange, RowRequest, RowWrite, StoredRow};
use super::row_cache::{CachedRow, RowCache};
use crate::clock::Clock;
use crate::domain::ledger_entry::{Actor, Applied, WakeSession, apply};

const MAX_BATCH_COMMANDS: usize = 256;
/// A larger transaction would delay its first commands for too long.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch of acknowledgements waits for a more urgent command.
const LINGER: Duration = Duration::from_millis(5);
/// The least time between the starts of two batches: commands that arrive meanwhile share a commit,
/// and with it an fsync. A command after a longer pause starts at once. Timers tick each
/// millisecond, so the actual time may be 2 ms.
const BATCH_INTERVAL: Duration = Duration::from_millis(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// An idle writer pings the database this often: readiness must show an outage before the next event
/// comes, and a firewall keeps a connection that is used.
const IDLE_PING: Duration = Duration::from_secs(10);

/// What the writer is asked to do.
pub(super) enum WriterRequest {
    Perform(PendingCommand),
    /// Delete some of the entries that were published before this time; reply with their number.
    Prune {
        before: Timestamp,
        reply: oneshot::Sender<anyhow::Result<u64>>,
    },
    /// Make the first parked event of a session due.
    Wake {
        wake: WakeSession,
        reply: oneshot::Sender<()>,
    },
}

/// Whether there is something to do.
#[derive(PartialEq, Eq)]
enum Requests {
    Queued,
    /// The queue is empty, and every sender is dropped.
    Closed,
}

pub(super) struct Writer<D> {
    database: D,
    owner: Arc<str>,
    clock: Clock,
    availability: Arc<Availability>,
    duration: Histogram,
    requests: mpsc::UnboundedReceiver<WriterRequest>,
    commands: VecDeque<PendingCommand>,
    prunes: VecDeque<(Timestamp, oneshot::Sender<anyhow::Result<u64>>)>,
    wakes: Vec<PendingWake>,
    locked: LockedWork,
    /// Of the commands that are locked.
    unconfirmed: UnconfirmedWrites,
    row_cache: RowCache,
    batch_started: Instant,
}

impl<D: Database> Writer<D> {
    pub(super) fn new(
        database: D,
        owner: Arc<str>,
        clock: Clock,
        WriteWatch { availability, duration }: WriteWatch,
        requests: mpsc::UnboundedReceiver<WriterRequest>,
    ) -> Self {
        Self {
            database,
            owner,
            clock,
            availability,
            duration,
            requests,
            commands: VecDeque::new(),
            prunes: VecDeque::new(),
            wakes: Vec::new(),
            locked: LockedWork::new(),
            unconfirmed: UnconfirmedWrites::new(),
            row_cache: RowCache::default(),
            batch_started: Instant::now(),
        }
    }

    /// Works until every sender of requests is dropped and the queue is empty.
    pub(super) async fn run(mut self) {
        while self.collect().await == Requests::Queued {
            self.batch_started = Instant::now();
            self.locked.retry(&mut self.commands, &mut self.wakes);
            let batch = self.next_batch();
            if !batch.is_empty() {
                self.perform(batch).await;
            }
            self.wake().await;
            if let Some((before, reply)) = self.prunes.pop_front() {
                self.prune(before, reply).await;
            }
            self.locked.end_retry();
        }
        self.database.close().await;
    }

    /// Waits for requests, and collects them until the next batch may start.
    async fn collect(&mut self) -> Requests {
        let is_idle = self.commands.is_empty() && self.prunes.is_empty() && self.wakes.is_empty();
        if is_idle && !self.locked.is_empty() {
            // Until the next retry, only another request is a reason to go on.
            let retry_at = self.locked.retry_at;
            if let Ok(request) = timeout_at(retry_at, self.requests.recv()).await {
                match request {
                    Some(request) => self.enqueue(request),
                    None => sleep_until(retry_at).await,
                }
            }
        } else if is_idle {
            let request = loop {
                match timeout(IDLE_PING, self.requests.recv()).await {
                    Ok(Some(request)) => break request,
                    Ok(None) => return Requests::Closed,
                    Err(_) => self.wait_until_available().await,
                }
            };
            self.enqueue(request);
        }
        sleep_until(self.batch_started + BATCH_INTERVAL).await;
        self.enqueue_received();
        let may_linger = self.prunes.is_empty()
            && self.wakes.is_empty()
            && self.commands.iter().all(PendingCommand::may_linger);
        if may_linger && let Ok(Some(request)) = timeout(LINGER, self.requests.recv()).await {
            self.enqueue(request);
            self.enqueue_received();
        }
        Requests::Queued
    }

    fn enqueue_received(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.enqueue(request);
        }
    }

    fn enqueue(&mut self, request: WriterRequest) {
        match request {
            WriterRequest::Perform(pending) => self.commands.push_back(pending),
            WriterRequest::Prune { before, reply } => self.prunes.push_back((before, reply)),
            WriterRequest::Wake { wake, reply } => {
                self.wakes.push(PendingWake { wake, reply: Some(reply) });
            }
        }
    }

    /// The oldest commands, at most one per key, sorted by key.
    fn next_batch(&mut self) -> Vec<PendingCommand> {
        let (mut batch, mut later) = (Vec::new(), VecDeque::new());
        let mut keys: HashSet<Arc<str>> = HashSet::new();
        let mut bytes = 0;
        while let Some(pending) = self.commands.pop_front() {
            if pending.reply.is_closed() {
                self.unconfirmed.remove(&pending.key);
                continue;
            }
            if self.locked.has(&pending.key) {
                self.locked.add_command(pending);
                continue;
            }
            let is_full =
                batch.len() >= MAX_BATCH_COMMANDS || bytes + pending.size_bytes() > MAX_BATCH_BYTES;
            if is_full && !batch.is_empty() {
                self.commands.push_front(pending);
                break;
            }
            if keys.insert(pending.key.clone()) {
                bytes += pending.size_bytes();
                batch.push(pending);
            } else {
                later.push_back(pending);
            }
        }
        // Commands on the same key keep their order, so the second one leads the next batch.
        later.append(&mut self.commands);
        self.commands = later;
        // Every instance locks rows in this order: two of them cannot deadlock.
        batch.sort_by(|a: &PendingCommand, b: &PendingCommand| a.key.cmp(&b.key));
        batch
    }

    async fn perform(&mut self, mut batch: Vec<PendingCommand>) {
        let mut unconfirmed = take(&mut self.unconfirmed);
        let mut pause = RETRY_FIRST;
        while !batch.is_empty() {
            let started = Instant::now();
            // One pass writes the cached rows, the next one reads and writes the others.
            let attempt = match self.write_cached(&batch, &mut unconfirmed).await {
                Ok(results) if results.iter().any(|done| *done != CommandProgress::Undone) => {
                    Ok(results)
                }
                Ok(_) => self.read_and_write(&batch, &mut unconfirmed).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(results) => {
                    self.duration.observe(started.elapsed().as_secs_f64());
                    self.availability.succeeded();
                    batch = self.reply_to(batch, results);
                }
                Err(error) => {
                    self.availability.failed(&error);
                    batch.iter().for_each(|pending| self.row_cache.forget(&pending.key));
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                    batch.retain(|pending| !pending.reply.is_closed());
                    if batch.is_empty() {
                        self.wait_until_available().await;
                    }
                }
            }
        }
        unconfirmed.retain(|key, _| self.locked.has(key));
        self.unconfirmed = unconfirmed;
    }

    /// Writes the rows that need not be read; returns the results of those that were written.
    async fn write_cached(
        &mut self,
        batch: &[PendingCommand],
        unconfirmed: &mut UnconfirmedWrites,
    ) -> anyhow::Result<BatchResults> {
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let (mut changes, mut expected) = (Vec::new(), Vec::new());
        for (index, pending) in batch.iter().enumerate() {
            // A row that an earlier attempt may have written must be read.
            if unconfirmed.contains_key(&pending.key) {
                continue;
            }
            let entry = match self.row_cache.take(&pending.key, &pending.command) {
                CachedRow::Unknown => continue,
                CachedRow::Absent => None,
                CachedRow::Present(entry) => Some(entry),
            };
            if let Applied { next: Some(next), result } = apply(entry, &pending.command, actor) {
                let (key, wake) = (pending.key.clone(), pending.wake().cloned());
                changes.push(RowChange { key, next, wake });
                expected.push((index, result));
            }
        }
        let mut results = vec![CommandProgress::Undone; batch.len()];
        if changes.is_empty() {
            return Ok(results);
        }
        let written = match self.database.write(&changes, actor.now).await {
            Ok(written) => written,
            Err(error) => {
                for (RowChange { key, next, .. }, (_, result)) in changes.into_iter().zip(expected)
                {
                    unconfirmed.insert(key, UnconfirmedWrite::new(next, result));
                }
                return Err(error);
            }
        };
        for ((RowChange { key, next, .. }, (index, result)), written) in
            changes.into_iter().zip(expected).zip(written.rows)
        {
            match written {
                RowWrite::Written => {
                    self.row_cache.store(&key, next);
                    results[index] = CommandProgress::Done(result);
                }
                RowWrite::Outdated => self.row_cache.forget(&key),
                RowWrite::Locked => results[index] = CommandProgress::Locked,
            }
        }
        self.locked.add_sessions(written.locked_wakes);
        Ok(results)
    }

    /// Reads the rows, decides and writes; returns the results of the commands that are done.
    async fn read_and_write(
        &mut self,
        batch: &[PendingCommand],
        unconfirmed: &mut UnconfirmedWrites,
    ) -> anyhow::Result<BatchResults> {
        let requests: Vec<_> = batch
            .iter()
            .map(|pending| RowRequest { key: &pending.key, with_answer: pending.is_claim() })
            .collect();
        let actor = Actor { owner: &self.owner, now: self.clock.now() };
        let mut attempt = BatchAttempt::new(batch.len(), unconfirmed);
        let mut decide = |rows: Vec<StoredRow>| attempt.decide(batch, rows, actor);
        let written = self.database.read_and_write(&requests, &mut decide, actor.now).await?;
        let BatchAttempt { mut results, changes, command_indexes, unchanged, .. } = attempt;
        answer_alike(&mut self.commands, &unchanged, actor);
        for ((RowChange { key, next, .. }, index), written) in
            changes.iter().zip(command_indexes).zip(written.rows)
        {
            match written {
                RowWrite::Written => self.row_cache.store(key, next.clone()),
                RowWrite::Outdated => results[index] = CommandProgress::Undone,
                RowWrite::Locked => results[index] = CommandProgress::Locked,
            }
        }
        self.locked.add_sessions(written.locked_wakes);
        Ok(results)
    }

    /// Sends the results that are known, and sets commands aside whose rows are locked; returns
    /// those that are not done yet.
    fn reply_to(
        &mut self,
        batch: Vec<PendingCommand>,
        results: BatchResults,
    ) -> Vec<PendingCommand> {
        let mut remaining = Vec::new();
        for (pending, progress) in batch.into_iter().zip(results) {
            match progress {
                // The caller may be gone; the change is stored all the same.
                CommandProgress::Done(result) => pending.reply.send(result).unwrap_or_default(),
                CommandProgress::Undone => remaining.push(pending),
                CommandProgress::Locked => {
                    self.row_cache.forget(&pending.key);
                    self.locked.add_command(pending);
                }
            }
        }
        remaining
    }

    /// Every wake that was requested, in one transaction.
    async fn wake(&mut self) {
        // The callers of the others are acknowledged already: they are dropped only at the end.
        let is_closing = self.requests.is_closed();
        self.wakes.retain(|pending| !pending.is_abandoned());
        let mut wakes = take(&mut self.wakes);
        if wakes.is_empty() {
            return;
        }
        let sessions: Vec<_> = wakes.iter().map(|pending| pending.wake.clone()).collect();
        let why = match self.database.wake(&sessions, self.clock.now()).await {
            Ok(woken) => {
                self.availability.succeeded();
                let mut locked = Vec::new();
                for (pending, woken) in wakes.into_iter().zip(woken) {
                    if woken { pending.done() } else { locked.push(pending) }
                }
                wakes = locked;
                LOCKED_EVENT.to_owned()
            }
            Err(error) => {
                // What stops only the wakes is no outage: others can be written.
                if let Err(error) = self.database.ping().await {
                    self.availability.failed(&error);
                }
                format!("{error:#}")
            }
        };
        wakes.retain(|pending| pending.reply.is_some() || !is_closing);
        self.locked.add_wakes(wakes, &why);
    }

    async fn prune(&mut self, before: Timestamp, reply: oneshot::Sender<anyhow::Result<u64>>) {
        if !reply.is_closed() {
            // The caller may be gone; the rows are deleted all the same.
            drop(reply.send(self.database.prune(before).await));
        }
    }

    /// Pings the database until it answers or another request arrives. No command waits for it, but
    /// readiness would stay false without it.
    async fn wait_until_available(&mut self) {
        while self.requests.is_empty() {
            match self.database.ping().await {
                Ok(()) => return self.availability.succeeded(),
                Err(error) => self.availability.failed(&error),
            }
            if self.requests.is_closed() {
                return;
            }
            sleep(RETRY_LAST).await;
        }
    }
}

#[cfg(test)]
mod tests;
