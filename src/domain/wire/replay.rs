//! Replays: a dead letter that goes back to the escalations topic, once.
//!
//! The replayed record has the key, the value and the headers of the record that could not be read.
//! Its own headers say whose replay it is, and carry the identity of the first record: an escalation
//! without an id is known by its record, and must not become another event because it was replayed.
//! For each replayed record a [`marker`] goes to the dead-letter topic, in the same transaction.

use jiff::Timestamp;

use super::dead_letter::{DeadLetter, own_headers_start};
use super::headers::{self as names, text_header};
use crate::domain::record::{Header, Position, Record, last_header};

/// The value of the header `handoff-type` of a marker.
const MARKER_TYPE: &str = "replayed";

/// A dead letter as `handoff dead-letters` sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    /// The position of the dead letter.
    pub of: Position,
    /// How often its record was replayed before.
    pub count: u32,
    /// The record that was read first.
    pub first: FirstRecord,
    /// The record to be published; its position is that of the record that could not be read.
    pub record: Record,
}

/// The record by which an escalation without an id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstRecord {
    /// Its position.
    pub position: Position,
    /// Its timestamp, if it has one.
    pub timestamp: Option<Timestamp>,
}

/// Why a dead letter cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReplayable {
    /// Its headers do not name the record: another program wrote it.
    NoSource,
    /// The dead-letter topic refused it as too large, so that a part was left out.
    Omitted,
}

impl Replay {
    /// Reads a record of the dead-letter topic.
    pub(crate) fn of(dead_letter: Record) -> Result<Self, NotReplayable> {
        let read = DeadLetter::read(&dead_letter.headers);
        let source = read.source().ok_or(NotReplayable::NoSource)?;
        let own = own_headers_start(&dead_letter.headers);
        let has_header = |name| last_header(&dead_letter.headers[own..], name).is_some();
        if has_header(names::VALUE_OMITTED) || has_header(names::HEADERS_OMITTED) {
            return Err(NotReplayable::Omitted);
        }
        let Record { position: of, key, value, mut headers, .. } = dead_letter;
        headers.truncate(own);
        let timestamp = read.source_timestamp.and_then(|text| text.parse().ok());
        let this = Record { position: source, timestamp, key, value, headers };
        let (count, first) = (replays(&this.headers), FirstRecord::of(&this));
        Ok(Self { of, count, first, record: this })
    }

    /// The headers of the replayed record.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let is_ours = |name: &str| {
            [names::REPLAY_COUNT, names::REPLAY_OF, names::REPLAY_FIRST].contains(&name)
        };
        let own = self.record.headers.iter().filter(|(name, _)| !is_ours(name));
        let mut headers: Vec<Header> = own.cloned().collect();
        headers.push(text_header(names::REPLAY_COUNT, &(self.count + 1).to_string()));
        headers.push(text_header(names::REPLAY_OF, &self.of.to_string()));
        headers.push(text_header(names::REPLAY_FIRST, &self.first.to_text()));
        headers
    }

    /// The marker in the dead-letter topic: this dead letter was replayed.
    pub(crate) fn marker(&self) -> Vec<Header> {
        vec![
            text_header(names::TYPE, MARKER_TYPE),
            text_header(names::REPLAY_OF, &self.of.to_string()),
        ]
    }
}

/// The position of the dead letter that this record of the dead-letter topic marks as replayed.
pub(crate) fn marked(record: &Record) -> Option<Position> {
    // A dead letter keeps the headers of its record, whatever they say.
    let is_marker = record.header(names::TYPE) == Some(MARKER_TYPE.as_bytes())
        && record.header(names::ERROR_CLASS).is_none();
    if !is_marker {
        return None;
    }
    parse_position(std::str::from_utf8(record.header(names::REPLAY_OF)?).ok()?)
}

/// How often a record was replayed.
fn replays(headers: &[Header]) -> u32 {
    let count = last_header(headers, names::REPLAY_COUNT);
    let count = count.and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
    count.unwrap_or(0)
}

impl FirstRecord {
    /// The record itself, or the one that it is a replay of.
    pub(crate) fn of(record: &Record) -> Self {
        let header = record.header(names::REPLAY_FIRST);
        let first = header.and_then(|text| Self::parse(std::str::from_utf8(text).ok()?));
        let itself = || Self { position: record.position.clone(), timestamp: record.timestamp };
        first.unwrap_or_else(itself)
    }

    fn to_text(&self) -> String {
        let at = self.timestamp.map(|at| at.as_millisecond().to_string()).unwrap_or_default();
        format!("{}@{at}", self.position)
    }

