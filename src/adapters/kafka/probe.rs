//! Questions to the cluster that change nothing: is it there, does it let us, is it set up.
//!
//! Every question has the same limit and blocks for as long; `idempotence` and `limits` wait
//! without blocking. A fault says which kind it is, and what the client logged about it.
//! This file never writes a record, never joins a group and never moves an offset.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::reader::{Reader, Start};
use super::{Settings, plain, quiet::QuietContext};

/// Asks; clones ask through the same client.
#[derive(Clone)]
pub struct Probe {
    settings: Settings,
    client: Arc<BaseConsumer<Listener>>,
    limit: Duration,
}

/// Why a question got no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The cluster refuses it: a right is missing.
    Denied,
    /// There is no such thing.
    Absent,
    /// No answer in time; what the client logged meanwhile.
    Silent(String),
    /// Anything else, in words.
    Other(String),
}

/// What a topic looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its partitions.
    pub partitions: usize,
    /// The copies of the partition that has the fewest.
    pub copies: usize,
    /// The partitions that nobody leads now.
    pub leaderless: Vec<i32>,
}

/// Where the group stands in the escalations topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The partitions with a committed offset.
    pub committed: usize,
    /// The records behind the ends, where there is a committed offset.
    pub lag: i64,
}

/// What a topic takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest batch of records.
    pub max_message_bytes: u64,
    /// Records without a key are refused.
    pub is_compacted: bool,
}

impl Probe {
    /// Set the client up; an error means that a property is not one of librdkafka's, or wrong.
    pub fn new(settings: Settings, limit: Duration) -> anyhow::Result<Self> {
        let config = settings.reader_config();
        let client = Arc::new(config.create_with_context(Listener::default()).map_err(plain)?);
        Ok(Self { settings, client, limit })
    }

    /// How many brokers the cluster has.
    pub fn brokers(&self) -> Result<usize, Fault> {
        let topic = &self.settings.topics.escalations;
        let metadata = self.client.fetch_metadata(Some(topic), self.limit);
        metadata.map(|metadata| metadata.brokers().len()).map_err(|error| self.fault(&error))
    }

    /// What this topic looks like.
    pub fn topic(&self, name: &str) -> Result<Topic, Fault> {
        let metadata = self.client.fetch_metadata(Some(name), self.limit);
        let metadata = metadata.map_err(|error| self.fault(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let found = found.ok_or(Fault::Absent)?;
        if let Some(error) = found.error() {
            return Err(self.fault(&KafkaError::MetadataFetch(error.into())));
        }
        let partitions = found.partitions();
        let leaderless = partitions.iter().filter(|partition| partition.leader() < 0);
        Ok(Topic {
            partitions: partitions.len(),
            copies: partitions
                .iter()
                .map(|partition| partition.replicas().len())
                .min()
                .unwrap_or(0),
            leaderless: leaderless.map(|partition| partition.id()).collect(),
        })
    }

    /// Whether the topic's records may be read: asks for the next ones at its end.
    pub fn readable(&self, topic: &str) -> Result<(), Fault> {
        let until = Instant::now() + self.limit;
        let mut reader = Reader::open(&self.settings, topic, Start::End, self.limit)
            .map_err(|error| self.reported(&error))?;
        while !reader.is_at_end() {
            reader.next(Duration::from_millis(100)).map_err(|error| self.reported(&error))?;
            if Instant::now() > until {
                return Err(self.silent());
            }
        }
        Ok(())
    }

    /// Where the group stands.
    pub fn standing(&self, partitions: usize) -> Result<Standing, Fault> {
        let topic = &self.settings.topics.escalations;
        let mut list = TopicPartitionList::with_capacity(partitions);
        for partition in (0..).take(partitions) {
            list.add_partition(topic, partition);
        }
        let found = self.committed(&list)?;
        let mut standing = Standing { committed: 0, lag: 0 };
        for element in found.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let ends = self.client.fetch_watermarks(topic, element.partition(), self.limit);
                let (_, high) = ends.map_err(|error| self.fault(&error))?;
                standing.committed += 1;
                standing.lag += (high - offset).max(0);
            }
        }
        Ok(standing)
    }

    fn committed(&self, list: &TopicPartitionList) -> Result<TopicPartitionList, Fault> {
        self.ask_coordinator(|| self.client.committed_offsets(list.clone(), self.limit))
            .map_err(|error| self.denied_meanwhile().unwrap_or_else(|| self.fault(&error)))
    }

