//! May a call start now? Combines the circuit breaker with one rate limiter per command.
//!
//! Pure: the time is an argument, a duration since any fixed moment. Nothing here ends an event; an
//! event that waits at a shut gate keeps its attempts and loses only time. Read `breaker` and
//! `rate_limiter` next.

use std::time::Duration;

use super::breaker::{
    Admission, BreakerChange, BreakerPolicy, CallLimit, Candidate, CircuitBreaker, GateShut,
    ProbeTurn, StartedCall,
};
use super::permits::Caller;
use super::rate_limiter::RateLimiter;
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;

/// What a signal changed, for the log and the metrics.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GateChange {
    Breaker(BreakerChange),
    Throttled { calls_per_second: f64 },
}

#[derive(Debug)]
pub(super) struct AdmissionControl {
    breaker: CircuitBreaker,
    /// Per command, in the order of [`DeskCommand::ALL`].
    limiters: [RateLimiter; DeskCommand::ALL.len()],
}

impl AdmissionControl {
    /// `quota_per_second` applies to each command; `None` is no limit.
    pub(super) fn new(policy: BreakerPolicy, quota_per_second: Option<f64>) -> Self {
        let limiters = DeskCommand::ALL.map(|_| RateLimiter::new(quota_per_second));
        Self { breaker: CircuitBreaker::new(policy), limiters }
    }

    /// From now on this process owns these of `total` partitions, and their part of the quota.
    pub(super) fn set_share(
        &mut self,
        command: DeskCommand,
        owned: &[i32],
        total: usize,
        now: Duration,
    ) {
        self.limiter(command).set_share(owned, total, now);
    }

    pub(super) fn shut(&self) -> Option<&GateShut> {
        self.breaker.shut()
    }

    /// When the last outage ended.
    pub(super) fn opened_at(&self) -> Option<Duration> {
        self.breaker.opened_at()
    }

    pub(super) fn call_limit(&self, concurrency: usize, now: Duration) -> CallLimit {
        self.breaker.call_limit(concurrency, now)
    }

    /// Whether only probes may start; see [`Self::choose_probe`].
    pub(super) fn is_held(&self) -> bool {
        self.breaker.is_held()
    }

    /// The earliest start of the next call at this command's rate; `None` if its share allows none.
    pub(super) fn next_at(&self, command: DeskCommand, now: Duration) -> Option<Duration> {
        self.limiters[command as usize].next_at(now)
    }

    /// Start a regular call, if its rate allows one now. The gate must not be held.
    pub(super) fn admit(
        &mut self,
        command: DeskCommand,
        caller: Caller,
        now: Duration,
    ) -> Admission {
        match self.next_at(command, now) {
            None => Admission::AfterChange,
            Some(next_at) if now < next_at => Admission::NotBefore(next_at),
            Some(_) => {
                self.limiter(command).start_call(now);
                Admission::Admitted(self.breaker.start(command, caller, now))
            }
        }
    }

    /// Which of these events, whose rates allow a call now, may probe the held gate.
    pub(super) fn choose_probe(&self, waiting: &[Candidate], now: Duration) -> ProbeTurn {
        self.breaker.choose_probe(waiting, now)
    }

    pub(super) fn start_probe(&mut self, chosen: Candidate, now: Duration) -> StartedCall {
        self.limiter(chosen.command).start_call(now);
        self.breaker.start_probe(chosen, now)
    }

    /// An admitted call returned.
    pub(super) fn on_signal(
        &mut self,
        call: &StartedCall,
        signal: &Signal,
        now: Duration,
    ) -> Option<GateChange> {
        let change = self.breaker.on_signal(call, signal, now).map(GateChange::Breaker);
        // While the gate stays shut, the breaker's probe interval is the pace.
        if let Signal::Throttled(pause) = signal
            && self.shut().is_none()
        {
            let reduced = self.throttle(*pause, now);
            return change.or(reduced);
        }
        change
    }

    /// An admitted call ended without a result.
    pub(super) fn on_abandoned(&mut self, call: &StartedCall, now: Duration) {
        self.breaker.on_abandoned(call, now);
    }

    fn limiter(&mut self, command: DeskCommand) -> &mut RateLimiter {
        &mut self.limiters[command as usize]
    }

    fn throttle(&mut self, pause: Option<Duration>, now: Duration) -> Option<GateChange> {
        // Desk limits the app as well as each command, so a complaint about one slows down both.
        let [transfers, state_queries] = &mut self.limiters;
        let (reduced, queries) =
            (transfers.throttle(now, pause), state_queries.throttle(now, pause));
        // The log names the rate of transfers: state queries are few, so theirs is misleadingly low.
        reduced.or(queries).map(|calls_per_second| GateChange::Throttled { calls_per_second })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::signal::Attempt;
    use crate::gate::permits::{Rank, SessionHash};

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn control(quota_per_second: Option<f64>) -> AdmissionControl {
        let policy = BreakerPolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 };
        AdmissionControl::new(policy, quota_per_second)
    }

    fn caller() -> Caller {
        let rank = Rank { requested_at: Timestamp::UNIX_EPOCH, ticket: 1 };
        Caller { rank, session: SessionHash::of("s"), attempt: Attempt::First }
    }

    fn admit(control: &mut AdmissionControl, command: DeskCommand, now: Duration) -> Admission {
        control.admit(command, caller(), now)
    }

    fn admitted(
        control: &mut AdmissionControl,
        command: DeskCommand,
        now: Duration,
    ) -> StartedCall {
        match admit(control, command, now) {
            Admission::Admitted(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_throttled_call_slows_both_commands() {
        let mut control = control(None);
        let call = admitted(&mut control, DeskCommand::TransferToHuman, S(0));
        let change = control.on_signal(&call, &Signal::Throttled(Some(S(7))), S(0));
        assert!(matches!(change, Some(GateChange::Throttled { .. })));
        for command in DeskCommand::ALL {
            assert_eq!(admit(&mut control, command, S(1)), Admission::NotBefore(S(7)));
        }
    }

    #[test]
    fn the_reported_rate_is_that_of_transfers() {
        let mut control = control(None);
        for ms in 0..100 {
            let now = Duration::from_millis(10 * ms);
            admitted(&mut control, DeskCommand::TransferToHuman, now);
        }
        let call = control.breaker.start(DeskCommand::TransferToHuman, caller(), S(1));
        let change = control.on_signal(&call, &Signal::Throttled(None), S(1));
        let Some(GateChange::Throttled { calls_per_second }) = change else { panic!("{change:?}") };
        assert!((25.0..=50.0).contains(&calls_per_second), "half of 100: {calls_per_second}");
    }

    #[test]
    fn each_command_has_its_own_rate_and_share() {
        let mut control = control(Some(1.0));
        let (transfer, state_query) = (DeskCommand::TransferToHuman, DeskCommand::GetSessionState);
        admitted(&mut control, transfer, S(0));
        assert!(matches!(admit(&mut control, transfer, S(0)), Admission::NotBefore(_)));
        admitted(&mut control, state_query, S(0));
        control.set_share(transfer, &[], 1, S(0));
        assert_eq!(admit(&mut control, transfer, S(9)), Admission::AfterChange);
        admitted(&mut control, state_query, S(9));
    }
}
