//! The gate: every call to Desk passes it.
//!
//! An event first acquires a [`ClaimPermit`], is claimed in the ledger, and then acquires a
//! [`CallPermit`] for each call. A call permit is granted when fewer than `desk.concurrency` calls are
//! in flight, the rate limiter of its command has a call due, and the circuit breaker lets it through.
//! First attempts go before re-attempts, and the oldest event of a class goes first.
//!
//! The decisions are pure: `permits` (who is next), `rate_limiter` (when), `breaker` (whether at all),
//! and `admission`, which combines the last two. Here they meet tasks, time, log and metrics. One task
//! must run [`Gate::drive`], which grants permits when only time has to pass.

mod admission;
mod breaker;
mod permits;
mod rate_limiter;
mod status;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

pub use self::breaker::{BreakerPolicy, GateShut};
pub use self::permits::{Caller, Rank, SessionHash, Ticket};
pub use self::status::{GateStage, GateStatus};

use self::admission::{AdmissionControl, GateChange};
use self::breaker::{BreakerChange, CallKind};
use self::permits::call::{CallEnd, CallGrant, CallPermits, NextPermit, Search};
use self::permits::claim::{ClaimGrant, ClaimPermits};
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;
use crate::telemetry::Metrics;

/// The rules of the gate.
#[derive(Debug, Clone, Copy)]
pub struct GateSettings {
    /// When the gate shuts, and how often it is probed then.
    pub breaker: BreakerPolicy,
    /// Calls per second of each command in the whole consumer group; `None`: no limit.
    pub quota_per_second: Option<f64>,
    /// Calls in flight at once.
    pub concurrency: usize,
    /// The part of the transfers that re-attempts get while first attempts wait: above 0, at most 0.5.
    pub retry_budget: f64,
    /// How long a call can hang.
    pub call_timeout: Duration,
}

/// Admission control towards Desk for the whole process.
pub struct Gate {
    inner: Mutex<GateInner>,
    /// Wakes [`Gate::drive`] when `look_again` has changed to another time.
    changed: Notify,
    /// The moment from which the pure parts count time.
    epoch: Instant,
    metrics: Arc<Metrics>,
}

struct GateInner {
    control: AdmissionControl,
    claims: ClaimPermits<oneshot::Sender<ClaimPermit>>,
    calls: CallPermits<oneshot::Sender<CallPermit>>,
    /// When a waiter may be admitted although nothing happens until then.
    look_again: Option<Duration>,
    warned_state_query_unsupported: bool,
}

/// The right to claim one event and to wait for a call permit; returned when dropped.
pub struct ClaimPermit {
    gate: Arc<Gate>,
    grant: ClaimGrant,
}

/// The right to make one call; returned when dropped.
pub struct CallPermit {
    gate: Arc<Gate>,
    grant: CallGrant,
    end: CallEnd,
}

/// What the gate concludes from a signal about the event that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Nothing.
    Noted,
    /// Desk refused this session and has accepted another one meanwhile: the gate does not hold it.
    IsolatedRefusal,
}

