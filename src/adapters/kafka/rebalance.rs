//! What happens when partitions come and go, and the consumer's other callbacks.
//!
//! Incremental protocols: revoked partitions drain while polling goes on for the others, then
//! they are committed and let go of. Eager: all of them drain inside the callback. Lost ones are
//! somebody else's already: they are fenced at once and nothing is committed.
//! This file never lets a partition go before `consume` has answered for it, or its time is up.

use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::quiet::Quiet;
use crate::consume::Inbound;
use crate::domain::record::Record;
use crate::health::Health;
use crate::lease::Lease;
use crate::telemetry::Metrics;

/// The wait for a drain ends this long after its budget, whatever happens.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// Before partitions go, a commit may take so long; while a rebalance settles it is repeated.
const COMMIT_LIMIT: Duration = Duration::from_secs(3);
/// The wait for the number of the topic's partitions.
const COUNT_LIMIT: Duration = Duration::from_secs(3);
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// What librdkafka calls its connection to the group's coordinator.
const COORDINATOR: &str = "GroupCoordinator";

/// What the consumer's thread needs beside its settings.
pub struct Handle {
    /// Where records and rebalances go.
    pub inbound: mpsc::Sender<Inbound>,
    /// How long revoked partitions may drain.
    pub drain: Duration,
    /// Signs of life.
    pub lease: Arc<Lease>,
    /// What `/ready` says.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends the consumer, drained.
    pub stop: CancellationToken,
}

/// The consumer's callbacks and what they share.
pub(super) struct Callbacks {
    topic: Arc<str>,
    /// The broker runs the group: whether it is heard of is looked after here.
    listens: bool,
    /// `None` once the consumer is closing.
    inbound: Mutex<Option<mpsc::Sender<Inbound>>>,
    /// Records that were read and not handed on yet; they go before anything else is said.
    read: Mutex<Vec<Record>>,
    /// Partitions that drain while polling goes on.
    leaving: Mutex<Option<Leaving>>,
    client: OnceLock<Weak<BaseConsumer<Self>>>,
    /// How many partitions the topic has, as was told last.
    partitions: AtomicUsize,
    drain: Duration,
    lease: Arc<Lease>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    quiet: Quiet,
    /// It was told that the group is not heard of.
    cut_off: AtomicBool,
}

/// Partitions on their way out.
struct Leaving {
    partitions: Vec<i32>,
    drained: Receiver<()>,
    until: Instant,
}

impl Callbacks {
    pub(super) fn new(topic: Arc<str>, listens: bool, handle: Handle) -> Self {
        Self {
            topic,
            listens,
            inbound: Mutex::new(Some(handle.inbound)),
            read: Mutex::new(Vec::new()),
            leaving: Mutex::new(None),
            client: OnceLock::new(),
            partitions: AtomicUsize::new(0),
            drain: handle.drain,
            lease: handle.lease,
            health: handle.health,
            metrics: handle.metrics,
            quiet: Quiet::default(),
            cut_off: AtomicBool::new(false),
        }
    }

    /// The client whose callbacks these are.
    pub(super) fn know(&self, client: &Arc<BaseConsumer<Self>>) {
        drop(self.client.set(Arc::downgrade(client)));
    }

    pub(super) fn complain(&self, text: &str) {
        self.quiet.complain("consumer", text);
    }

    /// Partitions that have drained meanwhile are committed and let go of.
    pub(super) fn let_go_of_drained(&self, client: &BaseConsumer<Self>) {
        let mut leaving = lock(&self.leaving);
        let gone = leaving.take_if(|leaving| match leaving.drained.try_recv() {
            Err(TryRecvError::Empty) => Instant::now() >= leaving.until,
            Ok(()) | Err(TryRecvError::Disconnected) => true,
        });
        drop(leaving);
        if let Some(gone) = gone {
            self.commit();
            self.let_go(client, &gone.partitions);
        }
    }

