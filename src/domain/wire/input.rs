//! The configured part of reading records that other systems have written.

use std::borrow::Cow;
use std::time::Duration;

use super::dialects::{Dialect, cloudevents};

/// How records of other systems are read. The default is that of `config/default.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRules {
    /// Envelopes of Kafka Connect, Debezium and schema registries are removed.
    pub unwrap: bool,
    /// CloudEvents are recognised by their shape.
    pub cloudevents: bool,
    /// The `type` of the CloudEvents that are escalations; empty: any.
    pub cloudevents_types: Vec<String>,
    /// The formats that records may have, in the order in which they are tried.
    pub dialects: Vec<Dialect>,
    /// An escalation without an identity of its own that follows another one of its session within
    /// this time is its repetition; `None`: never.
    pub same_session_within: Option<Duration>,
    /// The header with the identity of an escalation that has none in its value.
    pub id_header: Option<String>,
}

impl InputRules {
    /// The names of the formats that an escalation may have.
    pub fn format_names(&self) -> impl Iterator<Item = Cow<'static, str>> {
        let cloudevents = self.cloudevents.then_some(Cow::Borrowed(cloudevents::NAME));
        cloudevents.into_iter().chain(self.dialects.iter().map(Dialect::kept_name))
    }
}

impl Default for InputRules {
    fn default() -> Self {
        Self {
            unwrap: true,
            cloudevents: true,
            cloudevents_types: Vec::new(),
            dialects: vec![Dialect::Native],
            same_session_within: None,
            id_header: Some("id".to_owned()),
        }
    }
}
