//! What every ledger does with parked events: they come back when they are due, when their session
//! is woken, and when an agent may be there for their waiting room.

use handoff::domain::ledger_entry::WakeSession;
use handoff::domain::ledger_entry::{Claim, ClaimResult, EntryState, Park, RecordOrigin, WaitsFor};
use handoff::ledger::{ParkedCount, ParkedGroup, StoredEntries, WaitingQuery};

use super::peer::{
    Peer, TestLedger, answer, at, claim, count_query, due_query, key_of, now, park_event,
    park_with_record, position, wake_of,
};

/// The clock of the ledgers stands at `now`, long before these deadlines.
pub(super) const DEADLINE: i64 = 5_000;

/// Claims and parks an event of session `s` at partition 0.
pub(super) async fn park(
    peer: &Peer,
    key: &str,
    offset: i64,
    until: i64,
    waits_for: WaitsFor,
) -> Claim {
    let claim = Claim { deadline: Some(at(DEADLINE)), ..claim(key, offset) };
    park_claim(peer, claim, until, waits_for).await
}

pub(super) async fn park_claim(
    peer: &Peer,
    claim: Claim,
    until: i64,
    waits_for: WaitsFor,
) -> Claim {
    assert_eq!(peer.claim(claim.clone()).await, ClaimResult::Fresh);
    let park = Park { waits_for, ..park_with_record(until, &claim) };
    assert!(peer.park(&claim.key, park).await);
    claim
}

pub(super) fn elsewhere(key: &str, partition: i32, offset: i64) -> Claim {
    let source = position(partition, offset);
    Claim { source, deadline: Some(at(DEADLINE)), ..claim(key, offset) }
}

pub(super) fn keys(found: &StoredEntries) -> Vec<String> {
    assert_eq!(found.unreadable, []);
    found.entries.iter().map(key_of).collect()
}

pub(super) fn room(name: &str) -> WaitsFor {
    WaitsFor::Agent(name.into())
}

fn waiting(name: &str, partitions: &[i32], limit: usize) -> WaitingQuery {
    let (topic, partitions) = ("escalations".into(), partitions.to_vec());
    WaitingQuery { topic, partitions, room: name.into(), limit }
}

/// The keys of the events that are due now.
pub(super) async fn due_now(peer: &Peer) -> Vec<String> {
    keys(&peer.due(due_query(&[0], now())).await.due)
}

pub(super) async fn a_parked_event_needs_no_other_delivery(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let reasons = [WaitsFor::Time, room("r"), WaitsFor::Session];
    for (offset, waits_for) in (0..).zip(reasons) {
        let key = waits_for.to_string();
        let parked = park(&peer, &key, offset, 70, waits_for.clone()).await;
        let before = peer.entry(&key).await.unwrap();
        let state = EntryState::Parked { until: at(70), waits_for: waits_for.clone() };
        assert_eq!(before.state, state);
        let delivered = peer.claim(Claim { origin: RecordOrigin::Kafka, ..parked.clone() }).await;
        assert_eq!(delivered, ClaimResult::Parked { until: at(70), waits_for });
        assert_eq!(peer.entry(&key).await.unwrap(), before, "nothing has changed");
        assert!(matches!(peer.claim(parked).await, ClaimResult::Resumed(_)), "it came back");
    }
}

pub(super) async fn an_event_that_is_parked_no_more_is_not_due(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let claimed = park(&peer, "claimed", 1, 900, WaitsFor::Time).await;
    park(&peer, "settled", 2, 900, WaitsFor::Time).await;
    park(&peer, "published", 3, 900, WaitsFor::Time).await;
    park(&peer, "parked again", 4, 900, WaitsFor::Time).await;
    assert_eq!(due_now(&peer).await.len(), 4);
    peer.claim(claimed).await;
    assert!(peer.settle("settled", answer("it")).await);
    assert!(peer.settle("published", answer("it")).await);
    peer.mark_published("published", None).await;
    assert!(peer.park("parked again", park_event(1_010, "{}")).await);
    let found = peer.due(due_query(&[0], at(DEADLINE))).await;
    assert_eq!((keys(&found.due).len(), keys(&found.overdue).len()), (0, 0));
    let found = peer.recovered("escalations", &[0]).await;
    let keys: Vec<_> = found.entries.iter().map(key_of).collect();
    assert_eq!(keys, ["claimed", "settled"], "recovery reads them; Kafka delivers the other");
    assert_eq!(found.parked, []);
}

