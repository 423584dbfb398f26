//! Whether every escalation has its one answer: escalations, outcomes and dead letters, matched.
//!
//! First `Escalations` takes in what was asked, one compact entry each; then `Matcher` takes in
//! what was answered, and judges. `answer` reads what is in the topics, `entries` is what is kept,
//! `report` is what comes out: every number is exact, of each kind of finding the first few are named.
//! This folder never keeps a record, and never calls missing what may still come.

mod answer;
#[cfg(test)]
mod bulk_tests;
mod entries;
mod escalations;
mod matcher;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::record::Position;

pub use self::answer::{Answer, letter_source};
pub use self::escalations::Escalations;
pub use self::matcher::Matcher;
pub use self::report::{Finding, Findings, Kind, Report};

/// What is judged, and how strictly.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The records that are judged.
    pub range: Range,
    /// So long after its deadline an escalation must be decided.
    pub grace: Duration,
    /// So long after it was recorded a dead letter must be there.
    pub letter_after: Duration,
    /// What was answered before then may have been deleted from the topics.
    pub trimmed_until: Option<Timestamp>,
    /// So many findings of each kind are named.
    pub keep: usize,
}

/// The records of the escalations topic that are judged.
#[derive(Debug, Clone)]
pub struct Range {
    /// The topic.
    pub topic: Arc<str>,
    /// Of each partition the offsets; a partition that is not named is not judged.
    pub partitions: BTreeMap<i32, std::ops::Range<i64>>,
}

impl Range {
    /// The record is one of them.
    pub fn covers(&self, position: &Position) -> bool {
        let offsets = self.partitions.get(&position.partition);
        position.topic == self.topic
            && offsets.is_some_and(|offsets| offsets.contains(&position.offset))
    }

    fn position(&self, (partition, offset): (i32, i64)) -> Position {
        Position { topic: self.topic.clone(), partition, offset }
    }
}
