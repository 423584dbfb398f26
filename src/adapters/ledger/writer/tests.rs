//! The pace of the writer, on a store that only counts. No test here looks at a row.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use tokio::task::{JoinSet, yield_now};

use super::*;
use crate::adapters::ledger::LedgerUrl;
use crate::clock::Clock;
use crate::domain::ledger_entry::{Claim, ClaimResult};
use crate::domain::record::Position;

struct Counting(Arc<AtomicUsize>);

impl Store for Counting {
    async fn advance(&mut self, changes: &[Change]) -> anyhow::Result<Vec<bool>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(vec![true; changes.len()])
    }

    async fn exchange(&mut self, _: &[Wanted<'_>], _: Decide<'_>) -> anyhow::Result<Vec<bool>> {
        unreachable!("everything is new")
    }

    async fn prune(&mut self, _: Timestamp) -> anyhow::Result<u64> {
        Ok(0)
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn close(self) {}
}

fn claim(number: usize) -> (Job, oneshot::Receiver<CommandResult>) {
    let (reply, answer) = oneshot::channel();
    let key: Arc<str> = format!("id:{number}").into();
    let command = LedgerCommand::Claim(Box::new(Claim {
        key: key.clone(),
        session_id: None,
        source: Position { topic: "t".into(), partition: 0, offset: 0 },
        first_seen: Timestamp::UNIX_EPOCH,
        deadline: None,
        at: Timestamp::UNIX_EPOCH,
    }));
    (Job { key, command, reply }, answer)
}

#[tokio::test(start_paused = true)]
async fn who_comes_alone_waits_for_nothing_and_many_share_a_batch() {
    let (orders, received) = mpsc::unbounded_channel();
    let settings = Settings {
        place: LedgerUrl::Sqlite("unused".into()),
        owner: "a".into(),
        clock: Clock::from_fn(|| Timestamp::UNIX_EPOCH),
    };
    let batches = Arc::new(AtomicUsize::new(0));
    let parts = (received, Arc::new(Health::of_writing()));
    let mut tasks = JoinSet::new();
    tasks.spawn(Writer::new(Counting(batches.clone()), &settings, parts).run());
    sleep(Duration::from_secs(1)).await;

    let begun = Instant::now();
    let (job, answer) = claim(0);
    orders.send(Order::Do(job)).ok().unwrap();
    assert_eq!(answer.await.unwrap(), CommandResult::Claimed(ClaimResult::Fresh));
    assert_eq!((begun.elapsed(), batches.load(Ordering::Relaxed)), (Duration::ZERO, 1));

    let mut answers = vec![];
    for number in 1..=50 {
        let (job, answer) = claim(number);
        orders.send(Order::Do(job)).ok().unwrap();
        answers.push(answer);
        // The writer has its turn after each of them.
        yield_now().await;
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap(), CommandResult::Claimed(ClaimResult::Fresh));
    }
    assert_eq!(batches.load(Ordering::Relaxed), 2);
    assert!(begun.elapsed() <= 2 * PACE, "{:?}", begun.elapsed());
}
