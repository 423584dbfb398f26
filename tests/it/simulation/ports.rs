//! The ledger and the producer of one process: the real in-memory ledger behind a slow writer, and a
//! producer whose messages may arrive late, unacknowledged, or never.
//!
//! A write that has begun is completed even when its caller is gone, as by the real adapters. Nothing
//! happens for a process that has crashed or is paused.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use handoff::deliver::{OutcomePublisher, Published, PublishedBy};
use handoff::domain::ledger_entry::{
    Claim, ClaimResult, Park, RecoveredEntry, Settle, StoredIdentities, WakeSession, WriteResult,
};
use handoff::domain::record::Position;
use handoff::domain::wire::Message;
use handoff::lease::FencingToken;
use handoff::ledger::{
    CountQuery, DueEntries, DueQuery, Ledger, ParkedCount, ParkedGroup, RecordRange, Recovered,
    StoredEntries, WaitingQuery,
};
use handoff::sim::ledger::MemoryLedger;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::checks;
use super::mutations::{self, Mutation};
use super::outdated;
use super::rooms;
use super::world::{SimProcess, lock};

/// How long the parked events are counted.
const COUNTING: Duration = Duration::from_millis(700);

/// A command for the writer and whether its caller still waits.
struct LedgerWrite {
    apply: Box<dyn FnOnce() -> SendResult + Send>,
    is_wanted: Box<dyn Fn() -> bool + Send>,
}

/// Sends the result of a command to its caller.
type SendResult = Box<dyn FnOnce() + Send>;

/// The process's ledger.
pub(super) struct SimLedger {
    process: Arc<SimProcess>,
    memory: MemoryLedger,
    commands: mpsc::UnboundedSender<LedgerWrite>,
}

/// Applies the queued commands in batches.
pub(super) struct SimLedgerWriter {
    process: Arc<SimProcess>,
    commands: mpsc::UnboundedReceiver<LedgerWrite>,
}

impl SimLedger {
    pub(super) fn open(process: &Arc<SimProcess>) -> (Self, SimLedgerWriter) {
        let (tx, rx) = mpsc::unbounded_channel();
        let memory = mutations::owned_ledger(process);
        let ledger = Self { process: process.clone(), memory, commands: tx };
        (ledger, SimLedgerWriter { process: process.clone(), commands: rx })
    }

    async fn write<T: TraceResult>(
        &self,
        description: String,
        apply: impl FnOnce(&MemoryLedger) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(parking_lot::Mutex::new(Some(sender)));
        let (memory, process, waiting) =
            (self.memory.clone(), self.process.clone(), sender.clone());
        let apply = Box::new(move || {
            let result = apply(&memory);
            let suffix = result.trace_suffix();
            process.world.log(|| format!("{} ledger: {description}{suffix}", process.name));
            Box::new(move || {
                if let Some(sender) = lock(&sender).take() {
                    drop(sender.send(result));
                }
            }) as SendResult
        });
        let is_wanted =
            Box::new(move || lock(&waiting).as_ref().is_some_and(|sender| !sender.is_closed()));
        drop(self.commands.send(LedgerWrite { apply, is_wanted }));
        let result = receiver.await;
        self.process.until_running().await;
        match result {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }
}

/// A result as the trace shows it.
trait TraceResult: Send + 'static {
    fn trace_suffix(&self) -> String;
}

impl TraceResult for () {
    fn trace_suffix(&self) -> String {
        String::new()
    }
}

impl TraceResult for WriteResult {
    fn trace_suffix(&self) -> String {
        if self.is_done() { String::new() } else { ": REFUSED".to_owned() }
    }
}

impl TraceResult for ClaimResult {
    fn trace_suffix(&self) -> String {
        match self {
            Self::Resumed(resumed) => match resumed.parked_until {
                Some(until) => format!(": resumed, parked until {until}"),
                None => format!(": resumed, claimed at {}", resumed.claimed_at),
            },
            Self::Settled { published, .. } => format!(": settled, published {published}"),
            other => format!(": {other:?}"),
        }
    }
}

