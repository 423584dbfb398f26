//! What all processes of a simulated world share: one random source, one clock, one trace; and the
//! processes, which may crash or be paused at any await point.
//!
//! Everything is determined by the seed. A process acts on the world only through its ports, and no
//! port acts for a process that has crashed or is paused.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use handoff::domain::wire::{Channel, Message};
use handoff::gate::Gate;
use handoff::sim::ledger::MemoryLedger;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::desk::SimDesk;
use super::forgotten::Forgotten;
use super::kafka::SimKafka;
use super::mutations::Mutation;
use super::rooms::{RoomProbes, UntriedRooms};
use super::schedule::Schedule;

/// When every world starts.
pub(super) const START: &str = "2026-11-23T10:00:00Z";

pub(super) struct SimWorld {
    pub(super) schedule: Schedule,
    pub(super) mutation: Option<Mutation>,
    pub(super) kafka: Mutex<SimKafka>,
    pub(super) desk: Mutex<SimDesk>,
    pub(super) ledger: MemoryLedger,
    /// Broken promises found so far.
    violations: Mutex<Vec<String>>,
    pub(super) forgotten: Mutex<Forgotten>,
    pub(super) untried_rooms: Mutex<UntriedRooms>,
    /// Kept only for a replay.
    trace: Option<Mutex<Vec<String>>>,
    rng: Mutex<fastrand::Rng>,
    clock: SimClock,
}

/// The world's clock: tokio's paused clock with a start date.
#[derive(Clone, Copy)]
pub(super) struct SimClock {
    start: Timestamp,
    epoch: Instant,
}

impl SimClock {
    pub(super) fn new() -> Self {
        Self { start: START.parse().unwrap(), epoch: Instant::now() }
    }

    pub(super) fn now(self) -> Timestamp {
        self.start + self.epoch.elapsed()
    }

    pub(super) fn instant(self, since_start: Duration) -> Instant {
        self.epoch + since_start
    }

    pub(super) fn timestamp(self, since_start: Duration) -> Timestamp {
        self.start + since_start
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl SimWorld {
    pub(super) fn new(schedule: Schedule, mutation: Option<Mutation>, traced: bool) -> Arc<Self> {
        let clock = SimClock::new();
        let mut rng = fastrand::Rng::with_seed(schedule.seed ^ 0x5eed);
        let desk = SimDesk::new(&schedule, rng.fork());
        Arc::new(Self {
            kafka: Mutex::new(SimKafka::new(schedule.partitions)),
            desk: Mutex::new(desk),
            ledger: MemoryLedger::new(
                "unowned",
                handoff::clock::Clock::from_fn(move || clock.now()),
            ),
            violations: Mutex::default(),
            forgotten: Mutex::default(),
            untried_rooms: Mutex::default(),
            trace: traced.then(Mutex::default),
            rng: Mutex::new(rng),
            clock,
            mutation,
            schedule,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn clock(&self) -> SimClock {
        self.clock
    }

    /// No more faults are injected.
    pub(super) fn faults_are_over(&self) -> bool {
        Instant::now() >= self.clock.instant(self.schedule.fault_period)
    }

    pub(super) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn rng<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut lock(&self.rng))
    }

    pub(super) fn one_in(&self, n: u32) -> bool {
        self.rng(|rng| rng.u32(0..n) == 0)
    }

    pub(super) fn ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng(|rng| rng.u64(from..=to)))
    }

    /// Every entry of the ledger is settled and published.
    pub(super) fn nothing_is_unfinished(&self) -> bool {
        self.ledger.unpublished() == 0
    }

    /// Add a line to the trace.
    pub(super) fn log(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let at = self.clock.epoch.elapsed().as_millis();
            lock(trace).push(format!("{at:>7} ms  {}", what()));
        }
    }

