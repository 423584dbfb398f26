//! Hundreds of answers of one session that a previous incarnation stored and did not publish.
//!
//! Each was once looked up when its turn came, and reading the topic takes seconds; past their deadlines
//! they waited for no turn, and were published in another order.

use std::collections::VecDeque;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::order::UncalledDesk;
use super::*;
use crate::domain::wire::Channel;
use crate::sim::ledger::MemoryLedger;

const STORED: i64 = 200;
const READING: Duration = Duration::from_secs(1);

/// A topic that takes a second to read. Later searches are answered a bit earlier.
#[derive(Default)]
struct SlowTopic {
    searches: AtomicUsize,
    published: Mutex<VecDeque<Arc<Message>>>,
}

struct StoredPorts;

impl Ports for StoredPorts {
    type Desk = UncalledDesk;
    type Outcomes = SlowTopic;
    type Ledger = MemoryLedger;
}

impl OutcomePublisher for SlowTopic {
    fn publish(
        &self,
        message: Arc<Message>,
        _: FencingToken,
    ) -> impl Future<Output = Published> + Send {
        self.published.lock().push_back(message);
        async { Published { position: position(8), by: PublishedBy::Us } }
    }

    fn purge(&self) {}

    async fn find_published(&self, _: &Message, _: Timestamp) -> Option<Position> {
        let before = self.searches.fetch_add(1, Ordering::Relaxed);
        sleep(READING + Duration::from_secs(1) / (before as u32 + 1)).await;
        None
    }
}

/// An event and its answer.
struct StoredAnswer {
    event: Event,
    record: Record,
    answer: Message,
}

/// Answers to the events of one session.
fn stored_answers(deadline: Timestamp) -> Vec<StoredAnswer> {
    let stored = |offset: i64| {
        let (mut event, mut record) = (event(), record());
        record.position.offset = offset;
        event.id = format!("e{offset}").into();
        event.source = record.position.clone();
        event.deadline = deadline;
        let answer = Message {
            channel: Channel::Outcomes,
            key: Some(b"s".to_vec()),
            value: Some(offset.to_string().into_bytes()),
            headers: vec![],
        };
        StoredAnswer { event, record, answer }
    };
    (0..STORED).map(stored).collect()
}

/// Recover them, as the ledger or Kafka gives back their records: how long that takes, and the order in
/// which they are published.
async fn recovered(stored: &[StoredAnswer], origin: RecordOrigin) -> (Duration, Vec<i64>) {
    let previous = MemoryLedger::new("before", Clock::from_fn(|| RECEIVED));
    for StoredAnswer { event, record, answer } in stored {
        let claim = claim::for_event(event, record, RECEIVED);
        let key = claim.key.clone();
        assert!(matches!(previous.claim(claim).await, ClaimResult::Fresh));
        let settle = Settle { answer: Arc::new(answer.clone()), at: RECEIVED, wake: None };
        assert_eq!(previous.settle(key, settle).await, WriteResult::Done);
    }
    let lease = Arc::new(Lease::new(HOUR));
    let (topic, ledger) = (SlowTopic::default(), previous.as_owner("now"));
    let context: Context<StoredPorts> = context_of(UncalledDesk, topic, ledger, lease);
    let queues = SessionQueues::new(QueueLimits { per_session: 32, behind: 64 });
    let turns = stored.iter().map(|StoredAnswer { event, record, .. }| {
        let arrival = SessionArrival { is_stored: true, ..arrival(record, origin) };
        queues.enqueue(&event.session_id, &arrival)
    });
    let turns: Vec<_> = turns.collect();
    let (policy, draining) = (context.policy.current(), CancellationToken::new());
    let (retry_slots, record_is_gone) = (Semaphore::new(1), AtomicBool::new(false));
    let finished_below = FinishedBelow::default();
    finished_below.set(0);
    let deliveries = stored.iter().zip(&turns).map(async |(stored, turn)| {
        let StoredAnswer { event, record, .. } = stored;
        let delivery = Delivery {
            context: &context,
            policy: &policy,
            event,
            record,
            turn,
            origin,
            expected_version: None,
            waited_for_session: false,
            room: None,
            retry_slots: &retry_slots,
            needs_call: false,
            attempt: Attempt::First,
            draining: &draining,
            record_is_gone: &record_is_gone,
            finished_below: &finished_below,
            progress: &context.activity.unfinished_events().add(event, RECEIVED),
            read_before: ReadBefore::Never,
            on_event: &|_| turn.leave(),
            span: EventSpan::default(),
        };
        delivery.run().await
    });
    let start = Instant::now();
    let ended = timeout(HOUR, join_all(deliveries)).await.expect("all end");
    assert!(ended.iter().all(|ended| *ended == Ended::Published), "{ended:?}");
    assert_eq!(context.ledger.unpublished(), 0);
    let published = context.outcomes.published.lock();
    let offset = |message: &Arc<Message>| {
        let value = message.value.as_deref().expect("an answer has a value");
        str::from_utf8(value).expect("a text").parse().expect("an offset")
    };
    (start.elapsed(), published.iter().map(offset).collect())
}

#[tokio::test(start_paused = true)]
async fn stored_answers_of_a_session_are_searched_for_together_and_published_in_order() {
    let (later, before) = (RECEIVED + HOUR, RECEIVED - HOUR);
    for origin in [RecordOrigin::Ledger, RecordOrigin::Kafka] {
        for deadline in [later, before] {
            let (elapsed, published) = recovered(&stored_answers(deadline), origin).await;
            assert_eq!(published, (0..STORED).collect::<Vec<_>>(), "{origin:?}, {deadline}");
            assert!(elapsed <= READING * 2, "{origin:?}, {deadline}: {elapsed:?}");
        }
    }
}
