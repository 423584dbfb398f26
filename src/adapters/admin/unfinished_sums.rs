//! The unfinished events, added up: by what they wait for, by route and by partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::activity::UnfinishedEvent;
use crate::adapters::ledger::ParkedWait;
use crate::domain::problem::Problem;

/// The unfinished events, in memory and parked, added up.
#[derive(Debug, Default)]
pub(super) struct UnfinishedSums {
    pub(super) by_problem: BTreeMap<&'static str, u64>,
    pub(super) oldest: Option<Timestamp>,
    /// Of those in memory.
    pub(super) first_deadline: Option<Timestamp>,
    pub(super) by_route: HashMap<Option<String>, WaitingSum>,
    pub(super) by_partition: HashMap<i32, WaitingSum>,
}

/// How many events wait, and since when the first of them does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WaitingSum {
    pub(super) events: u64,
    pub(super) since: Option<Timestamp>,
    pub(super) is_blocked: bool,
}

/// The parked events of this instance.
pub(super) struct ParkedSums<'a> {
    /// How many wait for their time, for their session and for an agent, as the service counts them.
    pub(super) counted: [u64; 3],
    /// What their entries say: known later, and some seconds old.
    pub(super) waits: &'a [ParkedWait],
}

impl WaitingSum {
    fn add(&mut self, events: u64, since: Timestamp) {
        self.events += events;
        self.since = earliest(self.since, Some(since));
    }
}

impl UnfinishedSums {
    /// Of all events in memory, and the parked ones.
    pub(super) fn of(
        unfinished: &[Arc<UnfinishedEvent>],
        parked: &ParkedSums<'_>,
        gate_is_held: bool,
    ) -> Self {
        let mut sums = Self::default();
        for problem in Problem::ALL {
            sums.by_problem.insert(problem.as_str(), 0);
        }
        for event in unfinished {
            sums.add_event(event, gate_is_held);
        }
        sums.add_counted(parked);
        for ParkedWait { partition, route, events, oldest, .. } in parked.waits {
            sums.oldest = earliest(sums.oldest, Some(*oldest));
            sums.by_route.entry(route.clone()).or_default().add(*events, *oldest);
            sums.by_partition.entry(*partition).or_default().add(*events, *oldest);
        }
        sums
    }

    fn add_event(&mut self, event: &UnfinishedEvent, gate_is_held: bool) {
        let (problem, received_at, route, is_parked) = event.glance(|state| {
            let problem = state.problem(gate_is_held);
            (problem, state.received_at, state.route.clone(), state.is_parked)
        });
        self.add_problem(problem, 1);
        self.oldest = earliest(self.oldest, Some(received_at));
        self.first_deadline = earliest(self.first_deadline, Some(event.deadline));
        let partition = self.by_partition.entry(event.source.partition).or_default();
        partition.is_blocked |= problem == Problem::Blocked;
        // Its entry has its route, and is counted with the parked ones.
        if !is_parked {
            partition.add(1, received_at);
            self.by_route.entry(route).or_default().add(1, received_at);
        }
    }

    /// The words of the parked events. How many there are is counted exactly; which of those that wait for
    /// their time are in doubt, or found nobody, their entries say.
    fn add_counted(&mut self, parked: &ParkedSums<'_>) {
        let [mut timed, session, in_rooms] = parked.counted;
        for problem in [Problem::InDoubt, Problem::NoAgentOnline] {
            let is_it = |wait: &&ParkedWait| wait.is_timed && wait.problem == problem;
            let events: u64 = parked.waits.iter().filter(is_it).map(|wait| wait.events).sum();
            let events = events.min(timed);
            self.add_problem(problem, events);
            timed -= events;
        }
        self.add_problem(Problem::WaitingRetry, timed);
        self.add_problem(Problem::BehindInSession, session);
        self.add_problem(Problem::NoAgentOnline, in_rooms);
    }

    fn add_problem(&mut self, problem: Problem, events: u64) {
        *self.by_problem.entry(problem.as_str()).or_default() += events;
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wait(route: &str, problem: Problem, events: u64, second: i64) -> ParkedWait {
        let (route, oldest) = (Some(route.to_owned()), at(second));
        let is_timed = problem != Problem::BehindInSession;
        ParkedWait { partition: 3, route, problem, is_timed, events, oldest }
    }

    #[test]
    fn parked_events_have_their_words_and_their_routes() {
        let waits = [
            wait("vip", Problem::InDoubt, 2, 50),
            wait("vip", Problem::WaitingRetry, 300, 40),
            wait("night", Problem::NoAgentOnline, 5, 60),
            wait("night", Problem::BehindInSession, 1, 30),
        ];
        let parked = ParkedSums { counted: [307, 1, 4], waits: &waits };
        let sums = UnfinishedSums::of(&[], &parked, false);
        let of = |problem: Problem| sums.by_problem[problem.as_str()];
        let words = [
            Problem::InDoubt,
            Problem::WaitingRetry,
            Problem::NoAgentOnline,
            Problem::BehindInSession,
        ];
        assert_eq!(words.map(of), [2, 300, 9, 1]);
        let sum =
            |events, second| WaitingSum { events, since: Some(at(second)), is_blocked: false };
        assert_eq!(sums.by_route[&Some("vip".to_owned())], sum(302, 40));
        assert_eq!(sums.by_route[&Some("night".to_owned())], sum(6, 30));
        assert_eq!((sums.by_partition[&3], sums.oldest), (sum(308, 30), Some(at(30))));
        // Some were started since their entries were read.
        let parked = ParkedSums { counted: [1, 0, 0], waits: &waits };
        let sums = UnfinishedSums::of(&[], &parked, false);
        assert_eq!(sums.by_problem.values().sum::<u64>(), 1);
    }
}
