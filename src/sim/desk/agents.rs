//! The agents of the simulated Desk: who is online, who has free capacity, which sessions queue.
//!
//! With a list of agents, exactly these exist. Without one every requested agent exists, is online
//! and has no capacity limit, so that large test runs are assigned completely; updates can still
//! take an agent, a group or all agents offline. Among suitable agents the one with the fewest
//! sessions is selected. [`Roster`] is a plain value behind its owner's lock and knows agents only;
//! sessions change in `contact_centre`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The agent's login, which looks like an e-mail address.
    pub id: String,
    /// The group the agent belongs to.
    #[serde(default)]
    pub group: Option<i64>,
    /// Whether the agent is signed in.
    #[serde(default = "yes")]
    pub online: bool,
    /// Maximum number of sessions at once; absent: unlimited.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// Whether the agent has set the status to busy.
    #[serde(default)]
    pub busy: bool,
}

impl Agent {
    /// An agent who is online, in no group and without a capacity limit.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), group: None, online: true, capacity: None, busy: false }
    }
}

/// A change to the staff: the body of `POST /sim/agents`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaffChange {
    /// Replaces the list of agents; empty: every requested agent exists.
    pub agents: Option<Vec<Agent>>,
    /// Applied in this order after that.
    pub updates: Vec<AgentUpdate>,
}

impl StaffChange {
    /// Replaces the staff by these agents.
    pub fn exactly(agents: Vec<Agent>) -> Self {
        Self { agents: Some(agents), updates: Vec::new() }
    }

    /// All agents go online or offline.
    pub fn everyone(online: bool) -> Self {
        Self::update(AgentUpdate { online: Some(online), ..AgentUpdate::default() })
    }

    /// One group goes online or offline.
    pub fn group(group: i64, online: bool) -> Self {
        let (group, online) = (Some(group), Some(online));
        Self::update(AgentUpdate { group, online, ..AgentUpdate::default() })
    }

    /// One agent goes online or offline.
    pub fn agent(id: impl Into<String>, online: bool) -> Self {
        let (id, online) = (Some(id.into()), Some(online));
        Self::update(AgentUpdate { id, online, ..AgentUpdate::default() })
    }

    /// Fails if it, or one of its updates, changes nothing.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let has_effect = |update: &AgentUpdate| {
            update.online.is_some() || update.busy.is_some() || update.capacity.is_some()
        };
        ensure!(*self != Self::default(), "it changes nothing: give agents or updates");
        let all_have_effect = self.updates.iter().all(has_effect);
        ensure!(all_have_effect, "an update changes nothing: give online, busy or capacity");
        Ok(())
    }

    fn update(update: AgentUpdate) -> Self {
        Self { agents: None, updates: vec![update] }
    }
}

/// Sets the given values for the agent `id`, for all agents of `group`, or for all agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentUpdate {
    /// Only this agent.
    pub id: Option<String>,
    /// Only this group.
    pub group: Option<i64>,
    /// Online or offline.
    pub online: Option<bool>,
    /// Busy or not.
    pub busy: Option<bool>,
    /// Maximum number of sessions at once.
    pub capacity: Option<u32>,
}

/// The agents that a transfer asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RequestedAgents {
    pub(super) agents: Vec<String>,
    pub(super) group: Option<i64>,
    pub(super) allow_busy: bool,
}

/// The result of looking for an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AgentSelection {
    Agent(Arc<str>),
    /// A suitable agent is online, but none has free capacity.
    Full,
    NobodyOnline,
}

/// A queued session that now has an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AgentAssignment {
    pub(super) session: Arc<str>,
    pub(super) agent: Arc<str>,
}

/// The staff and the queue of sessions that wait for an agent.
#[derive(Default)]
pub(super) struct Roster {
    staff: Vec<StaffMember>,
    /// Whether an agent outside `staff` exists as soon as a request names it.
    accepts_unlisted: bool,
    unlisted_online: bool,
    queue: BTreeMap<WaitingPosition, QueuedSession>,
    queued_so_far: u64,
}

/// Sorts by priority (0 is the most urgent), then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WaitingPosition {
    priority: u8,
    arrival: u64,
}

struct QueuedSession {
    session: Arc<str>,
    requested: RequestedAgents,
}

struct StaffMember {
    id: Arc<str>,
    agent: Agent,
    sessions: u32,
}

impl Roster {
    pub(super) fn new(agents: &[Agent]) -> Self {
        let staff = agents.iter().cloned().map(StaffMember::new).collect();
        let accepts_unlisted = agents.is_empty();
        Self { staff, accepts_unlisted, unlisted_online: true, ..Self::default() }
    }

