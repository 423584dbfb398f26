//! Faults that wait for their calls, and staff changes that wait for their time.
//!
//! There is one queue per session and one for all sessions. A call takes the first fault that
//! matches it, from its own session's queue before the common one. The faults are applied in `http`.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::agents::StaffChange;
use super::schedule::{ANY_SESSION, FaultSchedule, InjectedFault, ScheduledStaffChange};
use super::stats::ApiCommand;

pub(super) struct PendingFaults {
    // Benchmarks inject no faults: a call then costs one atomic read and no lock.
    is_empty: AtomicBool,
    queues: Mutex<PendingQueues>,
}

#[derive(Default)]
struct PendingQueues {
    by_session: HashMap<String, VecDeque<InjectedFault>>,
    for_any: VecDeque<InjectedFault>,
    staff_changes: Vec<PendingStaffChange>,
}

struct PendingStaffChange {
    at_transfer: u64,
    at: Option<Instant>,
    change: StaffChange,
}

/// The call for which faults are looked up.
pub(super) struct CallContext<'a> {
    pub(super) session: &'a str,
    pub(super) command: ApiCommand,
    /// Transfer calls so far, this one included.
    pub(super) transfers: u64,
    pub(super) now: Instant,
}

impl PendingFaults {
    pub(super) fn new() -> Self {
        Self { is_empty: AtomicBool::new(true), queues: Mutex::default() }
    }

    pub(super) fn add(&self, schedule: &FaultSchedule, call: &CallContext<'_>) {
        let mut queues = self.queues.lock();
        for fault in &schedule.faults {
            queues.queue_of(&fault.session).push_back(fault.clone());
        }
        let changes = schedule.staff_changes.iter();
        queues.staff_changes.extend(changes.map(|change| PendingStaffChange::of(change, call)));
        self.is_empty.store(queues.is_empty(), Relaxed);
    }

    pub(super) fn clear(&self) {
        *self.queues.lock() = PendingQueues::default();
        self.is_empty.store(true, Relaxed);
    }

    /// Takes the fault for this call, if there is one, and the staff changes that are due.
    pub(super) fn take(
        &self,
        call: &CallContext<'_>,
        rng: &mut Rng,
    ) -> (Option<InjectedFault>, Vec<StaffChange>) {
        if self.is_empty.load(Relaxed) {
            return (None, Vec::new());
        }
        let mut queues = self.queues.lock();
        let due = queues.staff_changes.extract_if(.., |pending| pending.is_due(call));
        let due = due.map(|pending| pending.change).collect();
        let fault = queues.take(call, rng);
        self.is_empty.store(queues.is_empty(), Relaxed);
        (fault, due)
    }
}

impl PendingQueues {
    fn queue_of(&mut self, session: &str) -> &mut VecDeque<InjectedFault> {
        if session == ANY_SESSION {
            return &mut self.for_any;
        }
        self.by_session.entry(session.to_owned()).or_default()
    }

    fn take(&mut self, call: &CallContext<'_>, rng: &mut Rng) -> Option<InjectedFault> {
        if let Some(own) = self.by_session.get_mut(call.session) {
            let fault = take_first(own, call.command, rng);
            if own.is_empty() {
                self.by_session.remove(call.session);
            }
            if fault.is_some() {
                return fault;
            }
        }
        take_first(&mut self.for_any, call.command, rng)
    }

    fn is_empty(&self) -> bool {
        self.by_session.is_empty() && self.for_any.is_empty() && self.staff_changes.is_empty()
    }
}

fn take_first(
    faults: &mut VecDeque<InjectedFault>,
    command: ApiCommand,
    rng: &mut Rng,
) -> Option<InjectedFault> {
    let applies = |fault: &InjectedFault| {
        fault.commands.contains(&command) && (fault.chance >= 1.0 || rng.f64() < fault.chance)
    };
    let index = faults.iter().position(applies)?;
    let fault = &mut faults[index];
    match fault.times {
        0 => Some(fault.clone()),
        1 => faults.remove(index),
        _ => {
            fault.times -= 1;
            Some(fault.clone())
        }
    }
}

impl PendingStaffChange {
    fn of(scheduled: &ScheduledStaffChange, call: &CallContext<'_>) -> Self {
        Self {
            at_transfer: scheduled
                .after_transfers
                .map_or(u64::MAX, |n| call.transfers.saturating_add(n)),
            at: scheduled.after_ms.and_then(|ms| call.now.checked_add(Duration::from_millis(ms))),
            change: scheduled.change.clone(),
        }
    }

    fn is_due(&self, call: &CallContext<'_>) -> bool {
        call.transfers > self.at_transfer || self.at.is_some_and(|at| at <= call.now)
    }
}

#[cfg(test)]
mod tests;