pub(super) async fn recovery_finds_what_parked_events_wait_for_and_leaves_them(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let group = |partition, waits_for, oldest, oldest_until| ParkedGroup {
        partition,
        waits_for,
        oldest: at(oldest),
        oldest_until: at(oldest_until),
    };
    let count = |partition, waits_for, events| ParkedCount { partition, waits_for, events };
    for (offset, first_seen, until, waits_for) in [
        (1, 30, 70, WaitsFor::Time),
        (2, 20, 60, WaitsFor::Time),
        (3, 10, 80, WaitsFor::Session),
        (4, 12, 90, room("session")),
        (5, 11, 50, room("session")),
        (6, 13, 50, room("other")),
    ] {
        let claim = Claim { first_seen: at(first_seen), ..claim(&format!("{offset}"), offset) };
        park_claim(&peer, claim, until, waits_for).await;
    }
    park_claim(&peer, elsewhere("7", 1, 7), 40, WaitsFor::Time).await;
    park_claim(&peer, elsewhere("8", 2, 8), 40, WaitsFor::Time).await;
    peer.claim(claim("released", 9)).await;
    assert!(peer.park("released", park_event(1, "{}")).await);
    let open = park(&peer, "open", 10, 70, WaitsFor::Time).await;
    peer.claim(open).await;
    let follower = park(&peer, "delivered again", 11, 70, WaitsFor::Session).await;
    let delivered = peer.claim(Claim { origin: RecordOrigin::Kafka, ..follower }).await;
    assert!(matches!(delivered, ClaimResult::Parked { .. }), "{delivered:?}");

    let peer = test_ledger.peer("b").await;
    let mut found = peer.recovered("escalations", &[1, 0]).await;
    assert_eq!(found.entries.iter().map(key_of).collect::<Vec<_>>(), ["open"]);
    assert_eq!(peer.parked_groups(&[1, 0]).await, found.parked, "a sweep finds the same");
    found.parked.sort_by_key(|group| (group.partition, group.waits_for.to_string()));
    assert_eq!(
        found.parked,
        [
            group(0, room("other"), 13, 50),
            group(0, room("session"), 11, 50),
            group(0, WaitsFor::Session, 0, 70),
            group(0, WaitsFor::Time, 20, 60),
            group(1, WaitsFor::Time, 0, 40),
        ]
    );
    assert_eq!(
        peer.count_parked(count_query(&[1, 0], now())).await,
        [
            count(0, room("other"), 1),
            count(0, room("session"), 2),
            count(0, WaitsFor::Session, 2),
            count(0, WaitsFor::Time, 2),
            count(1, WaitsFor::Time, 1),
        ]
    );
}

pub(super) async fn a_waiting_room_is_read_in_order(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for (offset, first_seen, partition, name) in [
        (1, 30, 0, "r"),
        (2, 10, 1, "r"),
        (3, 20, 0, "r"),
        (4, 5, 0, "other"),
        (5, 4, 2, "r"),
        (6, 40, 0, "r"),
    ] {
        let first_seen = at(first_seen);
        let claim = Claim { first_seen, ..elsewhere(&format!("{offset}"), partition, offset) };
        park_claim(&peer, claim, 70, room(name)).await;
    }
    park(&peer, "time", 7, 70, WaitsFor::Time).await;
    assert_eq!(keys(&peer.waiting(waiting("r", &[0, 1], 9)).await), ["2", "3", "1", "6"]);
    let first = peer.waiting(waiting("r", &[0, 1], 1)).await;
    assert_eq!((keys(&first), first.entries[0].first_seen), (vec!["2".into()], at(10)));
    assert_eq!(first.entries[0].state, EntryState::Parked { until: at(70), waits_for: room("r") });
    assert_eq!(keys(&peer.waiting(waiting("time", &[0, 1], 9)).await).len(), 0);
    assert_eq!(keys(&peer.waiting(waiting("r", &[], 9)).await).len(), 0);
    peer.claim(elsewhere("2", 1, 2)).await;
    assert_eq!(keys(&peer.waiting(waiting("r", &[0, 1], 1)).await), ["3"]);
}

