//! Every ledger counts its parked events by what they wait for.

use handoff::domain::ledger_entry::{Claim, WaitsFor};
use handoff::ledger::ParkedCount;

use super::parked::{elsewhere, park_claim, room};
use super::peer::{TestLedger, at, count_query, now};

pub(super) async fn parked_events_are_counted_by_what_they_wait_for(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let groups = [WaitsFor::Time, room("a"), room("b"), WaitsFor::Session];
    for number in 0..60 {
        let claim = elsewhere(&format!("{number}"), number % 3, i64::from(number));
        let claim = Claim { first_seen: at(i64::from(number / 8)), ..claim };
        park_claim(&peer, claim, 70, groups[number as usize / 3 % 4].clone()).await;
    }
    let counts = peer.count_parked(count_query(&[2, 0], at(7))).await;
    let of = |partition, waits_for| {
        let is_it =
            |count: &&ParkedCount| (count.partition, &count.waits_for) == (partition, &waits_for);
        counts.iter().filter(is_it).map(|count| count.events).collect::<Vec<_>>()
    };
    for partition in [0, 2] {
        for (number, waits_for) in (0..).zip(groups.clone()) {
            let seen = (0..60).filter(|n| n % 3 == partition && n / 3 % 4 == number && n / 8 < 7);
            assert_eq!(of(partition, waits_for.clone()), [seen.count() as u64], "{waits_for}");
        }
    }
    assert_eq!(counts.len(), 8, "{counts:?}");
    assert_eq!(peer.count_parked(count_query(&[], now())).await, []);
    assert_eq!(peer.count_parked(count_query(&[7], now())).await, []);
}
