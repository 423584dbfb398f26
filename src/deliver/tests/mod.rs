//! What a delivery does after its process was paused during a ledger command or a topic search; with
//! a call whose reply is lost ([`lost_replies`]); with answers that a previous incarnation stored
//! ([`stored`]); and for the order of its session ([`order`]).

mod lost_replies;
mod order;
mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::activity::Activity;
use crate::clock::{Clock, Rng};
use crate::domain::backoff::Backoff;
use crate::domain::course::{Policy, RetryPolicy};
use crate::domain::ledger_entry::{Park, Settle, StoredIdentities, WakeSession, WriteResult};
use crate::domain::record::Position;
use crate::domain::reply::{DeskAnswer, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::route::Routes;
use crate::domain::signal::Attempt;
use crate::domain::verdict::Verdicts;
use crate::domain::wire::Message;
use crate::domain::wire::dead_letter::dead_letter;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::gate::{BreakerPolicy, Gate, GateSettings};
use crate::health::Health;
use crate::lease::{FencingToken, Lease};
use crate::ledger::{
    CountQuery, DueEntries, DueQuery, Ledger, ParkedCount, ParkedGroup, RecordRange, Recovered,
    StoredEntries, WaitingQuery,
};
use crate::telemetry::traces::EventSpan;
use crate::telemetry::{DeadLetterLog, Metrics, Traces};

const RECEIVED: Timestamp = Timestamp::constant(1_795_428_000, 0);

const HOUR: Duration = Duration::from_secs(3600);

/// What a port does wrong, or the pause that happens during its use.
#[derive(Debug, Clone, Copy, PartialEq)]
enum PortFault {
    None,
    UnreadableEntry,
    PauseDuringClaim,
    PauseDuringSettle,
    PauseDuringSearch,
    /// The call's reply is lost meanwhile.
    PauseDuringCall,
    /// The same, and the pause is so short that the lease stays valid.
    ShortPauseDuringCall,
    /// The call's reply is lost although the process runs.
    SilentDesk,
}

/// How often each port was used.
#[derive(Debug, PartialEq)]
struct PortUses {
    claims: usize,
    calls: usize,
    published: usize,
}

/// The process under test, and what it did.
struct ProcessUnderTest {
    lease: Arc<Lease>,
    fault: Mutex<PortFault>,
    claims: AtomicUsize,
    calls: AtomicUsize,
    published: AtomicUsize,
}

impl ProcessUnderTest {
    /// Pause the process here if that is the fault, once. The port's answer then takes longer than
    /// the lease stays invalid, so that the delivery goes on with a valid lease and an old token.
    async fn pause_if(&self, fault: PortFault) {
        if *self.fault.lock() != fault {
            return;
        }
        *self.fault.lock() = PortFault::None;
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..10 {
            self.lease.renew();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    fn counts(&self) -> PortUses {
        let [claims, calls, published] =
            [&self.claims, &self.calls, &self.published].map(|count| count.load(Ordering::Relaxed));
        PortUses { claims, calls, published }
    }
}

/// Desk, which assigns every event to agent `a`, and says so when the state is queried.
struct FakeDesk(Arc<ProcessUnderTest>);

/// A topic to which another instance publishes the message while this process is paused.
struct FakeTopic(Arc<ProcessUnderTest>);

/// A ledger in which no other instance claims anything.
struct FakeLedger(Arc<ProcessUnderTest>);

struct FakePorts;

impl Ports for FakePorts {
    type Desk = FakeDesk;
    type Outcomes = FakeTopic;
    type Ledger = FakeLedger;
}

impl DeskApi for FakeDesk {
    async fn call(&self, _: DeskCommand, _: Vec<u8>, _: Option<Timestamp>) -> Reply {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if lost_replies::is_lost(&self.0).await {
            return Reply::Lost("timed out".into());
        }
        let (agent_id, state) = (Some("a".into()), Some("Agent".into()));
        Reply::Answer(DeskAnswer { agent_id, state, ..DeskAnswer::default() })
    }
}

fn position(offset: i64) -> Position {
    Position { topic: "outcomes".into(), partition: 0, offset }
}

impl OutcomePublisher for FakeTopic {
    async fn publish(&self, _: Arc<Message>, token: FencingToken) -> Published {
        assert!(self.0.lease.accepts(token));
        self.0.published.fetch_add(1, Ordering::Relaxed);
        Published { position: position(8), by: PublishedBy::Us }
    }

    fn purge(&self) {}

    async fn find_published(&self, _: &Message, since: Timestamp) -> Option<Position> {
        assert_eq!(since, RECEIVED, "no copy is older than the stored answer");
        let first = *self.0.fault.lock() == PortFault::PauseDuringSearch;
        self.0.pause_if(PortFault::PauseDuringSearch).await;
        (!first).then(|| position(7))
    }
}

impl Ledger for FakeLedger {
    fn is_unavailable(&self) -> bool {
        false
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        let again = self.0.claims.fetch_add(1, Ordering::Relaxed) > 0;
        self.0.pause_if(PortFault::PauseDuringClaim).await;
        if *self.0.fault.lock() == PortFault::UnreadableEntry {
            return ClaimResult::Unreadable { why: "damaged".into() };
        }
        if !again {
            return ClaimResult::Fresh;
        }
        ClaimResult::Resumed(PriorClaim {
            snapshot: None,
            first_seen: RECEIVED,
            claimed_at: claim.at,
            parked_until: None,
            is_early: false,
            given_up: None,
        })
    }

    async fn park(&self, _: Arc<str>, _: Park) -> WriteResult {
        unreachable!("nothing is parked")
    }

    async fn settle(&self, _: Arc<str>, _: Settle) -> WriteResult {
        self.0.pause_if(PortFault::PauseDuringSettle).await;
        WriteResult::Done
    }

    async fn mark_published(&self, _: Arc<str>, position: Option<Position>) {
        assert!(position.is_some());
    }

    async fn forgot(&self, _: Arc<str>, _: Timestamp) -> bool {
        false
    }

    async fn identities(&self, _: RecordRange) -> StoredIdentities {
        StoredIdentities::default()
    }

    async fn wake_session(&self, _: WakeSession) {
        unreachable!("nothing is parked")
    }

    async fn is_session_parked(&self, _: Arc<str>, _: Position, _: Vec<i64>) -> bool {
        false
    }

    async fn is_behind_unpublished(&self, _: Arc<str>, _: Position, _: i64) -> bool {
        unreachable!("nothing comes from the ledger")
    }

    async fn recover(&self, _: Arc<str>, _: Vec<i32>) -> Recovered {
        Recovered::default()
    }

    async fn count_parked(&self, _: CountQuery) -> Vec<ParkedCount> {
        Vec::new()
    }

    async fn unfinished(&self, _: Arc<str>, _: Vec<i32>) -> StoredEntries {
        StoredEntries::default()
    }

    async fn parked_groups(&self, _: Arc<str>, _: Vec<i32>) -> Vec<ParkedGroup> {
        Vec::new()
    }

    async fn due(&self, _: DueQuery) -> DueEntries {
        DueEntries::default()
    }

    async fn waiting(&self, _: WaitingQuery) -> StoredEntries {
        StoredEntries::default()
    }
}

async fn context(fault: PortFault) -> (Context<FakePorts>, Arc<ProcessUnderTest>) {
    let lease = valid_lease().await;
    let process = Arc::new(ProcessUnderTest {
        lease: lease.clone(),
        fault: Mutex::new(fault),
        claims: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        published: AtomicUsize::new(0),
    });
    let desk = FakeDesk(process.clone());
    let (outcomes, ledger) = (FakeTopic(process.clone()), FakeLedger(process.clone()));
    (context_of(desk, outcomes, ledger, lease), process)
}

async fn valid_lease() -> Arc<Lease> {
    let lease = Arc::new(Lease::new(Duration::from_secs(30)));
    tokio::time::advance(Duration::from_secs(1)).await;
    lease.renew();
    lease
}

fn context_of<P: Ports>(
    desk: P::Desk,
    outcomes: P::Outcomes,
    ledger: P::Ledger,
    lease: Arc<Lease>,
) -> Context<P> {
    let (second, metrics) = (Duration::from_secs(1), Arc::new(Metrics::new()));
    // One call without a reply would shut the gate for longer than any test here waits.
    let breaker = BreakerPolicy { probe_initial: HOUR, probe_max: HOUR, outage_after: 1 };
    let gate = GateSettings {
        breaker,
        quota_per_second: None,
        concurrency: 1,
        retry_budget: 0.2,
        call_timeout: second,
    };
    Context {
        desk,
        outcomes,
        ledger,
        gate: Gate::new(gate, metrics.clone()),
        policy: SharedPolicy::new(Policy {
            verdicts: Verdicts::default(),
            retry: RetryPolicy {
                backoff: Backoff::new(second, second).unwrap(),
                quick_attempts: 1,
                park: vec![],
            },
            settle_time: second,
            doubt_grace: second,
            default_target: true,
            routes: Routes::default(),
            outcome_format: crate::domain::wire::outcome_format::OutcomeFormat::Native,
        }),
        clock: Clock::from_fn(|| RECEIVED),
        rng: Rng::from_fn(|| 1 << 63),
        health: Arc::new(Health::new(lease.clone(), 60 * second)),
        activity: Activity::new(Clock::from_fn(|| RECEIVED)),
        lease,
        metrics,
        dead_letter_log: DeadLetterLog::default(),
        traces: Traces::off(),
    }
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

fn arrival(record: &Record, origin: RecordOrigin) -> SessionArrival<'_> {
    SessionArrival { requested_at: RECEIVED, source: &record.position, origin, is_stored: false }
}

fn event() -> Event {
    let rules = DecodeRules {
        types: vec!["escalation".to_owned()],
        max_bytes: 1000,
        time_to_live: Duration::from_secs(60),
        input: Arc::default(),
    };
    let Decoded::Event(event) = decode(&record(), &rules, RECEIVED) else { panic!("no event") };
    *event
}

/// Deliver an event: how that ended, what was reported, and how often each port was used.
async fn delivered(fault: PortFault) -> (Ended, Vec<TaskEvent>, PortUses) {
    let (context, process) = context(fault).await;
    let queues = SessionQueues::new(QueueLimits { per_session: 9, behind: 9 });
    let turn = queues.enqueue(&"s".into(), &arrival(&record(), RecordOrigin::Kafka));
    let reported = Arc::new(Mutex::new(Vec::new()));
    let receiver = reported.clone();
    let delivery = Delivery {
        context: &context,
        policy: &context.policy.current(),
        event: &event(),
        record: &record(),
        turn: &turn,
        origin: RecordOrigin::Kafka,
        expected_version: None,
        waited_for_session: false,
        room: None,
        retry_slots: &Semaphore::new(1),
        needs_call: true,
        attempt: Attempt::First,
        draining: &CancellationToken::new(),
        record_is_gone: &AtomicBool::new(false),
        finished_below: &FinishedBelow::default(),
        progress: &context.activity.unfinished_events().add(&event(), RECEIVED),
        read_before: ReadBefore::Maybe,
        on_event: &move |event| receiver.lock().push(event),
        span: EventSpan::default(),
    };
    let ended = delivery.run().await;
    let reported = reported.lock().clone();
    (ended, reported, process.counts())
}

/// The counts of an event that must be answered.
async fn answered(fault: PortFault) -> PortUses {
    let (ended, reported, counts) = delivered(fault).await;
    assert_eq!(
        (ended, reported),
        (Ended::Published, vec![TaskEvent::Claimed, TaskEvent::Settled { found_agent: true }])
    );
    counts
}

/// The counts of a dead letter that must be published.
async fn sent_to_dead_letters(fault: PortFault) -> PortUses {
    let (context, process) = context(fault).await;
    let (record, malformed) = (record(), conflicting_id(&event()));
    let read_before = ReadBefore::Maybe;
    let ended = send_dead_letter(&context, &record, Some(&malformed), read_before, &|_| {}).await;
    assert_eq!(ended, Ended::Published);
    process.counts()
}

#[tokio::test(start_paused = true)]
async fn an_answer_stored_across_a_pause_is_searched_for_in_its_topic_before_it_is_published() {
    let published = PortUses { claims: 1, calls: 1, published: 1 };
    assert_eq!(answered(PortFault::None).await, published);
    assert_eq!(
        answered(PortFault::PauseDuringSettle).await,
        PortUses { published: 0, ..published }
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_stored_across_a_pause_is_searched_for_in_its_topic_too() {
    let published = PortUses { claims: 1, calls: 0, published: 1 };
    assert_eq!(sent_to_dead_letters(PortFault::None).await, published);
    for fault in [PortFault::PauseDuringClaim, PortFault::PauseDuringSettle] {
        assert_eq!(sent_to_dead_letters(fault).await, PortUses { published: 0, ..published });
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_during_the_topic_search_leads_to_another_search() {
    let (context, process) = context(PortFault::PauseDuringSearch).await;
    let message = Arc::new(dead_letter(record(), &conflicting_id(&event()), RECEIVED));
    let unpublished = Unpublished { message, stored_at: RECEIVED, token: None };
    let published = unpublished.publish(&context, || {}).await;
    let found = Published { position: position(7), by: PublishedBy::PreviousOwner };
    assert_eq!(published, found);
    assert_eq!(process.counts(), PortUses { claims: 0, calls: 0, published: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_process_was_paused_while_claiming_is_claimed_again_before_its_call() {
    let counts = answered(PortFault::PauseDuringClaim).await;
    assert_eq!(counts, PortUses { claims: 2, calls: 1, published: 1 });
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_ledger_entry_cannot_be_read_is_reported_and_not_called() {
    let blocked =
        (Ended::Blocked, vec![TaskEvent::Blocked], PortUses { claims: 1, calls: 0, published: 0 });
    assert_eq!(delivered(PortFault::UnreadableEntry).await, blocked);
}
