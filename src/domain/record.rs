//! A Kafka record as plain data: its position, and key, value and headers as uninterpreted bytes.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The topic, partition and offset of a record. As text: `topic/partition/offset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition within the topic.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// One header of a record; Kafka allows a null value.
pub type Header = (String, Option<Vec<u8>>);

/// Returns the value of the last header with this name, as Kafka's clients do.
pub fn last_header<'h>(headers: &'h [Header], name: &str) -> Option<&'h [u8]> {
    headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The position it was read from.
    pub position: Position,
    /// The create or append time, if the record has one.
    pub timestamp: Option<Timestamp>,
    /// The key's bytes; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is Kafka's null (a tombstone).
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

/// Tells a record from every other one of its partition, also from one that was at the same offset
/// before the topic was deleted and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordIdentity {
    /// The offset within the partition.
    pub(crate) offset: i64,
    timestamp: Option<Timestamp>,
    key_hash: u64,
}

impl Record {
    /// Its identity within its partition.
    pub(crate) fn identity(&self) -> RecordIdentity {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        let (offset, timestamp) = (self.position.offset, self.timestamp);
        RecordIdentity { offset, timestamp, key_hash: hasher.finish() }
    }

    /// Returns the value of the last header with this name, as Kafka's clients do.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        last_header(&self.headers, name)
    }

    /// Returns the size of key, value and headers, which counts towards the intake's memory limit.
    pub fn size_bytes(&self) -> usize {
        let bytes = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + bytes(v)).sum();
        bytes(&self.key) + bytes(&self.value) + headers
    }
}