    /// Selects an agent and counts the session towards the agent's capacity.
    pub(super) fn select(&mut self, requested: &RequestedAgents) -> AgentSelection {
        let suitable = |member: &&mut StaffMember| member.agent.online && member.suits(requested);
        let mut any_suitable = false;
        let free = self.staff.iter_mut().filter(suitable).inspect(|_| any_suitable = true);
        let free = free.filter(|member| member.has_capacity(requested));
        let best = free.min_by_key(|member| member.sessions).map(|member| {
            member.sessions += 1;
            Arc::clone(&member.id)
        });
        match best.or_else(|| self.unlisted(requested)) {
            Some(agent) => AgentSelection::Agent(agent),
            None if any_suitable => AgentSelection::Full,
            None => AgentSelection::NobodyOnline,
        }
    }

    /// Frees the capacity that a session used.
    pub(super) fn release(&mut self, id: &str) {
        if let Some(member) = self.staff.iter_mut().find(|member| *member.id == *id) {
            member.sessions = member.sessions.saturating_sub(1);
        }
    }

    pub(super) fn enqueue(&mut self, session: &str, priority: u8, requested: RequestedAgents) {
        self.queued_so_far += 1;
        let position = WaitingPosition { priority, arrival: self.queued_so_far };
        self.queue.insert(position, QueuedSession { session: Arc::from(session), requested });
    }

    /// Removes from the queue each session that an agent can take now.
    pub(super) fn assign_queued(&mut self) -> Vec<AgentAssignment> {
        let mut assigned = Vec::new();
        for (position, queued) in std::mem::take(&mut self.queue) {
            match self.select(&queued.requested) {
                AgentSelection::Agent(agent) => {
                    assigned.push(AgentAssignment { session: queued.session, agent });
                }
                AgentSelection::Full | AgentSelection::NobodyOnline => {
                    self.queue.insert(position, queued);
                }
            }
        }
        assigned
    }

    pub(super) fn apply(&mut self, change: &StaffChange) {
        if let Some(agents) = &change.agents {
            // An agent that stays keeps the sessions, or its capacity would be counted wrongly.
            let sessions: BTreeMap<_, _> =
                self.staff.iter().map(|member| (Arc::clone(&member.id), member.sessions)).collect();
            self.staff = agents.iter().cloned().map(StaffMember::new).collect();
            for member in &mut self.staff {
                member.sessions = sessions.get(&member.id).copied().unwrap_or(0);
            }
            self.accepts_unlisted = agents.is_empty();
            self.unlisted_online = true;
        }
        for update in &change.updates {
            self.update(update);
        }
    }

    fn update(&mut self, update: &AgentUpdate) {
        if self.accepts_unlisted {
            self.list_updated_agent(update);
        }
        for member in self.staff.iter_mut().filter(|member| update.applies_to(&member.agent)) {
            let agent = &mut member.agent;
            agent.online = update.online.unwrap_or(agent.online);
            agent.busy = update.busy.unwrap_or(agent.busy);
            agent.capacity = update.capacity.or(agent.capacity);
        }
    }

    /// Without a list of agents an update may name one that has no entry yet, which needs one now.
    fn list_updated_agent(&mut self, update: &AgentUpdate) {
        let id = match (&update.id, update.group) {
            (Some(id), _) => id.clone(),
            (None, Some(group)) => agent_of(group),
            (None, None) => {
                self.unlisted_online = update.online.unwrap_or(self.unlisted_online);
                return;
            }
        };
        if !self.is_listed(&id) {
            let agent =
                Agent { group: update.group, online: self.unlisted_online, ..Agent::new(id) };
            self.staff.push(StaffMember::new(agent));
        }
    }

    fn unlisted(&self, requested: &RequestedAgents) -> Option<Arc<str>> {
        if !self.accepts_unlisted || !self.unlisted_online {
            return None;
        }
        if !requested.agents.is_empty() {
            let unlisted = requested.agents.iter().find(|id| !self.is_listed(id));
            return unlisted.map(|id| Arc::from(id.as_str()));
        }
        let id = requested.group.map_or_else(|| DEFAULT_AGENT.to_owned(), agent_of);
        (!self.is_listed(&id)).then(|| Arc::from(id))
    }

    fn is_listed(&self, id: &str) -> bool {
        self.staff.iter().any(|member| *member.id == *id)
    }
}

const DEFAULT_AGENT: &str = "agent@desk.example";

fn agent_of(group: i64) -> String {
    format!("agent-{group}@desk.example")
}

