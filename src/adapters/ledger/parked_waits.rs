//! Parked events, added up for people: how many wait on each route, for what, and since when.

use std::collections::HashMap;

use jiff::Timestamp;

use super::columns::{parse_time, parse_waits_for};
use super::database::WaitRows;
use crate::domain::ledger_entry::WaitsFor;
use crate::domain::problem::Problem;
use crate::domain::verdict::VerdictClass;

/// Parked events of one partition that wait for the same on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedWait {
    /// The partition.
    pub partition: i32,
    /// The route when they were parked; `None`: none matched.
    pub route: Option<String>,
    /// The word for what they wait for.
    pub problem: Problem,
    /// Whether they wait for their time, and not for their session or in a room.
    pub is_timed: bool,
    /// How many they are.
    pub events: u64,
    /// When the first of them was first seen.
    pub oldest: Timestamp,
}

/// The rows by what people are shown. Those that cannot be read are left out.
pub(super) fn add_up(rows: Vec<WaitRows>) -> Vec<ParkedWait> {
    let mut sums = HashMap::new();
    for row in rows {
        let Ok(waits_for) = parse_waits_for(&row.waits_for) else { continue };
        let Ok(oldest) = parse_time(row.oldest_us) else { continue };
        let last = row.found_nobody.then_some(VerdictClass::NoAgent);
        let problem = Problem::of_parked(&waits_for, row.is_in_doubt, last);
        let is_timed = waits_for == WaitsFor::Time;
        let key = (row.partition, row.route.clone(), problem.as_str(), is_timed);
        let wait = sums.entry(key).or_insert(ParkedWait {
            partition: row.partition,
            route: row.route,
            problem,
            is_timed,
            events: 0,
            oldest,
        });
        wait.events += u64::try_from(row.events).unwrap_or(0);
        wait.oldest = wait.oldest.min(oldest);
    }
    sums.into_values().collect()
}