    /// Drain and commit all that is ours; nobody is told anything any more.
    pub(super) fn end(&self, client: &BaseConsumer<Self>, lost: bool) {
        let (_, lost) = self.drained(client, lost, |lost, done| Inbound::Ending { lost, done });
        if !lost {
            self.commit();
        }
        lock(&self.inbound).take();
        if let Some(gone) = lock(&self.leaving).take() {
            self.let_go(client, &gone.partitions);
        }
    }

    /// A record was read; how many wait to be handed on.
    pub(super) fn keep(&self, record: Record) -> usize {
        let mut read = lock(&self.read);
        read.push(record);
        read.len()
    }

    /// Hand on what was read; false: nobody listens any more.
    pub(super) fn hand_on(&self) -> bool {
        let read = std::mem::take(&mut *lock(&self.read));
        read.is_empty() || self.post(Inbound::Records(read))
    }

    fn send(&self, message: Inbound) -> bool {
        self.hand_on() && self.post(message)
    }

    fn post(&self, message: Inbound) -> bool {
        let inbound = lock(&self.inbound).clone();
        inbound.is_some_and(|inbound| inbound.blocking_send(message).is_ok())
    }

    /// How many partitions the topic has decides over our part of the quota.
    fn tell_partitions(&self, partitions: usize) {
        // A topic only grows; who sees fewer of them does not see all.
        if self.partitions.fetch_max(partitions, Ordering::Relaxed) < partitions {
            self.send(Inbound::PartitionCount(partitions));
        }
    }

    /// Ask the broker, which has just given us some of them.
    fn count_partitions(&self, client: &BaseConsumer<Self>) {
        match client.fetch_metadata(Some(&self.topic), COUNT_LIMIT) {
            Ok(metadata) => {
                let topic = metadata.topics().first();
                self.tell_partitions(topic.map_or(0, |topic| topic.partitions().len()));
            }
            // The statistics tell it soon.
            Err(error) => debug!("failed to count the topic's partitions: {error}"),
        }
    }

    fn revoke(&self, client: &BaseConsumer<Self>, partitions: Vec<i32>) {
        let lost = client.assignment_lost();
        let incremental = is_incremental(client);
        if incremental && !lost {
            let (done, drained) = sync_channel(1);
            let message = Inbound::Revoked { partitions: partitions.clone(), lost, done };
            if self.send(message) {
                let until = Instant::now() + self.drain + DRAIN_MARGIN;
                *lock(&self.leaving) = Some(Leaving { partitions, drained, until });
                return;
            }
        } else {
            let (told, lost) = self.drained(client, lost, |lost, done| {
                let partitions = partitions.clone();
                Inbound::Revoked { partitions, lost, done }
            });
            if told && !lost {
                self.commit();
            }
        }
        self.let_go(client, &partitions);
    }

    /// Say it and wait until it is drained. Whether anybody listens, and whether the partitions were
    /// lost: while this waits nobody polls, so that no callback tells it.
    fn drained(
        &self,
        client: &BaseConsumer<Self>,
        lost: bool,
        message: impl Fn(bool, SyncSender<()>) -> Inbound,
    ) -> (bool, bool) {
        let mut lost = lost || client.assignment_lost();
        let (done, drained) = sync_channel(1);
        if !self.send(message(lost, done)) {
            return (false, lost);
        }
        let until = Instant::now() + self.drain + DRAIN_MARGIN;
        let ended = self.awaited(&drained, until, || {
            if !lost && client.assignment_lost() {
                warn!("the group has given our partitions to others: what still runs is fenced");
                lost = true;
                // The first one is answered as soon as this fence is done.
                self.send(message(lost, sync_channel(1).0));
            }
        });
        if let Err(RecvTimeoutError::Timeout) = ended {
            warn!("draining took longer than its budget of {} s", self.drain.as_secs());
        }
        (true, lost)
    }

    /// Wait for it, at most until then, with a look around now and then. Nobody polls meanwhile,
    /// which is not being stuck or frozen.
    fn awaited<T>(
        &self,
        what: &Receiver<T>,
        until: Instant,
        mut look: impl FnMut(),
    ) -> Result<T, RecvTimeoutError> {
        loop {
            let came = what.recv_timeout(COMMIT_PAUSE);
            if !matches!(came, Err(RecvTimeoutError::Timeout)) {
                return came;
            }
            self.lease.renew();
            look();
            if Instant::now() >= until {
                return came;
            }
        }
    }

