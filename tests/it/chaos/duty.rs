//! What must come of a record, given what became of its topic. Pure, as the checker is.
//!
//! Of a deleted topic, what no worker has claimed may be without an answer. What was claimed must have
//! one: events in memory go on. Only where the workers were killed meanwhile, nobody can know more
//! than that an event was claimed; its record is gone, and what is published under its id in the next
//! topic is a repeat (ARCHITECTURE.md, known limits).

use std::collections::{BTreeMap, BTreeSet};

use super::checker::{Evidence, RecordKind, SentRecord};

/// A topic of the input's name, from its creation to its deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TopicLife {
    /// What is below these offsets was read while the topic was there, by partition.
    pub(super) required_below: Vec<i64>,
    /// All workers were killed when it was deleted.
    pub(super) killed: bool,
}

/// In ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// It may be without an answer. One that it has must be true.
    Nothing,
    AnswerIfClaimed,
    Answer,
}

impl Evidence {
    pub(super) fn duty_to(&self, sent: &SentRecord) -> Duty {
        let topic = &self.topics[sent.topic];
        let is_there = sent.topic + 1 == self.topics.len();
        let below = topic.required_below.get(sent.position.0 as usize);
        if is_there || below.is_some_and(|below| sent.position.1 < *below) {
            Duty::Answer
        } else if topic.killed {
            Duty::Nothing
        } else {
            Duty::AnswerIfClaimed
        }
    }

    /// What was sent to the topic that is there.
    pub(super) fn sent_to_last_topic(&self) -> Vec<SentRecord> {
        let is_last = |sent: &&SentRecord| sent.topic + 1 == self.topics.len();
        self.sent.iter().filter(is_last).cloned().collect()
    }

    /// The duty to each event: the greatest one to its records, unless the first of them may have been
    /// claimed by workers that were killed, and is gone.
    pub(super) fn duties(&self) -> BTreeMap<&str, Duty> {
        let mut in_order: Vec<_> = self.sent.iter().collect();
        in_order.sort_by_key(|sent| (sent.topic, sent.arrived));
        let mut duties = BTreeMap::new();
        for sent in in_order {
            if let RecordKind::Event { id, .. } = &sent.kind {
                let to_record = self.duty_to(sent);
                let duty = duties.entry(id.as_str()).or_insert(to_record);
                if *duty != Duty::Nothing {
                    *duty = to_record.max(*duty);
                }
            }
        }
        duties
    }

    /// Sessions with an event that may be without an answer although Desk was called for it.
    pub(super) fn left_when_killed(&self, is_answered: impl Fn(&str) -> bool) -> BTreeSet<&String> {
        let duties = self.duties();
        let mut sessions = BTreeSet::new();
        for sent in &self.sent {
            if let RecordKind::Event { id, session, .. } = &sent.kind
                && duties[id.as_str()] == Duty::Nothing
                && !is_answered(id)
            {
                sessions.insert(session);
            }
        }
        sessions
    }

    /// Whether an event is claimed; its key in the ledger is its id.
    pub(super) fn is_claimed(&self, id: &str) -> bool {
        self.claimed.contains(&format!("id:{id}"))
    }

    /// Whether the dead letter of a record is claimed.
    pub(super) fn is_dead_letter_claimed(&self, sent: &SentRecord) -> bool {
        let (topic, arrived) = (&self.input, sent.arrived.as_millisecond());
        self.claimed.contains(&format!("dead-letter:{topic}/{:?}@{arrived}", sent.position))
    }
}