impl SimLedgerWriter {
    pub(super) async fn run(mut self) {
        while let Some(first) = self.commands.recv().await {
            let mut batch = VecDeque::from([first]);
            while let Ok(next) = self.commands.try_recv() {
                batch.push_back(next);
            }
            // The real writers skip a command whose caller has stopped to wait.
            batch.retain(|write| (write.is_wanted)());
            let slow =
                self.process.world.schedule.slow_ledger && !self.process.world.faults_are_over();
            self.process.crash_point("a batch is about to be written").await;
            self.process.delay_up_to(if slow { 1_500 } else { 10 }).await;
            let results: Vec<_> = batch.into_iter().map(|write| (write.apply)()).collect();
            self.process.crash_point("a batch is written and its results are not sent").await;
            self.process.delay_up_to(if slow { 300 } else { 2 }).await;
            results.into_iter().for_each(|send| send());
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the ledger in memory answers at once")
}

impl Ledger for SimLedger {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        checks::note_claim(&self.process, &claim);
        let claim = mutations::claim(&self.process, claim);
        let process = self.process.clone();
        let description = format!("claim {}", claim.key);
        self.write(description, move |memory| {
            let before = memory.entry(&claim.key);
            rooms::on_claim(&process, before.as_ref(), &claim);
            checks::check_due(&process, before.as_ref(), &claim);
            mutations::claimed(&process, now(memory.claim(claim)))
        })
        .await
    }

    async fn park(&self, key: Arc<str>, park: Park) -> WriteResult {
        let process = self.process.clone();
        let description = format!("park {key} until {}", park.until);
        self.write(description, move |memory| {
            rooms::on_park(&process, &key, &park);
            let has_record = park.record.is_some();
            let parked = now(memory.park(key.clone(), park));
            // From now on the offset may be committed: the ledger holds the record.
            if parked.is_done() && has_record {
                lock(&process.world.kafka).parked.insert(key);
            }
            parked
        })
        .await
    }

    async fn settle(&self, key: Arc<str>, settle: Settle) -> WriteResult {
        let process = self.process.clone();
        let description = format!("settle {key}: {}", settle.answer.label());
        self.write(description, move |memory| {
            rooms::on_settle(&process, &key, settle.answer.label());
            let settle = Settle { wake: mutations::wake(&process, settle.wake), ..settle };
            now(memory.settle(key, settle))
        })
        .await
    }

    async fn wake_session(&self, wake: WakeSession) {
        let process = self.process.clone();
        let description = format!("wake {} before {:?}", wake.session_id, wake.before_offset);
        self.write(description, move |memory| {
            if let Some(wake) = mutations::wake(&process, Some(wake)) {
                now(memory.wake_session(wake));
            }
        })
        .await;
    }

    async fn is_session_parked(
        &self,
        session_id: Arc<str>,
        before: Position,
        in_memory: Vec<i64>,
    ) -> bool {
        self.read().await;
        let is_parked = now(self.memory.is_session_parked(session_id, before, in_memory));
        self.process.delay_up_to(5).await;
        is_parked && !self.process.world.is(Mutation::OvertakeParkedEvents)
    }

    async fn is_behind_unpublished(&self, session: Arc<str>, at: Position, from: i64) -> bool {
        self.read().await;
        now(self.memory.is_behind_unpublished(session, at, from))
    }

    async fn forgot(&self, key: Arc<str>, recorded: Timestamp) -> bool {
        // Nothing is pruned here, so no read is simulated.
        now(self.memory.forgot(key, recorded))
    }

    async fn identities(&self, range: RecordRange) -> StoredIdentities {
        now(self.memory.identities(range))
    }

    async fn mark_published(&self, key: Arc<str>, position: Option<Position>) {
        let description = format!("published {key}");
        self.write(description, move |memory| now(memory.mark_published(key, position))).await;
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        self.read().await;
        let recovered = now(self.memory.recover(topic, partitions.clone()));
        let recovered = outdated::before_rooms(&self.process, recovered);
        rooms::on_recover(&self.process, &partitions, &recovered.parked);
        self.process.world.log(|| {
            let entries = recovered.entries.iter();
            let offsets: Vec<_> = entries.map(|entry| entry.record.position.offset).collect();
            let groups = recovered.parked.iter();
            let parked: Vec<_> =
                groups.map(|group| (group.partition, group.waits_for.to_string())).collect();
            format!("{} ledger: unfinished: {offsets:?}, parked: {parked:?}", self.process.name)
        });
        self.answer_read().await;
        recovered
    }

    async fn count_parked(&self, query: CountQuery) -> Vec<ParkedCount> {
        let counts = now(self.memory.count_parked(query));
        // Nothing may wait for it. Always the same time: another draw would make other worlds of all
        // seeds.
        sleep(COUNTING).await;
        self.process.until_running().await;
        counts
    }

    async fn unfinished(&self, topic: Arc<str>, partitions: Vec<i32>) -> StoredEntries {
        self.read().await;
        let found = now(self.memory.unfinished(topic, partitions));
        self.trace_read("unfinished", found.entries.iter());
        self.answer_read().await;
        found
    }

    async fn parked_groups(&self, topic: Arc<str>, partitions: Vec<i32>) -> Vec<ParkedGroup> {
        let groups = now(self.memory.parked_groups(topic, partitions));
        let groups = mutations::swept(&self.process, groups);
        self.answer_read().await;
        groups
    }

    async fn due(&self, query: DueQuery) -> DueEntries {
        self.read().await;
        let due = now(self.memory.due(query.clone()));
        let due = outdated::before_attempts(&self.process, &query, due);
        let due = mutations::due(&self.process, &query, due);
        self.trace_read("due", due.overdue.entries.iter().chain(&due.due.entries));
        self.answer_read().await;
        due
    }

    async fn waiting(&self, query: WaitingQuery) -> StoredEntries {
        self.read().await;
        let room = query.room.clone();
        let found = now(self.memory.waiting(query));
        let found = mutations::waiting(&self.process, found);
        self.trace_read(&format!("waiting in {room}"), found.entries.iter());
        self.answer_read().await;
        found
    }
}

impl SimLedger {
    /// What precedes every read.
    async fn read(&self) {
        self.process.crash_point("the ledger is about to be read").await;
        self.process.delay_up_to(20).await;
    }

