//! Which event gets a call permit, and when. Time is paused in every test.

use futures_util::FutureExt as _;
use jiff::Timestamp;

use super::permits::call::RESERVED_FOR;
use super::*;
use crate::domain::signal::{Attempt, ShutReason};

fn rank(ticket: Ticket) -> Rank {
    Rank { requested_at: Timestamp::UNIX_EPOCH, ticket }
}

/// The event with this number, in a session of its own.
fn caller(ticket: Ticket) -> Caller {
    let session = SessionHash::of(&ticket.to_string());
    Caller { rank: rank(ticket), session, attempt: Attempt::First }
}

fn gate(concurrency: usize) -> Arc<Gate> {
    gate_with_quota(concurrency, None)
}

fn gate_with_quota(concurrency: usize, per_second: Option<f64>) -> Arc<Gate> {
    let breaker = BreakerPolicy {
        probe_initial: Duration::from_secs(5),
        probe_max: Duration::from_secs(60),
        outage_after: 10,
    };
    let settings = GateSettings {
        breaker,
        quota_per_second: per_second,
        concurrency,
        retry_budget: 0.2,
        call_timeout: Duration::from_secs(5),
    };
    Gate::new(settings, Arc::new(Metrics::new()))
}

#[tokio::test(start_paused = true)]
async fn the_oldest_waiting_event_gets_the_permit() {
    let gate = gate(1);
    let permit = gate.acquire_call(caller(9), DeskCommand::TransferToHuman).await;
    let mut order = tokio::task::JoinSet::new();
    for (second, ticket) in [(10, 7), (20, 3), (10, 5), (1, 8)] {
        let gate = gate.clone();
        order.spawn(async move {
            let requested_at = Timestamp::from_second(second).unwrap();
            let rank = Rank { requested_at, ticket };
            let caller = Caller { rank, ..caller(ticket) };
            drop(gate.acquire_call(caller, DeskCommand::TransferToHuman).await);
            ticket
        });
    }
    tokio::task::yield_now().await;
    drop(permit);
    let mut seen = Vec::new();
    while let Some(ticket) = order.join_next().await {
        seen.push(ticket.unwrap());
    }
    assert_eq!(seen, [8, 5, 7, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_reserved_for_the_next_event_of_the_session_if_it_is_the_oldest() {
    let gate = gate(1);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let permit = gate.acquire_call(caller(1), DeskCommand::TransferToHuman).await;
    let young = gate.acquire_call(caller(9), DeskCommand::TransferToHuman);
    tokio::pin!(young);
    let ms = Duration::from_millis;
    assert!(tokio::time::timeout(ms(1), &mut young).await.is_err());
    permit.report(&Signal::Success, Some(rank(2)));
    assert!(tokio::time::timeout(ms(5), &mut young).await.is_err(), "reserved for number 2");
    let next = gate.acquire_call(caller(2), DeskCommand::TransferToHuman).await;
    next.report(&Signal::Success, Some(rank(3)));
    let start = Instant::now();
    let permit = young.await;
    assert_eq!(start.elapsed(), RESERVED_FOR, "a reservation that is not used ends");
    let oldest = gate.acquire_call(caller(4), DeskCommand::TransferToHuman);
    tokio::pin!(oldest);
    assert!(tokio::time::timeout(ms(1), &mut oldest).await.is_err());
    permit.report(&Signal::Success, Some(rank(5)));
    assert!(
        tokio::time::timeout(ms(0), oldest).await.is_ok(),
        "none is reserved for a younger event"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_two_sessions_shuts_the_gate_until_a_probe_succeeds() {
    let gate = gate(8);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    for ticket in [1, 2] {
        assert_eq!(gate.shut(), None);
        let call = gate.acquire_call(caller(ticket), DeskCommand::TransferToHuman).await;
        call.report(&Signal::Misconfigured("60021".into()), None);
    }
    assert_eq!(gate.shut().unwrap().reason, ShutReason::Misconfigured);
    let start = Instant::now();
    let probe = gate.acquire_call(caller(2), DeskCommand::TransferToHuman).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    probe.report(&Signal::Success, None);
    drop(gate.acquire_call(caller(4), DeskCommand::TransferToHuman).await);
    assert_eq!(gate.shut(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_session_contradicts_is_isolated() {
    let gate = gate(8);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let refused = Signal::Misconfigured("70107".into());
    let call = gate.acquire_call(caller(1), DeskCommand::TransferToHuman).await;
    assert_eq!(call.report(&refused, None), Reported::Noted);
    let start = Instant::now();
    let again = gate.acquire_call(caller(1), DeskCommand::TransferToHuman);
    tokio::pin!(again);
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut again).await.is_err());
    let good = gate.acquire_call(caller(2), DeskCommand::TransferToHuman).await;
    assert_eq!(good.report(&Signal::Success, None), Reported::Noted);
    assert_eq!(again.await.report(&refused, None), Reported::IsolatedRefusal);
    drop(gate.acquire_call(caller(3), DeskCommand::TransferToHuman).await);
    assert_eq!((gate.shut(), start.elapsed().as_secs()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_event_gets_the_claim_permit_that_is_returned() {
    let gate = gate(1);
    let mut held = Vec::new();
    for ticket in 0..16 {
        held.push(gate.acquire_claim(caller(ticket)).await);
    }
    let (mut young, mut old) =
        (Box::pin(gate.acquire_claim(caller(19))), Box::pin(gate.acquire_claim(caller(18))));
    let mut cancelled = Box::pin(gate.acquire_claim(caller(17)));
    for waiting in [&mut young, &mut old, &mut cancelled] {
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    drop(cancelled);
    held.pop();
    assert!(young.as_mut().now_or_never().is_none());
    let permit = old.now_or_never().expect("it is the oldest");
    // A permit that was granted but never received goes on to the next waiter.
    let mut not_received = Box::pin(gate.acquire_claim(caller(18)));
    assert!(not_received.as_mut().now_or_never().is_none());
    drop(permit);
    drop(not_received);
    assert!(young.now_or_never().is_some());
}

/// Take this many claim and call permits for calls that hang.
async fn hang(gate: &Arc<Gate>, tickets: std::ops::Range<Ticket>) -> tokio::task::JoinSet<()> {
    let mut hanging = tokio::task::JoinSet::new();
    for ticket in tickets {
        let gate = gate.clone();
        hanging.spawn(async move {
            let claim = gate.acquire_claim(caller(ticket)).await;
            let call = gate.acquire_call(caller(ticket), DeskCommand::TransferToHuman).await;
            drop(claim);
            tokio::time::sleep(Duration::from_secs(5)).await;
            call.report(&Signal::NoResponse("time-out".into()), None);
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    hanging
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_beside_300_hanging_ones_call_within_five_seconds() {
    let gate = gate(64);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let _hanging = hang(&gate, 0..300).await;
    for round in 0..6 {
        let start = Instant::now();
        let mut others = tokio::task::JoinSet::new();
        for n in 0..10 {
            let (gate, caller) = (gate.clone(), caller(1_000 + 10 * round + n));
            others.spawn(async move {
                let claim = gate.acquire_claim(caller).await;
                let call = gate.acquire_call(caller, DeskCommand::TransferToHuman).await;
                drop(claim);
                tokio::time::sleep(Duration::from_millis(50)).await;
                call.report(&Signal::Success, None);
            });
        }
        while others.join_next().await.is_some() {}
        let took = start.elapsed();
        assert!(took <= Duration::from_secs(5), "round {round}: {took:?}");
        tokio::time::sleep(Duration::from_millis(700 * round)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_desk_that_answers_is_used_with_full_concurrency() {
    let gate = gate(64);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let start = Instant::now();
    let mut events = tokio::task::JoinSet::new();
    for ticket in 0..640 {
        let gate = gate.clone();
        events.spawn(async move {
            let claim = gate.acquire_claim(caller(ticket)).await;
            let call = gate.acquire_call(caller(ticket), DeskCommand::TransferToHuman).await;
            drop(claim);
            tokio::time::sleep(Duration::from_millis(100)).await;
            call.report(&Signal::Success, None);
        });
    }
    while events.join_next().await.is_some() {}
    // Ten rounds at least. The lane opens fully after the first.
    assert!(start.elapsed() <= Duration::from_millis(1_100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_no_permit() {
    let gate = gate(1);
    let permit = gate.acquire_call(caller(1), DeskCommand::TransferToHuman).await;
    let waited = tokio::time::timeout(
        Duration::from_secs(1),
        gate.acquire_call(caller(2), DeskCommand::TransferToHuman),
    )
    .await;
    assert!(waited.is_err());
    drop(permit);
    drop(gate.acquire_call(caller(3), DeskCommand::TransferToHuman).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_share_no_call_starts_until_there_is_one() {
    let gate = gate(1);
    gate.set_share(&[], &[0], 1);
    let transfer = gate.acquire_call(caller(1), DeskCommand::TransferToHuman);
    tokio::pin!(transfer);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut transfer).await.is_err());
    drop(gate.acquire_call(caller(2), DeskCommand::GetSessionState).await);
    gate.set_share(&[0], &[0], 1);
    drop(transfer.await);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_without_a_share_is_admitted_when_its_share_starts() {
    let gate = gate_with_quota(8, Some(100.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    gate.set_share(&[], &[], 4);
    let transfer = gate.acquire_call(caller(1), DeskCommand::TransferToHuman);
    tokio::pin!(transfer);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut transfer).await.is_err());
    gate.set_share(&[2], &[2], 4);
    let permit = tokio::time::timeout(Duration::from_millis(200), transfer).await;
    assert!(permit.is_ok(), "no other event has to arrive");
}

#[tokio::test(start_paused = true)]
async fn a_state_query_does_not_wait_for_the_rate_of_transfers() {
    let gate = gate_with_quota(8, Some(1.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    drop(gate.acquire_call(caller(1), DeskCommand::TransferToHuman).await);
    let start = Instant::now();
    let transfer = gate.acquire_call(caller(2), DeskCommand::TransferToHuman);
    let state_query = gate.acquire_call(caller(3), DeskCommand::GetSessionState);
    let (transferred_after, queried_after) = tokio::join!(
        async {
            drop(transfer.await);
            start.elapsed()
        },
        async {
            drop(state_query.await);
            start.elapsed()
        }
    );
    assert!(
        queried_after.is_zero() && transferred_after >= Duration::from_secs(1),
        "{transferred_after:?}"
    );
}
