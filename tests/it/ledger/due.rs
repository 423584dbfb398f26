//! Which parked events every ledger returns as due, and in which order.

use handoff::domain::ledger_entry::{Claim, EntryState, WaitsFor};
use handoff::ledger::{DuePartition, DueQuery};

use super::parked::{DEADLINE, elsewhere, keys, park, park_claim, room};
use super::peer::{TestLedger, at, claim, due_query, now, park_event};

pub(super) async fn due_events_come_in_their_order(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    park(&peer, "third", 1, 930, WaitsFor::Time).await;
    park(&peer, "first", 2, 910, WaitsFor::Session).await;
    park_claim(&peer, elsewhere("second", 1, 3), 920, WaitsFor::Time).await;
    park(&peer, "now", 4, 1_000, WaitsFor::Time).await;
    park(&peer, "later", 5, 1_001, WaitsFor::Time).await;
    park(&peer, "much later", 6, 2_000, WaitsFor::Session).await;
    park(&peer, "in a room", 7, 900, room("r")).await;
    let overdue = [(8, 990, WaitsFor::Time), (9, 1_000, room("r")), (10, 980, WaitsFor::Session)];
    for (offset, deadline, waits_for) in overdue {
        let claim = Claim { deadline: Some(at(deadline)), ..claim(&deadline.to_string(), offset) };
        park_claim(&peer, claim, deadline, waits_for).await;
    }
    park_claim(&peer, elsewhere("other partition", 2, 11), 1, WaitsFor::Time).await;
    let mut other_topic = elsewhere("other topic", 0, 12);
    other_topic.source.topic = "other".into();
    park_claim(&peer, other_topic, 1, WaitsFor::Time).await;
    peer.claim(claim("released", 13)).await;
    assert!(peer.park("released", park_event(1, "{}")).await);

    let query = due_query(&[1, 0, 7], now());
    let found = peer.due(query.clone()).await;
    assert_eq!(keys(&found.due), ["first", "second", "third", "now"]);
    assert_eq!(keys(&found.overdue), ["980", "990", "1000"], "whatever they waited for");
    assert_eq!((found.next_due, found.next_deadline), (Some(at(1_001)), Some(at(DEADLINE))));
    let EntryState::Parked { until, waits_for } = &found.due.entries[0].state else { panic!() };
    assert_eq!((*until, waits_for), (at(910), &WaitsFor::Session));
    assert_eq!(found.due.entries[0].first_seen, at(0));

    let few = peer.due(DueQuery { due_limit: 3, overdue_limit: 4, ..query.clone() }).await;
    assert_eq!(keys(&few.due), ["first", "second", "third"], "overdue ones do not count");
    assert_eq!(keys(&few.overdue).len(), 3);
    let fewer = peer.due(DueQuery { due_limit: 0, overdue_limit: 2, ..query.clone() }).await;
    assert_eq!(
        (keys(&fewer.due).len(), keys(&fewer.overdue)),
        (0, vec!["980".into(), "990".into()])
    );
    let at_the_end = peer.due(DueQuery { now: at(DEADLINE), ..query.clone() }).await;
    assert_eq!((keys(&at_the_end.due).len(), keys(&at_the_end.overdue).len()), (0, 10));
    assert_eq!((at_the_end.next_due, at_the_end.next_deadline), (None, None));
    let nothing = peer.due(DueQuery { partitions: vec![], ..query }).await;
    assert_eq!((keys(&nothing.due).len(), nothing.next_due), (0, None));
}

/// Events of many sessions were woken, and Kafka has not delivered what may be ahead of them.
pub(super) async fn woken_events_that_are_too_early_hide_no_other(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    for offset in 100..140 {
        let session_id = Some(format!("s{offset}").into());
        let claim = Claim { session_id, ..elsewhere(&offset.to_string(), 0, offset) };
        park_claim(&peer, claim, 900, WaitsFor::Session).await;
    }
    for offset in 1..=3 {
        park(&peer, &format!("time-{offset}"), offset, 990 + offset, WaitsFor::Time).await;
    }
    park(&peer, "not woken", 200, DEADLINE, WaitsFor::Session).await;
    let read = async |woken_up_to, due_limit| {
        let partitions = vec![DuePartition { partition: 0, woken_up_to }];
        peer.due(DueQuery { partitions, due_limit, ..due_query(&[], now()) }).await
    };
    let early = read(99, 5).await;
    assert_eq!(keys(&early.due), ["time-1", "time-2", "time-3"]);
    assert!(early.has_early);
    let some = keys(&read(101, 5).await.due);
    assert_eq!(some[2..], ["time-1", "time-2", "time-3"]);
    assert!(some.contains(&"100".into()) && some.contains(&"101".into()), "{some:?}");
    let all = read(139, 100).await;
    assert_eq!((keys(&all.due).len(), all.has_early), (43, false), "one is not woken");
}
