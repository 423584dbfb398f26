//! Recognises a second escalation of a session shortly after the first: publishers without ids repeat
//! a record after a broken connection, and a bot may ask twice.
//!
//! The first ones are in memory only. A repetition that is read after a restart, when its first is
//! already answered and committed, counts as an escalation of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::event::Event;
use super::record::{Position, Record};

/// The most sessions that are remembered; those beyond have no repetitions.
const MAX_SESSIONS: usize = 100_000;

/// The first escalation of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstOfSession {
    /// Its identity.
    pub id: Arc<str>,
    /// Its record.
    pub position: Position,
    recorded: Timestamp,
}

/// The first escalations of the sessions, as far as they can have repetitions.
#[derive(Debug, Default)]
pub struct SessionRepeats {
    /// How long after the first one an escalation is its repetition; `None`: never.
    window: Option<SignedDuration>,
    firsts: HashMap<Arc<str>, FirstOfSession>,
    next_purge: usize,
}

impl SessionRepeats {
    /// Without a window nothing is a repetition.
    pub fn new(window: Option<Duration>) -> Self {
        let window = window.map(|window| window.try_into().unwrap_or(SignedDuration::MAX));
        Self { window, ..Self::default() }
    }

    /// Returns the escalation that this one repeats, if it does; else remembers it.
    pub fn first_of(&mut self, event: &Event, record: &Record) -> Option<FirstOfSession> {
        let (window, recorded) = (self.window?, record.timestamp?);
        let has_id = *event.id != record.position.to_string();
        if let Some(first) = self.firsts.get(&event.session_id) {
            let after = recorded.duration_since(first.recorded);
            let is_within = after >= SignedDuration::ZERO && after <= window;
            let is_again = first.position == record.position;
            if is_within && (has_id || is_again) {
                return None;
            }
            if is_within {
                return Some(first.clone());
            }
        }
        self.remember(event, record, recorded);
        None
    }

    fn remember(&mut self, event: &Event, record: &Record, recorded: Timestamp) {
        if self.firsts.len() >= self.next_purge {
            let window = self.window.unwrap_or_default();
            self.firsts.retain(|_, first| recorded.duration_since(first.recorded) <= window);
            self.next_purge = (2 * self.firsts.len()).max(1024);
        }
        if self.firsts.len() < MAX_SESSIONS || self.firsts.contains_key(&event.session_id) {
            let (id, position) = (event.id.clone(), record.position.clone());
            let first = FirstOfSession { id, position, recorded };
            self.firsts.insert(event.session_id.clone(), first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Correlation, TransferRequest};

    struct Escalation<'a> {
        offset: i64,
        second: i64,
        session: &'a str,
        id: Option<&'a str>,
    }

    fn first_of(repeats: &mut SessionRepeats, escalation: &Escalation<'_>) -> Option<i64> {
        let &Escalation { offset, second, session, id } = escalation;
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        let position = Position { topic: "t".into(), partition: 0, offset };
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
        Escalation { offset, second, session, id: None }
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
    fn sessions_beyond_the_window_are_forgotten() {
        let mut repeats = SessionRepeats::new(Some(Duration::from_secs(10)));
        for number in 0..20_000 {
            first_of(&mut repeats, &without_id(number, number, &format!("s-{number}")));
        }
        assert!(repeats.firsts.len() <= 1024, "{}", repeats.firsts.len());
    }
}
