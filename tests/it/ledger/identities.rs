//! Which events were claimed with which records.

use handoff::domain::ledger_entry::{Claim, StoredDeadLetter, StoredIdentities, StoredIdentity};
use handoff::ledger::RecordRange;

use super::peer::{TestLedger, answer, at, claim, park_with_record};

pub(super) async fn events_are_found_by_their_records_whatever_became_of_them(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    for (key, offset) in [("open", 1), ("parked", 2), ("published", 4), ("settled", 5), ("out", 6)]
    {
        peer.claim(claim(key, offset)).await;
    }
    let dead_letter = Claim { session_id: None, deadline: None, ..claim("dead-letter", 3) };
    peer.claim(dead_letter.clone()).await;
    let unanswered = Claim { key: "unanswered".into(), ..dead_letter };
    peer.claim(unanswered).await;
    let mut elsewhere = claim("elsewhere", 3);
    elsewhere.source.partition = 1;
    peer.claim(elsewhere).await;
    peer.park("parked", park_with_record(90, &claim("parked", 2))).await;
    for key in ["published", "settled", "dead-letter"] {
        peer.settle(key, answer("a")).await;
    }
    peer.mark_published("published", None).await;

    let range = RecordRange { topic: "escalations".into(), partition: 0, offsets: 1..6 };
    let found = peer.identities(range.clone()).await;
    assert_eq!(found.dead_letters, [StoredDeadLetter { offset: 3, recorded_at: Some(at(3)) }]);
    let keys: Vec<_> = found.events.iter().map(|found| (&*found.key, found.is_answered)).collect();
    assert_eq!(keys, [("open", false), ("parked", false), ("published", true), ("settled", true)]);
    let first = StoredIdentity {
        offset: 1,
        recorded_at: Some(at(1)),
        key: "open".into(),
        session_id: "s".into(),
        first_seen: at(0),
        deadline: at(600),
        is_answered: false,
    };
    assert_eq!(found.events[0], first);
    let other = RecordRange { topic: "other".into(), ..range };
    assert_eq!(peer.identities(other).await, StoredIdentities::default());
}
