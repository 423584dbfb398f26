//! The sessions of the simulated Desk: what state each is in and what was asked of it.
//!
//! The store is cut into shards, each behind its own short lock, so that thousands of calls a
//! second on different sessions do not wait for each other. It is bounded: past its limit the
//! oldest session of a shard is forgotten, and counted. A session is changed under its shard's
//! lock only, and this file never waits and never calls out while it holds one.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::counters::lock;
use super::stats::CallRecord;

const SHARDS: usize = 64;

/// Who serves a session now; the names are those of `get_session_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Ended, or never begun.
    NotInSession,
    /// With the chatbot: the only state from which a transfer can succeed.
    Chatbot,
    /// An agent was named but has not accepted yet.
    WaitingForAgentAnswering,
    /// Waits for an agent with a free place.
    Queueing,
    /// With a human agent.
    Agent,
}

/// Everything the simulated Desk knows about one session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionReport {
    /// The session's id.
    pub session_id: String,
    /// Its state; absent when calls named it but Desk does not know it.
    pub state: Option<State>,
    /// The agent it is or was with.
    pub agent_id: Option<String>,
    /// Calls of any command that named it.
    pub calls: u64,
    /// Transfers asked for.
    pub transfers_asked: u64,
    /// Transfers that really moved it to a human or into the queue.
    pub transfers_acted: u64,
    /// Calls under way now.
    pub in_flight: u32,
    /// The most calls that were under way at once; 1 when they never overlapped.
    pub max_overlap: u32,
    /// Its calls in the order of their arrival, the first few only.
    pub log: Vec<CallRecord>,
}

/// A forced state, for tests and for trying things out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionChange {
    /// The session, created when it is new.
    pub session_id: String,
    /// The state it is put into.
    pub state: State,
    /// The agent it is with from now on.
    #[serde(default)]
    pub agent_id: Option<String>,
}

/// One session as stored.
#[derive(Default)]
pub(super) struct Session {
    pub(super) state: Option<State>,
    pub(super) agent: Option<Arc<str>>,
    pub(super) calls: u64,
    pub(super) transfers_asked: u64,
    pub(super) transfers_acted: u64,
    pub(super) in_flight: u32,
    pub(super) max_overlap: u32,
    pub(super) log: Vec<CallRecord>,
}

impl Session {
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

/// All sessions, by id.
pub(super) struct Sessions {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    limit_per_shard: usize,
}

#[derive(Default)]
struct Shard {
    known: HashMap<Arc<str>, Session>,
    oldest_first: VecDeque<Arc<str>>,
    forgotten: u64,
}

impl Sessions {
    pub(super) fn new(max_sessions: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            limit_per_shard: max_sessions.div_ceil(SHARDS).max(1),
        }
    }

    /// Changes a session, which is created first when nobody has named it yet.
    pub(super) fn with<R>(&self, id: &str, change: impl FnOnce(&mut Session) -> R) -> R {
        let mut shard = lock(self.shard(id));
        if !shard.known.contains_key(id) {
            shard.admit(id, self.limit_per_shard);
        }
        change(shard.known.entry(Arc::from(id)).or_default())
    }

    /// Changes a session that is there.
    pub(super) fn with_known<R>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Session) -> R,
    ) -> Option<R> {
        lock(self.shard(id)).known.get_mut(id).map(change)
    }

    pub(super) fn report(&self, id: &str) -> Option<SessionReport> {
        lock(self.shard(id)).known.get(id).map(|session| session.report(id))
    }

    /// How many sessions are known, and how many were forgotten.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.shards.iter().map(lock).fold((0, 0), |(known, forgotten), shard| {
            (known + shard.known.len() as u64, forgotten + shard.forgotten)
        })
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    fn shard(&self, id: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }
}

impl Shard {
    fn admit(&mut self, id: &str, limit: usize) {
        if self.oldest_first.len() >= limit
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
            self.forgotten += 1;
        }
        let id: Arc<str> = Arc::from(id);
        self.oldest_first.push_back(Arc::clone(&id));
        self.known.insert(id, Session::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_forgets_the_oldest_and_says_so() {
        let sessions = Sessions::new(1);
        for n in 0..1_000 {
            sessions.with(&format!("s-{n}"), |session| session.calls += 1);
        }
        let (known, forgotten) = sessions.counts();
        assert_eq!(known + forgotten, 1_000);
        assert!(known <= SHARDS as u64);
        assert!(sessions.report("s-999").is_some());
    }

    #[test]
    fn asking_about_a_session_does_not_create_it() {
        let sessions = Sessions::new(10);
        assert!(sessions.report("s").is_none());
        assert_eq!(sessions.with_known("s", |_| ()), None);
        assert_eq!(sessions.counts(), (0, 0));
    }
}
