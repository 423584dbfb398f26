//! The contact centre behind the API: sessions, agents, and the rules between them.
//!
//! This is the one place where a session really moves, whatever the client gets to see of it. A
//! transfer succeeds from `Chatbot` only. Locks are taken in one order, the session's shard and
//! then the staff, and never the other way round.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::agents::{Pick, Roster, Staffing, Wanted};
use super::counters::{Counters, Sent, lock};
use super::session::{Session, SessionChange, Sessions, State};
use super::stats::{CallRecord, Command};

/// What a well-formed call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) command: Command,
    pub(super) session: Arc<str>,
    /// Of a transfer; empty for the other commands.
    pub(super) transfer: Transfer,
}

/// The wishes of a transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) wanted: Wanted,
    pub(super) priority: u8,
    pub(super) disable_queuing: bool,
    pub(super) send_tip: bool,
    pub(super) end_session: bool,
}

/// The truth about a call, from which its normal answer is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Truth {
    Assigned(Arc<str>),
    Queued,
    State(State, Option<Arc<str>>),
    Done,
    Refused(i64),
}

impl Truth {
    pub(super) fn code(&self) -> i64 {
        match self {
            Self::Refused(code) => *code,
            Self::Assigned(_) | Self::Queued | Self::State(..) | Self::Done => 0,
        }
    }
}

/// How this contact centre is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct HouseRules {
    pub(super) auto_sessions: bool,
    pub(super) agents_must_accept: bool,
    pub(super) calls_kept_per_session: usize,
    /// An assigned session is with the chatbot again at once.
    pub(super) sessions_return: bool,
}

/// Sessions and staff together.
pub(super) struct Floor {
    pub(super) sessions: Sessions,
    pub(super) counters: Counters,
    roster: Mutex<Roster>,
    rules: HouseRules,
}

impl Floor {
    pub(super) fn new(sessions: Sessions, counters: Counters, rules: HouseRules) -> Self {
        Self { sessions, counters, roster: Mutex::default(), rules }
    }

    /// Does what is asked for and says how it went.
    pub(super) fn act(&self, ask: &Ask) -> Truth {
        match ask.command {
            Command::Transfer => self.transfer(ask),
            Command::State => self.sessions.with(&ask.session, |session| self.state(session)),
            Command::End => self.end(&ask.session),
            Command::Other => Truth::Refused(60009),
        }
    }

    /// Notes the beginning of a call with its session.
    pub(super) fn begin(&self, ask: &Ask, seq: u64, now: Instant) {
        let began_ns = self.counters.since_start(now).as_nanos() as u64;
        let overlap = self.sessions.with(&ask.session, |session| {
            session.calls += 1;
            session.transfers_asked += u64::from(ask.command == Command::Transfer);
            session.in_flight += 1;
            session.max_overlap = session.max_overlap.max(session.in_flight);
            if session.log.len() < self.rules.calls_kept_per_session {
                let command = ask.command;
                session.log.push(CallRecord { seq, command, began_ns, ended_ns: None, code: None });
            }
            session.in_flight
        });
        self.counters.max_overlap.fetch_max(overlap, Relaxed);
        self.counters.overlapping_calls.fetch_add(u64::from(overlap > 1), Relaxed);
    }

    /// Notes the end of a call with its session.
    pub(super) fn end_of_call(&self, session: &str, seq: u64, sent: (Sent, Instant)) {
        let ended_ns = self.counters.since_start(sent.1).as_nanos() as u64;
        let note = |session: &mut Session| {
            session.in_flight = session.in_flight.saturating_sub(1);
            if let Some(record) = session.log.iter_mut().find(|record| record.seq == seq) {
                record.ended_ns = Some(ended_ns);
                record.code = if let Sent::Code(code) = sent.0 { Some(code) } else { None };
            }
        };
        self.sessions.with_known(session, note);
    }

    /// Puts a session into a state, whatever it was in.
    pub(super) fn put(&self, change: &SessionChange) {
        let left = self.sessions.with(&change.session_id, |session| {
            session.state = Some(change.state);
            std::mem::replace(&mut session.agent, change.agent_id.as_deref().map(Arc::from))
        });
        self.free_place(left);
    }