pub(super) async fn an_answer_wakes_the_next_event_of_its_session(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let head = claim("head", 1);
    peer.claim(head.clone()).await;
    park(&peer, "second", 2, 4_000, WaitsFor::Session).await;
    park(&peer, "third", 3, 4_000, WaitsFor::Session).await;
    let other_session = Claim { session_id: Some("t".into()), ..elsewhere("t", 0, 0) };
    park_claim(&peer, other_session, 4_000, WaitsFor::Session).await;
    park_claim(&peer, elsewhere("other partition", 1, 0), 4_000, WaitsFor::Session).await;
    let second = peer.entry("second").await.unwrap();

    assert_eq!(due_now(&peer).await.len(), 0);
    assert!(peer.settle_and_wake("head", answer("it"), Some(wake_of(&head))).await);
    assert_eq!(due_now(&peer).await, ["second"]);
    let woken = peer.entry("second").await.unwrap();
    let state = EntryState::Parked { until: now(), waits_for: WaitsFor::Session };
    assert_eq!(woken.state, state);
    let same = (woken.version, &woken.history) == (second.version, &second.history);
    assert!(same, "only its time has changed");
    // Refused: the answer is not the first one.
    assert!(!peer.settle_and_wake("head", answer("2"), Some(wake_of(&head))).await);
    assert!(matches!(
        peer.claim(elsewhere("second", 0, 2)).await,
        ClaimResult::Resumed(resumed) if resumed.parked_until == Some(now())
    ));
    peer.wake_session(wake_of(&head)).await;
    assert_eq!(due_now(&peer).await.len(), 0, "the second is being worked on");
    assert!(peer.settle_and_wake("second", answer("it"), Some(wake_of(&head))).await);
    assert_eq!(due_now(&peer).await, ["third"]);
}

pub(super) async fn a_refused_answer_wakes_nothing(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let head = claim("head", 1);
    peer.claim(head.clone()).await;
    assert!(peer.settle("head", answer("it")).await);
    park(&peer, "second", 2, 4_000, WaitsFor::Session).await;
    for key in ["head", "unknown"] {
        assert!(!peer.settle_and_wake(key, answer("2"), Some(wake_of(&head))).await);
    }
    assert_eq!(due_now(&peer).await.len(), 0);
    peer.wake_session(wake_of(&head)).await;
    assert_eq!(due_now(&peer).await, ["second"]);
}

pub(super) async fn a_session_is_woken_in_its_order(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let second = park(&peer, "second", 2, 4_000, WaitsFor::Session).await;
    let wake = wake_of(&second);
    let before = |offset| WakeSession { before_offset: Some(offset), ..wake.clone() };
    peer.wake_session(before(2)).await;
    assert_eq!(due_now(&peer).await.len(), 0, "it is behind the next one in memory");
    peer.wake_session(WakeSession { partition: 1, ..wake.clone() }).await;
    peer.wake_session(WakeSession { topic: "other".into(), ..wake.clone() }).await;
    peer.wake_session(WakeSession { session_id: "t".into(), ..wake.clone() }).await;
    assert_eq!(due_now(&peer).await.len(), 0);

    // An earlier one that waits for something else.
    let first = park(&peer, "first", 1, 4_000, room("r")).await;
    peer.wake_session(wake.clone()).await;
    assert_eq!(due_now(&peer).await.len(), 0);
    assert!(matches!(peer.claim(first.clone()).await, ClaimResult::Resumed(_)));
    peer.wake_session(wake.clone()).await;
    assert_eq!(due_now(&peer).await.len(), 0, "the first is being worked on");
    assert!(peer.settle_and_wake("first", answer("it"), Some(before(2))).await);
    assert_eq!(due_now(&peer).await.len(), 0);
    peer.wake_session(before(3)).await;
    assert_eq!(due_now(&peer).await, ["second"]);
}

pub(super) async fn many_answers_wake_their_sessions_at_once(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let of = |session: i64, offset: i64| Claim {
        session_id: Some(format!("s{session}").into()),
        ..elsewhere(&format!("{session}-{offset}"), 0, session * 10 + offset)
    };
    let one = async |session: i64| {
        let head = of(session, 1);
        assert_eq!(peer.claim(head.clone()).await, ClaimResult::Fresh);
        park_claim(&peer, of(session, 2), 4_000, WaitsFor::Session).await;
        assert!(peer.settle_and_wake(&head.key, answer("it"), Some(wake_of(&head))).await);
        peer.wake_session(wake_of(&head)).await;
    };
    futures_util::future::join_all((0..60).map(one)).await;
    assert_eq!(due_now(&peer).await.len(), 60);
}

