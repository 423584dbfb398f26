//! What every ledger does with many commands at once.

use std::time::Duration;

use futures_util::future::join_all;
use handoff::domain::ledger_entry::{Claim, ClaimResult, EntryState, Park, WaitsFor, WakeSession};
use handoff::domain::record::Position;
use handoff::ledger::WaitingQuery;
use tokio::time::timeout;

use super::peer::{
    Peer, TestLedger, answer, at, claim, count_query, due_query, park_event, park_with_record,
    position, wake_of,
};

pub(super) async fn commands_on_one_key_keep_their_order(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    // Asked for in one breath, so that they lie in one queue.
    let (first, second, parked, settled, other, ()) = tokio::join!(
        peer.claim(claim("k", 1)),
        peer.claim(claim("k", 1)),
        peer.park("k", park_event(9, "{}")),
        peer.settle("k", answer("it")),
        peer.claim(claim("k", 2)),
        peer.mark_published("k", None),
    );
    assert_eq!(first, ClaimResult::Fresh);
    assert!(matches!(second, ClaimResult::Resumed(resumed) if resumed.parked_until.is_none()));
    assert!(parked && settled);
    assert!(matches!(other, ClaimResult::Duplicate { .. }));
    assert!(matches!(peer.entry("k").await.unwrap().state, EntryState::Published { .. }));
}

