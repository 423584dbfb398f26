//! A held gate: which event probes it, when, and what its result means.
//!
//! Nobody probes twice in a row while another session waits. A session that was not asked yet is a new
//! witness: the newest goes first, at once while a single session is suspected, at most one per second
//! otherwise. Probes of distinct sessions overlap, so that one that hangs does not delay the others.

use std::collections::HashMap;
use std::time::Duration;

use super::{BreakerChange, BreakerPolicy, CallKind, GateShut, StartedCall};
use crate::domain::request::DeskCommand;
use crate::domain::signal::ShutReason;
use crate::gate::permits::{Caller, SessionHash};

/// Probes in flight at once.
const MAX_PROBES: usize = 4;
/// From one new witness to the next.
const NEW_WITNESS_INTERVAL: Duration = Duration::from_secs(1);
/// When so many sessions met a misconfiguration, further ones wait for the interval of the probes.
const ENOUGH_WITNESSES: usize = 4;
/// The only session that calls is asked again after this time at most: the gate has to say in time
/// that no call can succeed.
const MAX_SUSPICION: Duration = Duration::from_secs(10);
/// Sessions that are remembered as asked; those asked longest ago are forgotten first.
const MAX_ASKED: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// One session was refused: a second one has to be asked.
    Suspected,
    Shut,
}

#[derive(Debug)]
pub(super) struct GateHold {
    pub(super) stage: Stage,
    pub(super) fault: GateShut,
    pub(super) since: Duration,
    /// The command of the call that met the fault.
    command: DeskCommand,
    /// Sessions that met a misconfiguration, at most [`ENOUGH_WITNESSES`] of them.
    witnesses: Vec<SessionHash>,
    asked: AskedSessions,
    probe_interval: Duration,
    pub(super) next_probe_at: Duration,
    /// When the next session that was not asked yet may probe.
    new_witness_at: Duration,
    probes_in_flight: usize,
}

/// A waiting event that could probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) struct Candidate {
    pub(in crate::gate) command: DeskCommand,
    pub(in crate::gate) caller: Caller,
}

/// Who probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) enum ProbeTurn {
    Now(Candidate),
    /// Nobody before this time; `None`: nobody before something changes.
    At(Option<Duration>),
}

impl GateHold {
    /// One session was refused.
    pub(super) fn suspected(
        fault: GateShut,
        call: &StartedCall,
        policy: &BreakerPolicy,
        now: Duration,
    ) -> Self {
        let mut hold = Self::new(fault, call.command, policy, now);
        hold.stage = Stage::Suspected;
        hold.next_probe_at = now + policy.probe_initial.min(MAX_SUSPICION);
        hold.add_witness(call.caller.session);
        hold
    }

    /// These sessions got no answer.
    pub(super) fn unreachable(
        fault: GateShut,
        silent: impl Iterator<Item = SessionHash>,
        policy: &BreakerPolicy,
        now: Duration,
    ) -> Self {
        let mut hold = Self::new(fault, DeskCommand::TransferToHuman, policy, now);
        silent.for_each(|session| hold.asked.add(session));
        hold
    }

    fn new(fault: GateShut, command: DeskCommand, policy: &BreakerPolicy, now: Duration) -> Self {
        Self {
            stage: Stage::Shut,
            fault,
            since: now,
            command,
            witnesses: Vec::new(),
            asked: AskedSessions::default(),
            probe_interval: policy.probe_initial,
            next_probe_at: now + policy.probe_initial,
            new_witness_at: now,
            probes_in_flight: 0,
        }
    }

    pub(super) fn choose(&self, waiting: &[Candidate], now: Duration) -> ProbeTurn {
        if self.probes_in_flight >= MAX_PROBES {
            return ProbeTurn::At(None);
        }
        // The other command may have rights of its own, so it probes only where none else waits.
        let same = waiting.iter().any(|candidate| candidate.command == self.command);
        let candidates =
            || waiting.iter().filter(|candidate| !same || candidate.command == self.command);
        let new = candidates()
            .filter(|candidate| !self.asked.contains(candidate.caller.session))
            .max_by_key(|candidate| candidate.caller.rank);
        let longest_ago =
            || candidates().min_by_key(|candidate| self.asked.order_of(candidate.caller.session));
        let (chosen, at) = match new {
            Some(new) => (Some(new), self.next_probe_at.min(self.new_witness_from())),
            None => (longest_ago(), self.next_probe_at),
        };
        match chosen {
            Some(chosen) if now >= at => ProbeTurn::Now(*chosen),
            Some(_) => ProbeTurn::At(Some(at)),
            None => ProbeTurn::At(None),
        }
    }

    pub(super) fn start_probe(&mut self, session: SessionHash, now: Duration) -> CallKind {
        self.probes_in_flight += 1;
        let is_new = !self.asked.contains(session);
        self.asked.add(session);
        if is_new && self.seeks_witnesses() && now >= self.new_witness_at {
            self.new_witness_at = now + NEW_WITNESS_INTERVAL;
            return CallKind::NewWitness;
        }
        self.next_probe_at = now + self.probe_interval;
        CallKind::Probe
    }

