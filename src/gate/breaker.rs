//! The circuit breaker: shuts the gate when no call can succeed, probes, and opens it slowly.
//!
//! Pure: the time is an argument, a duration since any fixed moment. The gate shuts at once when Desk
//! reports a misconfiguration, and after `outage_after` calls in a row without an answer. While it is
//! shut one probe at a time goes out, at doubling intervals. After an outage the number of calls in
//! flight grows step by step (slow start), because everything that waited would come at once.

use std::time::Duration;

use crate::domain::signal::{ShutReason, Signal};

/// When the gate shuts, and how often it is probed then.
#[derive(Debug, Clone, Copy)]
pub struct BreakerPolicy {
    /// From the shutting to the first probe.
    pub probe_initial: Duration,
    /// The longest time between two probes.
    pub probe_max: Duration,
    /// How many calls in a row without an answer mean that Desk is unreachable.
    pub outage_after: u32,
}

/// Why the gate is shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateShut {
    /// The kind of fault.
    pub reason: ShutReason,
    /// What to repair, or what is known of the fault: one sentence for people.
    pub repair: String,
}

/// May a call start?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes; it counts as started.
    Admitted(CallKind),
    /// Not before this time.
    NotBefore(Duration),
    /// Not before something changes: a probe returns, or the share of the quota grows.
    AfterChange,
}

/// Whether a call tests a shut gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Regular,
    /// The one call in flight while the gate is shut; its result decides whether the gate opens.
    Probe,
}

/// What a signal changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum BreakerChange {
    /// The gate is shut now, or shut for another reason than before.
    Shut(GateShut),
    Opened {
        after: Duration,
    },
}

/// How many calls may be in flight at once, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallLimit {
    pub(super) calls: usize,
    /// When it grows; `None` at full concurrency.
    pub(super) grows_at: Option<Duration>,
}

/// Slow start: this many calls at once after an outage, doubled after each step.
const SLOW_START_CALLS: usize = 4;
const SLOW_START_STEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    policy: BreakerPolicy,
    unanswered_in_a_row: u32,
    outage: Option<ShutPeriod>,
    /// When the last outage ended.
    opened_at: Option<Duration>,
}

#[derive(Debug)]
struct ShutPeriod {
    shut: GateShut,
    since: Duration,
    probe_interval: Duration,
    next_probe_at: Duration,
    probe_in_flight: bool,
}

