//! What an operator does beside the service: an event is due at once, or past its deadline, and the
//! owner's next change is decided on that. And the list of all entries.

use handoff::adapters::ledger::{
    LedgerOperator, LedgerReader, LedgerUrl, ListQuery, ListedState, Listing,
};
use handoff::domain::ledger_entry::{
    Actor, Claim, ClaimResult, EntryState, HistoryKind, OperatorAct, OperatorRefusal,
    OperatorResult, Park, WaitsFor,
};

use super::parked::{DEADLINE, due_now, elsewhere, park, park_claim, room};
use super::peer::{
    TestLedger, answer, at, claim, due_query, key_of, now, park_with_record, wake_of,
};

fn give_up() -> OperatorAct {
    OperatorAct::GiveUp { reason: "called the hotline".into() }
}

async fn operate(test_ledger: &TestLedger, key: &str, act: &OperatorAct) -> Option<OperatorResult> {
    let Some(url) = test_ledger.url() else {
        let TestLedger::Memory(memory) = test_ledger else { panic!("it has no URL") };
        return memory.as_owner("ann").operate(key, act);
    };
    // As the command does: with connections of its own, while the service has the ledger open.
    let mut operator = LedgerOperator::open(&LedgerUrl::parse(&url).unwrap()).await.unwrap();
    let actor = Actor { owner: &"ann".into(), now: now() };
    operator.perform(&key.into(), act, actor).await.unwrap().map(|operation| operation.result)
}

fn is_stored(result: Option<OperatorResult>) -> bool {
    matches!(result, Some(OperatorResult::Stored(_)))
}

pub(super) async fn a_retried_event_is_due_and_one_that_is_given_up_is_overdue(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let retried = park(&peer, "retried", 1, 2_000, room("r")).await;
    for (offset, waits_for) in (2..).zip([WaitsFor::Time, room("r"), WaitsFor::Session]) {
        park(&peer, &format!("given up {offset}"), offset, 2_000, waits_for).await;
    }
    let before = peer.entry("retried").await.unwrap();
    assert_eq!(operate(test_ledger, "absent", &OperatorAct::Retry).await, None);
    assert!(is_stored(operate(test_ledger, "retried", &OperatorAct::Retry).await));
    let again = operate(test_ledger, "retried", &OperatorAct::Retry).await;
    assert_eq!(again, Some(OperatorResult::Already));
    for offset in 2..5 {
        let key = format!("given up {offset}");
        assert!(is_stored(operate(test_ledger, &key, &give_up()).await));
        assert_eq!(operate(test_ledger, &key, &give_up()).await, Some(OperatorResult::Already));
    }
    assert_eq!(due_now(&peer).await, ["retried"]);
    let mut overdue: Vec<_> =
        peer.due(due_query(&[0], now())).await.overdue.entries.iter().map(key_of).collect();
    overdue.sort();
    assert_eq!(overdue, ["given up 2", "given up 3", "given up 4"]);

    let outdated = Claim { expected_version: Some(before.version), ..retried.clone() };
    assert_eq!(peer.claim(outdated).await, ClaimResult::Changed, "it is read again");
    let ClaimResult::Resumed(prior) = peer.claim(retried).await else { panic!("it is ours") };
    assert_eq!((prior.parked_until, prior.is_early, prior.given_up), (Some(now()), true, None));
    let claim = elsewhere("given up 3", 0, 3);
    let ClaimResult::Resumed(prior) = peer.claim(claim).await else { panic!("it is ours") };
    assert!(prior.is_early);
    let given_up = prior.given_up.unwrap();
    assert_eq!(
        (given_up.at, &*given_up.by, &*given_up.reason),
        (now(), "ann", "called the hotline")
    );
    let history = peer.entry("given up 3").await.unwrap().history;
    let kinds: Vec<_> = history.iter().map(|item| item.kind).collect();
    let expected =
        [HistoryKind::Claimed, HistoryKind::Parked, HistoryKind::GivenUp, HistoryKind::Claimed];
    assert_eq!(kinds, expected);
    assert_eq!((&*history[2].owner, &*history[2].note), ("ann", "called the hotline"));
}

pub(super) async fn an_event_in_work_stays_its_owners_after_it_was_given_up(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    for (offset, key) in (1..).zip(["answered", "parked"]) {
        let claim = Claim { deadline: Some(at(5_000)), ..claim(key, offset) };
        assert_eq!(peer.claim(claim).await, ClaimResult::Fresh);
        let refused = Some(OperatorResult::Refused(OperatorRefusal::InWork));
        assert_eq!(operate(test_ledger, key, &OperatorAct::Retry).await, refused);
        assert!(is_stored(operate(test_ledger, key, &give_up()).await));
    }
    assert!(peer.settle("answered", answer("queued")).await, "the owner's answer is true");
    assert_eq!(peer.entry("answered").await.unwrap().answer, Some(answer("queued")));
    let refused = Some(OperatorResult::Refused(OperatorRefusal::Answered));
    assert_eq!(operate(test_ledger, "answered", &give_up()).await, refused);

    assert!(peer.park("parked", park_with_record(2_000, &claim("parked", 2))).await);
    let entry = peer.entry("parked").await.unwrap();
    assert_eq!((entry.deadline, entry.given_up().map(|it| it.at)), (Some(now()), Some(now())));
    let EntryState::Parked { until, .. } = entry.state else { panic!("{:?}", entry.state) };
    assert_eq!(until, now(), "its deadline at the latest");
    let overdue = peer.due(due_query(&[0], now())).await.overdue.entries;
    assert_eq!(overdue.iter().map(key_of).collect::<Vec<_>>(), ["parked"]);
}

