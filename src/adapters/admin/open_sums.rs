//! The unfinished events, added up: by what they wait for, by route and by partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::parked::ParkedRow;
use crate::activity::OpenEvent;
use crate::domain::problem::Problem;
use crate::telemetry::Metrics;

/// The unfinished events in memory, added up.
#[derive(Default)]
pub(super) struct OpenSums {
    pub(super) by_problem: BTreeMap<&'static str, u64>,
    pub(super) oldest: Option<Timestamp>,
    pub(super) first_deadline: Option<Timestamp>,
    pub(super) by_route: HashMap<Option<String>, WaitingSum>,
    pub(super) by_partition: HashMap<i32, WaitingSum>,
}

/// How many events wait, and since when the first of them does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WaitingSum {
    pub(super) events: u64,
    pub(super) since: Option<Timestamp>,
    pub(super) is_blocked: bool,
}

impl WaitingSum {
    fn add(&mut self, received_at: Timestamp, problem: Problem) {
        self.events += 1;
        self.since = earliest(self.since, Some(received_at));
        self.is_blocked |= problem == Problem::Blocked;
    }
}

impl OpenSums {
    /// Adds the parked events, which the service counts by what they wait for.
    pub(super) fn add_parked(&mut self, metrics: &Metrics) {
        let waits = [Problem::WaitingRetry, Problem::BehindInSession, Problem::NoAgentOnline];
        for (problem, parked) in waits.into_iter().zip(metrics.parked()) {
            *self.by_problem.entry(problem.as_str()).or_default() += parked;
        }
    }

    /// Of all events in memory, and the most urgent ones of the ledger.
    pub(super) fn of(open: &[Arc<OpenEvent>], parked: &[&ParkedRow], gate_is_held: bool) -> Self {
        let mut sums = Self::default();
        for problem in Problem::ALL {
            sums.by_problem.insert(problem.as_str(), 0);
        }
        for event in open {
            let (problem, received_at, route) = event.glance(|state| {
                (state.problem(gate_is_held), state.received_at, state.route.clone())
            });
            *sums.by_problem.entry(problem.as_str()).or_default() += 1;
            sums.oldest = earliest(sums.oldest, Some(received_at));
            sums.first_deadline = earliest(sums.first_deadline, Some(event.deadline));
            sums.by_route.entry(route).or_default().add(received_at, problem);
            let partition = sums.by_partition.entry(event.source.partition).or_default();
            partition.add(received_at, problem);
        }
        // Only the most urgent of them are read; their number is counted elsewhere.
        for ParkedRow { row, .. } in parked {
            sums.oldest = earliest(sums.oldest, Some(row.received_at));
            sums.first_deadline = earliest(sums.first_deadline, row.deadline_at);
            sums.by_route.entry(row.route.clone()).or_default().add(row.received_at, row.problem);
        }
        sums
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
