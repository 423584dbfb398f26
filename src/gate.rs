//! Everybody's way to Desk: at most so many calls at once, the oldest event first, at the
//! worker's speed, and hardly any while nothing can succeed.
//!
//! A `Pass` is held for one call. The rules are `domain::gate`; here they meet tasks and time.
//! One task must run `Gate::drive`, which opens the way when time has passed.
//! This file never makes a call and never ends an event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::domain::course::Notice;
use crate::domain::gate::{Admit, Change, GateState, Why};
use crate::domain::lanes::Ticket;
use crate::telemetry::Metrics;

/// The gate.
pub struct Gate {
    inner: Mutex<Inner>,
    changed: Notify,
    epoch: Instant,
    metrics: Arc<Metrics>,
}

struct Inner {
    state: GateState,
    free: usize,
    waiting: BTreeMap<Ticket, oneshot::Sender<Pass>>,
    due: Option<Duration>,
    told_cannot_ask: bool,
}

/// The right to make one call; given back when dropped.
pub struct Pass {
    gate: Arc<Gate>,
    probe: bool,
    reported: bool,
}

impl Gate {
    /// A gate for `concurrency` calls at once.
    pub fn new(state: GateState, concurrency: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let inner = Inner {
            state,
            free: concurrency,
            waiting: BTreeMap::new(),
            due: None,
            told_cannot_ask: false,
        };
        let epoch = Instant::now();
        Arc::new(Self { inner: Mutex::new(inner), changed: Notify::new(), epoch, metrics })
    }

    /// Wait for the right to make a call. The oldest ticket goes first.
    pub async fn enter(self: &Arc<Self>, ticket: Ticket) -> Pass {
        let (tx, rx) = oneshot::channel();
        self.lock().waiting.insert(ticket, tx);
        let _leaves = LeavesQueue { gate: self, ticket };
        self.pump();
        match rx.await {
            Ok(pass) => pass,
            // A ticket waits once at a time, and the gate never drops who waits.
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
        inner.due = None;
        if inner.free == 0 || inner.waiting.is_empty() {
            return None;
        }
        let probe = match inner.state.admit(self.epoch.elapsed()) {
            Admit::Go => false,
            Admit::Probe => true,
            Admit::AfterProbe => return None,
            Admit::NotBefore(due) => {
                inner.due = Some(due);
                self.changed.notify_one();
                return None;
            }
        };
        let (_, waiter) = inner.waiting.pop_first()?;
        inner.free -= 1;
        self.metrics.in_flight.inc();
        Some((waiter, Pass { gate: self.clone(), probe, reported: false }))
    }

    fn tell(&self, change: &Change) {
        match change {
            Change::Shut(why, text) => {
                self.metrics.gate_shut(Some(*why));
                error!(why = why.as_str(), "calls to Desk are paused, repair this: {text}");
            }
            Change::Opened(after) => {
                self.metrics.gate_shut(None);
                info!(after_s = after.as_secs(), "calls to Desk go on");
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

impl Pass {
    /// The call came back.
    pub fn report(mut self, notice: &Notice) {
        self.reported = true;
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
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
        inner.free += 1;
        if !self.reported {
            inner.state.abandon(self.probe);
        }
        drop(inner);
        self.gate.metrics.in_flight.dec();
        self.gate.pump();
    }
}

/// Takes a ticket out of the queue when its owner stops waiting.
struct LeavesQueue<'a> {
    gate: &'a Gate,
    ticket: Ticket,
}

impl Drop for LeavesQueue<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gate::GatePolicy;
    use crate::domain::pace::Speed;

    fn gate(concurrency: usize) -> Arc<Gate> {
        let policy = GatePolicy {
            probe_initial: Duration::from_secs(5),
            probe_max: Duration::from_secs(60),
            outage_after: 10,
        };
        let state = GateState::new(policy, Speed::new(None));
        Gate::new(state, concurrency, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_waiting_event_goes_first() {
        let gate = gate(1);
        let pass = gate.enter(9).await;
        let mut order = tokio::task::JoinSet::new();
        for ticket in [7, 3, 5] {
            let gate = gate.clone();
            order.spawn(async move {
                drop(gate.enter(ticket).await);
                ticket
            });
        }
        tokio::task::yield_now().await;
        drop(pass);
        let mut seen = Vec::new();
        while let Some(ticket) = order.join_next().await {
            seen.push(ticket.unwrap());
        }
        assert_eq!(seen, [3, 5, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_lets_one_probe_through_at_its_time() {
        let gate = gate(8);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(gate.clone().drive());
        gate.enter(1).await.report(&Notice::Closed("60021".into()));
        assert_eq!(gate.shut().unwrap().0, Why::Misconfigured);
        let start = Instant::now();
        let probe = gate.enter(2).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        let second = gate.enter(3);
        let waited = tokio::time::timeout(Duration::from_secs(100), second).await;
        assert!(waited.is_err(), "the probe is still out");
        probe.report(&Notice::Fine);
        drop(gate.enter(4).await);
        assert_eq!(gate.shut(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_takes_no_place() {
        let gate = gate(1);
        let pass = gate.enter(1).await;
        let waited = tokio::time::timeout(Duration::from_secs(1), gate.enter(2)).await;
        assert!(waited.is_err());
        drop(pass);
        drop(gate.enter(3).await);
    }
}
