//! The gate: every call to Desk passes it.
//!
//! An event first acquires a [`ClaimPermit`], is claimed in the ledger, and then acquires a
//! [`CallPermit`] for each call. Permits go to the oldest event first. A call permit is granted when
//! fewer than `desk.concurrency` calls are in flight, the rate limiter of its command has a call due,
//! and the circuit breaker lets it through.
//!
//! The decisions are pure: `permits` (who is next), `rate_limiter` (when), `breaker` (whether at all),
//! and `admission`, which combines the last two. Here they meet tasks, time, log and metrics. One task
//! must run [`Gate::drive`], which grants permits when only time has to pass.

mod admission;
mod breaker;
mod permits;
mod rate_limiter;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

pub use self::breaker::{BreakerPolicy, GateShut};
pub use self::permits::claim::ClaimPermit;
pub use self::permits::{Rank, Ticket};

use self::admission::{AdmissionControl, GateChange};
use self::breaker::{BreakerChange, CallKind};
use self::permits::call::{CallPermits, NextCall};
use self::permits::claim::ClaimPermits;
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;
use crate::telemetry::Metrics;

/// Admission control towards Desk for the whole process.
pub struct Gate {
    claim_permits: Arc<ClaimPermits>,
    inner: Mutex<GateInner>,
    /// Wakes [`Gate::drive`] when `look_again` has changed to another time.
    changed: Notify,
    /// The moment from which the pure parts count time.
    epoch: Instant,
    metrics: Arc<Metrics>,
}

struct GateInner {
    control: AdmissionControl,
    calls: CallPermits<oneshot::Sender<CallPermit>>,
    /// When a waiter may be admitted although nothing happens until then.
    look_again: Option<Duration>,
    warned_state_query_unsupported: bool,
}

/// The right to make one call; returned when dropped.
pub struct CallPermit {
    gate: Arc<Gate>,
    kind: CallKind,
    reported: bool,
}

impl Gate {
    /// A gate for `concurrency` calls in flight and, per command, `quota_per_second` calls per second
    /// (`None`: no limit) in the whole consumer group.
    pub fn new(
        policy: BreakerPolicy,
        quota_per_second: Option<f64>,
        concurrency: usize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let inner = GateInner {
            control: AdmissionControl::new(policy, quota_per_second),
            calls: CallPermits::new(concurrency),
            look_again: None,
            warned_state_query_unsupported: false,
        };
        Arc::new(Self {
            claim_permits: ClaimPermits::new(concurrency),
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
    pub async fn acquire_claim(&self, rank: Rank) -> ClaimPermit {
        self.claim_permits.acquire(rank).await
    }

    /// Wait for the right to make one call. An event waits for one permit at a time.
    pub async fn acquire_call(self: &Arc<Self>, rank: Rank, command: DeskCommand) -> CallPermit {
        let (tx, rx) = oneshot::channel();
        self.lock().calls.enqueue(command, rank, tx);
        let _dequeue = DequeueOnDrop { gate: self, rank, command };
        self.grant();
        match rx.await {
            Ok(permit) => permit,
            // Unreachable: a sender leaves the queue only to be used, or with this future.
            Err(_) => std::future::pending().await,
        }
    }

    /// Why the gate is shut, if it is.
    pub fn shut(&self) -> Option<GateShut> {
        self.lock().control.shut().cloned()
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

    /// Grant call permits, oldest event first, until no waiter may call now.
    fn grant(self: &Arc<Self>) {
        while let Some((waiter, permit)) = self.next_permit() {
            // Outside the lock: if the waiter is gone, the permit comes straight back through `drop`.
            drop(waiter.send(permit));
        }
    }

    fn next_permit(self: &Arc<Self>) -> Option<(oneshot::Sender<CallPermit>, CallPermit)> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        // `drive` sleeps until the old time; it has to be woken only if the new one differs.
        let before = inner.look_again.take();
        match inner.calls.next(&mut inner.control, self.epoch.elapsed()) {
            NextCall::Granted { waiter, kind } => {
                self.metrics.in_flight.inc();
                Some((waiter, CallPermit { gate: self.clone(), kind, reported: false }))
            }
            NextCall::LookAgain(at) => {
                inner.look_again = at;
                if at.is_some() && at != before {
                    self.changed.notify_one();
                }
                None
            }
        }
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
            GateChange::Throttled { calls_per_second } => {
                warn!(calls_per_second, "throttled by Desk: call rate reduced");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateInner> {
        self.inner.lock()
    }
}

impl CallPermit {
    /// The call returned. `next_in_session` is the event that may call as soon as the answer of this
    /// one is stored; a permit is reserved for it if it is the oldest.
    pub fn report(mut self, signal: &Signal, next_in_session: Option<Rank>) {
        self.reported = true;
        let mut inner = self.gate.lock();
        let now = self.gate.epoch.elapsed();
        if let Some(next) = next_in_session {
            inner.calls.reserve(next, now);
        }
        let change = inner.control.on_signal(self.kind, signal, now);
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
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.calls.release();
        if !self.reported {
            inner.control.on_abandoned(self.kind);
        }
        drop(inner);
        self.gate.metrics.in_flight.dec();
        self.gate.grant();
    }
}

/// Removes a waiter from the queue when its future is cancelled.
struct DequeueOnDrop<'a> {
    gate: &'a Gate,
    rank: Rank,
    command: DeskCommand,
}

impl Drop for DequeueOnDrop<'_> {
    fn drop(&mut self) {
        self.gate.lock().calls.dequeue(self.command, self.rank);
    }
}

#[cfg(test)]
mod tests;