impl CircuitBreaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, unanswered_in_a_row: 0, outage: None, opened_at: None }
    }

    pub(super) fn shut(&self) -> Option<&GateShut> {
        self.outage.as_ref().map(|outage| &outage.shut)
    }

    /// The limit of the slow start, at most `concurrency`.
    pub(super) fn call_limit(&self, concurrency: usize, now: Duration) -> CallLimit {
        let full = CallLimit { calls: concurrency, grows_at: None };
        let Some(opened_at) = self.opened_at else { return full };
        let steps = now.saturating_sub(opened_at).as_millis() / SLOW_START_STEP.as_millis();
        let Ok(steps) = u32::try_from(steps) else { return full };
        let calls = SLOW_START_CALLS.saturating_mul(1 << steps.min(32));
        if calls >= concurrency {
            return full;
        }
        CallLimit { calls, grows_at: Some(opened_at + SLOW_START_STEP * (steps + 1)) }
    }

    pub(super) fn admit(&mut self, now: Duration) -> Admission {
        match &mut self.outage {
            None => Admission::Admitted(CallKind::Regular),
            Some(outage) if outage.probe_in_flight => Admission::AfterChange,
            Some(outage) if now < outage.next_probe_at => {
                Admission::NotBefore(outage.next_probe_at)
            }
            Some(outage) => {
                outage.probe_in_flight = true;
                Admission::Admitted(CallKind::Probe)
            }
        }
    }

    /// An admitted call returned.
    pub(super) fn on_signal(
        &mut self,
        kind: CallKind,
        signal: &Signal,
        now: Duration,
    ) -> Option<BreakerChange> {
        match kind {
            CallKind::Probe => self.on_probe(signal, now),
            // It started before the gate shut, so it says nothing about the repair.
            CallKind::Regular if self.outage.is_some() => None,
            CallKind::Regular => self.on_regular(signal, now),
        }
    }

    /// An admitted call ended without a result. The next probe need not wait for another interval.
    pub(super) fn on_abandoned(&mut self, kind: CallKind) {
        if let (CallKind::Probe, Some(outage)) = (kind, &mut self.outage) {
            outage.probe_in_flight = false;
        }
    }

    fn on_regular(&mut self, signal: &Signal, now: Duration) -> Option<BreakerChange> {
        let shut = match signal {
            Signal::Success
            | Signal::Reauthenticating
            | Signal::StateQueryUnsupported(_)
            | Signal::Throttled(_) => {
                self.unanswered_in_a_row = 0;
                return None;
            }
            Signal::NoResponse(cause) => {
                self.unanswered_in_a_row += 1;
                let count = self.unanswered_in_a_row;
                if count < self.policy.outage_after {
                    return None;
                }
                let repair = format!("Desk gave no answer {count} times in a row, last: {cause}");
                GateShut { reason: ShutReason::Unreachable, repair }
            }
            Signal::Misconfigured(repair) => {
                GateShut { reason: ShutReason::Misconfigured, repair: repair.clone() }
            }
        };
        let probe_interval = self.policy.probe_initial;
        self.outage = Some(ShutPeriod {
            shut: shut.clone(),
            since: now,
            probe_interval,
            next_probe_at: now + probe_interval,
            probe_in_flight: false,
        });
        Some(BreakerChange::Shut(shut))
    }

    fn on_probe(&mut self, signal: &Signal, now: Duration) -> Option<BreakerChange> {
        let outage = self.outage.as_mut()?;
        let wait = match signal {
            Signal::NoResponse(_) | Signal::Misconfigured(_) => {
                outage.probe_interval = (outage.probe_interval * 2).min(self.policy.probe_max);
                outage.probe_interval
            }
            // Neither shows whether the fault was repaired, so the interval does not grow.
            Signal::Reauthenticating => self.policy.probe_initial,
            Signal::Throttled(pause) if outage.shut.reason == ShutReason::Misconfigured => {
                outage.probe_interval.max(pause.unwrap_or_default())
            }
            Signal::Success | Signal::StateQueryUnsupported(_) | Signal::Throttled(_) => {
                return self.open(now);
            }
        };
        outage.probe_in_flight = false;
        outage.next_probe_at = now + wait;
        match signal {
            // One line per fault, not per probe: only a different fault is a change.
            Signal::Misconfigured(repair) if *repair != outage.shut.repair => {
                outage.shut =
                    GateShut { reason: ShutReason::Misconfigured, repair: repair.clone() };
                Some(BreakerChange::Shut(outage.shut.clone()))
            }
            _ => None,
        }
    }

    fn open(&mut self, now: Duration) -> Option<BreakerChange> {
        let outage = self.outage.take()?;
        self.unanswered_in_a_row = 0;
        // From here the slow start counts; it needs no state of its own.
        self.opened_at = Some(now);
        Some(BreakerChange::Opened { after: now.saturating_sub(outage.since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(BreakerPolicy {
            probe_initial: S(5),
            probe_max: S(15),
            outage_after: 3,
        })
    }

    #[test]
    fn a_misconfiguration_is_probed_at_growing_intervals_until_a_probe_succeeds() {
        let mut breaker = breaker();
        let (regular, probe) = (CallKind::Regular, Admission::Admitted(CallKind::Probe));
        let refused = Signal::Misconfigured("60021".into());
        assert_eq!(breaker.admit(S(0)), Admission::Admitted(regular));
        let shut = GateShut { reason: ShutReason::Misconfigured, repair: "60021".into() };
        assert_eq!(breaker.on_signal(regular, &refused, S(0)), Some(BreakerChange::Shut(shut)));
        assert_eq!(breaker.on_signal(regular, &Signal::Success, S(1)), None);
        assert_eq!(breaker.admit(S(1)), Admission::NotBefore(S(5)));
        assert_eq!(breaker.admit(S(5)), probe);
        assert_eq!(breaker.admit(S(5)), Admission::AfterChange);
        assert_eq!(breaker.on_signal(CallKind::Probe, &refused, S(5)), None);
        assert_eq!(breaker.admit(S(6)), Admission::NotBefore(S(15)));
        assert_eq!(breaker.admit(S(15)), probe);
        breaker.on_abandoned(CallKind::Probe);
        assert_eq!(breaker.admit(S(15)), probe);
        assert_eq!(breaker.on_signal(CallKind::Probe, &refused, S(15)), None);
        assert_eq!(breaker.admit(S(16)), Admission::NotBefore(S(30)));
        assert_eq!(breaker.admit(S(30)), probe);
        let opened = Some(BreakerChange::Opened { after: S(31) });
        assert_eq!(breaker.on_signal(CallKind::Probe, &Signal::Success, S(31)), opened);
        assert_eq!(breaker.admit(S(31)), Admission::Admitted(regular));
    }

    #[test]
    fn unanswered_calls_in_a_row_shut_the_gate_and_one_answer_in_between_prevents_it() {
        let mut breaker = breaker();
        let unanswered = Signal::NoResponse("refused".into());
        for signal in [&unanswered, &unanswered, &Signal::Success, &unanswered, &unanswered] {
            assert_eq!(breaker.on_signal(CallKind::Regular, signal, S(0)), None);
        }
        let change = breaker.on_signal(CallKind::Regular, &unanswered, S(0));
        let Some(BreakerChange::Shut(shut)) = change else { panic!("{change:?}") };
        assert_eq!(shut.reason, ShutReason::Unreachable);
    }

    #[test]
    fn after_an_outage_the_call_limit_doubles_each_second() {
        let mut breaker = breaker();
        let full = |calls| CallLimit { calls, grows_at: None };
        let limited = |calls, at| CallLimit { calls, grows_at: Some(at) };
        assert_eq!(breaker.call_limit(64, S(0)), full(64), "no outage so far");
        breaker.on_signal(CallKind::Regular, &Signal::Misconfigured("60021".into()), S(0));
        assert_eq!(breaker.admit(S(5)), Admission::Admitted(CallKind::Probe));
        breaker.on_signal(CallKind::Probe, &Signal::Success, S(6));
        assert_eq!(breaker.call_limit(64, S(6)), limited(4, S(7)));
        assert_eq!(breaker.call_limit(64, S(7)), limited(8, S(8)));
        assert_eq!(breaker.call_limit(64, S(9)), limited(32, S(10)));
        assert_eq!(breaker.call_limit(64, S(10)), full(64));
        assert_eq!(breaker.call_limit(2, S(6)), full(2));
        assert_eq!(breaker.call_limit(10_000, S(100_000)), full(10_000));
    }
}