    /// A message as the trace shows it.
    pub(super) fn describe(&self, message: &Message) -> String {
        let Some(_) = self.trace else { return String::new() };
        match (message.channel, &message.value) {
            (Channel::Outcomes, Some(value)) => String::from_utf8_lossy(value).into_owned(),
            _ => format!("dead letter, {}", message.label()),
        }
    }

    /// Record that a promise is broken.
    pub(super) fn violation(&self, what: String) {
        self.log(|| format!("VIOLATION: {what}"));
        lock(&self.violations).push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| lock(trace).clone()).unwrap_or_default()
    }
}

/// One run of an instance, from its start to its crash or exit.
pub(super) struct SimProcess {
    pub(super) world: Arc<SimWorld>,
    /// The instance; a restart keeps it.
    pub(super) slot: usize,
    pub(super) name: String,
    crashed: AtomicBool,
    pub(super) crash_signal: Notify,
    /// Await points left until it crashes.
    points_left: AtomicI64,
    pub(super) room_probes: Mutex<RoomProbes>,
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
    /// Start and end of the last pause.
    paused: Mutex<Option<(Instant, Instant)>>,
}

impl SimProcess {
    pub(super) fn new(world: &Arc<SimWorld>, slot: usize, number: u32) -> Arc<Self> {
        // Some processes survive, so that work is also completed while faults are injected. Half of
        // the crashes come early, among the first claims and calls.
        let may_crash = !world.faults_are_over() && !world.one_in(4);
        let points = world.rng(|rng| if rng.bool() { rng.i64(1..60) } else { rng.i64(1..600) });
        Arc::new(Self {
            world: world.clone(),
            slot,
            name: format!("{}{number}", char::from(b'A' + slot as u8)),
            crashed: AtomicBool::new(false),
            crash_signal: Notify::new(),
            points_left: AtomicI64::new(if may_crash && world.schedule.crashes {
                points
            } else {
                i64::MAX
            }),
            room_probes: Mutex::default(),
            gate: Mutex::default(),
            paused: Mutex::default(),
        })
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    pub(super) fn crash(&self, why: &str) {
        if !self.crashed.swap(true, Ordering::Relaxed) {
            self.world.log(|| format!("{} CRASHES {why}", self.name));
            self.crash_signal.notify_one();
        }
    }

    pub(super) fn is_gate_shut(&self) -> bool {
        lock(&self.gate).as_ref().is_some_and(|gate| gate.shut().is_some())
    }

    pub(super) fn pause(&self, until: Instant) {
        *lock(&self.paused) = Some((Instant::now(), until));
    }

    /// It has been paused at some time since then.
    pub(super) fn paused_since(&self, then: Instant) -> bool {
        lock(&self.paused).is_some_and(|(from, _)| from >= then)
    }

    /// The end of the current pause, if it is paused.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        lock(&self.paused).map(|(_, until)| until).filter(|until| Instant::now() < *until)
    }

    /// An await point, at which the process may crash or be paused.
    pub(super) async fn crash_point(&self, what: &str) {
        let left = self.points_left.load(Ordering::Relaxed);
        if left != i64::MAX && !self.world.faults_are_over() && !self.is_crashed() {
            self.points_left.store(left - 1, Ordering::Relaxed);
            if left <= 1 {
                self.crash(&format!("at {what}"));
            }
        }
        self.until_running().await;
    }

    /// Pends while the process is paused, and for ever once it has crashed.
    pub(super) async fn until_running(&self) {
        while let Some(until) = self.paused_until() {
            sleep_until(until).await;
        }
        if self.is_crashed() {
            std::future::pending::<()>().await;
        }
    }

    /// Wait up to `ms` milliseconds, mostly not at all.
    pub(super) async fn delay_up_to(&self, ms: u64) {
        // Short delays are frequent: they make operations of different tasks interleave.
        let wait = self.world.rng(|rng| match rng.u8(0..4) {
            0 | 1 => 0,
            2 => rng.u64(0..=ms.min(5)),
            _ => rng.u64(0..=ms),
        });
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        self.until_running().await;
    }
}
