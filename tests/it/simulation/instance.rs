//! One process: the real `consume` and `deliver` on simulated ports, its member of the group
//! (the thread that polls), and whoever starts it again after it has ended.
//!
//! The member does what the Kafka adapter does: it asks for a drain and waits within its
//! budget, commits, lets go; what is lost is fenced at once.
//! This file never tells the service that it is in a simulation.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use handoff::clock::{Clock, Rng};
use handoff::consume::{Inbound, IntakeLimits, IntakeSettings, Source, consume};
use handoff::deliver::{Context, Ports};
use handoff::domain::wire::escalation::DecodeRules;
use handoff::gate::{BreakerPolicy, Gate};
use handoff::health::Health;
use handoff::lease::Lease;
use handoff::telemetry::Metrics;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::desk::Client;
use super::kafka::{Member, Order, TOPIC, commit};
use super::mutations;
use super::ports::{Book, Producer};
use super::world::{Life, World, lock};

/// The longest time between two polls.
const POLL: Duration = Duration::from_secs(1);
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// The simulated ports.
pub(super) struct Simulated;

impl Ports for Simulated {
    type Desk = Client;
    type Outcomes = Producer;
    type Ledger = Book;
}

/// What the member and `consume` share.
#[derive(Clone)]
struct Shelf {
    life: Arc<Life>,
    stored: Arc<Mutex<BTreeMap<i32, i64>>>,
    paused: Arc<Mutex<BTreeSet<i32>>>,
    wake: Arc<Notify>,
}

impl Source for Shelf {
    fn store(&self, partition: i32, offset: i64) {
        let offset = mutations::stored(&self.life, offset);
        lock(&self.stored).insert(partition, offset);
        self.wake.notify_one();
    }

    fn pause(&self, partitions: &[i32]) {
        lock(&self.paused).extend(partitions);
    }

    fn resume(&self, partitions: &[i32]) {
        lock(&self.paused).retain(|partition| !partitions.contains(partition));
        self.wake.notify_one();
    }
}

/// A process is started again and again until the world ends.
pub(super) async fn instance(world: Arc<World>, slot: usize, stop: CancellationToken) {
    for number in 1.. {
        let life = Life::new(&world, slot, number);
        world.say(|| format!("{} starts", life.name));
        let stop_early = CancellationToken::new();
        tokio::select! {
            biased;
            () = life.death.notified() => {}
            () = live(&life, &stop_early) => world.say(|| format!("{} has ended", life.name)),
            () = fate(&life, &stop_early) => {}
            () = async { stop.cancelled().await; stop_early.cancel(); std::future::pending().await } => {}
        }
        if stop.is_cancelled() {
            return;
        }
        let pause = world.ms(50, if world.one_in(2) { 1_000 } else { 12_000 });
        sleep(pause).await;
    }
}

/// What happens to it from outside: frozen for a while, killed, or asked to stop.
async fn fate(life: &Arc<Life>, stop: &CancellationToken) {
    let world = &life.world;
    loop {
        sleep(world.ms(500, 20_000)).await;
        if world.is_calm() {
            return std::future::pending().await;
        }
        match world.chance(|rng| rng.u8(0..4)) {
            0 | 3 if world.plan.freezes => {
                let until = Instant::now() + world.ms(500, 15_000);
                world.say(|| format!("{} FREEZES for {:?}", life.name, until - Instant::now()));
                life.freeze(until);
                sleep_until(until).await;
                world.say(|| format!("{} goes on", life.name));
            }
            1 if world.plan.crashes => life.die("of a kill"),
            2 => {
                world.say(|| format!("{} is asked to stop", life.name));
                stop.cancel();
            }
            _ => {}
        }
    }
}

