//! The consumer's callbacks: rebalances, statistics, errors.
//!
//! - Incremental rebalances: revoked partitions drain while polling goes on for the others; then
//!   their offsets are committed and they are released.
//! - Eager rebalances: all partitions drain inside the callback.
//! - Lost partitions belong to another member already: the lease is interrupted and unsent messages are
//!   purged at once, then their events are fenced, and nothing is committed.
//!
//! A partition is released only after `consume` has reported it drained, or after its time is up.
//! How partitions begin to be read is in `reading_starts`, how offsets are committed in
//! `offset_commits`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Topic;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Statistics, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

use super::KafkaSettings;
use super::client_errors::bare_text;
use super::consumer_failure::remedy;
use super::consumer_watch::{ConsumerWatch, outside_remedy};
use super::inbound::{Closed, InboundSender};
use super::lag::lag;
use super::lost_brokers::LostBrokers;
use super::open_transactions::{OpenTransactions, report_held};
use super::readings::Readings;
use super::rebalance::{is_incremental, partition_numbers, release, wait_for};
use super::removed_records::RemovedRecords;
use super::stalled_partitions::StalledPartitions;
use super::start_checks::StartChecks;
use super::starting_offsets::StartingOffsets;
use super::topic_look::{Departure, Loss, depart, look_at};
use crate::consume::Inbound;
use crate::health::{Fault, FaultKind, Health};
use crate::lease::Lease;
use crate::telemetry::Metrics;
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// A drain is given up this long after its budget, even if `consume` has not reported its end.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// Time limit for asking how many partitions the topic has.
const METADATA_LIMIT: Duration = Duration::from_secs(1);

/// librdkafka's name for its connection to the group's coordinator.
const COORDINATOR: &str = "GroupCoordinator";

/// What the consumer's thread needs besides its settings.
#[derive(Clone)]
pub(crate) struct ConsumerDeps {
    /// Receives records and rebalances.
    pub inbound: mpsc::Sender<Inbound>,
    /// How long revoked partitions may drain.
    pub drain: Duration,
    /// Renewed by every poll and by the coordinator's answers.
    pub lease: Arc<Lease>,
    /// Learns when the consumer has joined its group, and what keeps it out.
    pub health: Arc<Health>,
    /// Counts commit failures and shows the lag.
    pub metrics: Arc<Metrics>,
    /// When cancelled, the consumer drains and leaves the group.
    pub stop: CancellationToken,
}

/// The callbacks and their state.
pub(super) struct ConsumerCallbacks {
    pub(super) topic: Arc<str>,
    group: String,
    pub(super) inbound: InboundSender,
    /// Partitions that drain while polling goes on.
    draining: Mutex<Option<Draining>>,
    pub(super) client: OnceLock<Weak<BaseConsumer<Self>>>,
    /// The largest number of partitions that was reported to `consume`.
    partition_count: AtomicUsize,
    drain: Duration,
    pub(super) lease: Arc<Lease>,
    health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    open_transactions: Mutex<OpenTransactions>,
    pub(super) throttle: Arc<LogThrottle>,
    pub(super) starting_offsets: StartingOffsets,
    pub(super) start_checks: StartChecks,
    pub(super) readings: Readings,
    /// Held while it is decided which partitions the client fetches, by this thread or by `consume`.
    pub(super) fetching: Mutex<()>,
    /// For clients that only read.
    reader_config: ClientConfig,
    /// Whether a silent coordinator has been reported.
    cut_off: AtomicBool,
    watch: ConsumerWatch,
    /// Partitions from which no record comes.
    pub(super) stalled: StalledPartitions,
    pub(super) removed: RemovedRecords,
    lost_brokers: LostBrokers,
}

/// Revoked partitions on their way out.
struct Draining {
    partitions: Vec<i32>,
    drained: Receiver<()>,
    until: Instant,
}