    fn let_go(&self, client: &BaseConsumer<Self>, partitions: &[i32]) {
        let gone = if is_incremental(client) {
            client.incremental_unassign(&list(&self.topic, partitions))
        } else {
            client.unassign()
        };
        if let Err(error) = gone {
            warn!(kafka.partitions = ?partitions, "failed to let partitions go: {error}");
        }
    }

    /// Commit what is stored. While a rebalance settles the broker refuses, so it is repeated for
    /// a while; without a broker it would block for minutes, so it is not waited for.
    fn commit(&self) {
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        let (done, committed) = channel();
        let until = Instant::now() + COMMIT_LIMIT;
        std::thread::spawn(move || {
            let result = commit_until(&client, until);
            // The reference goes first: whoever waits may hold the last one and close it.
            drop(client);
            done.send(result).unwrap_or_default();
        });
        let failed = match self.awaited(&committed, until + COMMIT_LIMIT, || {}) {
            // NoOffset: nothing new since the last commit.
            Ok(Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset))) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the broker does not answer".to_owned(),
        };
        self.metrics.commit_failures.inc();
        warn!("failed to commit before giving partitions up: {failed}");
    }
}

fn commit_until(client: &BaseConsumer<Callbacks>, until: Instant) -> KafkaResult<()> {
    loop {
        let result = client.commit_consumer_state(CommitMode::Sync);
        let settling = matches!(
            result,
            Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration
            ))
        );
        if !settling || Instant::now() >= until {
            return result;
        }
        std::thread::sleep(COMMIT_PAUSE);
    }
}

fn is_incremental(client: &BaseConsumer<Callbacks>) -> bool {
    matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Partitions of a topic, as librdkafka takes them.
pub(super) fn list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl ClientContext for Callbacks {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complain(&format!("{error}: {reason}"));
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.cgrp.is_some_and(|group| group.join_state == "steady") {
            // An instance without partitions is a member too.
            self.health.set_joined();
        }
        // Where the broker runs the group, librdkafka does not count how long it was not heard of.
        if self.listens
            && let Some(coordinator) = statistics.brokers.get(COORDINATOR)
            && coordinator.state == "UP"
            && let Ok(idle_us) = u64::try_from(coordinator.rxidle)
        {
            self.lease.renew_by_coordinator(Duration::from_micros(idle_us));
        }
        let problem = self.health.cut_off();
        match (self.cut_off.swap(problem.is_some(), Ordering::Relaxed), problem) {
            (false, Some(problem)) => {
                warn!("{problem}; what has not left is taken back");
                self.send(Inbound::CoordinatorSilent);
            }
            (true, None) => info!("the consumer group is heard of again"),
            _ => {}
        }
        for topic in statistics.topics.values() {
            self.tell_partitions(topic.partitions.keys().filter(|number| **number >= 0).count());
        }
        for (name, topic) in &statistics.topics {
            for (partition, seen) in &topic.partitions {
                // Partitions that are not ours have no lag of ours.
                let ours = *partition >= 0 && seen.fetch_state != "none";
                let lag = (ours && seen.consumer_lag >= 0).then_some(seen.consumer_lag);
                self.metrics.lag(name, *partition, lag);
            }
        }
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(
        &self,
        client: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.count_partitions(client);
                let assigned = if is_incremental(client) {
                    client.incremental_assign(list)
                } else {
                    client.assign(list)
                };
                match assigned {
                    Ok(()) => drop(self.send(Inbound::Assigned(partitions(list)))),
                    Err(error) => warn!("failed to take partitions: {error}"),
                }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.revoke(client, partitions(list));
            }
            other => {
                warn!("rebalance failed: {}", RDKafkaErrorCode::from(other));
                self.let_go(client, &partitions(list));
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                self.metrics.commit_failures.inc();
                self.complain(&format!("failed to commit: {error}"));
            }
        }
    }
}