/// A life from its start to its orderly end. Whoever drops it kills it.
async fn live(life: &Arc<Life>, stop: &CancellationToken) {
    let world = &life.world;
    let (book, writer) = Book::open(life);
    let (producer, sending) = Producer::start(life);
    let (inbound, received) = mpsc::channel(16);
    let (tx, orders) = mpsc::unbounded_channel();
    let member = Member::new(life, tx);
    let shelf = Shelf {
        life: life.clone(),
        stored: Arc::default(),
        paused: Arc::default(),
        wake: member.wake.clone(),
    };
    lock(&world.broker).members.insert(life.slot, member);
    let lease = Arc::new(Lease::new());
    let health = Arc::new(Health::new(lease.clone(), Duration::from_secs(3_600)));
    let poll = Poll {
        shelf: shelf.clone(),
        lease: lease.clone(),
        inbound,
        next: BTreeMap::new(),
        leaving: Vec::new(),
    };
    let context = context(life, (producer, book), (lease, health));
    let mut helpers = JoinSet::new();
    helpers.spawn(context.gate.clone().drive());
    helpers.spawn(writer.run());
    helpers.spawn(sending.run());
    let mut main = JoinSet::new();
    main.spawn(consume(received, shelf, settings(world), context));
    main.spawn(poll.run(orders, stop.clone()));
    while let Some(ended) = main.join_next().await {
        ended.unwrap();
    }
    // What was handed over may still arrive, or not.
    life.takes(1_000).await;
}

fn context(
    life: &Arc<Life>,
    (outcomes, ledger): (Producer, Book),
    (lease, health): (Arc<Lease>, Arc<Health>),
) -> Arc<Context<Simulated>> {
    let metrics = Arc::new(Metrics::new());
    let (clock, chance) = (life.world.clock(), life.world.clone());
    Arc::new(Context {
        desk: Client { life: life.clone() },
        outcomes,
        ledger,
        gate: gate(&metrics),
        policy: life.world.plan.policy.clone(),
        clock: Clock::from_fn(move || clock.now()),
        rng: Rng::from_fn(move || chance.chance(|rng| rng.u64(..))),
        lease,
        health,
        metrics,
    })
}

fn gate(metrics: &Arc<Metrics>) -> Arc<Gate> {
    let policy = BreakerPolicy {
        probe_initial: Duration::from_secs(1),
        probe_max: Duration::from_secs(8),
        outage_after: 6,
    };
    Gate::new(policy, None, 8, metrics.clone())
}

fn settings(world: &World) -> IntakeSettings {
    IntakeSettings {
        topic: TOPIC.into(),
        rules: DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 10_000,
            time_to_live: Duration::from_secs(30),
        },
        limits: IntakeLimits { max_events: 12, max_bytes: 100_000, max_span: 8 },
        drain: world.plan.drain,
    }
}

/// The thread that polls.
struct Poll {
    shelf: Shelf,
    lease: Arc<Lease>,
    inbound: mpsc::Sender<Inbound>,
    /// The next offset to hand out of each partition that is ours.
    next: BTreeMap<i32, i64>,
    leaving: Vec<Leaving>,
}

/// Partitions on their way out.
struct Leaving {
    partitions: Vec<i32>,
    lost: bool,
    drained: Receiver<()>,
    until: Instant,
}

impl Leaving {
    fn is_over(&self) -> bool {
        match self.drained.try_recv() {
            Err(TryRecvError::Empty) => Instant::now() >= self.until,
            Ok(()) | Err(TryRecvError::Disconnected) => true,
        }
    }
}

