//! The circuit breaker: shuts the gate when no call can succeed, probes, and opens it slowly.
//!
//! Pure: the time is an argument, a duration since any fixed moment. One event's answer says nothing
//! about the others, so the gate shuts only on the word of several sessions:
//!
//! - A refusal that usually concerns all calls makes the gate *suspected*: regular calls are held, and
//!   an event of another session probes at once. Its success ends the suspicion; the same refusal shuts
//!   the gate. What Desk has contradicted already concerns one session only ([`isolation`]).
//! - `outage_after` sessions in a row without an answer shut it as unreachable ([`silence`]).
//!
//! While the gate is shut, [`probes`] go out at doubling intervals. After an outage the number of
//! calls in flight grows step by step (slow start), because everything that waited would come at once.

mod isolation;
mod probes;
mod silence;

use std::time::Duration;

use self::isolation::Isolation;
use self::probes::{GateHold, Stage};
use self::silence::Silence;
use super::permits::Caller;
use super::status::GateStage;
use crate::domain::request::DeskCommand;
use crate::domain::signal::{ShutReason, Signal};

pub(super) use self::probes::{Candidate, ProbeTurn};

/// When the gate shuts, and how often it is probed then.
#[derive(Debug, Clone, Copy)]
pub struct BreakerPolicy {
    /// From the shutting to the first probe.
    pub probe_initial: Duration,
    /// The longest time between two probes.
    pub probe_max: Duration,
    /// How many sessions in a row without an answer mean that Desk is unreachable.
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
    Admitted(StartedCall),
    /// Not before this time.
    NotBefore(Duration),
    /// Not before something changes: a probe returns, or the share of the quota grows.
    AfterChange,
}

/// A call in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartedCall {
    pub(super) kind: CallKind,
    pub(super) command: DeskCommand,
    pub(super) caller: Caller,
    pub(super) started_at: Duration,
    /// Desk has accepted another session since it refused this event: one more refusal is isolated.
    pub(super) contradicted: bool,
}

/// Whether a call tests a held gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Regular,
    /// A probe by a session that was not asked yet.
    NewWitness,
    /// A probe whose failure makes the interval to the next one longer.
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
    silence: Silence,
    isolation: Isolation,
    hold: Option<GateHold>,
    /// When the last outage ended.
    opened_at: Option<Duration>,
}

