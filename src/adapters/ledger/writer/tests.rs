//! How the writer forms batches, on a database that only counts them.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use tokio::task::{JoinSet, yield_now};

use super::super::database::{BatchWrite, Decide};
use super::*;
use crate::domain::ledger_entry::{
    Claim, ClaimResult, CommandResult, LedgerCommand, LedgerEntry, RecordOrigin,
};
use crate::domain::record::Position;

/// Counts its batches. Nothing else succeeds where `maintained` is false.
struct CountingDatabase {
    batches: Arc<AtomicUsize>,
    maintained: bool,
    /// Where there is an entry, it has the key of every claim.
    stored: Option<LedgerEntry>,
}

impl CountingDatabase {
    fn maintain(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.maintained, "a row is locked");
        Ok(())
    }
}

impl Database for CountingDatabase {
    async fn write(&mut self, changes: &[RowChange], _: Timestamp) -> anyhow::Result<BatchWrite> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let written = match self.stored {
            Some(_) => RowWrite::Outdated,
            None => RowWrite::Written,
        };
        Ok(BatchWrite { rows: vec![written; changes.len()], locked_wakes: vec![] })
    }

    async fn read_and_write(
        &mut self,
        requests: &[RowRequest<'_>],
        decide: Decide<'_>,
        _: Timestamp,
    ) -> anyhow::Result<BatchWrite> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let stored = self.stored.as_ref().expect("an entry");
        let row = |request: &RowRequest<'_>| StoredRow {
            key: request.key.into(),
            partition: 0,
            entry: Ok(stored.clone()),
        };
        let changes = decide(requests.iter().map(row).collect());
        let rows = vec![RowWrite::Written; changes.len()];
        Ok(BatchWrite { rows, locked_wakes: vec![] })
    }

    async fn wake(&mut self, wakes: &[WakeSession], _: Timestamp) -> anyhow::Result<Vec<bool>> {
        self.maintain().map(|()| vec![true; wakes.len()])
    }

    async fn prune(&mut self, _: Timestamp) -> anyhow::Result<u64> {
        self.maintain().map(|()| 0)
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn close(self) {}
}

fn claim(number: usize) -> (WriterRequest, oneshot::Receiver<CommandResult>) {
    let key: Arc<str> = format!("id:{number}").into();
    request(claim_of(key, 0))
}

fn request(claim: Claim) -> (WriterRequest, oneshot::Receiver<CommandResult>) {
    let (reply, result) = oneshot::channel();
    let key = claim.key.clone();
    let command = LedgerCommand::Claim(Box::new(claim));
    (WriterRequest::Perform(PendingCommand { key, command, reply }), result)
}

fn claim_of(key: Arc<str>, offset: i64) -> Claim {
    Claim {
        key,
        session_id: None,
        source: Position { topic: "t".into(), partition: 0, offset },
        recorded_at: None,
        first_seen: Timestamp::UNIX_EPOCH,
        deadline: None,
        at: Timestamp::UNIX_EPOCH,
        origin: RecordOrigin::Kafka,
        expected_version: None,
    }
}

fn writer(
    database: CountingDatabase,
    requests: mpsc::UnboundedReceiver<WriterRequest>,
) -> Writer<CountingDatabase> {
    let availability = Arc::new(Availability::of_writes());
    let clock = Clock::from_fn(|| Timestamp::UNIX_EPOCH);
    let watch = WriteWatch { availability, duration: Histogram::new([1.0]) };
    Writer::new(database, "a".into(), clock, watch, requests)
}

#[tokio::test(start_paused = true)]
async fn a_wake_or_a_prune_that_fails_delays_no_command() {
    let (requests, received) = mpsc::unbounded_channel();
    let database = CountingDatabase { batches: Arc::default(), maintained: false, stored: None };
    let mut tasks = JoinSet::new();
    tasks.spawn(writer(database, received).run());
    let (reply, mut woken) = oneshot::channel();
    let (session_id, topic) = ("s".into(), "t".into());
    let wake = WakeSession { session_id, topic, partition: 0, before_offset: None };
    requests.send(WriterRequest::Wake { wake, reply }).ok().unwrap();
    let (reply, pruned) = oneshot::channel();
    requests.send(WriterRequest::Prune { before: Timestamp::MAX, reply }).ok().unwrap();
    assert!(pruned.await.unwrap().is_err());

    for number in 0..20 {
        let started = Instant::now();
        let (request, result) = claim(number);
        requests.send(request).ok().unwrap();
        assert_eq!(result.await.unwrap(), CommandResult::Claim(ClaimResult::Fresh));
        assert!(started.elapsed() <= LINGER, "{:?}", started.elapsed());
        sleep(Duration::from_millis(700)).await;
    }
    assert!(woken.try_recv().is_err(), "it is tried again and again");
    drop((requests, woken));
    timeout(Duration::from_secs(10), tasks.join_all()).await.expect("the writer ends");
}

#[tokio::test(start_paused = true)]
async fn a_single_command_starts_at_once_and_many_share_a_batch() {
    let (requests, received) = mpsc::unbounded_channel();
    let batches = Arc::new(AtomicUsize::new(0));
    let database = CountingDatabase { batches: batches.clone(), maintained: true, stored: None };
    let mut tasks = JoinSet::new();
    tasks.spawn(writer(database, received).run());
    sleep(Duration::from_secs(1)).await;

    let started = Instant::now();
    let (request, result) = claim(0);
    requests.send(request).ok().unwrap();
    assert_eq!(result.await.unwrap(), CommandResult::Claim(ClaimResult::Fresh));
    assert_eq!((started.elapsed(), batches.load(Ordering::Relaxed)), (Duration::ZERO, 1));

    let mut results = vec![];
    for number in 1..=50 {
        let (request, result) = claim(number);
        requests.send(request).ok().unwrap();
        results.push(result);
        // Let the writer run after each of them.
        yield_now().await;
    }
    for result in results {
        assert_eq!(result.await.unwrap(), CommandResult::Claim(ClaimResult::Fresh));
    }
    assert_eq!(batches.load(Ordering::Relaxed), 2);
    assert!(started.elapsed() <= 2 * BATCH_INTERVAL, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn repeats_of_one_id_share_a_batch_and_keep_their_order_with_others() {
    let (requests, received) = mpsc::unbounded_channel();
    let batches = Arc::new(AtomicUsize::new(0));
    let actor = Actor { owner: &"a".into(), now: Timestamp::UNIX_EPOCH };
    let first = LedgerCommand::Claim(Box::new(claim_of("id".into(), 0)));
    let stored = apply(None, &first, actor).next;
    let database = CountingDatabase { batches: batches.clone(), maintained: true, stored };
    let mut results = vec![];
    // In the middle the first record comes again, which is claimed.
    let offsets = (1..=500).chain([0]).chain(501..=1000);
    for offset in offsets {
        let (request, result) = request(claim_of("id".into(), offset));
        requests.send(request).ok().unwrap();
        results.push((offset, result));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(writer(database, received).run());
    for (offset, result) in results {
        let result = result.await.unwrap();
        match offset {
            0 => assert!(matches!(result, CommandResult::Claim(ClaimResult::Resumed(_)))),
            _ => {
                let first = Position { topic: "t".into(), partition: 0, offset: 0 };
                let duplicate = ClaimResult::Duplicate { first, answered_at: None };
                assert_eq!(result, CommandResult::Claim(duplicate), "{offset}");
            }
        }
    }
    let batches = batches.load(Ordering::Relaxed);
    assert!(batches <= 6, "{batches} for three runs of claims, each with an attempt to insert");
}
