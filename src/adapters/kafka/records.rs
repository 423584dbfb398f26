//! Turns librdkafka's borrowed messages into the domain's [`Record`]s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};

use crate::domain::record::{Header, Position, Record};

/// An owned copy of a message.
pub(super) fn to_record(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        (0..headers.count()).filter_map(|index| header(headers, index)).collect()
    });
    Record {
        position: Position {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message
            .timestamp()
            .to_millis()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

/// A header, or `None` where its name is not UTF-8.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<Header> {
    // The protocol requires UTF-8 here, but brokers do not check it, and `rdkafka` panics. One
    // producer's bad header must not stop the consumer: skip the header, keep the record.
    let read = AssertUnwindSafe(|| headers.try_get(index));
    let header = catch_unwind(read).ok().flatten()?;
    Some((header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
}
