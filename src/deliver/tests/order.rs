//! The order of a session across its owners: what a delivery leaves in the ledger for the next one.

use super::*;
use crate::domain::ledger_entry::EntryState;
use crate::sim::ledger::MemoryLedger;

/// Desk, which nobody may call.
pub(super) struct UncalledDesk;

impl DeskApi for UncalledDesk {
    async fn call(&self, _: DeskCommand, _: Vec<u8>, _: Option<Timestamp>) -> Reply {
        unreachable!("the answer is stored, or it is not the event's turn")
    }
}

/// A topic that acknowledges everything.
struct OpenTopic;

struct OrderPorts;

impl Ports for OrderPorts {
    type Desk = UncalledDesk;
    type Outcomes = OpenTopic;
    type Ledger = MemoryLedger;
}

impl OutcomePublisher for OpenTopic {
    async fn publish(&self, _: Arc<Message>, _: FencingToken) -> Published {
        Published { position: position(8), by: PublishedBy::Us }
    }

    fn purge(&self) {}

    async fn find_published(&self, _: &Message, _: Timestamp) -> Option<Position> {
        None
    }
}

fn record_at(offset: i64) -> Record {
    let record = record();
    Record { position: Position { offset, ..record.position.clone() }, ..record }
}

fn event_at(offset: i64) -> Event {
    let position = record_at(offset).position;
    Event { id: position.to_string().into(), source: position, ..event() }
}

fn key_at(offset: i64) -> Arc<str> {
    key::of_event(&event_at(offset).id, &record_at(offset)).into()
}

async fn session() -> (Context<OrderPorts>, SessionQueues) {
    let lease = valid_lease().await;
    let ledger = MemoryLedger::new("a", Clock::from_fn(|| RECEIVED));
    let queues = SessionQueues::new(QueueLimits { per_session: 9, behind: 9 });
    queues.set_parked(record().position.partition, true);
    (context_of(UncalledDesk, OpenTopic, ledger, lease), queues)
}

/// The event is claimed, and parked with its record.
async fn park_at(ledger: &MemoryLedger, offset: i64, until: Timestamp, waits_for: WaitsFor) {
    let (event, record) = (event_at(offset), record_at(offset));
    ledger.claim(claim::for_event(&event, &record, RECEIVED)).await;
    let (snapshot, note, record) = (String::new(), String::new(), Some(record));
    ledger.park(key_at(offset), Park { until, waits_for, snapshot, note, record }).await;
}

fn enqueue(queues: &SessionQueues, offset: i64, origin: RecordOrigin) -> Turn {
    queues.enqueue(&"s".into(), &arrival(&record_at(offset), origin))
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CameFrom {
    /// It was parked behind others.
    BehindOthers,
    /// It was parked for its retry.
    Retry,
    /// Kafka has delivered it, and its topic was deleted.
    DeletedTopic,
}

impl CameFrom {
    fn origin(self) -> RecordOrigin {
        if self == Self::DeletedTopic { RecordOrigin::Kafka } else { RecordOrigin::Ledger }
    }
}

/// Deliver an event that was parked behind others, until its partition has drained if it waits.
async fn delivered_from_ledger(context: &Context<OrderPorts>, turn: &Turn, offset: i64) -> Ended {
    delivered_from(CameFrom::BehindOthers, context, turn, offset).await
}

async fn delivered_from(
    from: CameFrom,
    context: &Context<OrderPorts>,
    turn: &Turn,
    offset: i64,
) -> Ended {
    let (event, record, draining) = (event_at(offset), record_at(offset), CancellationToken::new());
    let finished_below = FinishedBelow::default();
    finished_below.set(offset);
    let delivery = Delivery {
        context,
        policy: &context.policy.current(),
        event: &event,
        record: &record,
        turn,
        origin: from.origin(),
        expected_version: None,
        waited_for_session: from == CameFrom::BehindOthers,
        room: None,
        retry_slots: &Semaphore::new(1),
        needs_call: true,
        attempt: Attempt::First,
        draining: &draining,
        record_is_gone: &AtomicBool::new(from == CameFrom::DeletedTopic),
        finished_below: &finished_below,
        progress: &context.activity.unfinished_events().add(&event, RECEIVED),
        read_before: ReadBefore::Never,
        on_event: &|_| {},
        span: EventSpan::default(),
    };
    let drain = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        draining.cancel();
    };
    tokio::join!(delivery.run(), drain).0
}

