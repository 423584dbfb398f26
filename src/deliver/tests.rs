//! What a process does that was frozen while it waited for the ledger or for a look into the topic.
//!
//! No test here talks to Desk, Kafka or a database, and none waits for a real clock.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::backoff::Backoff;
use crate::domain::ledger_entry::PriorClaim;
use crate::domain::reply::DeskAnswer;
use crate::domain::route::Routes;
use crate::domain::verdict::Verdicts;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::gate::BreakerPolicy;
use crate::ledger::Recovered;

const RECEIVED: Timestamp = Timestamp::constant(1_795_428_000, 0);

/// When the process sleeps.
#[derive(Debug, Clone, Copy, PartialEq)]
enum During {
    Nothing,
    /// It never sleeps, but the ledger cannot read what it has.
    Unreadable,
    Claim,
    Settle,
    Look,
}

/// The process, and what it did.
struct Life {
    lease: Arc<Lease>,
    sleeps: Mutex<During>,
    claims: AtomicUsize,
    calls: AtomicUsize,
    published: AtomicUsize,
}

impl Life {
    /// It sleeps once, and what it waits for takes longer than the quarantine.
    async fn goes_on(&self, during: During) {
        if *self.sleeps.lock() != during {
            return;
        }
        *self.sleeps.lock() = During::Nothing;
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..10 {
            self.lease.renew();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    /// Claims, calls and publications.
    fn counts(&self) -> (usize, usize, usize) {
        let [claims, calls, published] =
            [&self.claims, &self.calls, &self.published].map(|count| count.load(Ordering::Relaxed));
        (claims, calls, published)
    }
}

/// Desk, at which everybody is assigned.
struct Desks(Arc<Life>);

/// A topic in which a successor publishes while the process sleeps.
struct Topic(Arc<Life>);

/// A ledger in which nobody else ever takes anything over.
struct Book(Arc<Life>);

struct Doubles;

impl Ports for Doubles {
    type Desk = Desks;
    type Outcomes = Topic;
    type Ledger = Book;
}

impl DeskApi for Desks {
    async fn call(&self, _: DeskCommand, _: Vec<u8>, _: Option<Timestamp>) -> Reply {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Reply::Answer(DeskAnswer { agent_id: Some("a".into()), ..DeskAnswer::default() })
    }
}

fn place(offset: i64) -> Position {
    Position { topic: "outcomes".into(), partition: 0, offset }
}

impl OutcomePublisher for Topic {
    async fn publish(&self, _: Arc<Message>, steady: FencingToken) -> Published {
        assert!(self.0.lease.accepts(steady));
        self.0.published.fetch_add(1, Ordering::Relaxed);
        Published { place: place(8), by_us: true }
    }

    fn purge(&self) {}

    async fn find_published(&self, _: &Message, since: Timestamp) -> Option<Position> {
        assert_eq!(since, RECEIVED, "whoever came later wrote it later");
        let first = *self.0.sleeps.lock() == During::Look;
        self.0.goes_on(During::Look).await;
        (!first).then(|| place(7))
    }
}

impl Ledger for Book {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        let again = self.0.claims.fetch_add(1, Ordering::Relaxed) > 0;
        self.0.goes_on(During::Claim).await;
        if *self.0.sleeps.lock() == During::Unreadable {
            return ClaimResult::Unreadable { why: "damaged".into() };
        }
        if !again {
            return ClaimResult::Fresh;
        }
        ClaimResult::Resumed(PriorClaim {
            memory: None,
            first_seen: RECEIVED,
            claimed_at: claim.at,
            parked_until: None,
        })
    }

    async fn park(&self, _: Arc<str>, _: Parking) -> bool {
        unreachable!("nothing is put away")
    }

    async fn settle(&self, _: Arc<str>, _: Arc<Message>, _: Timestamp) -> bool {
        self.0.goes_on(During::Settle).await;
        true
    }

    async fn published(&self, _: Arc<str>, place: Option<Position>) {
        assert!(place.is_some());
    }

    async fn recover(&self, _: Arc<str>, _: Vec<i32>) -> Recovered {
        Recovered::default()
    }
}

async fn context(sleeps: During) -> (Context<Doubles>, Arc<Life>) {
    let second = Duration::from_secs(1);
    let (lease, metrics) = (Arc::new(Lease::new()), Arc::new(Metrics::new()));
    tokio::time::advance(second).await;
    lease.renew();
    let life = Arc::new(Life {
        lease: lease.clone(),
        sleeps: Mutex::new(sleeps),
        claims: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        published: AtomicUsize::new(0),
    });
    let breaker = BreakerPolicy { probe_initial: second, probe_max: second, outage_after: 3 };
    let context = Context {
        desk: Desks(life.clone()),
        outcomes: Topic(life.clone()),
        ledger: Book(life.clone()),
        gate: Gate::new(breaker, None, 1, metrics.clone()),
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
        clock: Clock::from_fn(|| RECEIVED),
        rng: Rng::from_fn(|| 1 << 63),
        health: Arc::new(Health::new(lease.clone(), 60 * second)),
        lease,
        metrics,
    };
    (context, life)
}

fn record() -> Record {
    Record {
        position: Position { topic: "escalations".into(), partition: 3, offset: 7 },
        timestamp: Some(RECEIVED - Duration::from_secs(10)),
        key: None,
        value: Some(br#"{"session_id": "s"}"#.to_vec()),
        headers: vec![],
    }
}

fn event() -> Event {
    let rules = DecodeRules {
        types: vec!["escalation".to_owned()],
        max_bytes: 1000,
        time_to_live: Duration::from_secs(60),
    };
    let Decoded::Event(event) = decode(&record(), &rules, RECEIVED) else { panic!("no event") };
    *event
}

/// How an event ends, what is told of it, and how often it is claimed, Desk called and an answer
/// published.
async fn walked(sleeps: During) -> (Delivered, Vec<TaskEvent>, (usize, usize, usize)) {
    let (context, life) = context(sleeps).await;
    let (event, record, draining) = (event(), record(), CancellationToken::new());
    let turn = SessionQueues::default().enqueue(&event.session_id, RECEIVED);
    let delivery =
        Delivery { event: &event, record: &record, turn: &turn, calls: true, draining: &draining };
    let told = Mutex::new(Vec::new());
    let ended = deliver(&context, &delivery, |what| told.lock().push(what)).await;
    (ended, told.into_inner(), life.counts())
}

/// Of an event that is answered.
async fn delivered(sleeps: During) -> (usize, usize, usize) {
    let (ended, told, counts) = walked(sleeps).await;
    assert_eq!((ended, told), (Delivered::Published, vec![TaskEvent::Claimed, TaskEvent::Settled]));
    counts
}

/// The same of a dead letter.
async fn buried(sleeps: During) -> (usize, usize, usize) {
    let (context, life) = context(sleeps).await;
    assert_eq!(
        send_dead_letter(&context, &record(), &conflict(&event()), |_| {}).await,
        Delivered::Published
    );
    life.counts()
}

#[tokio::test(start_paused = true)]
async fn who_slept_while_an_answer_was_written_down_looks_whether_a_successor_published_it() {
    assert_eq!(delivered(During::Nothing).await, (1, 1, 1));
    assert_eq!(delivered(During::Settle).await, (1, 1, 0));
    assert_eq!(buried(During::Nothing).await, (1, 0, 1));
    assert_eq!(buried(During::Claim).await, (1, 0, 0));
    assert_eq!(buried(During::Settle).await, (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_slept_while_it_looked_looks_again() {
    let (context, life) = context(During::Look).await;
    let letter = dead_letter(record(), &conflict(&event()), RECEIVED);
    let published = hand_over(&context, None, (letter.into(), RECEIVED), || {}).await;
    assert_eq!((published.by_us, published.place), (false, place(7)));
    assert_eq!(life.counts(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_slept_while_it_claimed_claims_again_before_it_calls() {
    assert_eq!(delivered(During::Claim).await, (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_cannot_read_is_left_alone_and_told() {
    let stuck = (Delivered::LeftOpen, vec![TaskEvent::Stuck], (1, 0, 0));
    assert_eq!(walked(During::Unreadable).await, stuck);
}
