//! Asks the brokers where partitions are to be read from, until they have answered for each one.
//!
//! The requests take seconds while a broker is away, so a thread of its own sends them and the
//! consumer's thread goes on polling. It receives the answers from [`StartChecks::received`].

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::callbacks::ConsumerCallbacks;
use super::consumer_failure;
use super::partition_start::{DiscardedOffset, PartitionStart, UnknownStart};
use super::remedy::{TopicUse, remedy};
use crate::health::{Fault, FaultKind, Health};

/// From one round of requests to the next.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How often, and at which distance, a check looks for the topic's id at its beginning.
const ID_POLLS: u32 = 50;
const ID_PAUSE: Duration = Duration::from_millis(10);
/// Time limit for asking who leads the partitions.
const METADATA_LIMIT: Duration = Duration::from_secs(3);
/// A partition whose start is unknown for longer is a fault. Leaders change within a few seconds.
const REPORT_AFTER: Duration = Duration::from_secs(15);

/// The checks in progress.
pub(super) struct StartChecks {
    answers: Sender<PartitionStart>,
    received: Mutex<Receiver<PartitionStart>>,
    health: Arc<Health>,
}

impl StartChecks {
    pub(super) fn new(health: Arc<Health>) -> Self {
        let (answers, received) = channel();
        Self { answers, received: Mutex::new(received), health }
    }

    /// The answers since the last call.
    pub(super) fn received(&self) -> Vec<PartitionStart> {
        self.received.lock().try_iter().collect()
    }

    /// Ask for these partitions, after a delay, until each is answered or is not due any more.
    pub(super) fn start(
        &self,
        client: Weak<BaseConsumer<ConsumerCallbacks>>,
        due: Vec<UnknownStart>,
        delay: Duration,
    ) {
        let (answers, health) = (self.answers.clone(), self.health.clone());
        let check = StartCheck { client, due, answers, discarded: BTreeMap::new(), health };
        let since = Instant::now();
        let thread = thread::Builder::new().name("kafka-starts".into()).spawn(move || {
            thread::sleep(delay);
            check.run();
        });
        if let Err(error) = thread {
            let cause = format!("failed to start a thread: {error}");
            let fault = Fault { cause, remedy: "restart the service".into() };
            self.health.faults().report(FaultKind::StartUnknown, since, fault);
        }
    }
}

/// Let the client look at once whether it may fetch these partitions. Its thread for a broker without
/// anything to fetch sleeps for up to a second, and looks again when it has something to send.
pub(super) fn wake_leaders(client: Weak<BaseConsumer<ConsumerCallbacks>>, partitions: Vec<i32>) {
    let ask = move || {
        if let Some(client) = client.upgrade() {
            client.context().starting_offsets.ask_leaders(&client, &partitions);
        }
    };
    // Without a thread it takes that second.
    drop(thread::Builder::new().name("kafka-wake".into()).spawn(ask));
}

/// One thread.
struct StartCheck {
    client: Weak<BaseConsumer<ConsumerCallbacks>>,
    due: Vec<UnknownStart>,
    answers: Sender<PartitionStart>,
    /// By partition, since the last line about them in the log.
    discarded: BTreeMap<i32, DiscardedOffset>,
    health: Arc<Health>,
}

impl StartCheck {
    fn run(mut self) {
        let since = Instant::now();
        let mut is_reported = false;
        self.wait_for_id();
        loop {
            let error = self.ask_by_leader();
            self.log_discarded();
            if self.due.is_empty() {
                break;
            }
            if since.elapsed() >= REPORT_AFTER
                && let Some(fault) = self.fault(error.as_ref())
            {
                self.health.faults().report(FaultKind::StartUnknown, since, fault);
                is_reported = true;
            }
            thread::sleep(PAUSE);
        }
        if is_reported {
            self.health.faults().clear(FaultKind::StartUnknown);
        }
    }

    /// The client learns the topic's id shortly after the assignment.
    fn wait_for_id(&self) {
        for _ in 0..ID_POLLS {
            let client = self.client.upgrade();
            if client
                .is_none_or(|client| client.context().starting_offsets.identity().id().is_some())
            {
                return;
            }
            thread::sleep(ID_PAUSE);
        }
    }