/// How a drain that was waited for has ended.
struct DrainEnd {
    /// `consume` has received the request.
    requested: bool,
    /// The partitions belong to another member by now.
    lost: bool,
}

impl ConsumerCallbacks {
    pub(super) fn new(
        settings: &KafkaSettings,
        topic: Arc<str>,
        deps: ConsumerDeps,
        throttle: Arc<LogThrottle>,
    ) -> Self {
        let remedy = outside_remedy(settings);
        let watch = ConsumerWatch::new(remedy, deps.health.clone(), deps.metrics.clone());
        Self {
            starting_offsets: StartingOffsets::new(topic.clone(), settings.offset_reset()),
            start_checks: StartChecks::new(deps.health.clone()),
            readings: Readings::default(),
            fetching: Mutex::default(),
            watch,
            stalled: StalledPartitions::new(deps.health.clone()),
            removed: RemovedRecords::new(topic.clone(), deps.metrics.clone()),
            lost_brokers: LostBrokers::new(&settings.bootstrap_servers),
            topic,
            group: settings.group_id.clone(),
            inbound: InboundSender::new(deps.inbound),
            draining: Mutex::new(None),
            client: OnceLock::new(),
            partition_count: AtomicUsize::new(0),
            drain: deps.drain,
            lease: deps.lease,
            health: deps.health,
            metrics: deps.metrics,
            open_transactions: Mutex::default(),
            throttle,
            reader_config: settings.reader_config(),
            cut_off: AtomicBool::new(false),
        }
    }

    /// Set the client that these callbacks belong to.
    pub(super) fn attach(&self, client: &Arc<BaseConsumer<Self>>) {
        drop(self.client.set(Arc::downgrade(client)));
    }

    /// Log an error that polling has returned. One after which the client goes on trying to join
    /// its group, without success before somebody repairs it, is the reason for `/ready`.
    pub(super) fn on_error(&self, error: &KafkaError) {
        self.watch.on_error(error, &error.to_string());
        let code = error.rdkafka_error_code();
        if let Some(remedy) = code.and_then(|code| remedy(code, &self.group)) {
            let cause = format!("the Kafka consumer cannot join its group: {error}");
            let faults = self.health.faults();
            faults.report(FaultKind::ConsumerFailed, Instant::now(), Fault { cause, remedy });
        }
        warn_throttled!(self.throttle, %error, "Kafka consumer error");
    }

