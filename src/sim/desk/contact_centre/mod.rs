//! The contact centre behind the API: sessions, agents, and the rules for transfers.
//!
//! All real changes of sessions happen here, whatever answer the client sees. Lock order: the
//! session's shard first, then the roster.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::agents::{AgentAssignment, AgentSelection, RequestedAgents, Roster, StaffChange};
use super::counters::{CallEnd, Counters};
use super::sessions::{SessionChange, SessionRecord, SessionStore, SimulatedState};
use super::stats::{ApiCommand, CallRecord};

/// A valid call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandRequest {
    pub(super) command: ApiCommand,
    pub(super) session: Arc<str>,
    /// The parameters of a transfer; default for the other commands.
    pub(super) transfer: TransferParameters,
}

/// The parameters of a transfer that change its effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TransferParameters {
    pub(super) requested: RequestedAgents,
    pub(super) priority: u8,
    pub(super) disable_queuing: bool,
    pub(super) send_tip: bool,
    pub(super) end_session: bool,
}

/// What a call really did; a normal answer reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Assigned(Arc<str>),
    Queued,
    State { state: SimulatedState, agent: Option<Arc<str>> },
    Ended,
    Refused(i64),
}

impl Effect {
    pub(super) fn code(&self) -> i64 {
        match self {
            Self::Refused(code) => *code,
            Self::Assigned(_) | Self::Queued | Self::State { .. } | Self::Ended => 0,
        }
    }
}

/// How the contact centre is set up; see `SimulatedDeskSettings`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CentreRules {
    pub(super) auto_sessions: bool,
    pub(super) agents_must_accept: bool,
    pub(super) calls_kept_per_session: usize,
    pub(super) sessions_return: bool,
}

pub(super) struct ContactCentre {
    pub(super) sessions: SessionStore,
    pub(super) counters: Counters,
    roster: Mutex<Roster>,
    rules: CentreRules,
}

impl ContactCentre {
    pub(super) fn new(sessions: SessionStore, counters: Counters, rules: CentreRules) -> Self {
        Self { sessions, counters, roster: Mutex::default(), rules }
    }

    pub(super) fn execute(&self, request: &CommandRequest) -> Effect {
        match request.command {
            ApiCommand::Transfer => self.transfer(request),
            ApiCommand::State => {
                self.sessions.with(&request.session, |session| self.state(session))
            }
            ApiCommand::End => self.end(&request.session),
            ApiCommand::Other => Effect::Refused(60009),
        }
    }

    /// Records the start of a call in its session.
    pub(super) fn begin_call(&self, request: &CommandRequest, seq: u64, now: Instant) {
        let began_ns = self.counters.since_start(now).as_nanos() as u64;
        let overlap = self.sessions.with(&request.session, |session| {
            session.calls += 1;
            session.transfers_asked += u64::from(request.command == ApiCommand::Transfer);
            session.in_flight += 1;
            session.max_overlap = session.max_overlap.max(session.in_flight);
            if session.log.len() < self.rules.calls_kept_per_session {
                let command = request.command;
                session.log.push(CallRecord { seq, command, began_ns, ended_ns: None, code: None });
            }
            session.in_flight
        });
        self.counters.max_overlap.fetch_max(overlap, Relaxed);
        self.counters.overlapping_calls.fetch_add(u64::from(overlap > 1), Relaxed);
    }

    /// Records the end of a call in its session.
    pub(super) fn end_call(&self, session: &str, seq: u64, end: CallEnd, now: Instant) {
        let ended_ns = self.counters.since_start(now).as_nanos() as u64;
        let record_end = |session: &mut SessionRecord| {
            session.in_flight = session.in_flight.saturating_sub(1);
            if let Some(record) = session.log.iter_mut().find(|record| record.seq == seq) {
                record.ended_ns = Some(ended_ns);
                record.code = if let CallEnd::Code(code) = end { Some(code) } else { None };
            }
        };
        self.sessions.with_existing(session, record_end);
    }

    /// Puts a session into a state, whatever its state was.
    pub(super) fn change_session(&self, change: &SessionChange) {
        let previous_agent = self.sessions.with(&change.session_id, |session| {
            session.state = Some(change.state);
            std::mem::replace(&mut session.agent, change.agent_id.as_deref().map(Arc::from))
        });
        self.free_capacity(previous_agent);
    }

    /// Changes the staff, then assigns queued sessions to agents who became available.
    pub(super) fn change_staff(&self, change: &StaffChange) {
        self.roster.lock().apply(change);
        self.assign_queued();
    }

