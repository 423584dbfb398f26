//! Questions to the cluster that change nothing: is a topic there, may we read it, where is the
//! group. For `handoff check` and the demo.
//!
//! Every method takes at most about the probe's limit. They block, except for
//! [`ClusterProbe::topic_limits`] and [`ClusterProbe::can_create_producer`], which are async.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::client_errors::{ThrottledErrors, bare_text};
use super::range_reader::{Boundary, Leaderless, TopicFollower};
use super::{KafkaSettings, plain};

const POLL: Duration = Duration::from_millis(100);

/// The probe; clones share one client.
#[derive(Clone)]
pub(crate) struct ClusterProbe {
    settings: KafkaSettings,
    client: Arc<BaseConsumer<ErrorRecorder>>,
    limit: Duration,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeError {
    /// An ACL is missing.
    Denied,
    /// The topic does not exist.
    NotFound,
    /// No answer in time; the client's last error, which may be empty.
    NoAnswer(String),
    /// Any other error, as text.
    Other(String),
}

/// The shape of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    /// The number of partitions.
    pub partitions: usize,
    /// The number of replicas of the partition that has the fewest.
    pub replicas: usize,
    /// The number of replicas in sync of the partition that has the fewest.
    pub in_sync: usize,
    /// The partitions that have no leader now.
    pub leaderless: Vec<i32>,
}

/// The group's committed offsets in the escalations topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    /// The number of partitions with a committed offset.
    pub committed: usize,
    /// The number of records after the committed offsets, in these partitions.
    pub lag: i64,
}

/// Which records a topic accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicLimits {
    /// The largest batch of records.
    pub max_message_bytes: u64,
    /// A compacted topic refuses records without a key.
    pub is_compacted: bool,
    /// How many replicas must be in sync for a message to be accepted.
    pub min_in_sync: Option<usize>,
    /// How long records are kept; `None`: without a limit.
    pub retention: Option<Duration>,
    /// Records with an older timestamp are refused; `None`: brokers before Kafka 3.6 refuse none.
    pub max_age: Option<Duration>,
    /// The broker replaces the timestamps, so no record is too old.
    pub broker_stamps: bool,
}

impl TopicLimits {
    /// Whether records are kept for longer than a ledger remembers their answers: where the offsets of
    /// the group are lost, such records may be read again, and are skipped. Returns the words for it.
    pub(crate) fn outlives(&self, memory: Duration) -> Option<String> {
        let days = |time: Duration| time.as_secs() / 86_400;
        let kept = match self.retention {
            Some(retention) if retention <= memory => return None,
            Some(retention) => format!("{} days", days(retention)),
            None => "ever".to_owned(),
        };
        Some(format!("keeps records for {kept}, the ledger remembers events for {}", days(memory)))
    }
}

impl ClusterProbe {
    /// Create the client; an error means that librdkafka refuses a property.
    pub(crate) fn new(settings: KafkaSettings, limit: Duration) -> anyhow::Result<Self> {
        let config = settings.reader_config();
        let client = Arc::new(config.create_with_context(ErrorRecorder::default()).map_err(plain)?);
        Ok(Self { settings, client, limit })
    }

    /// The number of brokers in the cluster.
    pub(crate) fn brokers(&self) -> Result<usize, ProbeError> {
        let topic = &self.settings.topics.escalations;
        let metadata = self.client.fetch_metadata(Some(topic), self.limit);
        metadata.map(|metadata| metadata.brokers().len()).map_err(|error| self.error(&error))
    }