/// The owner may store an answer without another claim: while it publishes an interim outcome the
/// event is parked.
pub(super) async fn an_answer_ends_the_parking_of_an_event_that_is_given_up(
    test_ledger: &TestLedger,
) {
    let peer = test_ledger.peer("a").await;
    let parked = park(&peer, "k", 1, 2_000, WaitsFor::Time).await;
    assert!(is_stored(operate(test_ledger, "k", &OperatorAct::Retry).await));
    assert!(is_stored(operate(test_ledger, "k", &give_up()).await));
    assert!(peer.settle_and_wake("k", answer("failed"), Some(wake_of(&parked))).await);
    let due = peer.due(due_query(&[0], at(6_000))).await;
    assert_eq!((due.overdue.entries, due.due.entries), (vec![], vec![]));
    let entry = peer.entry("k").await.unwrap();
    assert!(matches!(entry.state, EntryState::Settled { .. }), "{:?}", entry.state);
}

/// Both may happen at one moment, in either order.
pub(super) async fn an_event_that_is_given_up_shows_whether_it_was_woken(test_ledger: &TestLedger) {
    let peer = test_ledger.peer("a").await;
    let parked = async |key: &str, offset: i64| {
        let claim = Claim { session_id: Some(key.into()), ..elsewhere(key, 0, offset) };
        park_claim(&peer, claim, DEADLINE, WaitsFor::Session).await
    };
    let is_woken = async |key: &str| {
        let entry = peer.entry(key).await.unwrap();
        let EntryState::Parked { until, .. } = entry.state else { panic!("{:?}", entry.state) };
        until < entry.deadline.unwrap()
    };
    parked("never woken", 1).await;
    let [before, after] = [parked("before", 2).await, parked("after", 3).await];
    peer.wake_session(wake_of(&before)).await;
    for key in ["never woken", "before", "after"] {
        assert!(is_stored(operate(test_ledger, key, &give_up()).await));
    }
    peer.wake_session(wake_of(&after)).await;
    assert!(!is_woken("never woken").await);
    assert!(is_woken("before").await);
    assert!(is_woken("after").await);
}

/// The keys in the list, sorted.
async fn listed(test_ledger: &TestLedger, query: ListQuery) -> Vec<String> {
    let url = LedgerUrl::parse(&test_ledger.url().unwrap()).unwrap();
    let reader = LedgerReader::open(&url).await.unwrap();
    let mut listing = Listing::new(&reader, query);
    let mut keys = Vec::new();
    loop {
        let page = listing.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        for listed in page {
            assert_eq!(listed.entry.unwrap().record, None, "records are not read");
            keys.push(listed.key.to_string());
        }
    }
    keys.sort();
    keys
}

pub(super) async fn every_entry_is_listed_once_whatever_its_state(test_ledger: &TestLedger) {
    if test_ledger.url().is_none() {
        // The one in memory has no list.
        return;
    }
    let peer = test_ledger.peer("a").await;
    let other = |claim: Claim| Claim { session_id: Some("other".into()), ..claim };
    // More than two pages of each kind.
    for offset in 0..450 {
        let claimed = claim(&format!("open {offset:03}"), offset);
        peer.claim(if offset % 9 == 0 { other(claimed) } else { claimed }).await;
    }
    for offset in 1_000..1_450 {
        let key = format!("published {offset}");
        peer.claim(claim(&key, offset)).await;
        peer.settle(&key, answer("it")).await;
        peer.mark_published(&key, None).await;
    }
    park(&peer, "parked", 2_000, 2_000, WaitsFor::Time).await;
    peer.claim(claim("released", 2_001)).await;
    let park = Park {
        waits_for: WaitsFor::Redelivery,
        record: None,
        ..park_with_record(9, &claim("released", 2_001))
    };
    assert!(peer.park("released", park).await);
    peer.claim(claim("settled", 2_002)).await;
    peer.settle("settled", answer("it")).await;

    let open: Vec<_> = (0..450).map(|offset| format!("open {offset:03}")).collect();
    let rest = ["parked", "released", "settled"].map(str::to_owned);
    let all: Vec<_> = open.iter().cloned().chain(rest.clone()).collect();
    assert_eq!(listed(test_ledger, ListQuery::default()).await, all);
    let of = |state| ListQuery { state: Some(state), ..ListQuery::default() };
    assert_eq!(listed(test_ledger, of(ListedState::Open)).await, open);
    assert_eq!(listed(test_ledger, of(ListedState::Parked)).await, rest[..2]);
    assert_eq!(listed(test_ledger, of(ListedState::Settled)).await, rest[2..]);
    assert_eq!(listed(test_ledger, of(ListedState::Published)).await.len(), 450);
    let of_session = ListQuery { session_id: Some("other".into()), ..ListQuery::default() };
    let expected: Vec<_> = open.into_iter().step_by(9).collect();
    assert_eq!(listed(test_ledger, of_session).await, expected);
}