/// Until when the event is parked for its session; it must be that.
fn parked_until(ledger: &MemoryLedger, offset: i64) -> Timestamp {
    match ledger.entry(&key_at(offset)).unwrap().state {
        EntryState::Parked { until, waits_for: WaitsFor::Session } => until,
        state => panic!("{state:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_released_before_its_turn_stays_behind_those_that_kafka_delivers() {
    let (context, queues) = session().await;
    park_at(&context.ledger, 9, RECEIVED, WaitsFor::Session).await;
    let ahead = enqueue(&queues, 8, RecordOrigin::Kafka);
    let turn = enqueue(&queues, 9, RecordOrigin::Ledger);
    ahead.call_started();
    assert_eq!(delivered_from_ledger(&context, &turn, 9).await, Ended::Released);
    assert_eq!(parked_until(&context.ledger, 9), RECEIVED, "its session was woken");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_deleted_topic_is_released_behind_those_ahead_of_it() {
    let (context, queues) = session().await;
    let ahead = enqueue(&queues, 8, RecordOrigin::Kafka);
    let turn = enqueue(&queues, 9, RecordOrigin::Kafka);
    ahead.call_started();
    let ended = delivered_from(CameFrom::DeletedTopic, &context, &turn, 9).await;
    assert_eq!(ended, Ended::Released);
    // By its time it would be due before the one ahead of it.
    assert_eq!(parked_until(&context.ledger, 9), RECEIVED, "its session was woken");
    assert!(context.ledger.entry(&key_at(9)).unwrap().record.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_had_its_turn_stays_one_of_those_that_are_retried() {
    let (context, queues) = session().await;
    park_at(&context.ledger, 9, RECEIVED, WaitsFor::Time).await;
    let ahead = enqueue(&queues, 8, RecordOrigin::Kafka);
    let turn = enqueue(&queues, 9, RecordOrigin::Ledger);
    ahead.call_started();
    let ended = delivered_from(CameFrom::Retry, &context, &turn, 9).await;
    assert_eq!(ended, Ended::Released);
    let state = context.ledger.entry(&key_at(9)).unwrap().state;
    assert_eq!(state, EntryState::Parked { until: RECEIVED, waits_for: WaitsFor::Time });
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_woken_too_early_is_parked_again() {
    let (context, queues) = session().await;
    let deadline = event().deadline;
    park_at(&context.ledger, 8, deadline, WaitsFor::Time).await;
    park_at(&context.ledger, 9, RECEIVED, WaitsFor::Session).await;
    let turn = enqueue(&queues, 9, RecordOrigin::Ledger);
    let ended = delivered_from_ledger(&context, &turn, 9).await;
    assert_eq!(ended, Ended::Parked { until: deadline, waits_for: WaitsFor::Session });
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_crash_has_left_unpublished_wakes_the_event_behind_it() {
    let (context, queues) = session().await;
    let deadline = event().deadline;
    for offset in [8, 9] {
        park_at(&context.ledger, offset, deadline, WaitsFor::Session).await;
    }
    let claim = claim::for_event(&event_at(8), &record_at(8), RECEIVED);
    context.ledger.claim(Claim { origin: RecordOrigin::Ledger, ..claim }).await;
    let answer = dead_letter(record_at(8), &conflicting_id(&event_at(8)), RECEIVED).into();
    let settle = Settle { answer, at: RECEIVED, wake: None };
    context.ledger.settle(key_at(8), settle).await;
    let turn = enqueue(&queues, 8, RecordOrigin::Ledger);
    assert_eq!(delivered_from_ledger(&context, &turn, 8).await, Ended::Published);
    assert!(parked_until(&context.ledger, 9) < deadline, "it was woken");
}
