//! Everybody's way to Desk: at most so many calls at once, the oldest event first, each command at
//! the worker's part of its quota, and hardly any while nothing can succeed.
//!
//! A `Pass` is held for one call. The rules are `domain::gate`; here they meet tasks and time.
//! Where the oldest of all follows in its session on a call that is over, the pass is kept for it
//! while the ledger writes down the answer: else a busy session would queue up behind the others
//! at each of its calls. One task must run `Gate::drive`, which opens the way when time has passed.
//! This file never makes a call and never ends an event.

mod approach;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

pub use self::approach::Near;

use self::approach::Approach;
use crate::domain::course::Notice;
use crate::domain::gate::{Admit, Change, GateState, Why};
use crate::domain::lanes::Ticket;
use crate::domain::request::Command;
use crate::telemetry::Metrics;

/// How long an event has waited for its answer: the one that was asked for first goes first,
/// wherever and whenever it was read; then the one that arrived first.
pub type Rank = (Timestamp, Ticket);

/// So long a pass is kept for the next event of a session: as a rule its turn comes sooner.
const KEPT_FOR: Duration = Duration::from_millis(10);

/// The gate.
pub struct Gate {
    approach: Arc<Approach>,
    inner: Mutex<Inner>,
    changed: Notify,
    epoch: Instant,
    metrics: Arc<Metrics>,
}

struct Inner {
    state: GateState,
    /// Calls that may be out at once, and those that are.
    places: usize,
    out: usize,
    /// Places kept for events that come in a moment, and until when.
    kept: BTreeMap<Rank, Duration>,
    /// For each command, in the order of `Command::ALL`.
    waiting: [BTreeMap<Rank, oneshot::Sender<Pass>>; Command::ALL.len()],
    /// When to look again.
    due: Option<Duration>,
    told_cannot_ask: bool,
}

/// The right to make one call; given back when dropped.
pub struct Pass {
    gate: Arc<Gate>,
    command: Command,
    number: u64,
    probe: bool,
    reported: bool,
}

impl Gate {
    /// A gate for `concurrency` calls at once.
    pub fn new(state: GateState, concurrency: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let inner = Inner {
            state,
            places: concurrency,
            out: 0,
            kept: BTreeMap::new(),
            waiting: Default::default(),
            due: None,
            told_cannot_ask: false,
        };
        let (approach, epoch) = (Approach::new(concurrency), Instant::now());
        let (inner, changed) = (Mutex::new(inner), Notify::new());
        Arc::new(Self { approach, inner, changed, epoch, metrics })
    }

    /// Wait for the right to be claimed and to wait here. The oldest goes first.
    pub async fn approach(&self, rank: Rank) -> Near {
        self.approach.enter(rank).await
    }

    /// From now on the parts of the quota that go with these of all partitions are ours.
    pub fn share(self: &Arc<Self>, transfers: &[i32], questions: &[i32], all: usize) {
        let mut inner = self.lock();
        let now = self.epoch.elapsed();
        inner.state.set_share(Command::TransferToHuman, (transfers, all), now);
        inner.state.set_share(Command::GetSessionState, (questions, all), now);
        drop(inner);
        self.pump();
    }

    /// Wait for the right to make this call. The oldest goes first.
    pub async fn enter(self: &Arc<Self>, rank: Rank, command: Command) -> Pass {
        let (tx, rx) = oneshot::channel();
        self.lock().waiting[command as usize].insert(rank, tx);
        let _leaves = LeavesQueue { gate: self, rank, command };
        self.pump();
        match rx.await {
            Ok(pass) => pass,
            // An event waits once at a time, and the gate never drops who waits.
            Err(_) => std::future::pending().await,
        }
    }

    /// Why it is shut, and what to repair, if it is.
    pub fn shut(&self) -> Option<(Why, String)> {
        self.lock().state.shut().map(|(why, text)| (why, text.to_owned()))
    }

