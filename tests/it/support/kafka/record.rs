//! Records as a test writes and reads them: owned and comparable, without client types.

use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// The key.
    pub(crate) key: Option<Vec<u8>>,
    /// The value.
    pub(crate) value: Option<Vec<u8>>,
    /// The headers, in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// The partition, where the key is not to decide.
    pub(crate) partition: Option<i32>,
    /// Its `CreateTime` in milliseconds since 1970; without one, the producer's clock.
    pub(crate) timestamp: Option<i64>,
}

impl Record {
    /// A record with a key and a value.
    pub(crate) fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// The same on this partition.
    pub(crate) fn on(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Where it lies.
    pub(crate) partition: i32,
    /// Where it lies there.
    pub(crate) offset: i64,
    /// The key.
    pub(crate) key: Option<Vec<u8>>,
    /// The value.
    pub(crate) value: Option<Vec<u8>>,
    /// The headers, in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
}

impl Received {
    /// The text of the first header of this name, which must be there.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        let value = found.and_then(|(_, value)| value.as_deref());
        std::str::from_utf8(value.unwrap_or_else(|| panic!("no header {name}: {self:?}"))).unwrap()
    }

    /// Whether there is a header of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(key, _)| key == name)
    }

    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            timestamp: message.timestamp().to_millis(),
        }
    }
}
