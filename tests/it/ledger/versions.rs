//! An event that was read in the ledger is claimed only in the version that was read: meanwhile it may
//! have been started, parked for later or answered, by this instance or another one.

use futures_util::future::join;
use handoff::domain::ledger_entry::{Claim, ClaimResult, RecordOrigin, WaitsFor};

use super::parked::{due_now, park, park_claim};
use super::peer::{
    Peer, TestLedger, answer, claim, due_query, key_of, now, park_event, position, wake_of,
};

fn in_version(claim: &Claim, version: i64) -> Claim {
    Claim { expected_version: Some(version), ..claim.clone() }
}

/// The version of the only event that is claimed or settled and not published.
async fn unfinished_version(peer: &Peer) -> i64 {
    let found = peer.unfinished(&[0]).await;
    let [entry] = &*found.entries else { panic!("{found:?}") };
    entry.version
}

pub(super) async fn an_entry_that_has_changed_since_it_was_read_is_not_claimed(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let event = park(&peer, "k", 1, 900, WaitsFor::Time).await;
    let read = peer.due(due_query(&[0], now())).await.due.entries[0].version;
    assert!(peer.park("k", park_event(2_000, "{}")).await);
    let parked = peer.entry("k").await.unwrap();
    assert_eq!(peer.claim(in_version(&event, read)).await, ClaimResult::Changed);
    assert_eq!(peer.entry("k").await.unwrap(), parked, "nothing has changed");

    let peer = test_ledger.peer("b").await;
    let resumed = peer.claim(in_version(&event, parked.version)).await;
    assert!(matches!(resumed, ClaimResult::Resumed(_)), "{resumed:?}");
    assert_eq!(peer.claim(in_version(&event, parked.version)).await, ClaimResult::Changed);
    let claimed = unfinished_version(&peer).await;
    assert!(peer.settle("k", answer("it")).await);
    assert_eq!(peer.claim(in_version(&event, claimed)).await, ClaimResult::Changed);
    let settled = unfinished_version(&peer).await;
    let found = peer.claim(in_version(&event, settled)).await;
    assert!(matches!(found, ClaimResult::Settled { published: false, .. }), "{found:?}");
    peer.mark_published("k", None).await;
    assert_eq!(peer.claim(in_version(&event, settled)).await, ClaimResult::Changed);
    let pruned = in_version(&claim("pruned", 2), 3);
    assert_eq!(peer.claim(pruned).await, ClaimResult::Changed, "there is no such entry");
    assert_eq!(peer.entry("pruned").await, None);
}

pub(super) async fn a_woken_entry_is_still_in_its_version(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let event = park(&peer, "k", 1, 4_000, WaitsFor::Session).await;
    let read = peer.entry("k").await.unwrap().version;
    peer.wake_session(wake_of(&event)).await;
    assert_eq!(due_now(&peer).await, ["k"]);
    let claimed = peer.claim(in_version(&event, read)).await;
    assert!(
        matches!(&claimed, ClaimResult::Resumed(prior) if prior.parked_until == Some(now())),
        "{claimed:?}"
    );
}

pub(super) async fn a_claimed_event_that_nobody_works_on_is_ahead(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("fenced").await;
    let parked = park(&peer, "k", 5, 70, WaitsFor::Time).await;
    let delivered = Claim { origin: RecordOrigin::Kafka, ..claim("from Kafka", 3) };
    peer.claim(delivered).await;
    peer.claim(parked.clone()).await;
    let behind = position(0, 6);
    let own = "its task was aborted, and its claim was stored later";
    assert!(peer.is_session_parked("s", behind.clone()).await, "{own}");
    let is_behind_others = peer.is_session_parked_beside("s", behind.clone(), &[3, 5]).await;
    assert!(!is_behind_others, "its queue has the order");

    let owner = test_ledger.peer("owner").await;
    assert!(owner.is_session_parked("s", behind.clone()).await);
    assert!(!owner.is_session_parked("s", position(0, 5)).await, "Kafka delivers the other one");
    assert!(!owner.is_session_parked("t", behind.clone()).await);
    assert!(matches!(owner.claim(parked).await, ClaimResult::Resumed(_)), "it is taken over");
    assert!(!owner.is_session_parked_beside("s", behind.clone(), &[5]).await);
    assert!(owner.settle("k", answer("it")).await);

    let later = test_ledger.peer("later").await;
    assert!(!later.is_session_parked("s", behind).await, "it is answered");
}

pub(super) async fn of_two_instances_that_read_an_event_one_starts_it(test_ledger: &TestLedger) {
    const EVENTS: i64 = 40;
    let one = test_ledger.peer("a").await;
    for offset in 0..EVENTS {
        let session_id = Some(format!("s{offset}").into());
        let event = Claim { session_id, ..claim(&format!("k{offset}"), offset) };
        park_claim(&one, event, 900, WaitsFor::Time).await;
    }
    // SQLite serves one instance, which may read an event twice.
    let other = if test_ledger.is_shared() { test_ledger.peer("b").await } else { one.clone() };
    let read = async |peer: &Peer| peer.due(due_query(&[0], now())).await.overdue.entries;
    let found = (read(&one).await, read(&other).await);
    assert_eq!((found.0.len(), found.1.len()), (EVENTS as usize, EVENTS as usize));
    let both = found.0.iter().zip(&found.1).map(async |(first, second)| {
        let of = |entry: &handoff::domain::ledger_entry::RecoveredEntry| {
            let source = entry.record.position.clone();
            let session_id = Some(format!("s{}", source.offset).into());
            let fresh = claim(&key_of(entry), source.offset);
            in_version(&Claim { session_id, source, ..fresh }, entry.version)
        };
        join(one.claim(of(first)), other.claim(of(second))).await
    });
    for (first, second) in futures_util::future::join_all(both).await {
        let started = [&first, &second].map(|it| matches!(it, ClaimResult::Resumed(_)));
        assert_eq!(started.iter().filter(|started| **started).count(), 1, "{first:?}, {second:?}");
        assert!([first, second].contains(&ClaimResult::Changed));
    }
}
