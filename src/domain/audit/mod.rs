//! The audit: does every escalation have exactly one final outcome, in time?
//!
//! [`Escalations`] takes the records of the escalations topic, one compact entry each. It then
//! becomes a [`Matcher`], which takes outcomes and dead letters and returns an [`AuditReport`]. All
//! counts of the report are exact; of each [`FindingKind`] only the first few findings are listed,
//! so that memory does not grow with the number of faults.

mod audited_outcome;
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

pub(crate) use self::audited_outcome::AuditedOutcome;
pub(crate) use self::escalations::Escalations;
pub(crate) use self::matcher::Matcher;
pub(crate) use self::report::{AuditFinding, AuditReport, FindingKind};

/// What is audited, and with which limits.
#[derive(Debug, Clone)]
pub(crate) struct AuditRules {
    /// The audited records of the escalations topic.
    pub range: AuditRange,
    /// How long after its deadline an escalation may be decided.
    pub grace: Duration,
    /// How long after a malformed record its dead letter may be published.
    pub dead_letter_grace: Duration,
    /// Outcomes and dead letters before this time may have been deleted by retention.
    pub trimmed_until: Option<Timestamp>,
    /// How many findings of each kind are listed.
    pub max_listed: usize,
}

/// The audited records of the escalations topic.
#[derive(Debug, Clone)]
pub(crate) struct AuditRange {
    /// The topic.
    pub topic: Arc<str>,
    /// The offsets of each audited partition.
    pub partitions: BTreeMap<i32, std::ops::Range<i64>>,
}

impl AuditRange {
    /// Returns whether the record at this position is audited.
    pub(crate) fn covers(&self, position: &Position) -> bool {
        let offsets = self.partitions.get(&position.partition);
        position.topic == self.topic
            && offsets.is_some_and(|offsets| offsets.contains(&position.offset))
    }

    fn position(&self, record: entries::RecordId) -> Position {
        let entries::RecordId { partition, offset } = record;
        Position { topic: self.topic.clone(), partition: partition.into(), offset }
    }
}
