//! Dead letters: a malformed record with its bytes unchanged and headers that say what is wrong.
//!
//! The service writes them with [`dead_letter`]; `outcomes`, `audit` and `demo` read them as a
//! [`DeadLetter`].

use jiff::Timestamp;

use super::headers::{self as names, text_header};
use super::message::{Channel, Message};
use crate::domain::event::Malformed;
use crate::domain::record::{Header, Position, Record, last_header};

/// Builds the dead letter of a malformed record.
pub fn dead_letter(record: Record, malformed: &Malformed, first_seen: Timestamp) -> Message {
    let Record { position, timestamp, key, value, mut headers } = record;
    // The class comes first: truncation finds the end of the original headers by it.
    headers.push(text_header(names::ERROR_CLASS, malformed.class.as_str()));
    headers.push(text_header(names::ERROR, &malformed.error));
    headers.push(text_header(names::SOURCE_TOPIC, &position.topic));
    headers.push(text_header(names::SOURCE_PARTITION, &position.partition.to_string()));
    headers.push(text_header(names::SOURCE_OFFSET, &position.offset.to_string()));
    if let Some(timestamp) = timestamp {
        headers.push(text_header(names::SOURCE_TIMESTAMP, &timestamp.to_string()));
    }
    headers.push(text_header(names::FIRST_SEEN, &first_seen.to_string()));
    Message { channel: Channel::DeadLetters, key, value, headers }
}

/// Where the headers of the service begin: they follow the record's own, which may have the same names.
pub(super) fn own_headers_start(headers: &[Header]) -> usize {
    headers.iter().rposition(|(name, _)| name == names::ERROR_CLASS).unwrap_or(0)
}

/// What the headers of a dead letter say. A dead letter of another version or program may lack
/// any of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// The class of the error, a word of [`MalformedClass`](crate::domain::event::MalformedClass).
    pub class: Option<String>,
    /// One sentence about the error.
    pub error: Option<String>,
    /// The topic of the malformed record.
    pub source_topic: Option<String>,
    /// The partition of the malformed record.
    pub source_partition: Option<i32>,
    /// The offset of the malformed record.
    pub source_offset: Option<i64>,
    /// The timestamp of the malformed record, as it is written.
    pub source_timestamp: Option<String>,
    /// When the service first read the malformed record, as it is written.
    pub first_seen: Option<String>,
    /// The size in bytes of a value that was omitted because the topic refused it.
    pub omitted_value_bytes: Option<u64>,
}

impl DeadLetter {
    /// Reads the headers of a dead letter; bytes that are not UTF-8 are replaced.
    pub fn read(headers: &[Header]) -> Self {
        let own = &headers[own_headers_start(headers)..];
        let text = |name| Some(String::from_utf8_lossy(last_header(own, name)?).into_owned());
        Self {
            class: text(names::ERROR_CLASS),
            error: text(names::ERROR),
            source_topic: text(names::SOURCE_TOPIC),
            source_partition: text(names::SOURCE_PARTITION).and_then(|n| n.parse().ok()),
            source_offset: text(names::SOURCE_OFFSET).and_then(|n| n.parse().ok()),
            source_timestamp: text(names::SOURCE_TIMESTAMP),
            first_seen: text(names::FIRST_SEEN),
            omitted_value_bytes: text(names::VALUE_OMITTED).and_then(|n| n.parse().ok()),
        }
    }

    /// Returns the position of the malformed record, or `None` where a part of it is missing.
    pub fn source(&self) -> Option<Position> {
        Some(Position {
            topic: self.source_topic.as_deref()?.into(),
            partition: self.source_partition?,
            offset: self.source_offset?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::MalformedClass;

    fn malformed_record() -> Record {
        Record {
            position: Position { topic: "handoff.escalations".into(), partition: 3, offset: 42 },
            timestamp: Some("2026-11-23T10:00:00Z".parse().unwrap()),
            key: None,
            value: Some(vec![0xff, 0x00]),
            headers: vec![("own".into(), Some(b"kept".to_vec()))],
        }
    }

    fn not_json() -> Message {
        let malformed = Malformed { class: MalformedClass::NotJson, error: "not JSON".into() };
        dead_letter(malformed_record(), &malformed, "2026-11-23T10:00:01Z".parse().unwrap())
    }

    #[test]
    fn a_dead_letter_keeps_the_original_and_adds_its_provenance() {
        let message = not_json();
        assert_eq!((&message.key, &message.value), (&None, &Some(vec![0xff, 0x00])));
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().unwrap()).unwrap();
        let headers: Vec<_> =
            message.headers.iter().map(|(n, v)| format!("{n}: {}", text(v))).collect();
        insta::assert_debug_snapshot!(headers, @r#"
        [
            "own: kept",
            "handoff-error-class: not_json",
            "handoff-error: not JSON",
            "handoff-source-topic: handoff.escalations",
            "handoff-source-partition: 3",
            "handoff-source-offset: 42",
            "handoff-source-timestamp: 2026-11-23T10:00:00Z",
            "handoff-first-seen: 2026-11-23T10:00:01Z",
        ]
        "#);
    }

    #[test]
    fn a_dead_letter_is_read_as_it_was_written() {
        let record = Record { headers: not_json().headers, ..malformed_record() };
        let read = DeadLetter::read(&record.headers);
        assert_eq!(read.source(), Some(record.position));
        let expected = DeadLetter {
            class: Some("not_json".into()),
            error: Some("not JSON".into()),
            source_topic: Some("handoff.escalations".into()),
            source_partition: Some(3),
            source_offset: Some(42),
            source_timestamp: Some("2026-11-23T10:00:00Z".into()),
            first_seen: Some("2026-11-23T10:00:01Z".into()),
            omitted_value_bytes: None,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_the_malformed_record_brought_along_is_not_read() {
        let names = [names::ERROR_CLASS, names::SOURCE_TIMESTAMP, names::VALUE_OMITTED];
        let headers = names.map(|name| text_header(name, "7")).to_vec();
        let record = Record { headers, timestamp: None, ..malformed_record() };
        let malformed = Malformed { class: MalformedClass::NotJson, error: "not JSON".into() };
        let message = dead_letter(record, &malformed, "2026-11-23T10:00:01Z".parse().unwrap());
        let read = DeadLetter::read(&message.headers);
        assert_eq!(read.class.as_deref(), Some("not_json"));
        assert_eq!((read.source_timestamp, read.omitted_value_bytes), (None, None));
    }

    #[test]
    fn the_source_is_unknown_where_a_part_of_it_is_missing() {
        let mut record = Record { headers: vec![], ..malformed_record() };
        assert_eq!(DeadLetter::read(&record.headers), DeadLetter::default());
        for (name, value) in [("topic", "in"), ("partition", "2"), ("offset", "77")] {
            assert_eq!(DeadLetter::read(&record.headers).source(), None);
            record.headers.push(text_header(&format!("handoff-source-{name}"), value));
        }
        let expected = Position { topic: "in".into(), partition: 2, offset: 77 };
        assert_eq!(DeadLetter::read(&record.headers).source(), Some(expected));
    }
}
