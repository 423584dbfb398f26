//! A held gate: the circuit breaker chooses one of the waiting events to probe.

use super::{
    CallPermits, Candidate, DeskCommand, NextPermit, PermitSource, ProbeTurn, Search, lane,
};

impl<C> CallPermits<C> {
    /// The gate is held: one event tests it.
    pub(super) fn next_probe<K>(&mut self, mut search: Search<'_, K>) -> NextPermit<C, K> {
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
}
