//! What everybody in a simulated world shares: one source of chance, one clock, one story, and
//! the life of each process, which may end or stand still at any of its await points.
//!
//! Everything that happens follows from the seed. Nothing a process does reaches the world
//! except through a port, and no port acts for a process that is dead or frozen.
//! This file never knows what the service promises; `checks` does.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use handoff::domain::wire::outcome::{Channel, Message};
use handoff::sim::ledger::Memory;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::desk::Floor;
use super::kafka::Broker;
use super::mutations::Mutation;
use super::plan::Plan;

/// When every world begins.
pub(super) const START: &str = "2026-11-23T10:00:00Z";

/// A world.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) mutation: Option<Mutation>,
    pub(super) broker: Mutex<Broker>,
    pub(super) floor: Mutex<Floor>,
    pub(super) ledger: Memory,
    /// Violations seen on the way.
    faults: Mutex<Vec<String>>,
    /// The story, kept where it is asked for.
    story: Option<Mutex<Vec<String>>>,
    chance: Mutex<fastrand::Rng>,
    clock: Clock,
}

/// The world's clock: tokio's paused one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    start: Timestamp,
    epoch: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start: START.parse().unwrap(), epoch: Instant::now() }
    }

    pub(super) fn now(self) -> Timestamp {
        self.start + self.epoch.elapsed()
    }

    pub(super) fn at(self, since_start: Duration) -> Instant {
        self.epoch + since_start
    }

    pub(super) fn time(self, since_start: Duration) -> Timestamp {
        self.start + since_start
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl World {
    pub(super) fn new(plan: Plan, mutation: Option<Mutation>, told: bool) -> Arc<Self> {
        let clock = Clock::new();
        let mut chance = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let floor = Floor::new(&plan, chance.fork());
        Arc::new(Self {
            broker: Mutex::new(Broker::new(plan.partitions)),
            floor: Mutex::new(floor),
            ledger: Memory::new("nobody", Arc::new(move || clock.now())),
            faults: Mutex::default(),
            story: told.then(Mutex::default),
            chance: Mutex::new(chance),
            clock,
            mutation,
            plan,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// The time of trouble is over.
    pub(super) fn is_calm(&self) -> bool {
        Instant::now() >= self.clock.at(self.plan.trouble)
    }

    pub(super) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn chance<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut lock(&self.chance))
    }

    pub(super) fn one_in(&self, n: u32) -> bool {
        self.chance(|rng| rng.u32(0..n) == 0)
    }

    pub(super) fn ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.chance(|rng| rng.u64(from..=to)))
    }

    /// The ledger knows of nothing that still needs somebody.
    pub(super) fn nothing_is_open(&self) -> bool {
        self.ledger.unpublished() == 0
    }

    /// Something happened.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            let at = self.clock.epoch.elapsed().as_millis();
            lock(story).push(format!("{at:>7} ms  {}", what()));
        }
    }

    /// A message, in the story.
    pub(super) fn shown(&self, message: &Message) -> String {
        let Some(_) = self.story else { return String::new() };
        match (message.channel, &message.value) {
            (Channel::Outcomes, Some(value)) => String::from_utf8_lossy(value).into_owned(),
            _ => format!("dead letter, {}", message.label()),
        }
    }

    /// A promise is broken.
    pub(super) fn fault(&self, what: String) {
        self.say(|| format!("FAULT: {what}"));
        lock(&self.faults).push(what);
    }

    pub(super) fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.story.as_ref().map(|story| lock(story).clone()).unwrap_or_default()
    }
}

/// One life of one process.
pub(super) struct Life {
    pub(super) world: Arc<World>,
    /// Which of the instances; a restarted one keeps it.
    pub(super) slot: usize,
    pub(super) name: String,
    dead: AtomicBool,
    pub(super) death: Notify,
    /// So many await points more, and it is dead.
    points: AtomicI64,
    /// Since when, and until when.
    frozen: Mutex<Option<(Instant, Instant)>>,
}

impl Life {
    pub(super) fn new(world: &Arc<World>, slot: usize, number: u32) -> Arc<Self> {
        let mortal = !world.is_calm() && !world.one_in(4);
        let points = world.chance(|rng| if rng.bool() { rng.i64(1..60) } else { rng.i64(1..600) });
        Arc::new(Self {
            world: world.clone(),
            slot,
            name: format!("{}{number}", char::from(b'A' + slot as u8)),
            dead: AtomicBool::new(false),
            death: Notify::new(),
            points: AtomicI64::new(if mortal && world.plan.crashes { points } else { i64::MAX }),
            frozen: Mutex::default(),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn die(&self, why: &str) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.world.say(|| format!("{} DIES {why}", self.name));
            self.death.notify_one();
        }
    }

    pub(super) fn freeze(&self, until: Instant) {
        *lock(&self.frozen) = Some((Instant::now(), until));
    }

    /// It has stood still at some time since then.
    pub(super) fn froze_since(&self, then: Instant) -> bool {
        lock(&self.frozen).is_some_and(|(from, _)| from >= then)
    }

    /// It stands still until then.
    pub(super) fn frozen(&self) -> Option<Instant> {
        lock(&self.frozen).map(|(_, until)| until).filter(|until| Instant::now() < *until)
    }

    /// An await point: here the process may stop for ever, or for a while.
    pub(super) async fn point(&self, what: &str) {
        let left = self.points.load(Ordering::Relaxed);
        if left != i64::MAX && !self.world.is_calm() && !self.is_dead() {
            self.points.store(left - 1, Ordering::Relaxed);
            if left <= 1 {
                self.die(&format!("at {what}"));
            }
        }
        self.go_on().await;
    }

    /// Not while it is frozen, and never again when it is dead.
    pub(super) async fn go_on(&self) {
        while let Some(until) = self.frozen() {
            sleep_until(until).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// It takes up to so many milliseconds, mostly none.
    pub(super) async fn takes(&self, ms: u64) {
        let wait = self.world.chance(|rng| match rng.u8(0..4) {
            0 | 1 => 0,
            2 => rng.u64(0..=ms.min(5)),
            _ => rng.u64(0..=ms),
        });
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        self.go_on().await;
    }
}