impl StaffMember {
    fn new(agent: Agent) -> Self {
        Self { id: Arc::from(agent.id.as_str()), agent, sessions: 0 }
    }

    fn suits(&self, requested: &RequestedAgents) -> bool {
        // A list of agents is narrower than a group and takes precedence over it.
        if !requested.agents.is_empty() {
            return requested.agents.contains(&self.agent.id);
        }
        requested.group.is_none() || requested.group == self.agent.group
    }

    fn has_capacity(&self, requested: &RequestedAgents) -> bool {
        let is_available = !self.agent.busy || requested.allow_busy;
        is_available && self.agent.capacity.is_none_or(|capacity| self.sessions < capacity)
    }
}

impl AgentUpdate {
    fn applies_to(&self, agent: &Agent) -> bool {
        self.id.as_ref().is_none_or(|id| *id == agent.id)
            && (self.id.is_some() || self.group.is_none() || self.group == agent.group)
    }
}

// serde needs a function for a default of `true`.
fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(agents: &[&str], group: Option<i64>) -> RequestedAgents {
        let agents = agents.iter().map(|id| (*id).to_owned()).collect();
        RequestedAgents { agents, group, allow_busy: false }
    }

    fn agent(id: &str) -> AgentSelection {
        AgentSelection::Agent(Arc::from(id))
    }

    fn of_group(id: &str, group: i64, capacity: u32) -> Agent {
        Agent { group: Some(group), capacity: Some(capacity), ..Agent::new(id) }
    }

    #[test]
    fn without_a_list_every_requested_agent_exists() {
        let mut roster = Roster::new(&[]);
        assert_eq!(roster.select(&requested(&["a@x", "b@x"], Some(7))), agent("a@x"));
        assert_eq!(roster.select(&requested(&[], Some(7))), agent("agent-7@desk.example"));
        assert_eq!(roster.select(&requested(&[], None)), agent(DEFAULT_AGENT));
        roster.apply(&StaffChange::agent("a@x", false));
        assert_eq!(roster.select(&requested(&["a@x", "b@x"], None)), agent("b@x"));
        assert_eq!(roster.select(&requested(&["a@x"], None)), AgentSelection::NobodyOnline);
        roster.apply(&StaffChange::group(7, false));
        assert_eq!(roster.select(&requested(&[], Some(7))), AgentSelection::NobodyOnline);
        assert_eq!(roster.select(&requested(&[], Some(8))), agent("agent-8@desk.example"));
        roster.apply(&StaffChange::everyone(false));
        assert_eq!(roster.select(&requested(&[], None)), AgentSelection::NobodyOnline);
        roster.apply(&StaffChange::everyone(true));
        assert_eq!(roster.select(&requested(&[], Some(7))), agent("agent-7@desk.example"));
    }

    #[test]
    fn the_suitable_agent_with_the_fewest_sessions_is_selected() {
        let mut roster =
            Roster::new(&[of_group("a", 1, 2), of_group("b", 1, 2), of_group("c", 2, 9)]);
        let selected: Vec<_> = (0..5).map(|_| roster.select(&requested(&[], Some(1)))).collect();
        assert_eq!(
            selected,
            [agent("a"), agent("b"), agent("a"), agent("b"), AgentSelection::Full]
        );
        assert_eq!(roster.select(&requested(&["c"], Some(1))), agent("c"));
        assert_eq!(roster.select(&requested(&["nobody"], None)), AgentSelection::NobodyOnline);
        assert_eq!(roster.select(&requested(&[], Some(3))), AgentSelection::NobodyOnline);
    }

    #[test]
    fn a_busy_agent_is_selected_only_if_the_request_allows_it() {
        let mut roster = Roster::new(&[Agent { busy: true, ..Agent::new("a") }]);
        assert_eq!(roster.select(&requested(&[], None)), AgentSelection::Full);
        let allowed = RequestedAgents { allow_busy: true, ..RequestedAgents::default() };
        assert_eq!(roster.select(&allowed), agent("a"));
    }

    #[test]
    fn queued_sessions_are_assigned_by_priority_then_by_arrival() {
        let mut roster = Roster::new(&[of_group("a", 1, 1)]);
        assert_eq!(roster.select(&RequestedAgents::default()), agent("a"));
        for (session, priority) in [("late", 5), ("later", 5), ("urgent", 0)] {
            roster.enqueue(session, priority, RequestedAgents::default());
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            roster.release("a");
            order.extend(
                roster.assign_queued().into_iter().map(|assigned| assigned.session.to_string()),
            );
        }
        assert_eq!(order, ["urgent", "late", "later"]);
    }
}
