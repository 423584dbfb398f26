//! What every ledger does with one command after the other.

use std::sync::Arc;

use futures_util::future::join_all;
use handoff::domain::{
    ledger_entry::{
        Claim, ClaimResult, EntryState, HistoryKind, Park, PriorClaim, RecordOrigin, WaitsFor,
    },
    record::{Position, Record},
    wire::{Channel, Message},
};
use jiff::Timestamp;

use super::peer::{
    Peer, TestLedger, answer, at, claim, key_of, now, park_event, park_with_record, position,
    record,
};

pub(super) async fn a_claim_returns_what_the_last_one_left(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    assert_eq!(peer.claim(claim("k", 1)).await, ClaimResult::Fresh);
    let open = PriorClaim {
        snapshot: None,
        first_seen: at(0),
        claimed_at: at(1),
        parked_until: None,
        is_early: false,
        given_up: None,
    };
    let again = Claim { at: at(7), first_seen: at(6), ..claim("k", 1) };
    assert_eq!(peer.claim(again).await, ClaimResult::Resumed(open.clone()));

    assert!(peer.park("k", park_event(90, r#"{"attempts":4}"#)).await);
    let parked = PriorClaim {
        snapshot: Some(r#"{"attempts":4}"#.into()),
        claimed_at: at(7),
        parked_until: Some(at(90)),
        ..open
    };
    assert_eq!(peer.claim(claim("k", 1)).await, ClaimResult::Resumed(parked.clone()));
    let open = PriorClaim { claimed_at: at(1), parked_until: None, ..parked };
    assert_eq!(peer.claim(claim("k", 1)).await, ClaimResult::Resumed(open), "its memory stays");

    assert!(peer.settle("k", answer("first")).await);
    let settled =
        |published| ClaimResult::Settled { answer: answer("first"), published, at: at(2) };
    assert_eq!(peer.claim(claim("k", 1)).await, settled(false));
    peer.mark_published("k", None).await;
    assert_eq!(peer.claim(claim("k", 1)).await, settled(true));

    assert!(matches!(peer.claim(claim("k", 2)).await, ClaimResult::Duplicate { .. }));
    let mut elsewhere = claim("k", 1);
    elsewhere.source.topic = "other".into();
    assert!(matches!(peer.claim(elsewhere).await, ClaimResult::Duplicate { .. }));
    let conflict = ClaimResult::Conflict { session_id: Some("s".into()) };
    let other = Claim { session_id: Some("S".into()), ..claim("k", 1) };
    assert_eq!(peer.claim(other).await, conflict);
    assert_eq!(peer.claim(Claim { session_id: None, ..claim("k", 1) }).await, conflict);

    let dead_letter = Claim { session_id: None, deadline: None, ..claim("escalations/0/9", 9) };
    assert_eq!(peer.claim(dead_letter.clone()).await, ClaimResult::Fresh);
    assert!(matches!(peer.claim(dead_letter).await, ClaimResult::Resumed(_)));
    let conflict = ClaimResult::Conflict { session_id: None };
    assert_eq!(peer.claim(claim("escalations/0/9", 9)).await, conflict);
}

pub(super) async fn a_fenced_owner_changes_nothing(test_ledger: &TestLedger) {
    let late = test_ledger.peer("late").await;
    late.claim(claim("open", 1)).await;
    late.claim(claim("parked", 2)).await;
    assert!(late.park("parked", park_event(50, "{}")).await);

    let late = test_ledger.is_shared().then_some(late);
    let new = test_ledger.peer("new").await;
    for (key, offset) in [("open", 1), ("parked", 2)] {
        let claim = Claim { origin: RecordOrigin::Kafka, ..claim(key, offset) };
        assert!(matches!(new.claim(claim).await, ClaimResult::Resumed(_)), "{key}");
    }
    // With SQLite the previous owner is a process that has ended.
    if let Some(late) = &late {
        for key in ["open", "parked"] {
            assert!(!late.park(key, park_event(99, "late")).await, "{key}");
            assert!(!late.settle(key, answer("late")).await, "{key}");
        }
    }
    assert!(new.park("open", park_event(60, "new")).await);
    assert!(new.settle("parked", answer("new")).await);
    let open = new.entry("open").await.unwrap();
    assert_eq!(
        (open.state, open.snapshot.as_deref()),
        (EntryState::Parked { until: at(60), waits_for: WaitsFor::Redelivery }, Some("new"))
    );
    let parked = new.entry("parked").await.unwrap();
    assert_eq!((parked.answer, &*parked.owner), (Some(answer("new")), "new"));
    let notes: Vec<_> = parked.history.iter().map(|step| (&*step.owner, &*step.note)).collect();
    assert_eq!(notes[2], ("new", "taken over"));
}

pub(super) async fn the_first_answer_wins(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    assert!(!peer.settle("k", answer("of nothing")).await);
    assert!(!peer.park("k", park_event(9, "{}")).await);
    peer.claim(claim("k", 1)).await;
    assert!(peer.settle("k", answer("first")).await);
    assert!(!peer.settle("k", answer("first")).await, "the same one is not news either");
    assert!(!peer.settle("k", answer("second")).await);
    assert!(!peer.park("k", park_event(9, "{}")).await);
    peer.mark_published("k", None).await;
    assert!(!peer.settle("k", answer("third")).await);
    assert_eq!(peer.entry("k").await.unwrap().answer, Some(answer("first")));
}

pub(super) async fn recovery_returns_the_unfinished_events_of_its_partitions(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let claim_at = |key, partition, offset| {
        let mut claim = claim(key, offset);
        claim.source = position(partition, offset);
        claim
    };
    for (key, partition, offset) in
        [("z", 1, 4), ("open", 1, 10), ("p", 2, 3), ("settled", 1, 7), ("done", 1, 8), ("x", 3, 1)]
    {
        let claim = claim_at(key, partition, offset);
        peer.claim(claim.clone()).await;
        assert!(peer.park(key, park_with_record(70, &claim)).await);
        if key != "p" {
            peer.claim(claim).await;
        }
    }
    // Kafka delivers these again: their offsets cannot be committed.
    peer.claim(claim_at("fresh", 1, 11)).await;
    peer.claim(claim_at("left", 1, 12)).await;
    assert!(peer.park("left", park_event(1, "{}")).await);
    peer.claim(claim_at("answered", 1, 13)).await;
    assert!(peer.settle("answered", answer("it")).await);
    assert!(peer.settle("settled", answer("it")).await);
    assert!(peer.settle("done", answer("it")).await);
    peer.mark_published("done", None).await;

    let peer = test_ledger.peer("next").await;
    let rows = peer.recover("escalations", &[2, 1, 7]).await;
    let keys: Vec<_> = rows.iter().map(key_of).collect();
    assert_eq!(keys, ["z", "settled", "open"], "in the order of the records");
    assert_eq!(rows[1].state, EntryState::Settled { at: at(2) });
    assert_eq!(rows[2].state, EntryState::Open { origin: RecordOrigin::Ledger });
    assert_eq!(rows[2].record, record(&claim_at("open", 1, 10)));
    assert_eq!(rows[2].first_seen, at(0));

    let settled = peer.entry("settled").await.unwrap();
    assert_eq!(settled.answer, Some(answer("it")));
    let open = peer.entry("open").await.unwrap();
    assert_eq!((open.first_seen, open.deadline), (at(0), Some(at(600))));
    assert_eq!((open.claimed_at, open.session_id.as_deref()), (at(1), Some("s")));
    let parked = peer.entry("p").await.unwrap();
    assert_eq!(parked.snapshot.as_deref(), Some("[1]"));
    assert_eq!(peer.recover("other", &[1, 2]).await, []);
    assert_eq!(peer.recover("escalations", &[]).await, []);
}

pub(super) async fn an_acknowledgement_is_stored_once(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let position_at = |offset| Position { topic: "outcomes".into(), partition: 3, offset };
    peer.mark_published("nothing", Some(position_at(1))).await;
    assert_eq!(peer.entry("nothing").await, None);
    peer.claim(claim("k", 1)).await;
    peer.mark_published("k", Some(position_at(1))).await;
    assert_eq!(
        peer.entry("k").await.unwrap().state,
        EntryState::Open { origin: RecordOrigin::Kafka },
        "there is no answer yet"
    );
    peer.park("k", park_with_record(9, &claim("k", 1))).await;
    peer.settle("k", answer("it")).await;
    assert_eq!(peer.entry("k").await.unwrap().record, Some(record(&claim("k", 1))));
    peer.mark_published("k", Some(position_at(2))).await;
    peer.mark_published("k", Some(position_at(3))).await;
    let entry = peer.entry("k").await.unwrap();
    let state =
        EntryState::Published { settled_at: at(2), at: now(), position: Some(position_at(2)) };
    assert_eq!((entry.state, entry.record), (state, None), "the original is not needed any more");
    assert_eq!(entry.answer, Some(answer("it")));
}

pub(super) async fn any_text_can_be_an_id(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    // 256 bytes, the longest id.
    let long = "ö".repeat(128);
    let keys = [
        &*long,
        "é",
        "e\u{301}",
        "E",
        "e",
        "e ",
        " e",
        "'",
        "\"",
        "\\",
        "\\u0000",
        "%",
        "_",
        "{}",
        "[1]",
        "null",
        "1",
        "1.0",
        "\u{2028}",
        "\u{feff}",
        "👩‍👩‍👧",
        "שלום",
        "\u{202e}abc",
        "a;DROP TABLE x",
        "$1",
        "?",
        "escalations/0/1",
        "\u{10ffff}",
        "\u{1}\t\n",
    ];
    for (offset, key) in (0..).zip(keys) {
        let claim = Claim { session_id: Some(key.into()), ..claim(key, offset) };
        assert_eq!(peer.claim(claim.clone()).await, ClaimResult::Fresh, "{key:?}");
        let park = Park { snapshot: key.into(), ..park_with_record(9, &claim) };
        assert!(peer.park(key, park).await, "{key:?}");
        assert!(peer.settle(key, answer(key)).await, "{key:?}");
        let entry = peer.entry(key).await.unwrap();
        assert_eq!(entry.session_id.as_deref(), Some(key));
        assert_eq!(entry.snapshot.as_deref(), Some(key));
        assert_eq!(entry.answer, Some(answer(key)));
    }
    let found = peer.recover("escalations", &[0]).await;
    assert_eq!(found.iter().map(key_of).collect::<Vec<_>>(), keys);
}

pub(super) async fn any_bytes_survive_a_round_trip(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let all: Vec<u8> = (0..=255).collect();
    let bytes =
        [None, Some(vec![]), Some(vec![0]), Some(b"\"\\u0000\"".to_vec()), Some(all.clone())];
    for (offset, bytes) in (0..).zip(bytes) {
        let key = format!("k{offset}");
        let headers = vec![
            ("same".to_owned(), bytes.clone()),
            ("same".to_owned(), None),
            (String::new(), Some(all.clone())),
        ];
        let record = Record {
            position: position(0, i64::MAX - offset),
            timestamp: None,
            key: bytes.clone(),
            value: bytes.clone(),
            headers: headers.clone(),
        };
        let deadline = "9999-12-30T22:00:00Z".parse::<Timestamp>().unwrap();
        let source = record.position.clone();
        let fresh = Claim { source, deadline: Some(deadline), ..claim(&key, 0) };
        peer.claim(fresh.clone()).await;
        let record = Some(record);
        peer.park(&key, Park { record: record.clone(), ..park_event(9, "{}") }).await;
        let (value, channel) = (bytes.clone(), Channel::DeadLetters);
        let dead_letter = Arc::new(Message { channel, key: bytes, value, headers });
        assert!(peer.settle(&key, dead_letter.clone()).await);
        let entry = peer.entry(&key).await.unwrap();
        assert_eq!(entry.record, record);
        assert_eq!((entry.answer, entry.deadline), (Some(dead_letter.clone()), Some(deadline)));
        let settled = ClaimResult::Settled { answer: dead_letter, published: false, at: at(2) };
        assert_eq!(peer.claim(fresh).await, settled);
    }
}

pub(super) async fn published_events_are_pruned_by_age(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for (offset, key) in (0..).zip(["open", "parked", "settled"]) {
        peer.claim(claim(key, offset)).await;
        peer.park(key, park_with_record(9, &claim(key, offset))).await;
    }
    peer.claim(claim("open", 0)).await;
    peer.settle("settled", answer("it")).await;
    let one = async |number: i64| {
        let key = format!("done-{number}");
        peer.claim(claim(&key, 100 + number)).await;
        peer.settle(&key, answer("it")).await;
        peer.mark_published(&key, None).await;
    };
    // More than one step of pruning deletes.
    futures_util::future::join_all((0..1_100).map(one)).await;
    assert_eq!(peer.prune(now()).await, 0, "they are not older than that");
    assert_eq!(peer.prune(now() + jiff::SignedDuration::from_secs(1)).await, 1_100);
    assert_eq!(peer.entry("done-7").await, None);
    let found = peer.recovered("escalations", &[0]).await;
    assert_eq!((found.entries.len(), found.parked.len()), (2, 1), "what is open is kept");
    assert_eq!(
        peer.claim(claim("done-7", 107)).await,
        ClaimResult::Fresh,
        "forgotten is forgotten"
    );
}

pub(super) async fn what_was_pruned_is_known_as_forgotten(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    peer.claim(claim("done", 1)).await;
    peer.settle("done", answer("it")).await;
    peer.mark_published("done", None).await;
    peer.claim(claim("open", 2)).await;
    assert!(!peer.forgot("unknown", at(0)).await, "nothing was pruned");
    let day = jiff::SignedDuration::from_hours(24);
    assert_eq!(peer.prune(now() - day).await, 0);
    assert!(!peer.forgot("unknown", at(0)).await, "nothing was old enough");
    assert_eq!(peer.prune(now() + day).await, 1);
    assert!(peer.forgot("done", at(0)).await);
    assert!(peer.forgot("unknown", at(0)).await, "it may have been answered");
    assert!(!peer.forgot("open", at(0)).await, "it has an entry");
    assert!(!peer.forgot("unknown", now() + day).await, "it is newer than what was pruned");
    assert_eq!(peer.prune(now() + day).await, 0);
    assert!(peer.forgot("done", at(0)).await, "the memory of pruning stays");
    let other = test_ledger.peer("b").await;
    assert!(other.forgot("done", at(0)).await, "also for the next owner");
}

pub(super) async fn the_history_says_who_did_what(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    peer.claim(claim("k", 1)).await;
    peer.park("k", park_event(30, "{}")).await;
    let peer = test_ledger.peer("b").await;
    peer.claim(Claim { at: at(31), ..claim("k", 1) }).await;
    peer.settle("k", answer("it")).await;
    peer.mark_published("k", Some(position(5, 6))).await;
    let history = peer.entry("k").await.unwrap().history;
    let items: Vec<_> =
        history.iter().map(|step| (step.at, step.kind, &*step.owner, &*step.note)).collect();
    let until = format!("until {}; 4 calls, last 60008", at(30));
    assert_eq!(
        items,
        [
            (at(1), HistoryKind::Claimed, "a", ""),
            (now(), HistoryKind::Parked, "a", &*until),
            (at(31), HistoryKind::Claimed, "b", "taken over"),
            (at(2), HistoryKind::Settled, "b", "queued"),
            (now(), HistoryKind::Published, "b", "escalations/5/6"),
        ]
    );
}

/// `run` executes SQL beside the ledger: it damages a row, and repairs it.
pub(super) async fn an_unreadable_row(peer: &Peer, run: impl AsyncFn(&str)) {
    let elsewhere = |key, offset, partition| {
        let mut claim = claim(key, offset);
        claim.source.partition = partition;
        claim
    };
    let (damaged, beside) = (claim("damaged", 1), claim("beside", 2));
    let sound = elsewhere("sound", 3, damaged.source.partition + 1);
    for parked in [&damaged, &beside, &sound] {
        peer.claim(parked.clone()).await;
        assert!(peer.park(&parked.key, park_with_record(9, parked)).await);
        assert!(matches!(peer.claim(parked.clone()).await, ClaimResult::Resumed(_)));
    }
    run("CREATE TABLE kept AS SELECT key, history FROM handoff_events").await;
    run("UPDATE handoff_events SET history = '{' WHERE key = 'damaged'").await;

    let topic = &damaged.source.topic;
    let partitions = [damaged.source.partition, sound.source.partition];
    let found = peer.recovered(topic, &partitions).await;
    assert_eq!(found.blocked_partitions, [damaged.source.partition], "it is asked for again");
    assert_eq!(found.entries.iter().map(key_of).collect::<Vec<_>>(), ["sound"]);

    let all = [claim("new", 4), sound, damaged.clone(), beside];
    let mut claimed = join_all(all.map(|claim| peer.claim(claim))).await;
    let ClaimResult::Unreadable { why } = claimed.remove(2) else { panic!("{claimed:?}") };
    assert!(why.contains(r#"the row of "damaged" cannot be read"#), "{why}");
    assert_eq!(claimed.remove(0), ClaimResult::Fresh);
    assert!(claimed.iter().all(|other| matches!(other, ClaimResult::Resumed(_))), "{claimed:?}");
    assert_eq!(peer.problem(), None, "all others go on");

    let kept = "(SELECT history FROM kept WHERE key = 'damaged')";
    run(&format!("UPDATE handoff_events SET history = {kept} WHERE key = 'damaged'")).await;
    assert!(matches!(peer.claim(damaged).await, ClaimResult::Resumed(_)));
}
