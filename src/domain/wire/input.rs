//! The configured part of reading records that other systems have written.

/// How records of other systems are read. The default is that of `config/default.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRules {
    /// Envelopes of Kafka Connect, Debezium and schema registries are removed.
    pub unwrap: bool,
    /// The header with the identity of an escalation that has none in its value.
    pub id_header: Option<String>,
}

impl Default for InputRules {
    fn default() -> Self {
        Self { unwrap: true, id_header: Some("id".to_owned()) }
    }
}
