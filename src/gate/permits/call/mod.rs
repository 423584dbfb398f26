//! Call permits: at most `desk.concurrency` calls in flight, and which event calls next.
//!
//! Three quarters of the permits are the pool. The oldest first attempt or state query goes first;
//! re-attempts go within the retry budget while first attempts wait, and freely otherwise. The rest is
//! the [`lane`] of the newest. While the gate is held, the circuit breaker chooses a
//! probe among the waiting events instead. `C` and `K` are what the gate uses to wake those that wait
//! for a call and for a claim.

mod newest;
mod probe;

use std::collections::BTreeMap;
use std::time::Duration;

use super::budget::TransferBudget;
use super::claim::{ClaimGrant, ClaimPermits};
use super::lane::{self, Lane};
use super::queue::PermitQueue;
use super::{Caller, Rank};
use crate::domain::request::DeskCommand;
use crate::domain::signal::Attempt;
use crate::gate::admission::AdmissionControl;
use crate::gate::breaker::{Admission, Candidate, ProbeTurn, StartedCall};

/// How long a permit stays reserved for the next event of a session. Its turn usually comes after
/// one commit of the ledger, which takes less.
pub(in crate::gate) const RESERVED_FOR: Duration = Duration::from_millis(10);

/// The part of the transfers that the newest first attempts get while the oldest wait for long, and
/// the rate limiter is what they wait for.
const NEWEST_PART: f64 = 0.25;

pub(in crate::gate) struct CallPermits<C> {
    concurrency: usize,
    /// Calls in flight outside the lane.
    pool_in_flight: usize,
    older: OlderCalls,
    /// Re-attempts and repeated state queries in flight.
    again_in_flight: usize,
    /// Permits reserved for events that will request one within moments, and until when.
    reserved: BTreeMap<Rank, Duration>,
    retry_budget: TransferBudget,
    newest_budget: TransferBudget,
    /// Newest events that are being claimed in order to call at once, and how long that may take.
    newest_claimed: BTreeMap<Rank, Duration>,
    lane: Lane,
    /// A new session that is being claimed in order to probe a held gate, and how long that may take.
    probe_claim: Option<(Rank, Duration)>,
    /// Waiters per command, in the order of [`DeskCommand::ALL`].
    waiting: [PermitQueue<C>; DeskCommand::ALL.len()],
}

/// How many calls may be in flight now.
#[derive(Debug, Clone, Copy)]
struct Room {
    pool: usize,
    lane: usize,
}

/// Calls in flight that started before the gate opened last. The slow start does not count them: they
/// may hang for their whole time-out, and those that wait now would hang with them.
#[derive(Debug, Default)]
struct OlderCalls {
    opened_at: Option<Duration>,
    pool: usize,
    lane: usize,
}

/// A granted call permit, returned when the call is over.
#[derive(Debug, Clone, Copy)]
pub(in crate::gate) struct CallGrant {
    pub(in crate::gate) call: StartedCall,
    attempt: Attempt,
    source: PermitSource,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) enum CallEnd {
    Answered,
    NoResponse,
    /// Without a report.
    Abandoned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitSource {
    Pool,
    Lane,
}

/// The result of looking for the next permit to grant.
pub(in crate::gate) enum NextPermit<C, K> {
    /// This waiter may call now; it counts as in flight.
    Call(CallGrant, C),
    /// This waiter may claim its event now, and calls next.
    Claim(ClaimGrant, K),
    /// No waiter may go now. Look again at this time, or, if there is none, after the next change.
    LookAgain(Option<Duration>),
}

/// What the search for the next permit reads and changes.
pub(in crate::gate) struct Search<'a, K> {
    pub(in crate::gate) control: &'a mut AdmissionControl,
    pub(in crate::gate) claims: &'a mut ClaimPermits<K>,
    pub(in crate::gate) now: Duration,
    /// The earliest time at which a waiter may go that may not go now.
    look_again: Option<Duration>,
}

impl<'a, K> Search<'a, K> {
    pub(in crate::gate) fn new(
        control: &'a mut AdmissionControl,
        claims: &'a mut ClaimPermits<K>,
        now: Duration,
    ) -> Self {
        Self { control, claims, now, look_again: None }
    }

