//! Call permits: at most `desk.concurrency` calls in flight, granted oldest event first.
//!
//! Pure bookkeeping: [`Gate`](crate::gate::Gate) locks it, sends the granted permits to their waiters
//! and supplies the time. `W` is what the gate uses to wake a waiter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Rank;
use crate::domain::request::DeskCommand;
use crate::gate::admission::AdmissionControl;
use crate::gate::breaker::{Admission, CallKind};

/// How long a permit stays reserved for the next event of a session. Its turn usually comes after
/// one commit of the ledger, which takes less.
pub(in crate::gate) const RESERVED_FOR: Duration = Duration::from_millis(10);

pub(in crate::gate) struct CallPermits<W> {
    concurrency: usize,
    in_flight: usize,
    /// Permits reserved for events that will request one within moments, and until when.
    reserved: BTreeMap<Rank, Duration>,
    /// Waiters per command, in the order of [`DeskCommand::ALL`].
    waiting: [BTreeMap<Rank, W>; DeskCommand::ALL.len()],
}

/// The result of looking for the next call.
pub(in crate::gate) enum NextCall<W> {
    /// This waiter may call now; it counts as in flight.
    Granted { waiter: W, kind: CallKind },
    /// No waiter may call now. Look again at this time, or, if there is none, after the next change.
    LookAgain(Option<Duration>),
}

impl<W> CallPermits<W> {
    pub(in crate::gate) fn new(concurrency: usize) -> Self {
        Self { concurrency, in_flight: 0, reserved: BTreeMap::new(), waiting: Default::default() }
    }

    pub(in crate::gate) fn enqueue(&mut self, command: DeskCommand, rank: Rank, waiter: W) {
        self.waiting[command as usize].insert(rank, waiter);
    }

    pub(in crate::gate) fn dequeue(&mut self, command: DeskCommand, rank: Rank) {
        self.waiting[command as usize].remove(&rank);
    }

    /// Return the permit of a call that is over.
    pub(in crate::gate) fn release(&mut self) {
        self.in_flight -= 1;
    }

    /// Reserve a permit for an event that does not wait yet, if it will be the oldest.
    ///
    /// The next event of a session asks only after the ledger has stored the answer of the one
    /// before. Without the reservation its permit goes to a younger event in the meantime, and a busy
    /// session, although it is the oldest, queues behind all others once per event.
    pub(in crate::gate) fn reserve(&mut self, rank: Rank, now: Duration) {
        let mut oldest = self.waiting.iter().filter_map(|waiting| waiting.keys().next()).peekable();
        // Without a waiter no other event could take the permit.
        if oldest.peek().is_some() && oldest.all(|waiting| rank < *waiting) {
            self.reserved.insert(rank, now + RESERVED_FOR);
        }
    }

    /// Grant a permit to the oldest waiter whose command `control` admits.
    pub(in crate::gate) fn next(
        &mut self,
        control: &mut AdmissionControl,
        now: Duration,
    ) -> NextCall<W> {
        let limit = control.call_limit(self.concurrency, now);
        self.reserved.retain(|_, until| *until > now);
        let mut look_again = None;
        for (rank, command) in self.oldest_per_command() {
            // Reservations of younger events do not count: the oldest goes first in any case.
            let reserved_for_older = self.reserved.range(..rank).count();
            if self.in_flight + reserved_for_older >= limit.calls {
                look_again = earliest(look_again, limit.grows_at);
                look_again = earliest(look_again, self.reserved.values().min().copied());
                continue;
            }
            let kind = match control.admit(command, now) {
                Admission::Admitted(kind) => kind,
                // The other command has a rate of its own and may still go.
                Admission::AfterChange => continue,
                Admission::NotBefore(at) => {
                    look_again = earliest(look_again, Some(at));
                    continue;
                }
            };
            if let Some((_, waiter)) = self.waiting[command as usize].pop_first() {
                self.reserved.remove(&rank);
                self.in_flight += 1;
                return NextCall::Granted { waiter, kind };
            }
        }
        NextCall::LookAgain(look_again)
    }

    fn oldest_per_command(&self) -> impl Iterator<Item = (Rank, DeskCommand)> + use<W> {
        let oldest =
            |command: DeskCommand| Some((*self.waiting[command as usize].keys().next()?, command));
        let mut oldest = DeskCommand::ALL.map(oldest);
        oldest.sort_by_key(|oldest| oldest.map(|(rank, _)| rank));
        oldest.into_iter().flatten()
    }
}

fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}