    /// Removes all sessions and replaces the staff.
    pub(super) fn reset(&self, roster: Roster) {
        *self.roster.lock() = roster;
        self.sessions.clear();
    }

    fn transfer(&self, request: &CommandRequest) -> Effect {
        let effect = self.sessions.with(&request.session, |session| {
            match self.current_state(session) {
                Some(SimulatedState::Chatbot) => {}
                Some(SimulatedState::NotInSession) | None => return Effect::Refused(141005),
                Some(
                    SimulatedState::Agent
                    | SimulatedState::WaitingForAgentAnswering
                    | SimulatedState::Queueing,
                ) => {
                    return Effect::Refused(141003);
                }
            }
            let effect = self.find_agent(session, request);
            if effect.code() == 0 {
                session.transfers_acted += 1;
                // Counted once per session. With `sessions_return` repeated transfers are intended.
                let again = session.transfers_acted == 2 && !self.rules.sessions_return;
                self.counters.transferred_again.fetch_add(u64::from(again), Relaxed);
            }
            effect
        });
        self.counters.transfers_acted.fetch_add(u64::from(effect.code() == 0), Relaxed);
        effect
    }

    fn find_agent(&self, session: &mut SessionRecord, request: &CommandRequest) -> Effect {
        let transfer = &request.transfer;
        let mut roster = self.roster.lock();
        match roster.select(&transfer.requested) {
            AgentSelection::Agent(agent) if self.rules.sessions_return => {
                // The session returns to the chatbot at once, so it uses no capacity.
                roster.release(&agent);
                Effect::Assigned(agent)
            }
            AgentSelection::Agent(agent) => {
                session.state = Some(self.assigned_state());
                session.agent = Some(Arc::clone(&agent));
                Effect::Assigned(agent)
            }
            AgentSelection::Full if transfer.disable_queuing => Effect::Refused(141012),
            AgentSelection::Full => {
                session.state = Some(SimulatedState::Queueing);
                roster.enqueue(&request.session, transfer.priority, transfer.requested.clone());
                Effect::Queued
            }
            AgentSelection::NobodyOnline => {
                self.counters.tips_sent.fetch_add(u64::from(transfer.send_tip), Relaxed);
                if transfer.end_session {
                    session.state = Some(SimulatedState::NotInSession);
                }
                Effect::Refused(141001)
            }
        }
    }

    fn state(&self, session: &mut SessionRecord) -> Effect {
        let Some(state) = self.current_state(session) else { return Effect::Refused(141005) };
        let agent = session.agent.clone();
        let has_agent =
            matches!(state, SimulatedState::Agent | SimulatedState::WaitingForAgentAnswering);
        Effect::State { state, agent: agent.filter(|_| has_agent) }
    }

    fn end(&self, id: &str) -> Effect {
        let (effect, previous_agent) =
            self.sessions.with(id, |session| match self.current_state(session) {
                None | Some(SimulatedState::NotInSession) => (Effect::Refused(141005), None),
                Some(_) => {
                    session.state = Some(SimulatedState::NotInSession);
                    (Effect::Ended, session.agent.take())
                }
            });
        self.free_capacity(previous_agent);
        effect
    }

    /// With `auto_sessions` a session starts with the chatbot when it is first named.
    fn current_state(&self, session: &mut SessionRecord) -> Option<SimulatedState> {
        if session.state.is_none() && self.rules.auto_sessions {
            session.state = Some(SimulatedState::Chatbot);
        }
        session.state
    }

    fn assigned_state(&self) -> SimulatedState {
        if self.rules.agents_must_accept {
            SimulatedState::WaitingForAgentAnswering
        } else {
            SimulatedState::Agent
        }
    }

    fn free_capacity(&self, agent: Option<Arc<str>>) {
        if let Some(agent) = agent {
            self.roster.lock().release(&agent);
            self.assign_queued();
        }
    }

    fn assign_queued(&self) {
        // A session may have left the queue since: its capacity is freed, which the next round uses.
        while self.assign_queued_once() {}
    }

    /// Returns whether capacity was freed again.
    fn assign_queued_once(&self) -> bool {
        let assigned = self.roster.lock().assign_queued();
        let mut freed = false;
        for AgentAssignment { session: id, agent } in assigned {
            let was_queued = self.sessions.with_existing(&id, |session| {
                let is_queued = session.state == Some(SimulatedState::Queueing);
                if is_queued {
                    session.state = Some(self.assigned_state());
                    session.agent = Some(Arc::clone(&agent));
                }
                is_queued
            });
            if was_queued != Some(true) {
                self.roster.lock().release(&agent);
                freed = true;
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests;