    pub(super) fn end_probe(&mut self, call: &StartedCall) {
        if call.kind != CallKind::Regular {
            self.probes_in_flight = self.probes_in_flight.saturating_sub(1);
        }
    }

    /// The probe said nothing: its session may be asked again at this time.
    pub(super) fn forget_probe(&mut self, call: &StartedCall, ask_again_at: Duration) {
        if call.kind == CallKind::Regular {
            return;
        }
        if call.kind == CallKind::NewWitness {
            self.asked.remove(call.caller.session);
            self.new_witness_at = self.new_witness_at.min(ask_again_at);
        }
        self.next_probe_at = self.next_probe_at.min(ask_again_at);
    }

    /// Whether this success proves that calls can succeed.
    pub(super) fn is_ended_by(&self, call: &StartedCall) -> bool {
        match (call.kind, self.fault.reason) {
            (CallKind::NewWitness | CallKind::Probe, _) | (_, ShutReason::Unreachable) => true,
            // A call that started before the refusal: enough against a suspicion, but it may be
            // older than the fault.
            (CallKind::Regular, ShutReason::Misconfigured) => {
                let same =
                    call.command == self.command || call.command == DeskCommand::TransferToHuman;
                self.stage == Stage::Suspected && same
            }
        }
    }

    /// Whether the suspicion came from another session.
    pub(super) fn suspects_others_than(&self, call: &StartedCall) -> bool {
        self.stage == Stage::Suspected && !self.witnesses.contains(&call.caller.session)
    }

    /// A call was refused, and nothing has contradicted that.
    pub(super) fn on_refusal(
        &mut self,
        call: &StartedCall,
        fault: GateShut,
        policy: &BreakerPolicy,
        now: Duration,
    ) -> Option<BreakerChange> {
        let session = call.caller.session;
        let is_second = !self.witnesses.contains(&session);
        self.add_witness(session);
        if self.stage == Stage::Suspected {
            if !is_second && call.kind == CallKind::Regular {
                return None;
            }
            self.stage = Stage::Shut;
            self.since = now;
            (self.probe_interval, self.next_probe_at) =
                (policy.probe_initial, now + policy.probe_initial);
            self.fault = fault;
            return Some(BreakerChange::Shut(self.fault.clone()));
        }
        // It started before the gate shut, so it says nothing about the repair.
        if call.kind == CallKind::Regular {
            return None;
        }
        self.lengthen_interval(call, policy, now);
        // One line per fault, not per probe: only a different fault is a change.
        (fault != self.fault).then(|| {
            self.fault = fault;
            BreakerChange::Shut(self.fault.clone())
        })
    }

    pub(super) fn on_silence(&mut self, call: &StartedCall, policy: &BreakerPolicy, now: Duration) {
        if self.fault.reason == ShutReason::Unreachable {
            self.asked.add(call.caller.session);
        }
        if self.stage == Stage::Shut {
            self.lengthen_interval(call, policy, now);
        }
    }

    /// A probe was throttled.
    pub(super) fn delay_probes(&mut self, call: &StartedCall, pause: Duration, now: Duration) {
        if call.kind != CallKind::Regular {
            self.next_probe_at = self.next_probe_at.max(now + self.probe_interval.max(pause));
            self.new_witness_at = self.new_witness_at.max(now + pause);
        }
    }

    fn lengthen_interval(&mut self, call: &StartedCall, policy: &BreakerPolicy, now: Duration) {
        if call.kind == CallKind::Probe {
            self.probe_interval = (self.probe_interval * 2).min(policy.probe_max);
            self.next_probe_at = now + self.probe_interval;
        }
    }

    fn new_witness_from(&self) -> Duration {
        if self.seeks_witnesses() { self.new_witness_at } else { self.next_probe_at }
    }

    fn seeks_witnesses(&self) -> bool {
        self.witnesses.len() < ENOUGH_WITNESSES
    }

    fn add_witness(&mut self, session: SessionHash) {
        self.asked.add(session);
        if !self.witnesses.contains(&session) && self.witnesses.len() < ENOUGH_WITNESSES {
            self.witnesses.push(session);
        }
    }
}

/// Sessions in the order in which they were asked last.
#[derive(Debug, Default)]
struct AskedSessions {
    order: HashMap<SessionHash, u64>,
    last: u64,
}

impl AskedSessions {
    fn add(&mut self, session: SessionHash) {
        self.last += 1;
        self.order.insert(session, self.last);
        if self.order.len() > MAX_ASKED
            && let Some(oldest) = self.order.iter().min_by_key(|(_, at)| **at).map(|(s, _)| *s)
        {
            self.order.remove(&oldest);
        }
    }

    fn remove(&mut self, session: SessionHash) {
        self.order.remove(&session);
    }

    fn contains(&self, session: SessionHash) -> bool {
        self.order.contains_key(&session)
    }

    /// 0 for a session that was not asked.
    fn order_of(&self, session: SessionHash) -> u64 {
        self.order.get(&session).copied().unwrap_or_default()
    }
}