impl Poll {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, stop: CancellationToken) {
        let life = self.shelf.life.clone();
        let mut commit_at = None;
        while !stop.is_cancelled() {
            life.go_on().await;
            self.lease.renew();
            while let Ok(order) = orders.try_recv() {
                // The group's answer to the next sign of life is on its way.
                life.takes(1_500).await;
                self.obey(order).await;
            }
            self.let_go();
            if commit_at.is_some_and(|at| Instant::now() >= at) {
                life.point("offsets are about to be committed").await;
                self.commit_all();
                commit_at = None;
            }
            if commit_at.is_none() && !lock(&self.shelf.stored).is_empty() {
                commit_at = Some(Instant::now() + life.world.plan.commit_every);
            }
            if self.hand_out().await {
                continue;
            }
            let draining = !self.leaving.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.shelf.wake.notified() => {}
                () = sleep(Duration::from_millis(20)), if draining => {}
                () = sleep(POLL) => {}
                () = sleep_until(commit_at.unwrap_or_else(Instant::now)), if commit_at.is_some() => {}
            }
        }
        life.go_on().await;
        self.end().await;
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Take(partitions) => {
                for &partition in &partitions {
                    let broker = lock(&self.shelf.life.world.broker);
                    self.next.insert(partition, broker.partitions[partition as usize].committed);
                }
                lock(&self.shelf.stored).retain(|partition, _| !partitions.contains(partition));
                lock(&self.shelf.paused).retain(|partition| !partitions.contains(partition));
                self.tell(Inbound::Assigned(partitions)).await;
            }
            Order::Give(mut partitions) => {
                let life = self.shelf.life.clone();
                partitions.retain(|partition| lock(&life.world.broker).owns(&life, *partition));
                self.give(partitions, false).await;
            }
            Order::Lost(partitions) => {
                // What was on its way out is lost as well.
                self.leaving.iter_mut().for_each(|leaving| leaving.lost = true);
                self.next.retain(|partition, _| !partitions.contains(partition));
                self.give(partitions, true).await;
                let mut broker = lock(&self.shelf.life.world.broker);
                if let Some(member) = broker.members.get_mut(&self.shelf.life.slot) {
                    member.expelled = false;
                }
            }
        }
    }

    async fn give(&mut self, partitions: Vec<i32>, lost: bool) {
        if partitions.is_empty() {
            return;
        }
        let (done, drained) = sync_channel(1);
        let revoked = Inbound::Revoked { partitions: partitions.clone(), lost, done };
        self.tell(revoked).await;
        let until = Instant::now() + self.shelf.life.world.plan.drain + DRAIN_MARGIN;
        self.leaving.push(Leaving { partitions, lost, drained, until });
    }

    async fn tell(&mut self, message: Inbound) {
        // Nobody listens any more only when all has ended.
        self.inbound.send(message).await.unwrap_or_default();
    }

    /// What has drained is committed and let go of.
    fn let_go(&mut self) {
        let (over, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(Leaving::is_over);
        self.leaving = left;
        for gone in over {
            if !gone.lost {
                self.commit_all();
                self.next.retain(|partition, _| !gone.partitions.contains(partition));
                lock(&self.shelf.stored).retain(|p, _| !gone.partitions.contains(p));
                lock(&self.shelf.life.world.broker).release(&self.shelf.life, &gone.partitions);
            }
        }
    }

    fn commit_all(&self) {
        let stored = std::mem::take(&mut *lock(&self.shelf.stored));
        commit(&self.shelf.life, &stored);
    }

    /// One record of each partition, one by one or together; false: there is none.
    async fn hand_out(&mut self) -> bool {
        let mut records = Vec::new();
        for (&partition, next) in &mut self.next {
            if lock(&self.shelf.paused).contains(&partition) {
                continue;
            }
            let broker = lock(&self.shelf.life.world.broker);
            let record = broker.partitions[partition as usize].records.get(*next as usize);
            if let Some(record) = record {
                records.push(record.clone());
                *next += 1;
            }
        }
        let any = !records.is_empty();
        if self.shelf.life.world.one_in(2) {
            records.reverse();
        }
        let together = self.shelf.life.world.one_in(2);
        while !records.is_empty() {
            let left = records.split_off(if together { records.len() } else { 1 });
            self.tell(Inbound::Records(std::mem::replace(&mut records, left))).await;
        }
        any
    }

    /// Drain all that is ours, commit, leave the group.
    async fn end(mut self) {
        let life = &self.shelf.life.clone();
        let (done, drained) = sync_channel(1);
        self.tell(Inbound::Ending { lost: false, done }).await;
        let until = Instant::now() + life.world.plan.drain + DRAIN_MARGIN;
        while let Err(TryRecvError::Empty) = drained.try_recv()
            && Instant::now() < until
        {
            sleep(Duration::from_millis(20)).await;
            life.go_on().await;
        }
        self.commit_all();
        lock(&life.world.broker).leave(life);
    }
}
