//! The agents of the simulated Desk: who is online, who has a free place, who waits in the queue.
//!
//! With an agent list, exactly these people work here. Without one the house is *open*: whoever a
//! request names is there, online and without a limit, so that large trials are all assigned;
//! switches can still send a person, a group or everybody home. Of several who could take a
//! session the one who serves the fewest gets it. This file is a plain value that its owner locks;
//! it never touches a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The agent's login, which looks like an e-mail address.
    pub id: String,
    /// The group the agent belongs to.
    #[serde(default)]
    pub group: Option<i64>,
    /// Signed in.
    #[serde(default = "yes")]
    pub online: bool,
    /// The most sessions served at once; absent: any number.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// Set to busy by the agent.
    #[serde(default)]
    pub busy: bool,
}

impl Agent {
    /// An agent who is online, in no group and without a limit.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), group: None, online: true, capacity: None, busy: false }
    }
}

/// A change of the staff.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Staffing {
    /// The new list, which replaces the old one; empty: the house is open again.
    pub agents: Option<Vec<Agent>>,
    /// Switches, thrown in this order after that.
    pub switch: Vec<Switch>,
}

impl Staffing {
    /// Exactly these agents.
    pub fn exactly(agents: Vec<Agent>) -> Self {
        Self { agents: Some(agents), switch: Vec::new() }
    }

    /// Everybody signs in or goes home.
    pub fn everyone(online: bool) -> Self {
        Self::switched(Switch { online: Some(online), ..Switch::default() })
    }

    /// One group signs in or goes home.
    pub fn group(group: i64, online: bool) -> Self {
        Self::switched(Switch { group: Some(group), online: Some(online), ..Switch::default() })
    }

    /// One agent signs in or goes home.
    pub fn agent(id: impl Into<String>, online: bool) -> Self {
        Self::switched(Switch { id: Some(id.into()), online: Some(online), ..Switch::default() })
    }

    /// One switch.
    pub fn switched(switch: Switch) -> Self {
        Self { agents: None, switch: vec![switch] }
    }
}

/// Sets what is given, for the agents meant: one by `id`, a whole `group`, or everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// Only this agent.
    pub id: Option<String>,
    /// Only this group.
    pub group: Option<i64>,
    /// Online or offline.
    pub online: Option<bool>,
    /// Busy or not.
    pub busy: Option<bool>,
    /// The most sessions at once.
    pub capacity: Option<u32>,
}

/// Whom a transfer wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) agents: Vec<String>,
    pub(super) group: Option<i64>,
    pub(super) allow_busy: bool,
}

/// Whom it gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Agent(Arc<str>),
    /// Somebody suitable is online, but nobody has a free place.
    Full,
    /// Nobody suitable is online.
    Nobody,
}

/// The staff, and the queue before its door.
#[derive(Default)]
pub(super) struct Roster {
    seats: Vec<Seat>,
    /// Whether strangers are agents too, and then whether they are online.
    open: bool,
    strangers_online: bool,
    queue: BTreeMap<(u8, u64), (Arc<str>, Wanted)>,
    queued_so_far: u64,
}

struct Seat {
    id: Arc<str>,
    agent: Agent,
    serving: u32,
}

impl Roster {
    pub(super) fn new(agents: &[Agent]) -> Self {
        let seats = agents.iter().cloned().map(Seat::new).collect();
        Self { seats, open: agents.is_empty(), strangers_online: true, ..Self::default() }
    }