    /// The shape of this topic.
    pub(crate) fn topic(&self, name: &str) -> Result<TopicInfo, ProbeError> {
        let metadata = self.client.fetch_metadata(Some(name), self.limit);
        let metadata = metadata.map_err(|error| self.error(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let found = found.ok_or(ProbeError::NotFound)?;
        if let Some(error) = found.error() {
            return Err(self.error(&KafkaError::MetadataFetch(error.into())));
        }
        let partitions = found.partitions();
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
        let in_sync = partitions.iter().map(|partition| partition.isr().len()).min();
        let leaderless = partitions.iter().filter(|partition| partition.leader() < 0);
        Ok(TopicInfo {
            partitions: partitions.len(),
            replicas: replicas.unwrap_or(0),
            in_sync: in_sync.unwrap_or(0),
            leaderless: leaderless.map(|partition| partition.id()).collect(),
        })
    }

    /// Whether we may read this topic: fetches at its end.
    pub(crate) fn can_read(&self, topic: &str) -> Result<(), ProbeError> {
        let until = Instant::now() + self.limit;
        let (settings, end) = (&self.settings, [Boundary::End]);
        let mut follower = TopicFollower::open(settings, topic, &end, self.limit, Leaderless::Wait)
            .map_err(|error| self.reader_error(&error))?;
        while !follower.is_at_end() {
            follower.next(POLL).map_err(|error| self.reader_error(&error))?;
            if Instant::now() > until {
                return Err(self.no_answer());
            }
        }
        Ok(())
    }

    /// The group's committed offsets, of a topic with this many partitions.
    pub(crate) fn group_offsets(&self, partitions: usize) -> Result<GroupOffsets, ProbeError> {
        let topic = &self.settings.topics.escalations;
        let mut list = TopicPartitionList::with_capacity(partitions);
        for partition in (0..).take(partitions) {
            list.add_partition(topic, partition);
        }
        let committed = self.committed(&list)?;
        let mut offsets = GroupOffsets { committed: 0, lag: 0 };
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let ends = self.client.fetch_watermarks(topic, element.partition(), self.limit);
                let (_, high) = ends.map_err(|error| self.error(&error))?;
                offsets.committed += 1;
                offsets.lag += (high - offset).max(0);
            }
        }
        Ok(offsets)
    }

    fn committed(&self, list: &TopicPartitionList) -> Result<TopicPartitionList, ProbeError> {
        self.ask_coordinator(|| self.client.committed_offsets(list.clone(), self.limit))
            .map_err(|error| self.denied_meanwhile().unwrap_or_else(|| self.error(&error)))
    }

    /// Whether we may commit the group's offsets, and so whether we may join it: both need the same
    /// ACL.
    pub(crate) fn can_commit(&self, partitions: usize) -> Result<(), ProbeError> {
        // The offset is for a partition that does not exist: the coordinator checks the ACL first
        // and then has nowhere to store it, so the group's offsets stay as they are.
        const FAR_BEYOND: i32 = 1_000_000;
        let partition = FAR_BEYOND.saturating_add(i32::try_from(partitions).unwrap_or(i32::MAX));
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.settings.topics.escalations, partition, Offset::Offset(0))
            .map_err(|error| self.error(&error))?;
        let committed = self.ask_coordinator(|| self.client.commit(&list, CommitMode::Sync));
        match committed.map_err(|error| self.error(&error)) {
            Ok(()) | Err(ProbeError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ask again while the coordinator starts or moves, as for the first group of a new cluster.
    fn ask_coordinator<T>(&self, ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
        use Code::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
        let transient = [NotCoordinator, CoordinatorNotAvailable, CoordinatorLoadInProgress];
        let until = Instant::now() + self.limit;
        loop {
            match ask() {
                Err(error)
                    if error.rdkafka_error_code().is_some_and(|code| transient.contains(&code))
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(100));
                }
                answer => return answer,
            }
        }
    }

