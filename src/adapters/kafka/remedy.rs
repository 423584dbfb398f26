//! What an operator does about an error that a broker reports: one true sentence for each.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicUse<'a> {
    /// Reading this topic.
    Read(&'a str),
    /// Writing to this topic.
    Write(&'a str),
}

impl<'a> TopicUse<'a> {
    /// The topic.
    pub(crate) fn topic(self) -> &'a str {
        let (Self::Read(topic) | Self::Write(topic)) = self;
        topic
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Read(_) => "Read",
            Self::Write(_) => "Write",
        }
    }
}

/// What to do; `None` where the error does not say it.
pub(crate) fn remedy(code: Code, usage: &TopicUse<'_>) -> Option<String> {
    let topic = usage.topic();
    Some(match code {
        Code::TopicAuthorizationFailed => acl(usage.operation(), "Topic", topic),
        Code::ClusterAuthorizationFailed => {
            "allow this principal the operation IdempotentWrite on Cluster \"kafka-cluster\" (an \
             ACL)"
                .into()
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            format!("create the topic {topic}, or correct its name under [kafka]")
        }
        Code::InvalidTimestamp => format!(
            "compare the clocks of this machine and of the brokers, and see \
             message.timestamp.before.max.ms and message.timestamp.after.max.ms of {topic}"
        ),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => format!(
            "start the brokers that have the other replicas of {topic}, or lower its \
             min.insync.replicas"
        ),
        Code::LeaderNotAvailable => format!("start the brokers that have replicas of {topic}"),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            format!("raise max.message.bytes of {topic}")
        }
        Code::InvalidRecord => format!(
            "see cleanup.policy of {topic}: a compacted topic refuses records without a key"
        ),
        Code::KafkaStorageError => "look at the disks of the brokers".into(),
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "correct sasl.* under [kafka.properties]".into()
        }
        _ => return None,
    })
}

/// The same for an error that may have the broker's at its root.
pub(crate) fn remedy_of(error: &anyhow::Error, usage: &TopicUse<'_>) -> Option<String> {
    remedy(*error.downcast_ref::<Code>()?, usage)
}

/// Grant a permission.
pub(crate) fn acl(operation: &str, resource: &str, name: &str) -> String {
    format!("allow this principal the operation {operation} on {resource} {name:?} (an ACL)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_denied_permission_advises_an_acl() {
        let remedy = |code| remedy(code, &TopicUse::Write("out"));
        assert!(remedy(Code::TopicAuthorizationFailed).unwrap().contains("Write on Topic \"out\""));
        for code in [Code::InvalidTimestamp, Code::NotEnoughReplicas, Code::UnknownTopicOrPartition]
        {
            assert!(!remedy(code).unwrap().contains("ACL"), "{code}");
        }
        assert_eq!(remedy(Code::Unknown), None, "no guess");
    }
}