    /// Finds an agent and takes one of the places.
    pub(super) fn pick(&mut self, wanted: &Wanted) -> Pick {
        let suitable = self.seats.iter_mut().filter(|seat| seat.agent.online && seat.suits(wanted));
        let mut somebody = false;
        let free = suitable.inspect(|_| somebody = true).filter(|seat| seat.free(wanted));
        let best = free.min_by_key(|seat| seat.serving).map(|seat| {
            seat.serving += 1;
            Arc::clone(&seat.id)
        });
        match best.or_else(|| self.stranger(wanted)) {
            Some(agent) => Pick::Agent(agent),
            None if somebody => Pick::Full,
            None => Pick::Nobody,
        }
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, id: &str) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| *seat.id == *id) {
            seat.serving = seat.serving.saturating_sub(1);
        }
    }

    /// Puts a session into the queue; 0 is the most urgent priority.
    pub(super) fn enqueue(&mut self, session: &str, priority: u8, wanted: Wanted) {
        self.queued_so_far += 1;
        self.queue.insert((priority, self.queued_so_far), (Arc::from(session), wanted));
    }

    /// Takes from the queue whoever can be served now, with their agents.
    pub(super) fn serve_queue(&mut self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut served = Vec::new();
        for (place, (session, wanted)) in std::mem::take(&mut self.queue) {
            match self.pick(&wanted) {
                Pick::Agent(agent) => served.push((session, agent)),
                Pick::Full | Pick::Nobody => {
                    self.queue.insert(place, (session, wanted));
                }
            }
        }
        served
    }

    /// Applies a change of the staff.
    pub(super) fn staff(&mut self, staffing: &Staffing) {
        if let Some(agents) = &staffing.agents {
            let serving: BTreeMap<_, _> =
                self.seats.iter().map(|seat| (Arc::clone(&seat.id), seat.serving)).collect();
            self.seats = agents.iter().cloned().map(Seat::new).collect();
            for seat in &mut self.seats {
                seat.serving = serving.get(&seat.id).copied().unwrap_or(0);
            }
            self.open = agents.is_empty();
            self.strangers_online = true;
        }
        for switch in &staffing.switch {
            self.throw(switch);
        }
    }

    fn throw(&mut self, switch: &Switch) {
        if self.open {
            self.seat_a_stranger(switch);
        }
        for seat in self.seats.iter_mut().filter(|seat| switch.means(&seat.agent)) {
            let agent = &mut seat.agent;
            agent.online = switch.online.unwrap_or(agent.online);
            agent.busy = switch.busy.unwrap_or(agent.busy);
            agent.capacity = switch.capacity.or(agent.capacity);
        }
    }

    /// In an open house a switch may name somebody of whom nothing was noted so far.
    fn seat_a_stranger(&mut self, switch: &Switch) {
        let id = match (&switch.id, switch.group) {
            (Some(id), _) => id.clone(),
            (None, Some(group)) => agent_of(group),
            (None, None) => {
                self.strangers_online = switch.online.unwrap_or(self.strangers_online);
                return;
            }
        };
        if !self.seats.iter().any(|seat| *seat.id == *id) {
            let online = self.strangers_online;
            self.seats.push(Seat::new(Agent { group: switch.group, online, ..Agent::new(id) }));
        }
    }

    /// The agent of an open house of whom nothing was noted: always there, never full.
    fn stranger(&self, wanted: &Wanted) -> Option<Arc<str>> {
        if !self.open || !self.strangers_online {
            return None;
        }
        let seated = |id: &str| self.seats.iter().any(|seat| *seat.id == *id);
        if !wanted.agents.is_empty() {
            return wanted.agents.iter().find(|id| !seated(id)).map(|id| Arc::from(id.as_str()));
        }
        let id = wanted.group.map_or_else(|| ANYBODY.to_owned(), agent_of);
        (!seated(&id)).then(|| Arc::from(id))
    }
}

const ANYBODY: &str = "agent@desk.example";

fn agent_of(group: i64) -> String {
    format!("agent-{group}@desk.example")
}

impl Seat {
    fn new(agent: Agent) -> Self {
        Self { id: Arc::from(agent.id.as_str()), agent, serving: 0 }
    }

    /// A list of agents goes before the group, as the narrower requested_target.
    fn suits(&self, wanted: &Wanted) -> bool {
        if !wanted.agents.is_empty() {
            return wanted.agents.contains(&self.agent.id);
        }
        wanted.group.is_none() || wanted.group == self.agent.group
    }