pub(super) async fn an_answer_that_is_not_published_is_found_by_those_behind_it(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let is_behind = async |offset| peer.is_behind_unpublished("s", position(0, offset), 3).await;
    peer.claim(claim("k", 5)).await;
    assert!(!is_behind(9).await, "it has no answer");
    peer.settle("k", answer("it")).await;
    assert!(is_behind(6).await);
    assert!(!is_behind(5).await, "not behind itself");
    assert!(!peer.is_behind_unpublished("s", position(0, 9), 6).await, "it is before the range");
    assert!(!peer.is_behind_unpublished("t", position(0, 9), 3).await, "another session");
    assert!(!peer.is_behind_unpublished("s", position(1, 9), 3).await, "another partition");
    peer.mark_published("k", None).await;
    assert!(!is_behind(9).await);
}

pub(super) async fn a_session_is_parked_while_an_earlier_event_is(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let is_parked = async |offset| peer.is_session_parked("s", position(0, offset)).await;
    assert!(!is_parked(9).await);
    let parked = park(&peer, "k", 5, 70, room("r")).await;
    assert!(is_parked(6).await);
    assert!(!is_parked(5).await, "not ahead of itself");
    assert!(!peer.is_session_parked("t", position(0, 9)).await);
    assert!(!peer.is_session_parked("s", position(1, 9)).await);
    let mut elsewhere = position(0, 9);
    elsewhere.topic = "other".into();
    assert!(!peer.is_session_parked("s", elsewhere).await);
    peer.claim(parked.clone()).await;
    assert!(!peer.is_session_parked_beside("s", position(0, 6), &[5]).await);
    assert!(peer.park("k", park_event(90, "{}")).await);
    assert!(is_parked(6).await, "it was released, and only the ledger has it");
    peer.claim(parked.clone()).await;
    assert!(peer.park("k", park_with_record(90, &parked)).await);
    assert!(is_parked(6).await);
    assert!(peer.settle("k", answer("it")).await);
    assert!(!is_parked(6).await);
}

/// `run` executes SQL beside the ledger: it damages rows.
pub(super) async fn an_unreadable_parked_row(peer: &Peer, run: impl AsyncFn(&str)) {
    park(peer, "sound", 2, 900, WaitsFor::Time).await;
    for (offset, waits_for) in (3..).zip([WaitsFor::Time, room("r")]) {
        park(peer, &format!("damaged-{offset}"), offset, 800, waits_for).await;
    }
    park(peer, "unknown", 5, 800, WaitsFor::Time).await;
    run("UPDATE handoff_events SET history = '{' WHERE key LIKE 'damaged%'").await;
    run("UPDATE handoff_events SET waits_for = 'rain' WHERE key = 'unknown'").await;

    let found = peer.recovered("escalations", &[0]).await;
    assert_eq!(found.blocked_partitions, [0; 0], "they are found when they are due");
    assert_eq!(found.parked.len(), 2);
    let counts = peer.count_parked(count_query(&[0], now())).await;
    assert_eq!(counts.iter().map(|count| count.events).sum::<u64>(), 3);
    let unknown = Claim { session_id: Some("u".into()), ..elsewhere("unknown-too", 1, 6) };
    park_claim(peer, unknown, 800, WaitsFor::Time).await;
    run("UPDATE handoff_events SET waits_for = 'rain' WHERE key = 'unknown-too'").await;
    let found = peer.recovered("escalations", &[1]).await;
    assert_eq!((found.parked, found.parked_partitions), (vec![], vec![1]));
    assert!(peer.is_session_parked("u", position(1, 7)).await, "nothing overtakes it");
    let due = peer.due(due_query(&[0], now())).await.due;
    assert_eq!(due.entries.iter().map(key_of).collect::<Vec<_>>(), ["sound"]);
    let why = |found: &StoredEntries| {
        let text = |row: &handoff::ledger::UnreadableEntry| format!("{}: {}", row.key, row.why);
        found.unreadable.iter().map(text).collect::<Vec<_>>().join("; ")
    };
    let text = why(&due);
    assert!(text.starts_with(r#"damaged-3: the row of "damaged-3" cannot be read"#), "{text}");
    let text = why(&peer.waiting(waiting("r", &[0], 9)).await);
    assert!(text.starts_with(r#"damaged-4: the row of "damaged-4" cannot be read"#), "{text}");
    let overdue = peer.due(due_query(&[0], at(DEADLINE))).await.overdue;
    assert_eq!((overdue.entries.len(), overdue.unreadable.len()), (1, 3));
    assert!(why(&overdue).contains("waits for something unknown: \"rain\""), "{}", why(&overdue));
}