    /// Whether the group's offsets may be committed, and so whether it may be joined: both need
    /// the same right.
    ///
    /// Offers an offset for a partition that does not exist. The coordinator looks at the right
    /// first, and then has no partition to keep the offset for.
    pub fn committable(&self, partitions: usize) -> Result<(), Fault> {
        const FAR: i32 = 1_000_000;
        let nowhere = FAR.saturating_add(i32::try_from(partitions).unwrap_or(i32::MAX));
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.settings.topics.escalations, nowhere, Offset::Offset(0))
            .map_err(|error| self.fault(&error))?;
        let offered = self.ask_coordinator(|| self.client.commit(&list, CommitMode::Sync));
        match offered.map_err(|error| self.fault(&error)) {
            Ok(()) | Err(Fault::Absent) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Asked again while the coordinator is on its way to its place, as for the first group ever.
    fn ask_coordinator<T>(&self, question: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
        use Code::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
        let passing = [NotCoordinator, CoordinatorNotAvailable, CoordinatorLoadInProgress];
        let until = Instant::now() + self.limit;
        loop {
            match question() {
                Err(error)
                    if error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(100));
                }
                answer => return answer,
            }
        }
    }

    /// What the topics take, by name.
    pub async fn limits(&self, topics: &[&str]) -> Result<BTreeMap<String, Limits>, Fault> {
        let config = self.settings.client_config();
        let admin = AdminClient::from_config_and_context(&config, QuietContext::default())
            .map_err(|error| self.fault(&error))?;
        let options = AdminOptions::new().request_timeout(Some(self.limit));
        let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = admin.describe_configs(&wanted, &options).await;
        let mut limits = BTreeMap::new();
        for (topic, answer) in topics.iter().zip(answers.map_err(|error| self.fault(&error))?) {
            let answer = answer.map_err(|code| self.fault(&KafkaError::AdminOp(code)))?;
            let value = |name| answer.get(name).and_then(|entry| entry.value.clone());
            let max_message_bytes = value("max.message.bytes").and_then(|value| value.parse().ok());
            // Whoever may not know gets an answer without entries.
            let max_message_bytes = max_message_bytes.ok_or(Fault::Denied)?;
            let is_compacted =
                value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
            limits.insert((*topic).to_owned(), Limits { max_message_bytes, is_compacted });
        }
        Ok(limits)
    }

    /// Whether an idempotent producer gets its id, which needs the right to write somewhere.
    pub async fn idempotence(&self) -> Result<(), Fault> {
        let mut config = self.settings.producer_config();
        config.set("statistics.interval.ms", "100");
        let listener = Listener::default();
        let producer: FutureProducer<Listener> =
            config.create_with_context(listener.clone()).map_err(|error| self.fault(&error))?;
        let until = Instant::now() + self.limit;
        while !listener.has_id() {
            if let Some((code, _)) = producer.client().fatal_error() {
                return Err(self.fault(&KafkaError::Global(code)));
            }
            if let Some(code) = listener.denied() {
                return Err(self.fault(&KafkaError::Global(code)));
            }
            if Instant::now() > until {
                return Err(Fault::Silent(listener.last_words()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        match error.rdkafka_error_code() {
            Some(code) if is_denial(code) => Fault::Denied,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Fault::Absent,
            Some(
                Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::NoError,
            ) => self.silent(),
            _ => Fault::Other(format!("{:#}", plain(error.clone()))),
        }
    }

    fn reported(&self, error: &anyhow::Error) -> Fault {
        match error.downcast_ref::<Code>() {
            Some(code) => self.fault(&KafkaError::Global(*code)),
            None => Fault::Other(format!("{error:#}")),
        }
    }

    fn silent(&self) -> Fault {
        self.serve();
        Fault::Silent(self.client.context().last_words())
    }

    /// A coordinator that refuses us says so beside the question, which then just times out.
    fn denied_meanwhile(&self) -> Option<Fault> {
        self.serve();
        self.client.context().denied().map(|_| Fault::Denied)
    }

    /// Let the client tell what it has to tell.
    fn serve(&self) {
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            // Errors reach the context as well; there are no records.
            drop(self.client.poll(Duration::from_millis(10)));
        }
    }
}

fn is_denial(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

/// Keeps what the client tells.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    words: String,
    denied: Option<Code>,
    has_id: bool,
}

impl Listener {
    fn with<T>(&self, act: impl FnOnce(&mut Heard) -> T) -> T {
        act(&mut self.0.lock())
    }

    fn last_words(&self) -> String {
        self.with(|heard| heard.words.clone())
    }

    fn denied(&self) -> Option<Code> {
        self.with(|heard| heard.denied)
    }

    fn has_id(&self) -> bool {
        self.with(|heard| heard.has_id)
    }
}

impl ConsumerContext for Listener {}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, "{message}");
        if matches!(level, RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning) {
            // "[thrd:localhost:9092/bootstrap]: " is of no use to people.
            let words = message.split_once("]: ").map_or(message, |(_, words)| words);
            self.with(|heard| words.clone_into(&mut heard.words));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!("{error}: {reason}");
        self.with(|heard| {
            if let Some(code) = error.rdkafka_error_code().filter(|code| is_denial(*code)) {
                heard.denied = Some(code);
            }
            // The general one comes after the one that says why.
            if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
                reason.clone_into(&mut heard.words);
            }
        });
    }

    fn stats(&self, statistics: Statistics) {
        let has_id = statistics.eos.is_some_and(|eos| eos.idemp_state == "Assigned");
        self.with(|heard| heard.has_id = has_id);
    }
}
