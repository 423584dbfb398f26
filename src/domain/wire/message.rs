//! A record to be published: an outcome or a dead letter as bytes and headers.

use super::headers;
use crate::domain::record::{Header, last_header};

/// The topic that a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The outcome topic.
    Outcomes,
    /// The dead-letter topic.
    DeadLetters,
}

/// A record to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub channel: Channel,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<Header>,
}

impl Message {
    /// Returns the outcome's status, or the dead letter's error class.
    pub fn label(&self) -> &str {
        let name = match self.channel {
            Channel::Outcomes => headers::STATUS,
            Channel::DeadLetters => headers::ERROR_CLASS,
        };
        // The last header counts: a dead letter may carry the headers of an earlier one.
        let value = last_header(&self.headers, name);
        value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}
