//! What becomes of an answer when the process is frozen while it is written down.
//!
//! No test here talks to Desk, Kafka or a database, and none waits for a real clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::event::{Intake, Rules, decode};
use crate::domain::gate::{GatePolicy, GateState};
use crate::domain::memory::Row;
use crate::domain::pace::Backoff;
use crate::domain::route::Routes;
use crate::domain::speed::Speed;
use crate::domain::verdict::Verdicts;

const RECEIVED: Timestamp = Timestamp::constant(1_795_428_000, 0);

/// A ledger that takes its time; so long, and the process sleeps in it.
struct Slow {
    pulse: Arc<Pulse>,
    sleeps: Duration,
}

/// A topic in which a successor has published already.
#[derive(Default)]
struct Topic {
    published: AtomicUsize,
}

struct NoDesk;

struct Doubles;

impl Ports for Doubles {
    type Desk = NoDesk;
    type Outcomes = Topic;
    type Ledger = Slow;
}

impl Desk for NoDesk {
    async fn call(&self, _: Command, _: Vec<u8>, _: Option<Timestamp>) -> Reply {
        unreachable!("it is too late for a call")
    }
}

fn place(offset: i64) -> Position {
    Position { topic: "outcomes".into(), partition: 0, offset }
}

impl Outcomes for Topic {
    async fn publish(&self, _: Message) -> Position {
        self.published.fetch_add(1, Ordering::Relaxed);
        place(8)
    }

    fn take_back(&self) {}

    async fn published_at(&self, _: &Message, since: Timestamp) -> Option<Position> {
        assert_eq!(since, RECEIVED, "whoever came later wrote it later");
        Some(place(7))
    }
}

impl Ledger for Slow {
    fn is_away(&self) -> bool {
        false
    }

    async fn claim(&self, _: Claim) -> Claimed {
        Claimed::Fresh
    }

    async fn park(&self, _: Arc<str>, _: Parking) -> bool {
        unreachable!("nothing is put away")
    }

    async fn settle(&self, _: Arc<str>, _: Message, _: Timestamp) -> bool {
        tokio::time::advance(self.sleeps).await;
        // Awake again, and the ledger's reply is slower than the quarantine.
        for _ in 0..10 {
            self.pulse.polled();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        true
    }

    async fn published(&self, _: Arc<str>, place: Option<Position>) {
        assert!(place.is_some());
    }

    async fn unfinished(&self, _: Arc<str>, _: Vec<i32>) -> Vec<Row> {
        Vec::new()
    }
}

async fn context(sleeps: Duration) -> Context<Doubles> {
    let second = Duration::from_secs(1);
    let (pulse, metrics) = (Arc::new(Pulse::new(60 * second)), Arc::new(Metrics::new()));
    tokio::time::advance(second).await;
    pulse.polled();
    let gate = GatePolicy { probe_initial: second, probe_max: second, outage_after: 3 };
    Context {
        desk: NoDesk,
        outcomes: Topic::default(),
        ledger: Slow { pulse: pulse.clone(), sleeps },
        gate: Gate::new(GateState::new(gate, &Speed::new(None)), 1, metrics.clone()),
        policy: Policy {
            verdicts: Verdicts::default(),
            backoff: Backoff::new(second, second).unwrap(),
            quick_attempts: 1,
            park: vec![],
            settle: second,
            doubt_grace: second,
            default_target: true,
            routes: Routes::default(),
        },
        nature: Nature { now: Arc::new(|| RECEIVED), jitter: Arc::new(|| 0.5) },
        pulse,
        metrics,
    }
}

/// An escalation of an hour ago.
fn late() -> Record {
    Record {
        position: Position { topic: "escalations".into(), partition: 3, offset: 7 },
        timestamp: Some(RECEIVED - Duration::from_secs(3600)),
        key: None,
        value: Some(br#"{"session_id": "s"}"#.to_vec()),
        headers: vec![],
    }
}

/// How many times an answer is published, and a dead letter, if the process sleeps so long while
/// they are written down.
async fn published(sleeps: Duration) -> (usize, usize) {
    let rules = Rules {
        types: vec!["escalation".to_owned()],
        max_bytes: 1000,
        time_to_live: Duration::from_secs(60),
    };
    let record = late();
    let Intake::Event(event) = decode(&record, &rules, RECEIVED) else { panic!("no event") };
    let turn = Turn::new((RECEIVED, 1));
    turn.give();
    let draining = CancellationToken::new();
    let walk =
        Walk { event: &event, record: &record, turn: &turn, calls: false, draining: &draining };
    let answers = context(sleeps).await;
    assert_eq!(deliver(&answers, &walk, |_| {}).await, Delivered::Published);
    let letters = context(sleeps).await;
    assert_eq!(bury(&letters, &record, &conflict(&event)).await, Delivered::Published);
    let count = |context: &Context<Doubles>| context.outcomes.published.load(Ordering::Relaxed);
    (count(&answers), count(&letters))
}

#[tokio::test(start_paused = true)]
async fn who_slept_while_an_answer_was_written_down_looks_whether_a_successor_published_it() {
    assert_eq!(published(Duration::from_secs(1)).await, (1, 1));
    assert_eq!(published(Duration::from_secs(60)).await, (0, 0));
}
