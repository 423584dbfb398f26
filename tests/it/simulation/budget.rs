//! The retry budget: while first attempts wait for a call permit, re-attempts get their part of the
//! transfers, and no more.
//!
//! The dozen events of a world seldom wait for a call permit. So each seed also runs the gate alone: a
//! pile of first attempts beside a pile of re-attempts, with a number of permits and with durations of
//! calls that the seed decides.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use handoff::domain::request::DeskCommand;
use handoff::domain::signal::{Attempt, Signal};
use handoff::gate::{Caller, Gate, Rank, SessionHash};
use handoff::telemetry::Metrics;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::process;
use super::world::{SimWorld, lock};

/// `retry.budget`, as in the worlds.
pub(super) const BUDGET: f64 = 0.2;
const FIRST_ATTEMPTS: u64 = 60;
const RE_ATTEMPTS: u64 = 20;
const MAX_CONCURRENCY: usize = 8;
/// Credit that is saved up, and the permits that are granted at the same moment.
const SLACK: u32 = 2 + MAX_CONCURRENCY as u32;

/// The transfers that were granted while a first attempt waited.
struct Granted {
    /// First attempts that still wait.
    waiting: u64,
    first: u32,
    again: u32,
}

/// What the events of one run share.
#[derive(Clone)]
struct Pile {
    world: Arc<SimWorld>,
    gate: Arc<Gate>,
    granted: Arc<Mutex<Granted>>,
}

pub(super) async fn check(world: &Arc<SimWorld>) {
    let mut rng = Rng::with_seed(world.schedule.seed);
    let concurrency = rng.usize(1..=MAX_CONCURRENCY);
    let gate = process::gate(world, concurrency, &Arc::new(Metrics::new()));
    gate.set_share(&[0], &[0], 1);
    let granted = Granted { waiting: FIRST_ATTEMPTS, first: 0, again: 0 };
    let granted = Arc::new(Mutex::new(granted));
    let pile = Pile { world: world.clone(), gate: gate.clone(), granted };
    let mut driver = JoinSet::new();
    driver.spawn(gate.drive());
    let mut events = JoinSet::new();
    for ticket in 0..RE_ATTEMPTS {
        events.spawn(pile.clone().retry(ticket, rng.fork()));
    }
    for ticket in RE_ATTEMPTS..RE_ATTEMPTS + FIRST_ATTEMPTS {
        let (pile, mut rng) = (pile.clone(), rng.fork());
        events.spawn(async move { pile.call(ticket, Attempt::First, &mut rng).await });
    }
    while let Some(ended) = events.join_next().await {
        ended.unwrap();
    }
    let Granted { first, again, .. } = *lock(&pile.granted);
    if again + SLACK < budget_of(first) {
        world.violation(format!("only {again} re-attempts beside {first} first attempts"));
    }
}

/// Re-attempts that the budget allows beside these first attempts.
fn budget_of(first: u32) -> u32 {
    (f64::from(first) * BUDGET / (1.0 - BUDGET)).ceil() as u32
}

impl Pile {
    /// Call again and again, while a first attempt waits.
    async fn retry(self, ticket: u64, mut rng: Rng) {
        while lock(&self.granted).waiting > 0 {
            self.call(ticket, Attempt::Again, &mut rng).await;
            sleep(Duration::from_millis(rng.u64(1..50))).await;
        }
    }

    async fn call(&self, ticket: u64, attempt: Attempt, rng: &mut Rng) {
        let rank = Rank { requested_at: Timestamp::UNIX_EPOCH, ticket };
        let session = SessionHash::of(&ticket.to_string());
        let caller = Caller { rank, session, attempt };
        let permit = self.gate.acquire_call(caller, DeskCommand::TransferToHuman).await;
        self.on_granted(attempt);
        sleep(Duration::from_millis(rng.u64(20..300))).await;
        permit.report(&Signal::Success, None);
    }

    fn on_granted(&self, attempt: Attempt) {
        let mut granted = lock(&self.granted);
        match attempt {
            Attempt::First => {
                granted.waiting -= 1;
                granted.first += 1;
            }
            Attempt::Again if granted.waiting > 0 => granted.again += 1,
            Attempt::Again => {}
        }
        let Granted { first, again, .. } = *granted;
        if again > budget_of(first) + SLACK {
            let text = format!("{again} re-attempts beside {first} first attempts that waited");
            self.world.violation(format!("retry budget: {text}"));
        }
    }
}