impl CircuitBreaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        let (silence, isolation) = (Silence::default(), Isolation::default());
        Self { policy, silence, isolation, hold: None, opened_at: None }
    }

    pub(super) fn shut(&self) -> Option<&GateShut> {
        self.hold.as_ref().filter(|hold| hold.stage == Stage::Shut).map(|hold| &hold.fault)
    }

    /// Whether only probes may start: the gate is suspected or shut.
    pub(super) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether a refusal that concerns all calls holds the gate.
    pub(super) fn is_held_by_refusal(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.fault.reason == ShutReason::Misconfigured)
    }

    /// What is held, and since when.
    pub(super) fn hold(&self) -> Option<(GateStage, Duration)> {
        let GateHold { stage, fault, since, .. } = self.hold.as_ref()?;
        let stage = match stage {
            Stage::Suspected => GateStage::Suspected(fault.clone()),
            Stage::Shut => GateStage::Shut(fault.clone()),
        };
        Some((stage, *since))
    }

    /// When the next probe of a held gate may go out.
    pub(super) fn next_probe_at(&self) -> Option<Duration> {
        self.hold.as_ref().map(|hold| hold.next_probe_at)
    }

    /// When the last outage ended.
    pub(super) fn opened_at(&self) -> Option<Duration> {
        self.opened_at
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

    /// Start a regular call. The gate must not be held.
    pub(super) fn start(&self, command: DeskCommand, caller: Caller, now: Duration) -> StartedCall {
        let contradicted = self.isolation.is_contradicted(command, caller);
        StartedCall { kind: CallKind::Regular, command, caller, started_at: now, contradicted }
    }

    /// Which of the waiting events may probe the held gate, or when one may.
    pub(super) fn choose_probe(&self, waiting: &[Candidate], now: Duration) -> ProbeTurn {
        self.hold.as_ref().map_or(ProbeTurn::At(None), |hold| hold.choose(waiting, now))
    }

    /// Start the probe that was chosen.
    pub(super) fn start_probe(&mut self, chosen: Candidate, now: Duration) -> StartedCall {
        let call = self.start(chosen.command, chosen.caller, now);
        match &mut self.hold {
            Some(hold) => {
                StartedCall { kind: hold.start_probe(chosen.caller.session, now), ..call }
            }
            None => call,
        }
    }

    /// A call returned.
    pub(super) fn on_signal(
        &mut self,
        call: &StartedCall,
        signal: &Signal,
        now: Duration,
    ) -> Option<BreakerChange> {
        let refused_before = self.isolation.was_refused(call.caller);
        self.isolation.on_signal(call, signal, now);
        let outage = match signal {
            Signal::NoResponse(_) | Signal::Misrouted(_) => {
                let outage_after = self.policy.outage_after as usize;
                self.silence.on_no_response(call, now, outage_after)
            }
            _ => {
                self.silence.on_answer(now);
                false
            }
        };
        if let Some(hold) = &mut self.hold {
            hold.end_probe(call);
            return self.on_signal_while_held(call, signal, outage, now);
        }
        match signal {
            Signal::NoResponse(cause) | Signal::Misrouted(cause) if outage => {
                return Some(self.shut_as_unreachable(cause, now));
            }
            Signal::Misconfigured(repair) => self.suspect(repair, call, now),
            // One such reply may be a passing fault. The second one makes another session probe, so
            // that a third one need not be waited for.
            Signal::Misrouted(repair) if refused_before => self.suspect(repair, call, now),
            _ => {}
        }
        None
    }

    fn suspect(&mut self, repair: &str, call: &StartedCall, now: Duration) {
        if !call.contradicted {
            let fault = misconfigured(repair);
            self.hold = Some(GateHold::suspected(fault, call, &self.policy, now));
        }
    }

    /// A call ended without a result. The next probe need not wait for another interval.
    pub(super) fn on_abandoned(&mut self, call: &StartedCall, now: Duration) {
        if let Some(hold) = &mut self.hold {
            hold.end_probe(call);
            hold.forget_probe(call, now);
        }
    }

    fn on_signal_while_held(
        &mut self,
        call: &StartedCall,
        signal: &Signal,
        outage: bool,
        now: Duration,
    ) -> Option<BreakerChange> {
        let hold = self.hold.as_mut()?;
        match signal {
            Signal::Success | Signal::StateQueryUnsupported(_) => {
                if hold.is_ended_by(call) {
                    self.open(now)
                } else {
                    None
                }
            }
            Signal::Misrouted(repair) if hold.suspects_others_than(call) => {
                hold.on_refusal(call, misconfigured(repair), &self.policy, now)
            }
            Signal::NoResponse(cause) | Signal::Misrouted(cause) => {
                if hold.stage == Stage::Suspected && outage {
                    return Some(self.shut_as_unreachable(cause, now));
                }
                hold.on_silence(call, &self.policy, now);
                None
            }
            Signal::Misconfigured(repair) if !call.contradicted => {
                hold.on_refusal(call, misconfigured(repair), &self.policy, now)
            }
            // Desk answers, and refuses this session only.
            Signal::Misconfigured(_) => self.open_if_unreachable(now),
            Signal::Reauthenticating => {
                hold.forget_probe(call, now + self.policy.probe_initial);
                None
            }
            Signal::Throttled(pause) => {
                hold.delay_probes(call, pause.unwrap_or_default(), now);
                self.open_if_unreachable(now)
            }
        }
    }

    fn shut_as_unreachable(&mut self, cause: &str, now: Duration) -> BreakerChange {
        let count = self.silence.calls();
        let repair = format!("Desk gave no answer {count} times in a row, last: {cause}");
        let fault = GateShut { reason: ShutReason::Unreachable, repair };
        self.hold =
            Some(GateHold::unreachable(fault.clone(), self.silence.sessions(), &self.policy, now));
        BreakerChange::Shut(fault)
    }

    fn open_if_unreachable(&mut self, now: Duration) -> Option<BreakerChange> {
        let hold = self.hold.as_ref()?;
        if hold.fault.reason == ShutReason::Unreachable { self.open(now) } else { None }
    }

    /// End the hold. A suspicion that did not shut the gate is no change that anybody has seen.
    fn open(&mut self, now: Duration) -> Option<BreakerChange> {
        let hold = self.hold.take()?;
        if hold.stage == Stage::Suspected {
            return None;
        }
        let after = now.saturating_sub(hold.since);
        // From here the slow start counts; it needs no state of its own. A moment is no outage: beside
        // sessions whose calls hang the first answer may come right behind the last time-out, and those
        // that Desk answers would wait for seconds.
        if after >= SLOW_START_STEP {
            self.opened_at = Some(now);
        }
        Some(BreakerChange::Opened { after })
    }
}

fn misconfigured(repair: &str) -> GateShut {
    GateShut { reason: ShutReason::Misconfigured, repair: repair.to_owned() }
}

#[cfg(test)]
mod tests;