    /// Ask once for the partitions of each leader: a partition without one, or one whose leader does not
    /// answer, fails a request for all partitions in it.
    fn ask_by_leader(&mut self) -> Option<KafkaError> {
        let mut last = None;
        let due = match self.due_by_leader() {
            Ok(due) => due,
            Err(error) => return Some(error),
        };
        for (leader, due) in due {
            let error = match leader {
                Some(_) => self.ask(&due),
                None => Some(KafkaError::Global(RDKafkaErrorCode::LeaderNotAvailable)),
            };
            last = error.or(last);
        }
        last
    }

    /// One line for all partitions of a look: what made the topic again has made all of them again.
    fn log_discarded(&mut self) {
        let discarded = std::mem::take(&mut self.discarded);
        if let Some(client) = self.client.upgrade()
            && !discarded.is_empty()
        {
            let committed: Vec<_> = discarded.values().map(|offset| offset.committed).collect();
            let ends: Vec<_> = discarded.values().map(|offset| offset.end).collect();
            warn!(
                kafka.topic = %client.context().topic,
                kafka.partitions = ?discarded.keys(),
                committed_offsets = ?committed,
                end_offsets = ?ends,
                "committed offsets of an earlier topic or beyond the end; reading from a new start"
            );
        }
    }

    /// The partitions by the broker that leads them; `None`: nobody does.
    fn due_by_leader(&mut self) -> KafkaResult<BTreeMap<Option<i32>, Vec<UnknownStart>>> {
        let Some(client) = self.client.upgrade() else {
            self.due.clear();
            return Ok(BTreeMap::new());
        };
        let topic = &client.context().topic;
        let metadata = client.fetch_metadata(Some(topic), METADATA_LIMIT)?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let leaders: BTreeMap<_, _> =
            partitions.map(|partition| (partition.id(), partition.leader())).collect();
        let mut by_leader: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for due in &self.due {
            let leader = leaders.get(&due.partition).copied().filter(|leader| *leader >= 0);
            by_leader.entry(leader).or_default().push(due.clone());
        }
        Ok(by_leader)
    }

    /// Ask once. What was answered, or is not due any more, leaves the list.
    fn ask(&mut self, due: &[UnknownStart]) -> Option<KafkaError> {
        let Some(client) = self.client.upgrade() else {
            self.due.clear();
            return None;
        };
        let callbacks = client.context();
        self.due.retain(|due| callbacks.readings.is_due(due));
        let due: Vec<_> = due.iter().filter(|due| self.due.contains(due)).cloned().collect();
        if due.is_empty() {
            return None;
        }
        match callbacks.starting_offsets.find(&client, &due) {
            Ok(starts) => {
                for mut start in starts {
                    self.due.retain(|due| *due != start.due);
                    let discarded = start.discarded.take();
                    self.discarded.extend(discarded.map(|offset| (start.due.partition, offset)));
                    self.answers.send(start).unwrap_or_default();
                }
                None
            }
            Err(error) => {
                debug!(%error, "failed to find where partitions are read from");
                Some(error)
            }
        }
    }

    fn fault(&self, error: Option<&KafkaError>) -> Option<Fault> {
        let client = self.client.upgrade()?;
        let (topic, group) = (&client.context().topic, client.context().group());
        let partitions: Vec<_> = self.due.iter().map(|due| due.partition).collect();
        let known = error.and_then(KafkaError::rdkafka_error_code).and_then(|code| {
            remedy(code, &TopicUse::Read(topic)).or_else(|| consumer_failure::remedy(code, group))
        });
        let error = error.map_or_else(String::new, |error| format!(": {error}"));
        Some(Fault {
            cause: format!(
                "it is unknown where the partitions {partitions:?} of {topic} are to be read \
                 from{error}"
            ),
            remedy: known.unwrap_or_else(|| {
                format!(
                    "start the brokers that have replicas of {topic}, and the group's coordinator"
                )
            }),
        })
    }
}
