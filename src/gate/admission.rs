//! May a call start now? Combines the circuit breaker with one rate limiter per command.
//!
//! Pure: the time is an argument, a duration since any fixed moment. Nothing here ends an event; an
//! event that waits at a shut gate keeps its attempts and loses only time. Read `breaker` and
//! `rate_limiter` next.

use std::time::Duration;

use super::breaker::{
    Admission, BreakerChange, BreakerPolicy, CallKind, CallLimit, CircuitBreaker, GateShut,
};
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

    pub(super) fn call_limit(&self, concurrency: usize, now: Duration) -> CallLimit {
        self.breaker.call_limit(concurrency, now)
    }

    pub(super) fn admit(&mut self, command: DeskCommand, now: Duration) -> Admission {
        // The limiter is asked first: the breaker counts an admitted probe as in flight.
        match self.limiter(command).next_at(now) {
            None => return Admission::AfterChange,
            Some(next_at) if now < next_at => return Admission::NotBefore(next_at),
            Some(_) => {}
        }
        let admission = self.breaker.admit(now);
        if let Admission::Admitted(_) = admission {
            self.limiter(command).start_call(now);
        }
        admission
    }

    /// An admitted call returned.
    pub(super) fn on_signal(
        &mut self,
        kind: CallKind,
        signal: &Signal,
        now: Duration,
    ) -> Option<GateChange> {
        let change = self.breaker.on_signal(kind, signal, now).map(GateChange::Breaker);
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
    pub(super) fn on_abandoned(&mut self, kind: CallKind) {
        self.breaker.on_abandoned(kind);
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
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn control(quota_per_second: Option<f64>) -> AdmissionControl {
        let policy = BreakerPolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 };
        AdmissionControl::new(policy, quota_per_second)
    }

    #[test]
    fn a_throttled_call_slows_both_commands() {
        let mut control = control(None);
        let regular = Admission::Admitted(CallKind::Regular);
        assert_eq!(control.admit(DeskCommand::TransferToHuman, S(0)), regular);
        let change = control.on_signal(CallKind::Regular, &Signal::Throttled(Some(S(7))), S(0));
        assert!(matches!(change, Some(GateChange::Throttled { .. })));
        for command in DeskCommand::ALL {
            assert_eq!(control.admit(command, S(1)), Admission::NotBefore(S(7)));
        }
    }

    #[test]
    fn the_reported_rate_is_that_of_transfers() {
        let mut control = control(None);
        for ms in 0..100 {
            let now = Duration::from_millis(10 * ms);
            control.admit(DeskCommand::TransferToHuman, now);
        }
        let change = control.on_signal(CallKind::Regular, &Signal::Throttled(None), S(1));
        let Some(GateChange::Throttled { calls_per_second }) = change else { panic!("{change:?}") };
        assert!((25.0..=50.0).contains(&calls_per_second), "half of 100: {calls_per_second}");
    }

    #[test]
    fn each_command_has_its_own_rate_and_share() {
        let mut control = control(Some(1.0));
        let regular = Admission::Admitted(CallKind::Regular);
        let (transfer, state_query) = (DeskCommand::TransferToHuman, DeskCommand::GetSessionState);
        assert_eq!(control.admit(transfer, S(0)), regular);
        assert!(matches!(control.admit(transfer, S(0)), Admission::NotBefore(_)));
        assert_eq!(control.admit(state_query, S(0)), regular);
        control.set_share(transfer, &[], 1, S(0));
        assert_eq!(control.admit(transfer, S(9)), Admission::AfterChange);
        assert_eq!(control.admit(state_query, S(9)), regular);
    }
}
