//! The names of the Kafka headers. They are part of the formats: consumers rely on them.

use crate::domain::record::Header;

/// The media type of the value.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// Of an escalation: its type, for producers that cannot write it into the value.
pub(crate) const TYPE: &str = "handoff-type";
/// The W3C trace context of an escalation, copied to its outcome.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The vendor part of the trace context.
pub(crate) const TRACESTATE: &str = "tracestate";

/// Of an outcome: its status.
pub(crate) const STATUS: &str = "handoff-status";
/// Of an outcome: the identity of the escalation.
pub(crate) const EVENT_ID: &str = "handoff-event-id";
/// Of a truncated outcome: the fields and headers that were cut or removed.
pub(crate) const DETAILS_OMITTED: &str = "handoff-details-omitted";

/// Of a dead letter: the class of the error. It is the first header that the service adds.
pub(crate) const ERROR_CLASS: &str = "handoff-error-class";
/// Of a dead letter: one sentence about the error.
pub(crate) const ERROR: &str = "handoff-error";
/// Of a dead letter: the topic of the malformed record.
pub(crate) const SOURCE_TOPIC: &str = "handoff-source-topic";
/// Of a dead letter: the partition of the malformed record.
pub(crate) const SOURCE_PARTITION: &str = "handoff-source-partition";
/// Of a dead letter: the offset of the malformed record.
pub(crate) const SOURCE_OFFSET: &str = "handoff-source-offset";
/// Of a dead letter: the timestamp of the malformed record, where it has one.
pub(crate) const SOURCE_TIMESTAMP: &str = "handoff-source-timestamp";
/// Of a dead letter: when the service first read the malformed record.
pub(crate) const FIRST_SEEN: &str = "handoff-first-seen";
/// Of a truncated dead letter: the size of the removed value in bytes.
pub(crate) const VALUE_OMITTED: &str = "handoff-value-omitted";
/// Of a truncated dead letter: the size of the removed key and headers in bytes.
pub(crate) const HEADERS_OMITTED: &str = "handoff-headers-omitted";

/// Of a replayed record: how often it was replayed, this time included.
pub(crate) const REPLAY_COUNT: &str = "handoff-replay-count";
/// Of a replayed record, and of its marker in the dead-letter topic: the position of the dead letter.
pub(crate) const REPLAY_OF: &str = "handoff-replay-of";
/// Of a replayed record: position and timestamp of the record that was read first.
pub(crate) const REPLAY_FIRST: &str = "handoff-replay-first";

pub(super) fn text_header(name: &str, value: &str) -> Header {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}