    fn free(&self, wanted: &Wanted) -> bool {
        let willing = !self.agent.busy || wanted.allow_busy;
        willing && self.agent.capacity.is_none_or(|capacity| self.serving < capacity)
    }
}

impl Switch {
    fn means(&self, agent: &Agent) -> bool {
        self.id.as_ref().is_none_or(|id| *id == agent.id)
            && (self.id.is_some() || self.group.is_none() || self.group == agent.group)
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(agents: &[&str], group: Option<i64>) -> Wanted {
        let agents = agents.iter().map(|id| (*id).to_owned()).collect();
        Wanted { agents, group, allow_busy: false }
    }

    fn got(id: &str) -> Pick {
        Pick::Agent(Arc::from(id))
    }

    fn of_group(id: &str, group: i64, capacity: u32) -> Agent {
        Agent { group: Some(group), capacity: Some(capacity), ..Agent::new(id) }
    }

    #[test]
    fn an_open_house_has_whoever_is_asked_for() {
        let mut roster = Roster::new(&[]);
        assert_eq!(roster.pick(&wanted(&["a@x", "b@x"], Some(7))), got("a@x"));
        assert_eq!(roster.pick(&wanted(&[], Some(7))), got("agent-7@desk.example"));
        assert_eq!(roster.pick(&wanted(&[], None)), got(ANYBODY));
        roster.staff(&Staffing::agent("a@x", false));
        assert_eq!(roster.pick(&wanted(&["a@x", "b@x"], None)), got("b@x"));
        assert_eq!(roster.pick(&wanted(&["a@x"], None)), Pick::Nobody);
        roster.staff(&Staffing::group(7, false));
        assert_eq!(roster.pick(&wanted(&[], Some(7))), Pick::Nobody);
        assert_eq!(roster.pick(&wanted(&[], Some(8))), got("agent-8@desk.example"));
        roster.staff(&Staffing::everyone(false));
        assert_eq!(roster.pick(&wanted(&[], None)), Pick::Nobody);
        roster.staff(&Staffing::everyone(true));
        assert_eq!(roster.pick(&wanted(&[], Some(7))), got("agent-7@desk.example"));
    }

    #[test]
    fn the_least_loaded_of_those_who_suit_gets_it() {
        let mut roster =
            Roster::new(&[of_group("a", 1, 2), of_group("b", 1, 2), of_group("c", 2, 9)]);
        let picks: Vec<_> = (0..5).map(|_| roster.pick(&wanted(&[], Some(1)))).collect();
        assert_eq!(picks, [got("a"), got("b"), got("a"), got("b"), Pick::Full]);
        assert_eq!(roster.pick(&wanted(&["c"], Some(1))), got("c"));
        assert_eq!(roster.pick(&wanted(&["nobody"], None)), Pick::Nobody);
        assert_eq!(roster.pick(&wanted(&[], Some(3))), Pick::Nobody);
    }

    #[test]
    fn who_is_busy_is_left_alone_unless_it_is_allowed() {
        let mut roster = Roster::new(&[Agent { busy: true, ..Agent::new("a") }]);
        assert_eq!(roster.pick(&wanted(&[], None)), Pick::Full);
        let anyway = Wanted { allow_busy: true, ..Wanted::default() };
        assert_eq!(roster.pick(&anyway), got("a"));
    }

    #[test]
    fn the_queue_is_served_by_priority_then_by_arrival() {
        let mut roster = Roster::new(&[of_group("a", 1, 1)]);
        assert_eq!(roster.pick(&Wanted::default()), got("a"));
        for (session, priority) in [("late", 5), ("later", 5), ("urgent", 0)] {
            roster.enqueue(session, priority, Wanted::default());
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            roster.release("a");
            order.extend(roster.serve_queue().into_iter().map(|(session, _)| session.to_string()));
        }
        assert_eq!(order, ["urgent", "late", "later"]);
    }
}