impl Gate {
    /// A gate with these rules.
    pub fn new(settings: GateSettings, metrics: Arc<Metrics>) -> Arc<Self> {
        let GateSettings { breaker, quota_per_second, concurrency, retry_budget, call_timeout } =
            settings;
        let inner = GateInner {
            control: AdmissionControl::new(breaker, quota_per_second),
            claims: ClaimPermits::new(concurrency),
            calls: CallPermits::new(concurrency, retry_budget, call_timeout),
            look_again: None,
            warned_state_query_unsupported: false,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            changed: Notify::new(),
            epoch: Instant::now(),
            metrics,
        })
    }

    /// From now on this process may use the parts of the quota that belong to these of `total`
    /// partitions. The two lists differ while partitions are being revoked: their state queries may
    /// still go out when new transfers may not.
    pub fn set_share(self: &Arc<Self>, transfers: &[i32], state_queries: &[i32], total: usize) {
        let mut inner = self.lock();
        let now = self.epoch.elapsed();
        inner.control.set_share(DeskCommand::TransferToHuman, transfers, total, now);
        inner.control.set_share(DeskCommand::GetSessionState, state_queries, total, now);
        drop(inner);
        self.grant();
    }

    /// Wait for the right to claim an event.
    pub async fn acquire_claim(self: &Arc<Self>, caller: Caller) -> ClaimPermit {
        let (tx, rx) = oneshot::channel();
        self.lock().claims.enqueue(caller, self.epoch.elapsed(), tx);
        let _dequeue = DequeueOnDrop { gate: self, rank: caller.rank, queue: WaiterQueue::Claim };
        self.grant();
        received(rx).await
    }

    /// Wait for the right to make one call. An event waits for one permit at a time.
    pub async fn acquire_call(
        self: &Arc<Self>,
        caller: Caller,
        command: DeskCommand,
    ) -> CallPermit {
        let (tx, rx) = oneshot::channel();
        self.lock().calls.enqueue(command, caller, self.epoch.elapsed(), tx);
        let queue = WaiterQueue::Call(command);
        let _dequeue = DequeueOnDrop { gate: self, rank: caller.rank, queue };
        self.grant();
        received(rx).await
    }

    /// Why the gate is shut, if it is.
    pub fn shut(&self) -> Option<GateShut> {
        self.lock().control.shut().cloned()
    }

    /// Update the metrics that change with time alone.
    pub fn report_rates(&self) {
        let now = self.epoch.elapsed();
        let inner = self.lock();
        let transfers = inner.control.transfers();
        self.metrics.quota_share.set(transfers.share(now));
        self.metrics.slowed.set(transfers.slowed(now));
    }

    /// How it is now, for people.
    pub fn status(&self) -> GateStatus {
        let now = self.epoch.elapsed();
        let inner = self.lock();
        inner.control.status(inner.calls.concurrency(), now)
    }

    /// Grant permits whenever time has passed that a waiter needs; never returns.
    pub async fn drive(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let look_again = self.lock().look_again;
            match look_again {
                Some(at) => tokio::select! {
                    () = sleep_until(self.epoch + at) => self.grant(),
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Grant permits until no waiter may go now.
    fn grant(self: &Arc<Self>) {
        // Outside the lock: if the waiter is gone, the permit comes straight back through `drop`.
        loop {
            match self.next_permit() {
                Some(Granted::Claim(waiter, permit)) => drop(waiter.send(permit)),
                Some(Granted::Call(waiter, permit)) => drop(waiter.send(permit)),
                None => return,
            }
        }
    }

    fn next_permit(self: &Arc<Self>) -> Option<Granted> {
        let mut guard = self.lock();
        let GateInner { control, claims, calls, look_again, .. } = &mut *guard;
        if let Some((grant, waiter)) = claims.next() {
            return Some(self.granted_claim(grant, waiter));
        }
        // `drive` sleeps until the old time; it has to be woken only if the new one differs.
        let before = look_again.take();
        match calls.next(Search::new(control, claims, self.epoch.elapsed())) {
            NextPermit::Claim(grant, waiter) => Some(self.granted_claim(grant, waiter)),
            NextPermit::Call(grant, waiter) => {
                self.metrics.in_flight.inc();
                let permit = CallPermit { gate: self.clone(), grant, end: CallEnd::Abandoned };
                Some(Granted::Call(waiter, permit))
            }
            NextPermit::LookAgain(at) => {
                *look_again = at;
                if at.is_some() && at != before {
                    self.changed.notify_one();
                }
                None
            }
        }
    }

    fn granted_claim(
        self: &Arc<Self>,
        grant: ClaimGrant,
        waiter: oneshot::Sender<ClaimPermit>,
    ) -> Granted {
        Granted::Claim(waiter, ClaimPermit { gate: self.clone(), grant })
    }

    fn announce(&self, change: &GateChange) {
        match change {
            GateChange::Breaker(BreakerChange::Shut(GateShut { reason, repair })) => {
                self.metrics.gate_shut(Some(*reason));
                error!(reason = reason.as_str(), repair, "gate shut: no call can succeed");
            }
            GateChange::Breaker(BreakerChange::Opened { after }) => {
                self.metrics.gate_shut(None);
                warn!(after_s = after.as_secs(), "gate open");
            }
            GateChange::Throttled { command, calls_per_second } => {
                let command = command.as_str();
                warn!(command, calls_per_second, "throttled by Desk: call rate reduced");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateInner> {
        self.inner.lock()
    }
}

/// A permit and the waiter that gets it.
enum Granted {
    Claim(oneshot::Sender<ClaimPermit>, ClaimPermit),
    Call(oneshot::Sender<CallPermit>, CallPermit),
}

async fn received<T>(permit: oneshot::Receiver<T>) -> T {
    match permit.await {
        Ok(permit) => permit,
        // Unreachable: a sender leaves the queue only to be used, or with its receiver.
        Err(_) => std::future::pending().await,
    }
}

impl CallPermit {
    /// Whether this call tests if a refusal of all calls is over.
    pub fn probes_refusal(&self) -> bool {
        self.grant.call.kind != CallKind::Regular && self.gate.lock().control.is_held_by_refusal()
    }

    /// The call returned. `next_in_session` is the event that may call as soon as the answer of this
    /// one is stored; a permit is reserved for it if it is the oldest.
    pub fn report(mut self, signal: &Signal, next_in_session: Option<Rank>) -> Reported {
        self.end = if signal.is_silence() { CallEnd::NoResponse } else { CallEnd::Answered };
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
        if let Some(next) = next_in_session {
            inner.calls.reserve(next, now);
        }
        let change = inner.control.on_signal(&self.grant.call, signal, now);
        let unsupported = match signal {
            Signal::StateQueryUnsupported(error) if !inner.warned_state_query_unsupported => {
                inner.warned_state_query_unsupported = true;
                Some(error)
            }
            _ => None,
        };
        // Log outside the lock: a slow log must not hold up every other call.
        drop(inner);
        if let Some(change) = change {
            self.gate.announce(&change);
        }
        if let Some(error) = unsupported {
            warn!(error, "get_session_state unsupported: calls in doubt will be repeated");
        }
        match signal {
            Signal::Misconfigured(_) if self.grant.call.contradicted => Reported::IsolatedRefusal,
            _ => Reported::Noted,
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
        inner.calls.release(&self.grant, self.end, now);
        if self.end == CallEnd::Abandoned {
            inner.control.on_abandoned(&self.grant.call, now);
        }
        drop(inner);
        self.gate.metrics.in_flight.dec();
        self.gate.grant();
    }
}

impl Drop for ClaimPermit {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.claims.release(self.grant.kind);
        inner.calls.on_claim_released(self.grant.rank);
        drop(inner);
        self.gate.grant();
    }
}

/// Removes a waiter from its queue when its future is cancelled.
struct DequeueOnDrop<'a> {
    gate: &'a Gate,
    rank: Rank,
    queue: WaiterQueue,
}

#[derive(Clone, Copy)]
enum WaiterQueue {
    Claim,
    Call(DeskCommand),
}

impl Drop for DequeueOnDrop<'_> {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        match self.queue {
            WaiterQueue::Claim => inner.claims.dequeue(self.rank),
            WaiterQueue::Call(command) => inner.calls.dequeue(command, self.rank),
        }
    }
}

#[cfg(test)]
mod tests;
