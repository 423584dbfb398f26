//! The steps of giving partitions back, as [`super::callbacks`] puts them together: wait for the
//! drain, commit, release.
//!
//! All of it runs on the consumer's thread, which does not poll meanwhile. Where that takes longer
//! than a moment the lease is renewed: a thread that waits here is neither paused nor stalled.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::time::Instant;
use tracing::warn;

use crate::lease::Lease;

/// A commit before a release may take this long; while the rebalance settles it is repeated.
const COMMIT_LIMIT: Duration = Duration::from_secs(3);
const COMMIT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often a wait renews the lease and looks for lost partitions.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether partitions are assigned and revoked one by one instead of all together.
pub(super) fn is_incremental<C: ConsumerContext>(client: &BaseConsumer<C>) -> bool {
    matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Partitions of a topic in librdkafka's form. The list must not outlive the call it is for: a
/// living list keeps references to its partitions, and then closing the consumer never returns.
pub(super) fn partition_list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

pub(super) fn partition_numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

/// Give partitions back to the group.
pub(super) fn release<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
) {
    let released = if is_incremental(client) {
        client.incremental_unassign(&partition_list(topic, partitions))
    } else {
        client.unassign()
    };
    if let Err(error) = released {
        warn!(kafka.partitions = ?partitions, %error, "failed to release partitions");
    }
}

/// Wait at most until then for a message, renewing the lease and calling `check` ten times a
/// second.
pub(super) fn wait_for<T>(
    awaited: &Receiver<T>,
    until: Instant,
    lease: &Lease,
    mut check: impl FnMut(),
) -> Result<T, RecvTimeoutError> {
    loop {
        let received = awaited.recv_timeout(CHECK_INTERVAL);
        if !matches!(received, Err(RecvTimeoutError::Timeout)) {
            return received;
        }
        lease.renew();
        check();
        if Instant::now() >= until {
            return received;
        }
    }
}

/// Commit these offsets and wait for that. The error is a text for the log.
pub(super) fn commit_now<C: ConsumerContext + 'static>(
    client: Arc<BaseConsumer<C>>,
    list: TopicPartitionList,
    lease: &Lease,
) -> Result<(), String> {
    let (done, committed) = channel();
    let until = Instant::now() + COMMIT_LIMIT;
    // On a thread of its own, because without a broker the commit blocks for minutes and cannot be
    // cancelled. After the limit that thread is left behind; it ends when librdkafka returns.
    let commit = move || {
        let result = commit_until(&client, &list, until);
        // Dropped before the result is sent: the receiver may hold the last reference, and only the
        // consumer's thread may close the consumer.
        drop((list, client));
        done.send(result).unwrap_or_default();
    };
    let thread = thread::Builder::new().name("kafka-commit".into()).spawn(commit);
    thread.map_err(|error| format!("failed to start a thread: {error}"))?;
    match wait_for(&committed, until + COMMIT_LIMIT, lease, || {}) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the broker does not answer".to_owned()),
    }
}

fn commit_until<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    list: &TopicPartitionList,
    until: Instant,
) -> KafkaResult<()> {
    loop {
        let result = client.commit(list, CommitMode::Sync);
        // The broker refuses commits while a rebalance settles.
        let settling = matches!(
            result,
            Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration
            ))
        );
        if !settling || Instant::now() >= until {
            return result;
        }
        thread::sleep(COMMIT_RETRY_PAUSE);
    }
}