    fn look_again_at(&mut self, at: Option<Duration>) {
        self.look_again = [self.look_again, at].into_iter().flatten().min();
    }

    fn admit(&mut self, command: DeskCommand, caller: Caller) -> Option<StartedCall> {
        match self.control.admit(command, caller, self.now) {
            Admission::Admitted(call) => Some(call),
            Admission::AfterChange => None,
            Admission::NotBefore(at) => {
                self.look_again_at(Some(at));
                None
            }
        }
    }
}

impl<C> CallPermits<C> {
    /// `desk.concurrency`.
    pub(in crate::gate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(in crate::gate) fn new(
        concurrency: usize,
        retry_budget: f64,
        call_timeout: Duration,
    ) -> Self {
        Self {
            concurrency,
            pool_in_flight: 0,
            older: OlderCalls::default(),
            again_in_flight: 0,
            reserved: BTreeMap::new(),
            retry_budget: TransferBudget::new(retry_budget),
            newest_budget: TransferBudget::new(NEWEST_PART),
            newest_claimed: BTreeMap::new(),
            lane: Lane::new(concurrency, call_timeout),
            probe_claim: None,
            waiting: Default::default(),
        }
    }

    pub(in crate::gate) fn enqueue(
        &mut self,
        command: DeskCommand,
        caller: Caller,
        now: Duration,
        waiter: C,
    ) {
        self.waiting[command as usize].enqueue(caller, now, waiter);
    }

    pub(in crate::gate) fn dequeue(&mut self, command: DeskCommand, rank: Rank) {
        self.waiting[command as usize].take(rank);
    }

    /// Return the permit of a call that is over.
    pub(in crate::gate) fn release(&mut self, grant: &CallGrant, end: CallEnd, now: Duration) {
        let is_older =
            self.older.opened_at.is_some_and(|opened_at| grant.call.started_at < opened_at);
        match grant.source {
            PermitSource::Pool => {
                self.pool_in_flight -= 1;
                self.older.pool -= usize::from(is_older);
            }
            PermitSource::Lane => {
                self.lane.end_call(grant.call.caller.rank, grant.call.started_at);
                self.older.lane -= usize::from(is_older);
                if end == CallEnd::Answered {
                    self.lane.on_answer(now);
                }
            }
        }
        self.again_in_flight -= usize::from(grant.attempt == Attempt::Again);
    }

    /// The event gave its claim permit back: it calls now, or not at all.
    pub(in crate::gate) fn on_claim_released(&mut self, rank: Rank) {
        self.lane.cancel(rank);
        self.newest_claimed.remove(&rank);
        self.probe_claim = self.probe_claim.filter(|(probe, _)| *probe != rank);
    }

    /// Reserve a permit for an event that does not wait yet, if it will be the oldest.
    ///
    /// The next event of a session asks only after the ledger has stored the answer of the one
    /// before. Without the reservation its permit goes to a younger event in the meantime, and a busy
    /// session, although it is the oldest, queues behind all others once per event.
    pub(in crate::gate) fn reserve(&mut self, rank: Rank, now: Duration) {
        let classes = [Attempt::First, Attempt::Again];
        let mut oldest = self
            .waiting
            .iter()
            .flat_map(|waiting| classes.into_iter().filter_map(|class| waiting.oldest(class)))
            .peekable();
        // Without a waiter no other event could take the permit.
        if oldest.peek().is_some() && oldest.all(|waiting| rank < waiting.rank) {
            self.reserved.insert(rank, now + RESERVED_FOR);
        }
    }

    /// Grant the next permit, if there is a waiter that may go now.
    pub(in crate::gate) fn next<K>(&mut self, mut search: Search<'_, K>) -> NextPermit<C, K> {
        let now = search.now;
        self.reserved.retain(|_, until| *until > now);
        self.newest_claimed.retain(|_, until| *until > now);
        self.lane.pass_time(now);
        if search.control.is_held() {
            return self.next_probe(search);
        }
        if self.in_flight() >= self.concurrency {
            return NextPermit::LookAgain(None);
        }
        let limit = search.control.call_limit(self.concurrency, now);
        search.look_again_at(limit.grows_at);
        let lane_size = lane::size(limit.calls);
        let mut room = Room { pool: limit.calls - lane_size, lane: lane_size };
        if limit.grows_at.is_some() {
            self.note_older(search.control.opened_at());
            room.pool += self.older.pool;
            room.lane += self.older.lane;
        }
        let permit = self.newest_of_pool(&mut search, room);
        let permit = permit.or_else(|| self.next_of_pool(&mut search, room));
        let permit = permit.or_else(|| self.next_of_lane(&mut search, room));
        permit.unwrap_or(NextPermit::LookAgain(search.look_again))
    }

    fn next_of_pool<K>(
        &mut self,
        search: &mut Search<'_, K>,
        room: Room,
    ) -> Option<NextPermit<C, K>> {
        for (command, caller) in self.pool_order() {
            // Reservations of younger events do not count: the oldest goes first in any case.
            let reserved_for_older = self.reserved.range(..caller.rank).count();
            if self.pool_in_flight + reserved_for_older >= room.pool {
                search.look_again_at(self.reserved.values().min().copied());
                continue;
            }
            // A pile of re-attempts that hang must not hold every permit.
            if caller.attempt == Attempt::Again && self.again_in_flight >= self.max_again() {
                continue;
            }
            // The other command has a rate of its own and may still go.
            if let Some(call) = search.admit(command, caller) {
                return self.start(call, caller, PermitSource::Pool);
            }
        }
        None
    }

    /// The next waiter of each class, in the order in which they may go.
    fn pool_order(&self) -> impl Iterator<Item = (DeskCommand, Caller)> + use<C> {
        let oldest = |command: DeskCommand, attempt| {
            Some((command, self.waiting[command as usize].oldest(attempt)?))
        };
        let (transfer, query) = (DeskCommand::TransferToHuman, DeskCommand::GetSessionState);
        let first = oldest(transfer, Attempt::First);
        let again = oldest(transfer, Attempt::Again);
        let queries = [Attempt::First, Attempt::Again].map(|attempt| oldest(query, attempt));
        let mut by_age = [first, queries[0], queries[1]];
        by_age.sort_by_key(|waiter| waiter.map(|(_, caller)| caller.rank));
        let (ahead, behind) = match first {
            Some(_) if self.retry_budget.allows_one() => (again, None),
            Some(_) => (None, None),
            None => (None, again),
        };
        [ahead].into_iter().chain(by_age).chain([behind]).flatten()
    }

    fn start<K>(
        &mut self,
        call: StartedCall,
        caller: Caller,
        source: PermitSource,
    ) -> Option<NextPermit<C, K>> {
        let waiter = self.waiting[call.command as usize].take(caller.rank)?;
        if call.command == DeskCommand::TransferToHuman {
            let next = self.waiting[call.command as usize].oldest(Attempt::First);
            if caller.attempt == Attempt::First {
                self.retry_budget.earn();
                if next.is_none_or(|next| caller.rank < next.rank) {
                    self.newest_budget.earn();
                }
            } else if next.is_some() {
                self.retry_budget.spend();
            }
        }
        self.reserved.remove(&caller.rank);
        match source {
            PermitSource::Pool => {
                self.pool_in_flight += 1;
                self.lane.cancel(caller.rank);
            }
            PermitSource::Lane => self.lane.start_call(caller.rank, call.started_at),
        }
        self.again_in_flight += usize::from(caller.attempt == Attempt::Again);
        Some(NextPermit::Call(CallGrant { call, attempt: caller.attempt, source }, waiter))
    }

    /// All that is in flight when the gate opens is older.
    fn note_older(&mut self, opened_at: Option<Duration>) {
        if self.older.opened_at != opened_at {
            let (pool, lane) = (self.pool_in_flight, self.lane.in_flight());
            self.older = OlderCalls { opened_at, pool, lane };
        }
    }

    fn in_flight(&self) -> usize {
        self.pool_in_flight + self.lane.in_flight()
    }

    fn max_again(&self) -> usize {
        (self.concurrency / 2).max(1)
    }
}
