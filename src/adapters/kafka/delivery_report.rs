//! What became of a message that was enqueued at a producer, and what its failure proves.
//!
//! librdkafka sends a request again after a broken connection or an answer that did not come in time.
//! The error of the last request says nothing about the ones before: a broker may refuse the second
//! and append the first. So librdkafka keeps for each message whether any of its requests may have
//! been appended; `rdkafka` hands the message out, but not that.

use std::time::Duration;

use rdkafka::bindings::{rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::client_errors::ThrottledErrors;
use super::lost_brokers::LostBrokers;
use super::topic_identity::TopicIdentity;

/// Where an acknowledged message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The failure of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undelivered {
    pub(super) error: KafkaError,
    /// `None`: it was not assigned to a partition.
    pub(super) partition: Option<i32>,
    /// One of its requests may have been appended, whatever the error says.
    pub(super) is_possibly_persisted: bool,
}

/// In which partition attempts of a message may have arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Attempted {
    /// None may have.
    #[default]
    Nowhere,
    In(i32),
    /// In several, or it is not known in which.
    Anywhere,
}

impl Attempted {
    /// One more attempt has failed. A message without a key has another partition each time.
    #[must_use]
    pub(super) fn and(self, failure: &Undelivered) -> Self {
        match (self, failure.partition) {
            _ if !failure.may_have_arrived() => self,
            // It has waited for a partition and has not left.
            (_, None) if !failure.is_possibly_persisted => self,
            (Self::Nowhere, Some(partition)) => Self::In(partition),
            (Self::In(before), Some(partition)) if before == partition => self,
            _ => Self::Anywhere,
        }
    }

    /// The only partition where the message can be, if at all.
    pub(super) fn partition(self) -> Option<i32> {
        if let Self::In(partition) = self { Some(partition) } else { None }
    }
}

pub(super) type DeliveryReport = Result<Acknowledgement, Undelivered>;

/// Who waits for the report of a message.
pub(super) type ReportSender = Box<oneshot::Sender<DeliveryReport>>;

impl Undelivered {
    /// The client did not accept the message.
    pub(super) fn not_enqueued(error: KafkaError) -> Self {
        Self { error, partition: None, is_possibly_persisted: false }
    }

    /// The client has dropped the message without a report.
    pub(super) fn unanswered() -> Self {
        let error = KafkaError::MessageProduction(Code::PurgeInflight);
        Self { error, partition: None, is_possibly_persisted: true }
    }

    /// Whether the message may be in the topic. It is not where all its requests were refused, or
    /// where it never left.
    pub(super) fn may_have_arrived(&self) -> bool {
        self.is_possibly_persisted || !is_refusal(&self.error)
    }

    /// The partition where the message may have been appended without being visible yet, or may be
    /// appended later.
    ///
    /// librdkafka counts "not the leader" as a proof that nothing was appended, but a leader says so
    /// too when it loses the partition after it has appended the message. What timed out later may be
    /// such a message, so the status alone does not clear it.
    pub(super) fn may_be_hidden_in(&self) -> Option<i32> {
        let timed_out = self.error.rdkafka_error_code() == Some(Code::MessageTimedOut);
        self.partition.filter(|_| self.is_possibly_persisted || timed_out)
    }

    /// The same, of a message that was purged because the client has had it for too long: it may be in
    /// the topic as one that librdkafka gives up for that.
    #[must_use]
    pub(super) fn timed_out(self) -> Self {
        match self.error.rdkafka_error_code() {
            Some(Code::PurgeQueue | Code::PurgeInflight) => {
                Self { error: KafkaError::MessageProduction(Code::MessageTimedOut), ..self }
            }
            _ => self,
        }
    }

    /// Whether the brokers refuse the epoch of the client.
    pub(super) fn is_fenced(&self) -> bool {
        self.error.rdkafka_error_code() == Some(Code::InvalidProducerEpoch)
    }

    pub(super) fn is_too_large(&self) -> bool {
        let code = self.error.rdkafka_error_code();
        matches!(code, Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge))
    }
}

/// Whether the error means that this request, or this attempt to enqueue, has appended nothing.
fn is_refusal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Canceled)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                Code::QueueFull
                    | Code::MessageSizeTooLarge
                    | Code::MessageBatchTooLarge
                    | Code::TopicAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::UnknownTopic
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
                    | Code::InvalidTopic
                    | Code::InvalidRecord
                    | Code::InvalidTimestamp
            )
        )
}

/// When a broker refused a message of this client last.
pub(super) type LastRefusal = Option<Instant>;

/// A client counts as one whose messages are refused for this long.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Whether messages of the client are being refused.
pub(super) fn is_refused(last: LastRefusal) -> bool {
    last.is_some_and(|at| at.elapsed() < REFUSED_FOR)
}

/// The context of the service's producers, of which each has one topic: sends each report to who waits
/// for it.
pub(super) struct DeliveryReporter {
    errors: ThrottledErrors,
    topic: TopicIdentity,
    lost_brokers: LostBrokers,
    refusal: watch::Sender<LastRefusal>,
}