    /// Which records these topics accept, by name.
    pub(crate) async fn topic_limits(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, TopicLimits>, ProbeError> {
        let config = self.settings.client_config();
        let admin = AdminClient::from_config_and_context(&config, ThrottledErrors::default())
            .map_err(|error| self.error(&error))?;
        let options = AdminOptions::new().request_timeout(Some(self.limit));
        let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = admin.describe_configs(&wanted, &options).await;
        let mut limits = BTreeMap::new();
        for (topic, answer) in topics.iter().zip(answers.map_err(|error| self.error(&error))?) {
            let answer = answer.map_err(|code| self.error(&KafkaError::AdminOp(code)))?;
            // Without the ACL the answer comes without entries instead of an error.
            limits.insert((*topic).to_owned(), limits_of(&answer).ok_or(ProbeError::Denied)?);
        }
        Ok(limits)
    }

    /// Whether an idempotent producer gets its producer id, which needs the right to write to some
    /// topic. Writes nothing.
    pub(crate) async fn can_create_producer(&self) -> Result<(), ProbeError> {
        let mut config = self.settings.producer_config();
        // Only the statistics say whether the id has arrived.
        config.set("statistics.interval.ms", "100");
        let recorder = ErrorRecorder::default();
        let producer: FutureProducer<ErrorRecorder> =
            config.create_with_context(recorder.clone()).map_err(|error| self.error(&error))?;
        let until = Instant::now() + self.limit;
        while !recorder.has_producer_id() {
            if let Some((code, _)) = producer.client().fatal_error() {
                return Err(self.error(&KafkaError::Global(code)));
            }
            if let Some(code) = recorder.denied() {
                return Err(self.error(&KafkaError::Global(code)));
            }
            if Instant::now() > until {
                return Err(ProbeError::NoAnswer(recorder.last_error()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn error(&self, error: &KafkaError) -> ProbeError {
        match error.rdkafka_error_code() {
            Some(code) if is_denial(code) => ProbeError::Denied,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => ProbeError::NotFound,
            Some(
                Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::NoError,
            ) => self.no_answer(),
            _ => ProbeError::Other(format!("{:#}", plain(error.clone()))),
        }
    }

    /// The reader's errors carry librdkafka's code where there was one.
    fn reader_error(&self, error: &anyhow::Error) -> ProbeError {
        match error.downcast_ref::<Code>() {
            Some(code) => self.error(&KafkaError::Global(*code)),
            None => ProbeError::Other(format!("{error:#}")),
        }
    }

    fn no_answer(&self) -> ProbeError {
        self.serve_callbacks();
        ProbeError::NoAnswer(self.client.context().last_error())
    }

    /// A coordinator that denies a request reports that as an error of the client, while the
    /// request itself just times out.
    fn denied_meanwhile(&self) -> Option<ProbeError> {
        self.serve_callbacks();
        self.client.context().denied().map(|_| ProbeError::Denied)
    }

    /// The client reports errors to its context only while it is polled.
    fn serve_callbacks(&self) {
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            // Nothing is assigned, so no records come.
            drop(self.client.poll(Duration::from_millis(10)));
        }
    }
}

/// `None` where the answer has no usable size limit.
fn limits_of(config: &ConfigResource) -> Option<TopicLimits> {
    let value = |name| config.get(name).and_then(|entry| entry.value.clone());
    let max_message_bytes = value("max.message.bytes")?.parse().ok()?;
    let min_in_sync = value("min.insync.replicas").and_then(|minimum| minimum.parse().ok());
    let policy = value("cleanup.policy").unwrap_or_default();
    let time = |name| value(name).and_then(|ms| ms.parse().ok().map(Duration::from_millis));
    // -1: without a limit.
    let retention = time("retention.ms");
    Some(TopicLimits {
        max_message_bytes,
        min_in_sync,
        is_compacted: policy.contains("compact"),
        retention: retention.filter(|_| policy.contains("delete")),
        max_age: time("message.timestamp.before.max.ms"),
        broker_stamps: value("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime"),
    })
}

fn is_denial(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

/// A client context that keeps the last error for the answer; clones share it.
#[derive(Clone, Default)]
struct ErrorRecorder(Arc<Mutex<ClientReports>>);

#[derive(Default)]
struct ClientReports {
    last_error: String,
    denied: Option<Code>,
    has_producer_id: bool,
}

impl ErrorRecorder {
    fn last_error(&self) -> String {
        self.0.lock().last_error.clone()
    }

    fn denied(&self) -> Option<Code> {
        self.0.lock().denied
    }

    fn has_producer_id(&self) -> bool {
        self.0.lock().has_producer_id
    }
}

impl ConsumerContext for ErrorRecorder {}

impl ClientContext for ErrorRecorder {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, "{message}");
        if matches!(level, RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning) {
            bare_text(message).clone_into(&mut self.0.lock().last_error);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "Kafka client error");
        let mut reports = self.0.lock();
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_denial(*code)) {
            reports.denied = Some(code);
        }
        // "All brokers down" follows the error that says why: keep that one.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            reason.clone_into(&mut reports.last_error);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let has_producer_id = statistics.eos.is_some_and(|eos| eos.idemp_state == "Assigned");
        self.0.lock().has_producer_id = has_producer_id;
    }
}