pub(super) async fn ten_thousand_commands_at_once_are_all_stored(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let one = |number: i64| {
        let peer = peer.clone();
        async move {
            let key = format!("event-{number}");
            let text = format!("{{\"number\":{number}}}");
            assert_eq!(peer.claim(claim(&key, number)).await, ClaimResult::Fresh);
            let kept = park_with_record(number, &claim(&key, number));
            assert!(peer.park(&key, Park { snapshot: text.clone(), ..kept }).await);
            assert!(peer.settle(&key, answer(&text)).await);
            if number % 2 == 0 {
                peer.mark_published(&key, None).await;
            }
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    (0..2_900).for_each(|number| drop(tasks.spawn(one(number))));
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let rows = peer.recover("escalations", &[0]).await;
    assert_eq!(rows.len(), 1_450, "settled while parked");
    for row in rows {
        let number = row.record.position.offset;
        let entry = peer.entry(&format!("event-{number}")).await.unwrap();
        assert_eq!(entry.record, Some(row.record));
        assert_eq!(entry.answer, Some(answer(&format!("{{\"number\":{number}}}"))));
        assert_eq!(entry.snapshot, Some(format!("{{\"number\":{number}}}")));
    }
}

pub(super) async fn an_abandoned_command_affects_no_other(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for round in 0..20 {
        let some = (0..200).map(|n| peer.claim(claim(&format!("{round}-{n}"), round * 1_000 + n)));
        let given_up = timeout(Duration::from_micros(300 * round as u64), join_all(some)).await;
        drop(given_up);
    }
    let again = (0..200).map(|n| peer.claim(claim(&format!("7-{n}"), 7_000 + n)));
    for claimed in join_all(again).await {
        assert!(matches!(claimed, ClaimResult::Fresh | ClaimResult::Resumed(_)), "{claimed:?}");
    }
}

pub(super) async fn of_two_concurrent_owners_one_wins_each_event(test_ledger: &TestLedger) {
    if !test_ledger.is_shared() {
        return one_owner_counts(&test_ledger.peer("only").await).await;
    }
    let (a, b) = (test_ledger.peer("a").await, test_ledger.peer("b").await);
    // In opposite orders, so that they would meet crosswise.
    let up = join_all((0..800).map(|n| a.claim(claim(&format!("{n:03}"), n))));
    let down = join_all((0..800).rev().map(|n| b.claim(claim(&format!("{n:03}"), n))));
    let (mut up, mut down) = tokio::join!(up, down);
    down.reverse();
    for n in 0..800_usize {
        let fresh = [&up[n], &down[n]].map(|claimed| usize::from(*claimed == ClaimResult::Fresh));
        assert_eq!(fresh.iter().sum::<usize>(), 1, "{:?} {:?}", up[n], down[n]);
    }
    up.clear();
    let keys: Vec<_> = (0..800).map(|n| format!("{n:03}")).collect();
    let by_a = join_all(keys.iter().map(|key| a.settle(key, answer("a"))));
    let by_b = join_all(keys.iter().rev().map(|key| b.settle(key, answer("b"))));
    let (by_a, mut by_b) = tokio::join!(by_a, by_b);
    by_b.reverse();
    for (n, key) in keys.iter().enumerate() {
        assert!(by_a[n] != by_b[n], "{key}: exactly one of them is the owner");
        let winner = if by_a[n] { "a" } else { "b" };
        let entry = a.entry(key).await.unwrap();
        assert_eq!((&*entry.owner, entry.answer), (winner, Some(answer(winner))));
    }
}

/// SQLite has one owner at a time: all that can be asked there.
async fn one_owner_counts(peer: &Peer) {
    let twice = (0..800).chain((0..800).rev()).map(|n| peer.claim(claim(&format!("{n:03}"), n)));
    let claimed = join_all(twice).await;
    assert_eq!(claimed.iter().filter(|claimed| **claimed == ClaimResult::Fresh).count(), 800);
}

/// The same random commands here and in memory give the same results and the same entries.
pub(super) async fn every_ledger_behaves_like_the_one_in_memory(test_ledger: &TestLedger) {
    let mut rng = fastrand::Rng::with_seed(20_261_123);
    let model = TestLedger::memory();
    for chapter in ["a", "b", "a"] {
        let (peer, memory) = (test_ledger.peer(chapter).await, model.peer(chapter).await);
        for number in 0..250 {
            let key = format!("key-{}", rng.u8(..12));
            let command = RandomCommand { kind: rng.u8(..10), variant: rng.i64(..3), number };
            let (here, there) =
                (command.perform(&peer, &key).await, command.perform(&memory, &key).await);
            assert_eq!(here, there, "{chapter} {key} {command:?}");
        }
        for key in 0..12 {
            let key = format!("key-{key}");
            assert_eq!(peer.entry(&key).await, memory.entry(&key).await);
        }
        let (here, there) = (everything(&peer).await, everything(&memory).await);
        assert_eq!(here, there);
    }
}

/// What the queries return, as text.
async fn everything(peer: &Peer) -> [String; 5] {
    let mut recovered = peer.recovered("escalations", &[0]).await;
    recovered.parked.sort_by_key(|group| group.waits_for.to_string());
    let due = peer.due(due_query(&[0], at(120))).await;
    let room = WaitingQuery {
        topic: "escalations".into(),
        partitions: vec![0],
        room: "room".into(),
        limit: 100,
    };
    let mut waiting = peer.waiting(room).await;
    // They were first seen at the same time.
    waiting.entries.sort_by_key(|entry| entry.record.position.offset);
    let is_parked = peer.is_session_parked("s", position(0, 9_000)).await;
    let counts = peer.count_parked(count_query(&[0], at(120))).await;
    [
        format!("{recovered:?}"),
        format!("{counts:?}"),
        format!("{due:?}"),
        format!("{waiting:?}"),
        is_parked.to_string(),
    ]
}

/// A command that is drawn at random.
#[derive(Debug, Clone, Copy)]
struct RandomCommand {
    kind: u8,
    variant: i64,
    number: i64,
}

impl RandomCommand {
    /// Returns the result as text.
    async fn perform(self, peer: &Peer, key: &str) -> String {
        let Self { kind, variant, number } = self;

        // Every key has its own offsets.
        let offset: i64 = key.bytes().map(i64::from).sum::<i64>() * 10;
        match kind {
            0..=4 => {
                let session = if variant == 2 && kind == 0 { "other" } else { "s" };
                let offset = offset + i64::from(variant == 1 && kind == 1);
                let claim = Claim { session_id: Some(session.into()), ..claim(key, offset) };
                format!("{:?}", peer.claim(claim).await)
            }
            5 => peer.park(key, park_event(number, &number.to_string())).await.to_string(),
            6..=7 => {
                let waits_for = [WaitsFor::Time, WaitsFor::Session, WaitsFor::Agent("room".into())];
                let waits_for = waits_for[(number % 3) as usize].clone();
                let park = Park { waits_for, ..park_with_record(number, &claim(key, offset)) };
                peer.park(key, park).await.to_string()
            }
            8 => {
                let before_offset = (variant == 0).then_some(offset);
                let wake = WakeSession { before_offset, ..wake_of(&claim(key, offset)) };
                if variant == 2 {
                    peer.wake_session(wake.clone()).await;
                }
                let answer = answer(&number.to_string());
                peer.settle_and_wake(key, answer, Some(wake)).await.to_string()
            }
            _ => {
                let position = Position { topic: "outcomes".into(), partition: 1, offset: number };
                peer.mark_published(key, (variant > 0).then_some(position)).await;
                String::new()
            }
        }
    }
}