    fn parse(text: &str) -> Option<Self> {
        let (position, at) = text.rsplit_once('@')?;
        let position = parse_position(position)?;
        let timestamp = match at {
            "" => None,
            at => Some(Timestamp::from_millisecond(at.parse().ok()?).ok()?),
        };
        Some(Self { position, timestamp })
    }
}

/// Reads `topic/partition/offset`.
pub(crate) fn parse_position(text: &str) -> Option<Position> {
    let mut parts = text.rsplitn(3, '/');
    let (offset, partition) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let topic = parts.next().filter(|topic| !topic.is_empty())?;
    Some(Position { topic: topic.into(), partition, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Malformed, MalformedClass};
    use crate::domain::wire::dead_letter::dead_letter;

    fn position(topic: &str, offset: i64) -> Position {
        Position { topic: topic.into(), partition: 3, offset }
    }

    fn record(offset: i64, headers: Vec<Header>) -> Record {
        Record {
            position: position("in", offset),
            timestamp: "2026-11-23T10:00:00.123Z".parse().ok(),
            key: Some(b"k".to_vec()),
            value: Some(b"poison".to_vec()),
            headers,
        }
    }

    /// The dead letter of a record, as it is read at this offset.
    fn dead_letter_of(record: Record, offset: i64) -> Record {
        let malformed = Malformed { class: MalformedClass::NotJson, error: "x".into() };
        let message = dead_letter(record, &malformed, "2026-11-23T10:00:01Z".parse().unwrap());
        Record {
            position: position("dead", offset),
            timestamp: None,
            key: message.key,
            value: message.value,
            headers: message.headers,
        }
    }

    fn texts(headers: &[Header]) -> Vec<String> {
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().unwrap()).unwrap();
        headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
    }

    #[test]
    fn a_replay_keeps_the_record_and_its_first_identity() {
        let own = vec![("own".to_owned(), Some(b"kept".to_vec()))];
        let replay = Replay::of(dead_letter_of(record(42, own.clone()), 7)).unwrap();
        assert_eq!(replay.record, record(42, own), "key, value, headers, position and time");
        assert_eq!((replay.count, &replay.of), (0, &position("dead", 7)));
        let first = "handoff-replay-first: in/3/42@1795428000123";
        let headers = replay.headers();
        let expected =
            ["own: kept", "handoff-replay-count: 1", "handoff-replay-of: dead/3/7", first];
        assert_eq!(texts(&headers), expected);

        // The replayed record is at another offset, and cannot be read either.
        let again = Replay::of(dead_letter_of(record(99, headers), 8)).unwrap();
        assert_eq!((again.count, again.first.position.offset), (1, 42));
        let expected =
            ["own: kept", "handoff-replay-count: 2", "handoff-replay-of: dead/3/8", first];
        assert_eq!(texts(&again.headers()), expected);
    }

    #[test]
    fn a_marker_names_the_dead_letter() {
        let replay = Replay::of(dead_letter_of(record(42, vec![]), 7)).unwrap();
        let marker = Record { headers: replay.marker(), ..record(9, vec![]) };
        assert_eq!(marked(&marker), Some(position("dead", 7)));
        assert_eq!(marked(&dead_letter_of(record(42, replay.marker()), 7)), None, "a dead letter");
        assert_eq!(marked(&record(1, replay.headers())), None);
        assert_eq!(marked(&record(1, vec![])), None);
    }

    #[test]
    fn what_is_not_whole_is_not_replayed() {
        let whole = dead_letter_of(record(42, vec![]), 7);
        let mut omitted = whole.clone();
        omitted.headers.push(text_header(names::VALUE_OMITTED, "9"));
        assert_eq!(Replay::of(omitted), Err(NotReplayable::Omitted));
        let of_original = vec![text_header(names::VALUE_OMITTED, "9")];
        assert!(Replay::of(dead_letter_of(record(42, of_original), 7)).is_ok());
        assert_eq!(Replay::of(record(1, vec![])), Err(NotReplayable::NoSource));
    }

    #[test]
    fn a_record_is_known_by_itself_unless_it_is_a_replay() {
        let own = FirstRecord::of(&record(5, vec![]));
        assert_eq!((own.position.offset, own.timestamp), (5, record(5, vec![]).timestamp));
        for (text, offset) in
            [("in/3/42@", 42), ("a/b/3/42@1", 42), ("in/3/42", 5), ("@1", 5), ("x", 5)]
        {
            let replayed = record(5, vec![text_header(names::REPLAY_FIRST, text)]);
            assert_eq!(FirstRecord::of(&replayed).position.offset, offset, "{text}");
        }
    }
}