    /// Changes the staff, and lets those who wait profit.
    pub(super) fn staff(&self, staffing: &Staffing) {
        lock(&self.roster).staff(staffing);
        self.serve_queue();
    }

    /// Forgets every session and takes on this staff.
    pub(super) fn open_anew(&self, roster: Roster) {
        *lock(&self.roster) = roster;
        self.sessions.clear();
    }

    fn transfer(&self, ask: &Ask) -> Truth {
        let truth = self.sessions.with(&ask.session, |session| {
            match self.state_now(session) {
                Some(State::Chatbot) => {}
                Some(State::NotInSession) | None => return Truth::Refused(141005),
                Some(State::Agent | State::WaitingForAgentAnswering | State::Queueing) => {
                    return Truth::Refused(141003);
                }
            }
            let truth = self.find_agent(session, ask);
            if truth.code() == 0 {
                session.transfers_acted += 1;
                let again = session.transfers_acted == 2 && !self.rules.sessions_return;
                self.counters.transferred_again.fetch_add(u64::from(again), Relaxed);
            }
            truth
        });
        self.counters.transfers_acted.fetch_add(u64::from(truth.code() == 0), Relaxed);
        truth
    }

    fn find_agent(&self, session: &mut Session, ask: &Ask) -> Truth {
        let transfer = &ask.transfer;
        let mut roster = lock(&self.roster);
        match roster.pick(&transfer.wanted) {
            Pick::Agent(agent) if self.rules.sessions_return => {
                roster.release(&agent);
                Truth::Assigned(agent)
            }
            Pick::Agent(agent) => {
                session.state = Some(self.with_agent());
                session.agent = Some(Arc::clone(&agent));
                Truth::Assigned(agent)
            }
            Pick::Full if transfer.disable_queuing => Truth::Refused(141012),
            Pick::Full => {
                session.state = Some(State::Queueing);
                roster.enqueue(&ask.session, transfer.priority, transfer.wanted.clone());
                Truth::Queued
            }
            Pick::Nobody => {
                self.counters.tips_sent.fetch_add(u64::from(transfer.send_tip), Relaxed);
                if transfer.end_session {
                    session.state = Some(State::NotInSession);
                }
                Truth::Refused(141001)
            }
        }
    }

    fn state(&self, session: &mut Session) -> Truth {
        let Some(state) = self.state_now(session) else { return Truth::Refused(141005) };
        let agent = session.agent.clone();
        let served = matches!(state, State::Agent | State::WaitingForAgentAnswering);
        Truth::State(state, agent.filter(|_| served))
    }

    fn end(&self, id: &str) -> Truth {
        let (truth, left) = self.sessions.with(id, |session| match self.state_now(session) {
            None | Some(State::NotInSession) => (Truth::Refused(141005), None),
            Some(_) => {
                session.state = Some(State::NotInSession);
                (Truth::Done, session.agent.take())
            }
        });
        self.free_place(left);
        truth
    }

    /// A session is first heard of when it is named, unless the house wants them announced.
    fn state_now(&self, session: &mut Session) -> Option<State> {
        if session.state.is_none() && self.rules.auto_sessions {
            session.state = Some(State::Chatbot);
        }
        session.state
    }

    fn with_agent(&self) -> State {
        if self.rules.agents_must_accept { State::WaitingForAgentAnswering } else { State::Agent }
    }

    fn free_place(&self, agent: Option<Arc<str>>) {
        if let Some(agent) = agent {
            lock(&self.roster).release(&agent);
            self.serve_queue();
        }
    }

    /// Repeats itself while a place went to somebody who had left the queue.
    fn serve_queue(&self) {
        while self.serve_once() {}
    }

    fn serve_once(&self) -> bool {
        let served = lock(&self.roster).serve_queue();
        let mut given_back = false;
        for (id, agent) in served {
            let taken = self.sessions.with_known(&id, |session| {
                let waits = session.state == Some(State::Queueing);
                if waits {
                    session.state = Some(self.with_agent());
                    session.agent = Some(Arc::clone(&agent));
                }
                waits
            });
            if taken != Some(true) {
                lock(&self.roster).release(&agent);
                given_back = true;
            }
        }
        given_back
    }
}

#[cfg(test)]
mod tests;