    /// Let waiting calls in when time has passed; runs as long as the worker.
    pub async fn drive(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let due = self.lock().due;
            match due {
                Some(due) => tokio::select! {
                    () = sleep_until(self.epoch + due) => self.pump(),
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Hand out passes, oldest first, as far as rules and places allow.
    fn pump(self: &Arc<Self>) {
        loop {
            // Passes are sent outside the lock: one that nobody takes comes back through `drop`.
            let Some((waiter, pass)) = self.next_admitted() else { return };
            drop(waiter.send(pass));
        }
    }

    fn next_admitted(self: &Arc<Self>) -> Option<(oneshot::Sender<Pass>, Pass)> {
        let mut inner = self.lock();
        let before = inner.due.take();
        match inner.admit_oldest(self.epoch.elapsed()) {
            Ok((waiter, command, probe)) => {
                inner.out += 1;
                self.metrics.in_flight.inc();
                let (gate, number) = (self.clone(), inner.state.last(command));
                Some((waiter, Pass { gate, command, number, probe, reported: false }))
            }
            Err(due) => {
                inner.due = due;
                if due.is_some() && due != before {
                    self.changed.notify_one();
                }
                None
            }
        }
    }

    fn tell(&self, change: &Change) {
        match change {
            Change::Shut(why, text) => {
                self.metrics.gate_shut(Some(*why));
                error!(why = why.as_str(), "calls to Desk are paused, repair this: {text}");
            }
            Change::Opened(after) => {
                self.metrics.gate_shut(None);
                warn!(after_s = after.as_secs(), "calls to Desk go on");
            }
            Change::Slowed(rate) => {
                warn!(calls_per_second = rate, "Desk says too fast; slowed down");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The oldest who may go now, to which command, and whether it is a probe; else when to look
    /// again.
    fn admit_oldest(
        &mut self,
        now: Duration,
    ) -> Result<(oneshot::Sender<Pass>, Command, bool), Option<Duration>> {
        let (places, more_at) = self.state.places(self.places, now);
        let first =
            |command: Command| Some((*self.waiting[command as usize].keys().next()?, command));
        let mut firsts = Command::ALL.map(first);
        firsts.sort_by_key(|first| first.map(|(rank, _)| rank));
        self.kept.retain(|_, until| *until > now);
        let mut due: Option<Duration> = None;
        for (rank, command) in firsts.into_iter().flatten() {
            let for_older = self.kept.range(..rank).count();
            if self.out + for_older >= places {
                due = [due, more_at, self.kept.values().min().copied()].into_iter().flatten().min();
                continue;
            }
            let probe = match self.state.admit(command, now) {
                Admit::Go => false,
                Admit::Probe => true,
                Admit::Later => continue,
                Admit::NotBefore(at) => {
                    due = Some(due.map_or(at, |due| due.min(at)));
                    continue;
                }
            };
            let (_, waiter) = self.waiting[command as usize].pop_first().ok_or(None)?;
            self.kept.remove(&rank);
            return Ok((waiter, command, probe));
        }
        Err(due)
    }

    /// Others wait, and all of them are younger.
    fn would_be_first(&self, rank: Rank) -> bool {
        let mut firsts = self.waiting.iter().filter_map(|waiting| waiting.keys().next());
        firsts.clone().next().is_some() && firsts.all(|first| rank < *first)
    }
}

impl Pass {
    /// No call was made: the next one need not wait for it.
    pub fn unused(self) {
        self.gate.lock().state.unused(self.command, self.number);
    }

    /// The call came back. `next` follows in its session as soon as the answer is written down.
    pub fn report(mut self, notice: &Notice, next: Option<Rank>) {
        self.reported = true;
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
        if let Some(next) = next.filter(|next| inner.would_be_first(*next)) {
            inner.kept.insert(next, now + KEPT_FOR);
        }
        let change = inner.state.report(self.probe, notice, now);
        let first_time = matches!(notice, Notice::CannotAsk(_)) && !inner.told_cannot_ask;
        inner.told_cannot_ask |= first_time;
        drop(inner);
        if let Some(change) = change {
            self.gate.tell(&change);
        }
        if let (true, Notice::CannotAsk(why)) = (first_time, notice) {
            warn!("get_session_state cannot be used here, doubtful calls are repeated: {why}");
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.out -= 1;
        if !self.reported {
            inner.state.abandon(self.probe);
        }
        drop(inner);
        self.gate.metrics.in_flight.dec();
        self.gate.pump();
    }
}

/// Takes one out of the queue when its owner stops waiting.
struct LeavesQueue<'a> {
    gate: &'a Gate,
    rank: Rank,
    command: Command,
}

impl Drop for LeavesQueue<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting[self.command as usize].remove(&self.rank);
    }
}

#[cfg(test)]
mod tests;
