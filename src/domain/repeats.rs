//! Recognises a second escalation of a session shortly after the first: publishers without ids repeat
//! a record after a broken connection, and a bot may ask twice.
//!
//! Only escalations without an id can be the first: one with an id may be a duplicate of an older one,
//! so that nobody would answer its repetition. The first ones are in memory only. A repetition that is
//! read after a restart, when its first is already answered and committed, counts as an escalation of
//! its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::event::Event;
use super::record::{Position, Record};

/// The most sessions that are remembered; those beyond have no repetitions.
const MAX_SESSIONS: usize = 100_000;

/// So many more escalations are remembered at least before those beyond the window are forgotten.
const MIN_BEFORE_PURGE: usize = 1024;

/// The first escalation of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstOfSession {
    /// Its record.
    pub position: Position,
    recorded: Timestamp,
}

/// The first escalations of the sessions of each partition, as far as they can have repetitions.
#[derive(Debug, Default)]
pub struct SessionRepeats {
    /// How long after the first one an escalation is its repetition; `None`: never.
    window: Option<SignedDuration>,
    partitions: BTreeMap<i32, PartitionFirsts>,
}

#[derive(Debug, Default)]
struct PartitionFirsts {
    firsts: HashMap<Arc<str>, FirstOfSession>,
    /// Escalations since the last purge, also those that found no room.
    since_purge: usize,
}

impl SessionRepeats {
    /// Without a window nothing is a repetition.
    pub fn new(window: Option<Duration>) -> Self {
        let window = window.map(|window| window.try_into().unwrap_or(SignedDuration::MAX));
        Self { window, ..Self::default() }
    }

    /// Returns the escalation of its partition that this one repeats, if it does; else remembers it.
    pub fn first_of(&mut self, event: &Event, record: &Record) -> Option<FirstOfSession> {
        let (window, recorded) = (self.window?, record.timestamp?);
        let has_id = *event.id != record.position.to_string();
        if has_id {
            return None;
        }
        let remembered: usize = self.partitions.values().map(|of| of.firsts.len()).sum();
        let partition = self.partitions.entry(record.position.partition).or_default();
        if let Some(first) = partition.firsts.get(&event.session_id) {
            let after = recorded.duration_since(first.recorded);
            if after >= SignedDuration::ZERO && after <= window {
                let is_again = first.position == record.position;
                return (!is_again).then(|| first.clone());
            }
        }
        partition.purge(recorded, window);
        if remembered < MAX_SESSIONS || partition.firsts.contains_key(&event.session_id) {
            let first = FirstOfSession { position: record.position.clone(), recorded };
            partition.firsts.insert(event.session_id.clone(), first);
        }
        None
    }

    /// The partition is no longer assigned.
    pub fn forget_partition(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }
}

impl PartitionFirsts {
    /// Forget now and then those that can have no repetition beside a record of this time. How often
    /// depends on their number, so that it costs a few steps per record, also where all are remembered.
    fn purge(&mut self, recorded: Timestamp, window: SignedDuration) {
        self.since_purge += 1;
        if self.since_purge > MIN_BEFORE_PURGE + self.firsts.len() / 8 {
            self.firsts.retain(|_, first| recorded.duration_since(first.recorded).abs() <= window);
            self.since_purge = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Correlation, TransferRequest};

    struct Escalation<'a> {
        partition: i32,
        offset: i64,
        second: i64,
        session: &'a str,
        id: Option<&'a str>,
    }

    fn first_of(repeats: &mut SessionRepeats, escalation: &Escalation<'_>) -> Option<i64> {
        let &Escalation { partition, offset, second, session, id } = escalation;
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        let position = Position { topic: "t".into(), partition, offset };
        let id = id.map_or_else(|| position.to_string(), str::to_owned);
        let event = Event {
            id: id.into(),
            session_id: session.into(),
            source: position.clone(),
            requested_at: at,
            deadline: at,
            trace: vec![],
            request: Ok(TransferRequest::default()),
            notes: vec![],
            correlation: Correlation::default(),
        };
        let record =
            Record { position, timestamp: Some(at), key: None, value: None, headers: vec![] };
        repeats.first_of(&event, &record).map(|first| first.position.offset)
    }

    fn without_id(offset: i64, second: i64, session: &str) -> Escalation<'_> {
        Escalation { partition: 0, offset, second, session, id: None }
    }

    #[test]
    fn an_escalation_without_id_within_the_window_repeats_the_first_of_its_session() {
        let mut repeats = SessionRepeats::new(Some(Duration::from_secs(10)));
        for (escalation, expected) in [
            (without_id(0, 0, "s"), None),
            (without_id(1, 1, "t"), None),
            (without_id(2, 0, "s"), Some(0)),
            (without_id(3, 10, "s"), Some(0)),
            (without_id(0, 0, "s"), None),
            (Escalation { id: Some("own"), ..without_id(4, 5, "s") }, None),
            (without_id(5, 11, "s"), None),
            (without_id(6, 12, "s"), Some(5)),
            (without_id(7, 3, "s"), None),
        ] {
            assert_eq!(first_of(&mut repeats, &escalation), expected, "{}", escalation.offset);
        }
        let mut off = SessionRepeats::new(None);
        assert_eq!(first_of(&mut off, &without_id(0, 0, "s")), None);
        assert_eq!(first_of(&mut off, &without_id(1, 0, "s")), None);
    }

    #[test]
    fn an_escalation_of_another_partition_or_one_with_an_id_is_no_first() {
        let mut repeats = SessionRepeats::new(Some(Duration::from_secs(10)));
        for (escalation, expected) in [
            (without_id(0, 0, "s"), None),
            (Escalation { partition: 1, ..without_id(1, 1, "s") }, None),
            (Escalation { partition: 1, ..without_id(2, 2, "s") }, Some(1)),
            // It may be a duplicate that is not answered.
            (Escalation { id: Some("old"), ..without_id(3, 3, "t") }, None),
            (without_id(4, 4, "t"), None),
            (without_id(5, 5, "t"), Some(4)),
        ] {
            assert_eq!(first_of(&mut repeats, &escalation), expected, "{}", escalation.offset);
        }
        repeats.forget_partition(0);
        assert_eq!(first_of(&mut repeats, &without_id(6, 6, "t")), None);
    }

    #[test]
    fn sessions_beyond_the_window_are_forgotten() {
        let mut repeats = SessionRepeats::new(Some(Duration::from_secs(10)));
        let remembered = |repeats: &SessionRepeats| repeats.partitions[&0].firsts.len();
        for number in 0..20_000 {
            first_of(&mut repeats, &without_id(number, number, &format!("s-{number}")));
        }
        assert!(remembered(&repeats) <= 1200, "{}", remembered(&repeats));
        // A burst fills the memory, and the seconds after it make room again.
        for number in 0..150_000 {
            first_of(&mut repeats, &without_id(number, 30_000, &format!("b-{number}")));
        }
        assert_eq!(remembered(&repeats), MAX_SESSIONS);
        for number in 0..20_000 {
            first_of(&mut repeats, &without_id(number, 40_000 + number, &format!("a-{number}")));
        }
        assert!(remembered(&repeats) <= 1200, "{}", remembered(&repeats));
    }
}