    /// What follows every read: an answer may arrive when it is outdated.
    async fn answer_read(&self) {
        let world = &self.process.world;
        let is_slow = world.schedule.slow_ledger && !world.faults_are_over();
        self.process.delay_up_to(if is_slow { 1_500 } else { 20 }).await;
    }

    fn trace_read<'a>(&self, what: &str, entries: impl Iterator<Item = &'a RecoveredEntry>) {
        let offsets: Vec<_> = entries.map(|entry| entry.record.position.offset).collect();
        if !offsets.is_empty() {
            self.process.world.log(|| format!("{} ledger: {what}: {offsets:?}", self.process.name));
        }
    }
}

/// A message that is enqueued and not acknowledged.
struct QueuedMessage {
    message: Arc<Message>,
    enqueued_at: Instant,
    acknowledged: oneshot::Sender<Position>,
}

/// The process's producer.
pub(super) struct SimProducer {
    process: Arc<SimProcess>,
    messages: mpsc::UnboundedSender<QueuedMessage>,
}

/// Sends the enqueued messages in their order.
pub(super) struct SimProducerQueue {
    process: Arc<SimProcess>,
    messages: mpsc::UnboundedReceiver<QueuedMessage>,
}

impl SimProducer {
    pub(super) fn start(process: &Arc<SimProcess>) -> (Self, SimProducerQueue) {
        let (tx, rx) = mpsc::unbounded_channel();
        let producer = Self { process: process.clone(), messages: tx };
        (producer, SimProducerQueue { process: process.clone(), messages: rx })
    }
}

impl SimProducerQueue {
    pub(super) async fn run(mut self) {
        while let Some(queued) = self.messages.recv().await {
            self.process.crash_point("a message is enqueued and not sent").await;
            self.process.delay_up_to(200).await;
            // Purged: its delivery was aborted when its partition had not drained in time.
            if queued.acknowledged.is_closed() {
                continue;
            }
            let world = &self.process.world;
            let description = world.describe(&queued.message);
            // The documented hole: a pause between enqueueing and sending a message.
            let late = self.process.paused_since(queued.enqueued_at);
            let position =
                lock(&world.kafka).publish(queued.message.as_ref().clone(), world.now(), late);
            world.log(|| format!("{} published {position}: {description}", self.process.name));
            self.process.crash_point("a message has arrived and is not acknowledged").await;
            self.process.delay_up_to(50).await;
            drop(queued.acknowledged.send(position));
        }
    }
}

impl OutcomePublisher for SimProducer {
    fn publish(
        &self,
        message: Arc<Message>,
        _: FencingToken,
    ) -> impl Future<Output = Published> + Send {
        let (acknowledged, acknowledgement) = oneshot::channel();
        let enqueued_at = Instant::now();
        let copies: Vec<_> = (0..mutations::extra_copies(&self.process))
            .map(|_| {
                let (acknowledged, wanted) = oneshot::channel();
                let message = message.clone();
                drop(self.messages.send(QueuedMessage { message, enqueued_at, acknowledged }));
                wanted
            })
            .collect();
        drop(self.messages.send(QueuedMessage { message, enqueued_at, acknowledged }));
        async move {
            let position = acknowledgement.await;
            drop(copies);
            self.process.until_running().await;
            match position {
                Ok(position) => Published { position, by: PublishedBy::Us },
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Nothing is left to do: a message whose delivery was aborted is not sent, and the others are
    /// enqueued again.
    fn purge(&self) {}

    async fn find_published(&self, message: &Message, since: Timestamp) -> Option<Position> {
        self.process.crash_point("the topic is about to be read").await;
        self.process.delay_up_to(200).await;
        let skew = Duration::from_secs(300);
        let found = lock(&self.process.world.kafka).find(message, since - skew);
        self.process.delay_up_to(20).await;
        found
    }
}
