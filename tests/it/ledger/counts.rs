//! Every ledger counts its parked events by what they wait for.

use handoff::adapters::ledger::{LedgerReader, LedgerUrl, ParkedWait};
use handoff::domain::ledger_entry::{Claim, Park, WaitsFor};
use handoff::domain::problem::Problem;
use handoff::ledger::ParkedCount;

use super::parked::{elsewhere, park_claim, room};
use super::peer::{TestLedger, at, count_query, now, park_with_record};

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

/// The rows of each combination of a route, what was last, and what they wait for.
pub(super) async fn parked_events_are_added_up_by_route_and_problem(test_ledger: &TestLedger) {
    // Only people read this, and the ledger in memory is for tests.
    let Some(url) = test_ledger.url() else { return };
    let peer = test_ledger.peer("a").await;
    let in_doubt = r#"{"attempts":1,"route":"vip","in_doubt":"ambiguous"}"#;
    let nobody =
        r#"{"route":"vip","in_doubt":null,"last_verdict":{"class":"no_agent","in_doubt":true}}"#;
    let refused =
        r#"{"route":"a \"b\"","last_verdict":{"class":"transient","text":"\"in_doubt\":\""}}"#;
    let damaged = "no JSON";
    let cases = [
        (WaitsFor::Time, in_doubt, Some("vip"), Problem::InDoubt),
        (WaitsFor::Time, nobody, Some("vip"), Problem::NoAgentOnline),
        (WaitsFor::Time, refused, Some("a \"b\""), Problem::WaitingRetry),
        (WaitsFor::Session, refused, Some("a \"b\""), Problem::BehindInSession),
        (room("a"), in_doubt, Some("vip"), Problem::NoAgentOnline),
        (WaitsFor::Time, damaged, None, Problem::WaitingRetry),
    ];
    let mut expected = Vec::new();
    for (number, (waits_for, snapshot, route, problem)) in (0..).zip(&cases) {
        for times in 0..=number {
            let offset = 10 * number + times;
            let claim = elsewhere(&offset.to_string(), 2, offset);
            let claim = Claim { first_seen: at(50 - offset % 10), ..claim };
            let snapshot = (*snapshot).to_owned();
            let waits_for = waits_for.clone();
            let park = Park { waits_for, snapshot, ..park_with_record(900, &claim) };
            peer.claim(claim.clone()).await;
            assert!(peer.park(&claim.key, park).await);
        }
        expected.push(ParkedWait {
            partition: 2,
            route: route.map(str::to_owned),
            problem: *problem,
            is_timed: *waits_for == WaitsFor::Time,
            events: number as u64 + 1,
            oldest: at(50 - number),
        });
    }
    let reader = LedgerReader::open(&LedgerUrl::parse(&url).unwrap()).await.unwrap();
    let mut found = reader.parked_waits("escalations", &[2, 7]).await.unwrap();
    let order = |wait: &ParkedWait| format!("{wait:?}");
    found.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(found, expected);
}

/// The rows of partitions 0 and 1, more than one step adds up.
pub(super) async fn all_rows_are_added_up(url: &str, expected: [u64; 2]) {
    let reader = LedgerReader::open(&LedgerUrl::parse(url).unwrap()).await.unwrap();
    let found = reader.parked_waits("escalations", &[0, 1]).await.unwrap();
    let of = |partition| {
        let of_it = found.iter().filter(|wait| wait.partition == partition);
        of_it.map(|wait| wait.events).sum::<u64>()
    };
    assert_eq!([of(0), of(1)], expected);
}
