//! The ledger and the producer of one process: the real in-memory ledger behind a writer that
//! takes its time, and a producer whose records may arrive late, unacknowledged, or never.
//!
//! What was begun for a caller that is gone is still done, as by the real ones.
//! This file never does anything for a process that is dead or frozen.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use handoff::deliver::{OutcomePublisher, Published, PublishedBy};
use handoff::domain::ledger_entry::{Claim, ClaimResult, Parking};
use handoff::domain::record::Position;
use handoff::domain::wire::outcome::Message;
use handoff::lease::FencingToken;
use handoff::ledger::{Ledger, Recovered};
use handoff::sim::ledger::Memory;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::checks;
use super::mutations;
use super::world::{Life, lock};

/// Something to be written, and the telling of its result.
type LedgerCommand = Box<dyn FnOnce() -> Box<dyn FnOnce() + Send> + Send>;

/// The process's ledger.
pub(super) struct Book {
    life: Arc<Life>,
    memory: Memory,
    orders: mpsc::UnboundedSender<(LedgerCommand, Box<dyn Fn() -> bool + Send>)>,
}

/// Writes what is queued in one go.
pub(super) struct Writer {
    life: Arc<Life>,
    orders: mpsc::UnboundedReceiver<(LedgerCommand, Box<dyn Fn() -> bool + Send>)>,
}

impl Book {
    pub(super) fn open(life: &Arc<Life>) -> (Self, Writer) {
        let (tx, rx) = mpsc::unbounded_channel();
        let memory = mutations::owner(life);
        let book = Self { life: life.clone(), memory, orders: tx };
        (book, Writer { life: life.clone(), orders: rx })
    }