impl DeliveryReporter {
    pub(super) fn new(
        topic: &str,
        bootstrap_servers: &str,
        refusal: watch::Sender<LastRefusal>,
    ) -> Self {
        Self {
            errors: ThrottledErrors::default(),
            topic: TopicIdentity::new(topic),
            lost_brokers: LostBrokers::new(bootstrap_servers),
            refusal,
        }
    }

    /// Of the topic that the client publishes to.
    pub(super) fn topic(&self) -> &TopicIdentity {
        &self.topic
    }

    /// Of the client.
    pub(super) fn lost_brokers(&self) -> &LostBrokers {
        &self.lost_brokers
    }

    /// The brokers refused a message. Who waits is notified of the first refusal only, or thousands
    /// would be with each.
    pub(super) fn on_refusal(&self) {
        self.refusal.send_if_modified(|last| {
            let is_first = !is_refused(*last);
            *last = Some(Instant::now());
            is_first
        });
    }
}

impl ClientContext for DeliveryReporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.topic.on_log(message);
        self.lost_brokers.on_log(message);
        self.errors.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.errors.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.error(error, reason);
    }
}

impl ProducerContext for DeliveryReporter {
    type DeliveryOpaque = ReportSender;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let report = match result {
            Ok(message) => {
                Ok(Acknowledgement { partition: message.partition(), offset: message.offset() })
            }
            Err((error, message)) => Err(Undelivered {
                error: error.clone(),
                partition: Some(message.partition()).filter(|partition| *partition >= 0),
                is_possibly_persisted: is_possibly_persisted(message),
            }),
        };
        // librdkafka's own errors are negative numbers.
        let code = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        if code.is_some_and(|code| (code as i32) > 0) {
            self.on_refusal();
        }
        // Fails where the publication was cancelled.
        drop(waiting.send(report));
    }
}

#[expect(unsafe_code, reason = "rdkafka has no safe function for the status of a message")]
fn is_possibly_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the pointer is that of a message which lives as long as this borrow, and which is only
    // read.
    let status = unsafe { rd_kafka_message_status(message.ptr()) };
    status != rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: Code, is_possibly_persisted: bool) -> Undelivered {
        let error = KafkaError::MessageProduction(code);
        Undelivered { error, partition: Some(3), is_possibly_persisted }
    }

    #[test]
    fn a_refusal_proves_something_only_if_all_requests_were_refused() {
        for code in [Code::MessageSizeTooLarge, Code::InvalidTimestamp] {
            let once = failed(code, false);
            assert!(!once.may_have_arrived() && once.may_be_hidden_in().is_none(), "{code}");
            let resent = failed(code, true);
            assert!(resent.may_have_arrived(), "{code}: the first request may have been appended");
            assert_eq!(resent.may_be_hidden_in(), Some(3), "{code}: or may be appended yet");
        }
    }

    #[test]
    fn only_attempts_that_agree_show_where_a_message_can_be() {
        let at = |partition| Undelivered { partition, ..failed(Code::PurgeInflight, true) };
        let after = |failures: &[Undelivered]| {
            failures.iter().fold(Attempted::default(), Attempted::and).partition()
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[at(Some(3)), at(Some(3))]), Some(3));
        assert_eq!(after(&[at(Some(3)), at(Some(4))]), None, "it has no key");
        assert_eq!(after(&[at(Some(3)), at(Some(4)), at(Some(4))]), None, "the first one counts");
        assert_eq!(after(&[at(Some(3)), Undelivered::unanswered()]), None);
        assert_eq!(after(&[Undelivered::unanswered(), at(Some(3))]), None);
        let refused = Undelivered { partition: Some(4), ..failed(Code::InvalidTimestamp, false) };
        assert_eq!(after(&[at(Some(3)), refused]), Some(3), "it is not there");
        let unassigned = Undelivered { partition: None, ..failed(Code::PurgeQueue, false) };
        assert_eq!(after(&[at(Some(3)), unassigned]), Some(3), "it has not left");
    }

    #[test]
    fn a_purged_message_may_have_been_sent_before_it_was_queued_again() {
        let queued = failed(Code::PurgeQueue, false);
        assert!(queued.may_have_arrived() && queued.may_be_hidden_in().is_none());
        assert_eq!(failed(Code::PurgeQueue, true).may_be_hidden_in(), Some(3));
        assert_eq!(failed(Code::PurgeInflight, true).may_be_hidden_in(), Some(3));
    }

    #[test]
    fn what_timed_out_may_be_hidden_whatever_its_status() {
        assert_eq!(failed(Code::MessageTimedOut, false).may_be_hidden_in(), Some(3));
        let unassigned = Undelivered { partition: None, ..failed(Code::MessageTimedOut, false) };
        assert_eq!(unassigned.may_be_hidden_in(), None, "it has never left");
    }

    #[test]
    fn what_the_client_did_not_accept_never_left() {
        let full = KafkaError::MessageProduction(Code::QueueFull);
        for error in [full, KafkaError::Canceled] {
            assert!(!Undelivered::not_enqueued(error).may_have_arrived());
        }
        assert!(Undelivered::unanswered().may_have_arrived());
    }
}
