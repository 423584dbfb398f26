//! Apache Kafka, through librdkafka.
//!
//! For the service: [`KafkaSource`] polls on a thread of its own and answers rebalances
//! (`rebalance`, `callbacks`, `reading_starts`, `offset_commits`), and replaces a client that has failed for good (`consumer_failure`); [`OutcomeProducer`] publishes outcomes and dead letters and never
//! gives up. For the other subcommands: [`RangeReader`] and
//! [`TopicFollower`] read a topic without joining a group,
//! [`RecordPublisher`] publishes records within a time limit, [`ReplayProducer`] in transactions, [`ClusterProbe`] asks the cluster
//! requests that change nothing. Read [`settings`](KafkaSettings) first for the client
//! properties that the promises of the service rest on.

mod callbacks;
mod client_errors;
mod cluster_probe;
mod consumer_failure;
mod consumer_watch;
mod delivery_report;
mod hidden_records;
mod inbound;
mod lag;
mod leader_watch;
mod lost_brokers;
mod metadata;
mod offset_commits;
mod open_transactions;
mod outcome_producer;
mod partition_start;
mod publish_order;
mod published_lookup;
mod range_reader;
mod reading_starts;
mod readings;
mod rebalance;
mod record_publisher;
mod records;
mod remedy;
mod removed_records;
mod replaceable_producer;
mod replay_producer;
mod settings;
mod source;
mod stalled_partitions;
mod start_checks;
mod starting_offsets;
mod topic_client;
mod topic_identity;
mod topic_look;
mod topics;
mod unacknowledged;

use anyhow::anyhow;
use rdkafka::error::KafkaError;

pub(crate) use callbacks::ConsumerDeps;
pub(crate) use cluster_probe::{ClusterProbe, GroupOffsets, ProbeError, TopicInfo, TopicLimits};
pub(crate) use consumer_watch::watch_reading;
pub(crate) use outcome_producer::OutcomeProducer;
pub(crate) use range_reader::{Boundary, Leaderless, NoSuchPartition, RangeReader, TopicFollower};
pub(crate) use record_publisher::{OutgoingRecord, PublishReceipt, RecordPublisher};
pub(crate) use remedy::{TopicUse, acl, remedy_of};
pub(crate) use replay_producer::{ReplayProducer, TransactedRecord};
pub(crate) use settings::{DRAIN_OVERHEAD, KafkaSettings, TopicNames, is_kip848};
pub(crate) use source::KafkaSource;
pub(crate) use topics::{create_topics, partition_count, unusable_topics};

/// The brokers do not accept the consumer's configuration. Its text names the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RefusedConfiguration(String);

/// An error that is safe to show: without the value of a property, which may be a password, and
/// without librdkafka's habit of printing the code twice.
fn plain(error: KafkaError) -> anyhow::Error {
    match (&error, error.rdkafka_error_code()) {
        (KafkaError::ClientConfig(_, text, ..), _) => anyhow!("{text}"),
        (_, Some(code)) => code.into(),
        (_, None) => error.into(),
    }
}
