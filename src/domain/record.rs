//! A Kafka record as plain data: where it stood, and its bytes untouched.
//!
//! Every later type points back to the `Position` of the record it came from.
//! This file never interprets a byte of key, value or headers.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

/// Where a record stood: topic, partition and offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The topic it was read from.
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

/// A record as it was read, nothing decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stood.
    pub position: Position,
    /// The time the record bears (create or append time), if any.
    pub timestamp: Option<Timestamp>,
    /// The key's bytes; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is Kafka's null (a tombstone).
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

impl Record {
    /// The value of the last header of this name, as Kafka's clients look it up.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref())
    }

    /// How much memory the record holds, roughly: for the intake's bound.
    pub fn size_bytes(&self) -> usize {
        let bytes = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + bytes(v)).sum();
        bytes(&self.key) + bytes(&self.value) + headers
    }
}
