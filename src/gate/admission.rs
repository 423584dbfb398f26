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
use super::status::{GateStage, GateStatus};
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;

/// What a signal changed, for the log and the metrics.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GateChange {
    Breaker(BreakerChange),
    Throttled { command: DeskCommand, calls_per_second: f64 },
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

    /// Whether a refusal that concerns all calls holds the gate.
    pub(super) fn is_held_by_refusal(&self) -> bool {
        self.breaker.is_held_by_refusal()
    }

    /// How the gate is, with this number of call permits.
    pub(super) fn status(&self, concurrency: usize, now: Duration) -> GateStatus {
        let limiter = &self.limiters[DeskCommand::TransferToHuman as usize];
        let is_starting = self.call_limit(concurrency, now).grows_at.is_some();
        let (stage, since) = match self.breaker.hold() {
            Some((stage, since)) => (stage, Some(since)),
            None if is_starting => (GateStage::SlowStart, self.opened_at()),
            None if limiter.slowed(now) > 0.0 => (GateStage::Throttled, None),
            None => (GateStage::Open, None),
        };
        let until = |at: Duration| at.saturating_sub(now);
        GateStatus {
            stage,
            held_for: since.map(|since| now.saturating_sub(since)),
            next_probe_in: self.breaker.next_probe_at().map(until),
            calls_per_second: Some(limiter.rate(now)).filter(|rate| rate.is_finite()),
            concurrency,
        }
    }

    /// When the last outage ended.
    pub(super) fn opened_at(&self) -> Option<Duration> {
        self.breaker.opened_at()
    }

    /// The rate limiter of transfers.
    pub(super) fn transfers(&self) -> &RateLimiter {
        &self.limiters[DeskCommand::TransferToHuman as usize]
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
        if *signal == Signal::Success {
            self.limiter(call.command).succeed(call.caller.session, now);
        }
        let Signal::Throttled(pause) = signal else { return change };
        if let Some(pause) = pause {
            // For the whole app: probes of a shut gate and state queries wait as well.
            self.limiters.iter_mut().for_each(|limiter| limiter.hold(*pause, now));
        }
        // While the gate stays shut, the breaker's probe interval is the pace.
        if self.shut().is_some() {
            return change;
        }
        let reduced = self.throttle(call, now);
        change.or(reduced)
    }

    /// An admitted call ended without a result.
    pub(super) fn on_abandoned(&mut self, call: &StartedCall, now: Duration) {
        self.breaker.on_abandoned(call, now);
    }

    fn limiter(&mut self, command: DeskCommand) -> &mut RateLimiter {
        &mut self.limiters[command as usize]
    }

    /// Desk counts each command by itself. Where the app as a whole calls too fast, it says so to both.
    fn throttle(&mut self, call: &StartedCall, now: Duration) -> Option<GateChange> {
        let reduced = self.limiter(call.command).throttle(call.caller.session, now);
        reduced.map(|calls_per_second| GateChange::Throttled {
            command: call.command,
            calls_per_second,
        })
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
    fn a_named_pause_holds_both_commands() {
        let mut control = control(None);
        let call = admitted(&mut control, DeskCommand::TransferToHuman, S(0));
        let change = control.on_signal(&call, &Signal::Throttled(Some(S(7))), S(0));
        assert_eq!(change, None, "one complaint reduces no rate");
        for command in DeskCommand::ALL {
            assert_eq!(admit(&mut control, command, S(1)), Admission::NotBefore(S(7)));
        }
    }

    fn answered(control: &mut AdmissionControl, id: &str, signal: &Signal) -> Option<GateChange> {
        let caller = Caller { session: SessionHash::of(id), ..caller() };
        let call = control.breaker.start(DeskCommand::TransferToHuman, caller, S(1));
        control.on_signal(&call, signal, S(1))
    }

    #[test]
    fn a_named_pause_holds_the_probes_of_a_shut_gate() {
        let mut control = control(None);
        for id in ["a", "b"] {
            answered(&mut control, id, &Signal::Misconfigured("repair".to_owned()));
        }
        assert!(control.shut().is_some());
        answered(&mut control, "c", &Signal::Throttled(Some(S(60))));
        // A refusal that was on its way sets a new time for the probe, which ends no pause.
        answered(&mut control, "d", &Signal::Misconfigured("repair".to_owned()));
        for command in DeskCommand::ALL {
            assert_eq!(control.next_at(command, S(2)), Some(S(61)));
        }
    }

    #[test]
    fn too_many_transfers_reduce_no_state_queries() {
        let mut control = control(None);
        for n in 0..100 {
            answered(&mut control, &n.to_string(), &Signal::Success);
        }
        answered(&mut control, "a", &Signal::Throttled(None));
        let change = answered(&mut control, "b", &Signal::Throttled(None));
        let command = DeskCommand::TransferToHuman;
        assert_eq!(change, Some(GateChange::Throttled { command, calls_per_second: 80.0 }));
        admitted(&mut control, DeskCommand::GetSessionState, S(1));
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
