//! Everybody's way to Desk: at most so many calls at once, the oldest event first, each command at
//! the worker's part of its quota, and hardly any while nothing can succeed.
//!
//! A `CallPermit` is held for one call. The rules are `domain::gate`; here they meet tasks and time.
//! Where the oldest of all follows in its session on a call that is over, the pass is reserved for it
//! while the ledger writes down the answer: else a busy session would queue up behind the others
//! at each of its calls. One task must run `Gate::drive`, which opens the way when time has passed.
//! This file never makes a call and never ends an event.

pub mod breaker;
mod permits;
pub mod rate_limiter;

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

pub use self::permits::ClaimPermit;

use self::permits::ClaimPermits;
use crate::domain::course::Signal;
use crate::domain::request::DeskCommand;
use crate::gate::breaker::{Admission, GateChange, GateState, ShutReason};
use crate::telemetry::Metrics;

/// Counts the events of this process in the order of their arrival.
pub type Ticket = u64;

/// Who goes first: the event with the earliest `requested_at`, whenever it was read; then the one
/// that arrived first.
pub type Rank = (Timestamp, Ticket);

/// So long a pass is reserved for the next event of a session: as a rule its turn comes sooner.
const RESERVED_FOR: Duration = Duration::from_millis(10);

/// The gate.
pub struct Gate {
    claim_permits: Arc<ClaimPermits>,
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
    /// Places reserved for events that come in a moment, and until when.
    reserved: BTreeMap<Rank, Duration>,
    /// For each command, in the order of `DeskCommand::ALL`.
    waiting: [BTreeMap<Rank, oneshot::Sender<CallPermit>>; DeskCommand::ALL.len()],
    /// When to look again.
    due: Option<Duration>,
    warned_state_query_unsupported: bool,
}

/// The right to make one call; given back when dropped.
pub struct CallPermit {
    gate: Arc<Gate>,
    command: DeskCommand,
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
            reserved: BTreeMap::new(),
            waiting: Default::default(),
            due: None,
            warned_state_query_unsupported: false,
        };
        let (claim_permits, epoch) = (ClaimPermits::new(concurrency), Instant::now());
        let (inner, changed) = (Mutex::new(inner), Notify::new());
        Arc::new(Self { claim_permits, inner, changed, epoch, metrics })
    }

    /// Wait for the right to be claimed and to wait here. The oldest goes first.
    pub async fn acquire_claim(&self, rank: Rank) -> ClaimPermit {
        self.claim_permits.acquire(rank).await
    }

    /// From now on the parts of the quota that go with these of all partitions are ours.
    pub fn share(self: &Arc<Self>, transfers: &[i32], questions: &[i32], all: usize) {
        let mut inner = self.lock();
        let now = self.epoch.elapsed();
        inner.state.set_share(DeskCommand::TransferToHuman, (transfers, all), now);
        inner.state.set_share(DeskCommand::GetSessionState, (questions, all), now);
        drop(inner);
        self.pump();
    }

    /// Wait for the right to make this call. The oldest goes first.
    pub async fn acquire_call(self: &Arc<Self>, rank: Rank, command: DeskCommand) -> CallPermit {
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

    /// ShutReason it is shut, and what to repair, if it is.
    pub fn shut(&self) -> Option<(ShutReason, String)> {
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

    fn next_admitted(self: &Arc<Self>) -> Option<(oneshot::Sender<CallPermit>, CallPermit)> {
        let mut inner = self.lock();
        let before = inner.due.take();
        match inner.admit_oldest(self.epoch.elapsed()) {
            Ok((waiter, command, probe)) => {
                inner.out += 1;
                self.metrics.in_flight.inc();
                let (gate, number) = (self.clone(), inner.state.last(command));
                Some((waiter, CallPermit { gate, command, number, probe, reported: false }))
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

    fn tell(&self, change: &GateChange) {
        match change {
            GateChange::Shut(why, text) => {
                self.metrics.gate_shut(Some(*why));
                error!(why = why.as_str(), "calls to Desk are paused, repair this: {text}");
            }
            GateChange::Opened(after) => {
                self.metrics.gate_shut(None);
                warn!(after_s = after.as_secs(), "calls to Desk go on");
            }
            GateChange::Slowed(rate) => {
                warn!(calls_per_second = rate, "Desk says too fast; slowed down");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// The oldest who may go now, to which command, and whether it is a probe; else when to look
    /// again.
    fn admit_oldest(
        &mut self,
        now: Duration,
    ) -> Result<(oneshot::Sender<CallPermit>, DeskCommand, bool), Option<Duration>> {
        let (places, more_at) = self.state.places(self.places, now);
        let first =
            |command: DeskCommand| Some((*self.waiting[command as usize].keys().next()?, command));
        let mut firsts = DeskCommand::ALL.map(first);
        firsts.sort_by_key(|first| first.map(|(rank, _)| rank));
        self.reserved.retain(|_, until| *until > now);
        let mut due: Option<Duration> = None;
        for (rank, command) in firsts.into_iter().flatten() {
            let for_older = self.reserved.range(..rank).count();
            if self.out + for_older >= places {
                due = [due, more_at, self.reserved.values().min().copied()]
                    .into_iter()
                    .flatten()
                    .min();
                continue;
            }
            let probe = match self.state.admit(command, now) {
                Admission::Go => false,
                Admission::Probe => true,
                Admission::Later => continue,
                Admission::NotBefore(at) => {
                    due = Some(due.map_or(at, |due| due.min(at)));
                    continue;
                }
            };
            let (_, waiter) = self.waiting[command as usize].pop_first().ok_or(None)?;
            self.reserved.remove(&rank);
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

impl CallPermit {
    /// No call was made: the next one need not wait for it.
    pub fn unused(self) {
        self.gate.lock().state.unused(self.command, self.number);
    }

    /// The call came back. `next` follows in its session as soon as the answer is written down.
    pub fn report(mut self, signal: &Signal, next: Option<Rank>) {
        self.reported = true;
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
        if let Some(next) = next.filter(|next| inner.would_be_first(*next)) {
            inner.reserved.insert(next, now + RESERVED_FOR);
        }
        let change = inner.state.report(self.probe, signal, now);
        let first_time = matches!(signal, Signal::StateQueryUnsupported(_))
            && !inner.warned_state_query_unsupported;
        inner.warned_state_query_unsupported |= first_time;
        drop(inner);
        if let Some(change) = change {
            self.gate.tell(&change);
        }
        if let (true, Signal::StateQueryUnsupported(why)) = (first_time, signal) {
            warn!("get_session_state cannot be used here, doubtful calls are repeated: {why}");
        }
    }
}

impl Drop for CallPermit {
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
    command: DeskCommand,
}

impl Drop for LeavesQueue<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting[self.command as usize].remove(&self.rank);
    }
}

#[cfg(test)]
mod tests;