    /// Hand the buffered records to `consume`.
    pub(super) fn flush(&self) -> Result<(), Closed> {
        self.inbound.flush()
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Commit and release partitions that have drained since the last call, or whose time is up.
    pub(super) fn release_drained(&self, client: &BaseConsumer<Self>) {
        let drained = self.draining.lock().take_if(|draining| match draining.drained.try_recv() {
            Err(TryRecvError::Empty) => Instant::now() >= draining.until,
            Ok(()) | Err(TryRecvError::Disconnected) => true,
        });
        if let Some(drained) = drained {
            self.commit();
            self.release(client, &drained.partitions);
        }
    }

    /// Drain and commit everything before the consumer closes; `consume` hears nothing afterwards.
    pub(super) fn end(&self, client: &BaseConsumer<Self>, lost: bool) {
        let loss = if lost { Loss::ClientFailed } else { loss_of(client) };
        let departure = self.depart(client, loss, &self.readings.partitions());
        let end = self.drain(client, &departure, |lost, done| Inbound::Ending { lost, done });
        if !end.lost {
            self.commit();
        }
        self.readings.clear();
        self.inbound.close();
        let draining = self.draining.lock().take();
        if let Some(draining) = draining {
            self.release(client, &draining.partitions);
        }
    }

    fn release(&self, client: &BaseConsumer<Self>, partitions: &[i32]) {
        self.readings.remove(partitions);
        release(client, &self.topic, partitions);
    }

    fn revoke(&self, client: &BaseConsumer<Self>, partitions: Vec<i32>) {
        let departure = self.depart(client, loss_of(client), &partitions);
        if is_incremental(client) && !departure.lost {
            let (done, drained) = sync_channel(1);
            let message = Inbound::Revoked { partitions: partitions.clone(), lost: false, done };
            if self.inbound.send(message).is_ok() {
                let until = Instant::now() + self.drain + DRAIN_MARGIN;
                *self.draining.lock() = Some(Draining { partitions, drained, until });
                return;
            }
        } else {
            let end = self.drain(client, &departure, |lost, done| {
                let partitions = partitions.clone();
                Inbound::Revoked { partitions, lost, done }
            });
            if end.requested && !end.lost {
                self.commit();
            }
        }
        self.release(client, &partitions);
    }

    /// Fence what may be lost, then find out whether Kafka delivers the records of these partitions
    /// again; where it may not, `consume` learns that before they drain. The group may react to a deleted
    /// topic sooner than [`Self::follow_topic`].
    fn depart(&self, client: &BaseConsumer<Self>, loss: Loss, partitions: &[i32]) -> Departure {
        let read = self.readings.topics_read(partitions);
        let look = || look_at(self.reader_config.clone(), self.topic.clone(), &read, &self.lease);
        let mut departure = depart(loss, &read, || self.fence(), look);
        if self.was_lost(client, &departure) {
            departure.lost = true;
        }
        for (partitions, is_certain) in [(&departure.gone, true), (&departure.in_doubt, false)] {
            if !partitions.is_empty() {
                let partitions = partitions.clone();
                drop(self.inbound.send(Inbound::TopicGone { partitions, is_certain }));
            }
        }
        departure
    }

    /// Whether partitions that were ours have been lost since, in which case they are fenced now.
    fn was_lost(&self, client: &BaseConsumer<Self>, departure: &Departure) -> bool {
        let was_lost = !departure.lost && !departure.is_gone && client.assignment_lost();
        if was_lost {
            self.fence();
        }
        was_lost
    }

    /// Others may own our partitions: call and publish nothing more, not even what is enqueued.
    fn fence(&self) {
        self.lease.interrupt();
        drop(self.inbound.send(Inbound::OwnershipInDoubt));
    }

    /// Ask `consume` to drain and wait for the end of that, at most for the budget and a margin.
    fn drain(
        &self,
        client: &BaseConsumer<Self>,
        departure: &Departure,
        request: impl Fn(bool, SyncSender<()>) -> Inbound,
    ) -> DrainEnd {
        let mut lost = departure.lost;
        let (done, drained) = sync_channel(1);
        if self.inbound.send(request(lost, done)).is_err() {
            return DrainEnd { requested: false, lost };
        }
        let until = Instant::now() + self.drain + DRAIN_MARGIN;
        let ended = wait_for(&drained, until, &self.lease, || {
            // This thread does not poll now, so no callback would report the loss.
            if !lost && self.was_lost(client, departure) {
                warn!("partitions lost while draining, fencing their events");
                lost = true;
                // The first request is answered as soon as `consume` has fenced.
                drop(self.inbound.send(request(lost, sync_channel(1).0)));
            }
        });
        if let Err(RecvTimeoutError::Timeout) = ended {
            warn!(budget_s = self.drain.as_secs(), "drain exceeded its budget");
        }
        DrainEnd { requested: true, lost }
    }

    /// The number of partitions decides which share of the quota is ours, so `consume` learns it
    /// before it learns of an assignment. An error is only logged: the statistics report it soon.
    pub(super) fn fetch_partition_count(&self, client: &BaseConsumer<Self>) {
        match client.fetch_metadata(Some(&self.topic), METADATA_LIMIT) {
            Ok(metadata) => {
                let topic = metadata.topics().first();
                self.report_partition_count(topic.map_or(0, |topic| topic.partitions().len()));
            }
            Err(error) => debug!(%error, "failed to count the topic's partitions"),
        }
    }

    fn report_partition_count(&self, count: usize) {
        // Topics only grow: a smaller number comes from incomplete metadata.
        if self.partition_count.fetch_max(count, Ordering::Relaxed) < count {
            drop(self.inbound.send(Inbound::PartitionCount(count)));
        }
    }

    /// Report lag and open transactions of the assigned partitions.
    fn observe_partitions(&self, name: &str, topic: &Topic) {
        // Partition -1 is librdkafka's internal one.
        let partitions = topic.partitions.iter().filter(|(number, _)| **number >= 0);
        self.report_partition_count(partitions.clone().count());
        let mut open = self.open_transactions.lock();
        self.stalled.observe(topic);
        let mut held = Vec::new();
        for (&number, partition) in partitions {
            self.removed.observe(number, partition);
            if self.readings.is_commit_lost(number, partition.committed_offset) {
                self.on_commit_error("the group coordinator has not confirmed them");
            }
            if partition.fetch_state == "none" {
                self.metrics.lag(name, number, None);
                open.forget(number);
                continue;
            }
            self.metrics.lag(name, number, lag(partition));
            held.extend(open.observe(number, partition).map(|offsets| (number, offsets)));
        }
        report_held(name, held);
    }

    /// Report once when the coordinator becomes silent for too long, and once when it answers.
    pub(super) fn check_coordinator(&self) {
        let problem = self.health.cut_off();
        match (self.cut_off.swap(problem.is_some(), Ordering::Relaxed), problem) {
            (false, Some(problem)) => {
                warn!(error = problem, "group coordinator silent, purging unsent messages");
                drop(self.inbound.send(Inbound::OwnershipInDoubt));
            }
            (true, None) => info!("group coordinator answers again"),
            _ => {}
        }
    }
}

fn loss_of(client: &BaseConsumer<ConsumerCallbacks>) -> Loss {
    if client.assignment_lost() { Loss::Reported } else { Loss::Kept }
}

impl ClientContext for ConsumerCallbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.starting_offsets.identity().on_log(message);
        self.removed.on_log(message);
        self.lost_brokers.on_log(message);
        if matches!(level, RDKafkaLogLevel::Debug) {
            trace!(facility, "{message}");
        } else {
            debug!(facility, "{message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        // The end of a partition is not an error. The poll that returns a fatal one ends the client,
        // and `source` logs why.
        if let Some(Code::PartitionEOF | Code::Fatal) = error.rdkafka_error_code() {
            return;
        }
        self.watch.on_error(&error, bare_text(reason));
        self.stalled.on_error(error.rdkafka_error_code(), bare_text(reason));
        warn_throttled!(self.throttle, %error, reason, "Kafka consumer error");
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(client) = self.client.get().and_then(Weak::upgrade) {
            self.lost_brokers.restore(client.client());
        }
        self.watch.observe(&statistics);
        if statistics.cgrp.is_some_and(|group| group.join_state == "steady") {
            // An instance that was assigned no partitions is a member too.
            self.health.set_joined();
        }
        if let Some(coordinator) = statistics.brokers.get(COORDINATOR)
            && coordinator.state == "UP"
            && let Ok(idle_us) = u64::try_from(coordinator.rxidle)
        {
            self.lease.renew_by_coordinator(Duration::from_micros(idle_us));
        }
        self.pass_positions();
        for (name, topic) in &statistics.topics {
            self.observe_partitions(name, topic);
        }
    }
}

impl ConsumerContext for ConsumerCallbacks {
    fn rebalance(
        &self,
        client: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                if let Err(error) = self.assign(client, list) {
                    self.readings.remove(&partition_numbers(list));
                    warn!(%error, "failed to assign partitions");
                }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.revoke(client, partition_numbers(list));
            }
            other => {
                warn!(error = %RDKafkaErrorCode::from(other), "rebalance failed");
                self.release(client, &partition_numbers(list));
            }
        }
    }
}
