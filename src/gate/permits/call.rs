//! Call permits: at most `desk.concurrency` calls in flight, and which event calls next.
//!
//! Three quarters of the permits are the pool. The oldest first attempt or state query goes first;
//! re-attempts go within the retry budget while first attempts wait, and freely otherwise. The rest is
//! the [`lane`](super::lane) of the newest. While the gate is held, the circuit breaker chooses a
//! probe among the waiting events instead. `C` and `K` are what the gate uses to wake those that wait
//! for a call and for a claim.

use std::collections::BTreeMap;
use std::time::Duration;

use super::budget::RetryBudget;
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

pub(in crate::gate) struct CallPermits<C> {
    concurrency: usize,
    /// Calls in flight outside the lane.
    pool_in_flight: usize,
    /// Re-attempts and repeated state queries in flight.
    again_in_flight: usize,
    /// Permits reserved for events that will request one within moments, and until when.
    reserved: BTreeMap<Rank, Duration>,
    budget: RetryBudget,
    lane: Lane,
    /// A new session that is being claimed in order to probe a held gate, and how long that may take.
    probe_claim: Option<(Rank, Duration)>,
    /// Waiters per command, in the order of [`DeskCommand::ALL`].
    waiting: [PermitQueue<C>; DeskCommand::ALL.len()],
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
    pub(in crate::gate) fn new(
        concurrency: usize,
        retry_budget: f64,
        call_timeout: Duration,
    ) -> Self {
        Self {
            concurrency,
            pool_in_flight: 0,
            again_in_flight: 0,
            reserved: BTreeMap::new(),
            budget: RetryBudget::new(retry_budget),
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
    pub(in crate::gate) fn release(&mut self, grant: &CallGrant, end: CallEnd) {
        match grant.source {
            PermitSource::Pool => self.pool_in_flight -= 1,
            PermitSource::Lane => self.lane.end_call(),
        }
        if end == CallEnd::Answered && grant.call.command == DeskCommand::TransferToHuman {
            self.lane.on_answer();
        }
        self.again_in_flight -= usize::from(grant.attempt == Attempt::Again);
    }

    /// The event gave its claim permit back: it calls now, or not at all.
    pub(in crate::gate) fn on_claim_released(&mut self, rank: Rank) {
        self.lane.cancel(rank);
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
        self.lane.pass_time(now);
        if search.control.is_held() {
            return self.next_probe(search);
        }
        let limit = search.control.call_limit(self.concurrency, now);
        if self.in_flight() >= limit.calls {
            return NextPermit::LookAgain(limit.grows_at);
        }
        let lane_size = lane::size(limit.calls);
        search.look_again_at(limit.grows_at);
        if let Some(permit) = self.next_of_pool(&mut search, limit.calls - lane_size) {
            return permit;
        }
        if let Some(permit) = self.next_of_lane(&mut search, limit.calls - lane_size, lane_size) {
            return permit;
        }
        NextPermit::LookAgain(search.look_again)
    }

    fn next_of_pool<K>(
        &mut self,
        search: &mut Search<'_, K>,
        pool_size: usize,
    ) -> Option<NextPermit<C, K>> {
        for (command, caller) in self.pool_order() {
            // Reservations of younger events do not count: the oldest goes first in any case.
            let reserved_for_older = self.reserved.range(..caller.rank).count();
            if self.pool_in_flight + reserved_for_older >= pool_size {
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
            Some(_) if self.budget.allows_again() => (again, None),
            Some(_) => (None, None),
            None => (None, again),
        };
        [ahead].into_iter().chain(by_age).chain([behind]).flatten()
    }

    fn next_of_lane<K>(
        &mut self,
        search: &mut Search<'_, K>,
        pool_size: usize,
        lane_size: usize,
    ) -> Option<NextPermit<C, K>> {
        if let Some(caller) = self.claimed_for_lane(search) {
            return self.start_in_lane(search, caller);
        }
        // While the pool has room, its waiters are held back by something else.
        let pool_is_full = self.pool_in_flight + self.reserved.len() >= pool_size;
        if !pool_is_full || !self.lane.has_place(lane_size) {
            return None;
        }
        let caller = self.first_of_lane(search)?;
        let transfers = &self.waiting[DeskCommand::TransferToHuman as usize];
        if transfers.of(Attempt::First).contains_key(&caller.rank) {
            return self.start_in_lane(search, caller);
        }
        if search.control.next_at(DeskCommand::TransferToHuman, search.now)? > search.now {
            return None;
        }
        self.lane.reserve(caller.rank, search.now);
        search.claims.grant_newest().map(|(grant, waiter)| NextPermit::Claim(grant, waiter))
    }

    /// An event that was claimed for the lane and asks for its call now.
    fn claimed_for_lane<K>(&self, search: &mut Search<'_, K>) -> Option<Caller> {
        let transfers = self.waiting[DeskCommand::TransferToHuman as usize].of(Attempt::First);
        self.lane.reservations().find_map(|(rank, until)| {
            search.look_again_at(Some(until));
            let session = transfers.get(&rank)?.session;
            Some(Caller { rank, session, attempt: Attempt::First })
        })
    }

    /// Who is next in the lane, among those that wait for a call or a claim.
    fn first_of_lane<K>(&self, search: &mut Search<'_, K>) -> Option<Caller> {
        let (now, claims) = (search.now, search.claims.waiting());
        let transfers = &self.waiting[DeskCommand::TransferToHuman as usize];
        let waiting_since =
            [transfers.first_attempts_wait_since(), claims.first_attempts_wait_since()];
        let newest_first_from =
            waiting_since.into_iter().flatten().min()? + lane::NEWEST_FIRST_AFTER;
        let newest = [transfers.newest_first_attempt(), claims.newest_first_attempt()];
        let caller = if now < newest_first_from {
            transfers.oldest(Attempt::First)
        } else {
            newest.into_iter().flatten().max_by_key(|caller| caller.rank)
        };
        let token_at = self.lane.next_token_at(now);
        if caller.is_none() {
            search.look_again_at(Some(newest_first_from));
        } else if token_at > now {
            search.look_again_at(Some(token_at));
            return None;
        }
        caller
    }

    fn start_in_lane<K>(
        &mut self,
        search: &mut Search<'_, K>,
        caller: Caller,
    ) -> Option<NextPermit<C, K>> {
        let call = search.admit(DeskCommand::TransferToHuman, caller)?;
        self.start(call, caller, PermitSource::Lane)
    }

    /// The gate is held: one event tests it.
    fn next_probe<K>(&mut self, mut search: Search<'_, K>) -> NextPermit<C, K> {
        let now = search.now;
        self.probe_claim = self.probe_claim.filter(|(_, until)| *until > now);
        if self.in_flight() >= self.concurrency {
            return NextPermit::LookAgain(None);
        }
        let mut candidates = self.probe_candidates(&mut search);
        if let Some((rank, until)) = self.probe_claim {
            candidates.retain(|candidate| candidate.caller.rank == rank);
            if let Some(claimed) = candidates.first() {
                return self.start_probe(search, *claimed);
            }
            search.look_again_at(Some(until));
            return NextPermit::LookAgain(search.look_again);
        }
        // Every claim permit may be held by events that were asked already. A newer session that
        // still waits for its claim is a better witness.
        let unclaimed = search.claims.waiting().newest_first_attempt().map(|caller| caller.rank);
        let transfers_allowed =
            search.control.next_at(DeskCommand::TransferToHuman, now).is_some_and(|at| at <= now);
        if let Some(caller) = search.claims.waiting().newest_first_attempt()
            && transfers_allowed
        {
            candidates.push(Candidate { command: DeskCommand::TransferToHuman, caller });
        }
        match search.control.choose_probe(&candidates, now) {
            ProbeTurn::Now(chosen) if Some(chosen.caller.rank) == unclaimed => {
                self.probe_claim = Some((chosen.caller.rank, now + lane::CLAIM_RESERVED_FOR));
                match search.claims.grant_newest() {
                    Some((grant, waiter)) => NextPermit::Claim(grant, waiter),
                    None => NextPermit::LookAgain(search.look_again),
                }
            }
            ProbeTurn::Now(chosen) => self.start_probe(search, chosen),
            ProbeTurn::At(at) => {
                search.look_again_at(at);
                NextPermit::LookAgain(search.look_again)
            }
        }
    }

    /// The waiters whose command has a call due.
    fn probe_candidates<K>(&self, search: &mut Search<'_, K>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for command in DeskCommand::ALL {
            match search.control.next_at(command, search.now) {
                Some(at) if at > search.now => search.look_again_at(Some(at)),
                Some(_) => {
                    let waiting = self.waiting[command as usize].iter();
                    candidates.extend(waiting.map(|caller| Candidate { command, caller }));
                }
                None => {}
            }
        }
        candidates
    }

    fn start_probe<K>(&mut self, search: Search<'_, K>, chosen: Candidate) -> NextPermit<C, K> {
        self.probe_claim = None;
        let call = search.control.start_probe(chosen, search.now);
        self.start(call, chosen.caller, PermitSource::Pool)
            .unwrap_or(NextPermit::LookAgain(search.look_again))
    }

    fn start<K>(
        &mut self,
        call: StartedCall,
        caller: Caller,
        source: PermitSource,
    ) -> Option<NextPermit<C, K>> {
        let waiter = self.waiting[call.command as usize].take(caller.rank)?;
        if call.command == DeskCommand::TransferToHuman {
            let transfers = &self.waiting[call.command as usize];
            match caller.attempt {
                Attempt::First => self.budget.on_first(),
                Attempt::Again if transfers.oldest(Attempt::First).is_some() => {
                    self.budget.on_again();
                }
                Attempt::Again => {}
            }
        }
        self.reserved.remove(&caller.rank);
        match source {
            PermitSource::Pool => {
                self.pool_in_flight += 1;
                self.lane.cancel(caller.rank);
            }
            PermitSource::Lane => self.lane.start_call(caller.rank),
        }
        self.again_in_flight += usize::from(caller.attempt == Attempt::Again);
        Some(NextPermit::Call(CallGrant { call, attempt: caller.attempt, source }, waiter))
    }

    fn in_flight(&self) -> usize {
        self.pool_in_flight + self.lane.in_flight()
    }

    fn max_again(&self) -> usize {
        (self.concurrency / 2).max(1)
    }
}
