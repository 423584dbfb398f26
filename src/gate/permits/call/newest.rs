//! The newest first attempts, while the oldest wait for more than a second.
//!
//! While calls hang, they get the lane, and so do the newest first state queries: an event that finds
//! a human in its session would wait for the pool otherwise, behind all that hang. Where the rate limit is what events wait for, a part of the
//! transfers. The newest may still wait for its claim: then it gets a claim permit outside the bound,
//! and calls next.

use super::{
    Attempt, CallPermits, Caller, DeskCommand, Duration, NextPermit, PermitSource, Rank, Room,
    Search, lane,
};

impl<C> CallPermits<C> {
    /// The newest first attempt, if its part of the transfers allows it. While calls hang, the lane
    /// does this instead.
    pub(super) fn newest_of_pool<K>(
        &mut self,
        search: &mut Search<'_, K>,
        room: Room,
    ) -> Option<NextPermit<C, K>> {
        let transfer = DeskCommand::TransferToHuman;
        let pool_is_full = self.pool_in_flight + self.reserved.len() >= room.pool;
        if pool_is_full || search.control.next_at(transfer, search.now)? > search.now {
            return None;
        }
        if let Some(caller) = self.newest_claimed.keys().find_map(|rank| self.first_attempt(*rank))
        {
            let call = search.admit(transfer, caller)?;
            return self.start(call, caller, PermitSource::Pool);
        }
        let waits_for_long =
            self.newest_first_from(search).is_some_and(|newest_first| newest_first <= search.now);
        if !waits_for_long || !self.newest_budget.allows_one() || self.lane.in_flight() > 0 {
            return None;
        }
        let caller = self.newest(search)?;
        self.newest_budget.spend();
        if self.first_attempt(caller.rank).is_some() {
            let call = search.admit(transfer, caller)?;
            return self.start(call, caller, PermitSource::Pool);
        }
        self.newest_claimed.insert(caller.rank, search.now + lane::CLAIM_RESERVED_FOR);
        search.claims.grant_newest().map(|(grant, waiter)| NextPermit::Claim(grant, waiter))
    }

    pub(super) fn next_of_lane<K>(
        &mut self,
        search: &mut Search<'_, K>,
        room: Room,
    ) -> Option<NextPermit<C, K>> {
        if let Some(caller) = self.claimed_for_lane(search) {
            return self.start_in_lane(search, DeskCommand::TransferToHuman, caller);
        }
        // While the pool has room, its waiters are held back by something else.
        let pool_is_full = self.pool_in_flight + self.reserved.len() >= room.pool;
        if !pool_is_full || !self.lane.has_place(room.lane) {
            return None;
        }
        let (command, caller) = self.first_of_lane(search)?;
        if command != DeskCommand::TransferToHuman || self.first_attempt(caller.rank).is_some() {
            return self.start_in_lane(search, command, caller);
        }
        let next_at = search.control.next_at(DeskCommand::TransferToHuman, search.now)?;
        if next_at > search.now {
            search.look_again_at(Some(next_at));
            return None;
        }
        self.lane.reserve(caller.rank, search.now);
        search.claims.grant_newest().map(|(grant, waiter)| NextPermit::Claim(grant, waiter))
    }

    /// An event that was claimed for the lane and asks for its call now.
    fn claimed_for_lane<K>(&self, search: &mut Search<'_, K>) -> Option<Caller> {
        self.lane.reservations().find_map(|(rank, until)| {
            search.look_again_at(Some(until));
            self.first_attempt(rank)
        })
    }

    /// Who is next in the lane, among those that wait for a call or a claim.
    fn first_of_lane<K>(&self, search: &mut Search<'_, K>) -> Option<(DeskCommand, Caller)> {
        let queries = &self.waiting[DeskCommand::GetSessionState as usize];
        let queries_from =
            queries.first_attempts_wait_since().map(|since| since + lane::NEWEST_FIRST_AFTER);
        let newest_first_from =
            [self.newest_first_from(search), queries_from].into_iter().flatten().min()?;
        let next = if search.now < newest_first_from {
            let oldest = |command: DeskCommand| {
                Some((command, self.waiting[command as usize].oldest(Attempt::First)?))
            };
            DeskCommand::ALL.into_iter().filter_map(oldest).min_by_key(|(_, caller)| caller.rank)
        } else {
            let (transfer, query) = (DeskCommand::TransferToHuman, DeskCommand::GetSessionState);
            let newest = [(transfer, self.newest(search)), (query, queries.newest_first_attempt())];
            newest
                .into_iter()
                .filter_map(|(command, caller)| Some((command, caller?)))
                .max_by_key(|(_, caller)| caller.rank)
        };
        let token_at = self.lane.next_token_at(search.now);
        if next.is_none() {
            search.look_again_at(Some(newest_first_from));
        } else if token_at > search.now {
            search.look_again_at(Some(token_at));
            return None;
        }
        next
    }

    /// When the oldest first attempt will have waited for long.
    fn newest_first_from<K>(&self, search: &Search<'_, K>) -> Option<Duration> {
        let transfers = &self.waiting[DeskCommand::TransferToHuman as usize];
        let claims = search.claims.waiting();
        let since = [transfers.first_attempts_wait_since(), claims.first_attempts_wait_since()];
        Some(since.into_iter().flatten().min()? + lane::NEWEST_FIRST_AFTER)
    }

    /// The newest first attempt that waits for a call or a claim.
    fn newest<K>(&self, search: &Search<'_, K>) -> Option<Caller> {
        let transfers = &self.waiting[DeskCommand::TransferToHuman as usize];
        let newest =
            [transfers.newest_first_attempt(), search.claims.waiting().newest_first_attempt()];
        newest.into_iter().flatten().max_by_key(|caller| caller.rank)
    }

    /// This event, if it waits for the call of its first attempt.
    fn first_attempt(&self, rank: Rank) -> Option<Caller> {
        let transfers = self.waiting[DeskCommand::TransferToHuman as usize].of(Attempt::First);
        let session = transfers.get(&rank)?.session;
        Some(Caller { rank, session, attempt: Attempt::First })
    }

    fn start_in_lane<K>(
        &mut self,
        search: &mut Search<'_, K>,
        command: DeskCommand,
        caller: Caller,
    ) -> Option<NextPermit<C, K>> {
        let call = search.admit(command, caller)?;
        self.start(call, caller, PermitSource::Lane)
    }
}