    async fn order<T: Told>(
        &self,
        what: String,
        deed: impl FnOnce(&Memory) -> T + Send + 'static,
    ) -> T {
        let (reply, told) = oneshot::channel();
        let reply = Arc::new(parking_lot::Mutex::new(Some(reply)));
        let (memory, life, waiting) = (self.memory.clone(), self.life.clone(), reply.clone());
        let deed: LedgerCommand = Box::new(move || {
            let result = deed(&memory);
            life.world.say(|| format!("{} ledger: {what}{}", life.name, result.told()));
            Box::new(move || {
                if let Some(reply) = lock(&reply).take() {
                    drop(reply.send(result));
                }
            })
        });
        let wanted = move || lock(&waiting).as_ref().is_some_and(|reply| !reply.is_closed());
        drop(self.orders.send((deed, Box::new(wanted))));
        let result = told.await;
        self.life.go_on().await;
        match result {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The result of a deed, in the story.
trait Told: Send + 'static {
    fn told(&self) -> String;
}

impl Told for () {
    fn told(&self) -> String {
        String::new()
    }
}

impl Told for bool {
    fn told(&self) -> String {
        if *self { String::new() } else { ": REFUSED".to_owned() }
    }
}

impl Told for ClaimResult {
    fn told(&self) -> String {
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

impl Writer {
    pub(super) async fn run(mut self) {
        while let Some(first) = self.orders.recv().await {
            let mut batch = VecDeque::from([first]);
            while let Ok(next) = self.orders.try_recv() {
                batch.push_back(next);
            }
            batch.retain(|(_, wanted)| wanted());
            let slow = self.life.world.plan.slow_ledger && !self.life.world.is_calm();
            self.life.point("something is about to be written").await;
            self.life.takes(if slow { 1_500 } else { 10 }).await;
            let tell: Vec<_> = batch.into_iter().map(|(deed, _)| deed()).collect();
            self.life.point("something is written and not told").await;
            self.life.takes(if slow { 300 } else { 2 }).await;
            tell.into_iter().for_each(|tell| tell());
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the ledger in memory answers at once")
}

impl Ledger for Book {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        checks::claimed(&self.life, &claim);
        let life = self.life.clone();
        let what = format!("claim {}", claim.key);
        self.order(what, move |memory| mutations::claimed(&life, now(memory.claim(claim)))).await
    }

    async fn park(&self, key: Arc<str>, parking: Parking) -> bool {
        let life = self.life.clone();
        let what = format!("park {key} until {}", parking.until);
        self.order(what, move |memory| {
            let kept = parking.record.is_some();
            let parked = now(memory.park(key.clone(), parking));
            // Only then Kafka need not deliver it again.
            if parked && kept {
                lock(&life.world.broker).parked.insert(key);
            }
            parked
        })
        .await
    }

    async fn settle(&self, key: Arc<str>, answer: Arc<Message>, at: Timestamp) -> bool {
        let what = format!("settle {key}: {}", answer.label());
        self.order(what, move |memory| now(memory.settle(key, answer, at))).await
    }

    async fn published(&self, key: Arc<str>, place: Option<Position>) {
        let what = format!("published {key}");
        self.order(what, move |memory| now(memory.published(key, place))).await;
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        self.life.point("the ledger is about to be read").await;
        self.life.takes(20).await;
        let Recovered { rows, unread } = now(self.memory.recover(topic, partitions));
        let rows = mutations::recover(&self.life, rows);
        self.life.world.say(|| {
            let keys: Vec<_> = rows.iter().map(|row| &*row.key).collect();
            format!("{} ledger: unfinished: {keys:?}", self.life.name)
        });
        self.life.takes(20).await;
        Recovered { rows, unread }
    }
}

/// A message on its way, and who waits for it.
struct Parcel {
    message: Arc<Message>,
    handed_over: Instant,
    acknowledged: oneshot::Sender<Position>,
}

/// The process's producer.
pub(super) struct Producer {
    life: Arc<Life>,
    parcels: mpsc::UnboundedSender<Parcel>,
}

/// Sends what was handed over, in its order.
pub(super) struct Sending {
    life: Arc<Life>,
    parcels: mpsc::UnboundedReceiver<Parcel>,
}

impl Producer {
    pub(super) fn start(life: &Arc<Life>) -> (Self, Sending) {
        let (tx, rx) = mpsc::unbounded_channel();
        let producer = Self { life: life.clone(), parcels: tx };
        (producer, Sending { life: life.clone(), parcels: rx })
    }
}

impl Sending {
    pub(super) async fn run(mut self) {
        while let Some(parcel) = self.parcels.recv().await {
            self.life.point("a message is handed over and not sent").await;
            self.life.takes(200).await;
            let world = &self.life.world;
            let what = world.shown(&parcel.message);
            // The documented hole: it stood still between being handed a message and sending it.
            let late = self.life.froze_since(parcel.handed_over);
            let place =
                lock(&world.broker).post(parcel.message.as_ref().clone(), (world.now(), late));
            world.say(|| format!("{} published {place}: {what}", self.life.name));
            self.life.point("a message has arrived and is not acknowledged").await;
            self.life.takes(50).await;
            drop(parcel.acknowledged.send(place));
        }
    }
}

impl OutcomePublisher for Producer {
    fn publish(
        &self,
        message: Arc<Message>,
        _: FencingToken,
    ) -> impl Future<Output = Published> + Send {
        let (acknowledged, told) = oneshot::channel();
        let handed_over = Instant::now();
        for _ in 0..mutations::copies(&self.life) {
            let (nobody, _) = oneshot::channel();
            let message = message.clone();
            drop(self.parcels.send(Parcel { message, handed_over, acknowledged: nobody }));
        }
        drop(self.parcels.send(Parcel { message, handed_over, acknowledged }));
        async move {
            let place = told.await;
            self.life.go_on().await;
            match place {
                Ok(position) => Published { position, by: PublishedBy::Us },
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Here nothing waits but while its process stands still, and then nothing is taken back.
    fn purge(&self) {}

    async fn find_published(&self, message: &Message, since: Timestamp) -> Option<Position> {
        self.life.point("the topic is about to be read").await;
        self.life.takes(200).await;
        let skew = Duration::from_secs(300);
        let found = lock(&self.life.world.broker).find(message, since - skew);
        self.life.takes(20).await;
        found
    }
}
