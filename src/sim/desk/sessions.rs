//! The sessions of the simulated Desk: the state of each and the calls that named it.
//!
//! The store is divided into shards with a short lock each, so that thousands of calls per second
//! on different sessions do not wait for one another. Each shard is bounded: when it is full its
//! oldest session is removed and counted. Closures that run under a shard's lock must not take the
//! lock of another session.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::stats::CallRecord;

const SHARDS: usize = 64;

/// The state of a session, under the names of `get_session_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SimulatedState {
    /// Ended, or never started.
    NotInSession,
    /// With the chatbot: the only state from which a transfer can succeed.
    Chatbot,
    /// Assigned to an agent who has not accepted yet.
    WaitingForAgentAnswering,
    /// Waits for an agent with free capacity.
    Queueing,
    /// With a human agent.
    Agent,
}

/// What the simulated Desk has recorded about a session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionReport {
    /// The session's id.
    pub session_id: String,
    /// Absent if calls named the session but Desk does not know it.
    pub state: Option<SimulatedState>,
    /// The agent who has or had the session.
    pub agent_id: Option<String>,
    /// Calls of any command for this session.
    pub calls: u64,
    /// Transfer calls, whatever their effect.
    pub transfers_asked: u64,
    /// Transfers that moved the session to an agent or into the queue.
    pub transfers_acted: u64,
    /// Calls in flight.
    pub in_flight: u32,
    /// Maximum number of calls in flight at once; 1 if they never overlapped.
    pub max_overlap: u32,
    /// The first calls, in the order of arrival.
    pub log: Vec<CallRecord>,
}

/// Puts a session into a state: the body of `POST /sim/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionChange {
    /// The session; created if it is new.
    pub session_id: String,
    /// The new state.
    pub state: SimulatedState,
    /// The agent who has the session from now on.
    #[serde(default)]
    pub agent_id: Option<String>,
}

#[derive(Default)]
pub(super) struct SessionRecord {
    pub(super) state: Option<SimulatedState>,
    pub(super) agent: Option<Arc<str>>,
    pub(super) calls: u64,
    pub(super) transfers_asked: u64,
    pub(super) transfers_acted: u64,
    pub(super) in_flight: u32,
    pub(super) max_overlap: u32,
    pub(super) log: Vec<CallRecord>,
}

impl SessionRecord {
    fn report(&self, id: &str) -> SessionReport {
        SessionReport {
            session_id: id.to_owned(),
            state: self.state,
            agent_id: self.agent.as_deref().map(str::to_owned),
            calls: self.calls,
            transfers_asked: self.transfers_asked,
            transfers_acted: self.transfers_acted,
            in_flight: self.in_flight,
            max_overlap: self.max_overlap,
            log: self.log.clone(),
        }
    }
}

pub(super) struct SessionStore {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    limit_per_shard: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionCounts {
    pub(super) stored: u64,
    /// Removed because their shard was full.
    pub(super) removed: u64,
}

#[derive(Default)]
struct Shard {
    sessions: HashMap<Arc<str>, SessionRecord>,
    oldest_first: VecDeque<Arc<str>>,
    removed: u64,
}

impl SessionStore {
    pub(super) fn new(max_sessions: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            limit_per_shard: max_sessions.div_ceil(SHARDS).max(1),
        }
    }

    /// Changes a session; creates it first if it is new.
    pub(super) fn with<R>(&self, id: &str, change: impl FnOnce(&mut SessionRecord) -> R) -> R {
        let mut shard = self.shard(id).lock();
        if !shard.sessions.contains_key(id) {
            shard.insert(id, self.limit_per_shard);
        }
        change(shard.sessions.entry(Arc::from(id)).or_default())
    }

    /// Changes a session if it exists.
    pub(super) fn with_existing<R>(
        &self,
        id: &str,
        change: impl FnOnce(&mut SessionRecord) -> R,
    ) -> Option<R> {
        self.shard(id).lock().sessions.get_mut(id).map(change)
    }

    pub(super) fn report(&self, id: &str) -> Option<SessionReport> {
        self.shard(id).lock().sessions.get(id).map(|session| session.report(id))
    }

    pub(super) fn counts(&self) -> SessionCounts {
        let mut counts = SessionCounts { stored: 0, removed: 0 };
        // Not a snapshot: shards may change between two locks, which statistics can bear.
        for shard in &self.shards {
            let shard = shard.lock();
            counts.stored += shard.sessions.len() as u64;
            counts.removed += shard.removed;
        }
        counts
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }

    fn shard(&self, id: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, id: &str, limit: usize) {
        if self.oldest_first.len() >= limit
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.sessions.remove(&oldest);
            self.removed += 1;
        }
        let id: Arc<str> = Arc::from(id);
        self.oldest_first.push_back(Arc::clone(&id));
        self.sessions.insert(id, SessionRecord::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_removes_the_oldest_session_and_counts_it() {
        let sessions = SessionStore::new(1);
        for n in 0..1_000 {
            sessions.with(&format!("s-{n}"), |session| session.calls += 1);
        }
        let SessionCounts { stored, removed } = sessions.counts();
        assert_eq!(stored + removed, 1_000);
        assert!(stored <= SHARDS as u64);
        assert!(sessions.report("s-999").is_some());
    }

    #[test]
    fn reading_a_session_does_not_create_it() {
        let sessions = SessionStore::new(10);
        assert!(sessions.report("s").is_none());
        assert_eq!(sessions.with_existing("s", |_| ()), None);
        assert_eq!(sessions.counts(), SessionCounts { stored: 0, removed: 0 });
    }
}
