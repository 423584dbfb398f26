//! Which event gets a call permit, and when. Time is paused in every test.

use jiff::Timestamp;

use super::permits::call::RESERVED_FOR;
use super::*;
use crate::domain::signal::ShutReason;

fn rank(ticket: Ticket) -> Rank {
    Rank { requested_at: Timestamp::UNIX_EPOCH, ticket }
}

fn gate(concurrency: usize) -> Arc<Gate> {
    gate_with_quota(concurrency, None)
}

fn gate_with_quota(concurrency: usize, per_second: Option<f64>) -> Arc<Gate> {
    let policy = BreakerPolicy {
        probe_initial: Duration::from_secs(5),
        probe_max: Duration::from_secs(60),
        outage_after: 10,
    };
    Gate::new(policy, per_second, concurrency, Arc::new(Metrics::new()))
}

#[tokio::test(start_paused = true)]
async fn the_oldest_waiting_event_gets_the_permit() {
    let gate = gate(1);
    let permit = gate.acquire_call(rank(9), DeskCommand::TransferToHuman).await;
    let mut order = tokio::task::JoinSet::new();
    for (second, ticket) in [(10, 7), (20, 3), (10, 5), (1, 8)] {
        let gate = gate.clone();
        order.spawn(async move {
            let requested_at = Timestamp::from_second(second).unwrap();
            let rank = Rank { requested_at, ticket };
            drop(gate.acquire_call(rank, DeskCommand::TransferToHuman).await);
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
    let permit = gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await;
    let young = gate.acquire_call(rank(9), DeskCommand::TransferToHuman);
    tokio::pin!(young);
    let ms = Duration::from_millis;
    assert!(tokio::time::timeout(ms(1), &mut young).await.is_err());
    permit.report(&Signal::Success, Some(rank(2)));
    assert!(tokio::time::timeout(ms(5), &mut young).await.is_err(), "reserved for number 2");
    let next = gate.acquire_call(rank(2), DeskCommand::TransferToHuman).await;
    next.report(&Signal::Success, Some(rank(3)));
    let start = Instant::now();
    let permit = young.await;
    assert_eq!(start.elapsed(), RESERVED_FOR, "a reservation that is not used ends");
    let oldest = gate.acquire_call(rank(4), DeskCommand::TransferToHuman);
    tokio::pin!(oldest);
    assert!(tokio::time::timeout(ms(1), &mut oldest).await.is_err());
    permit.report(&Signal::Success, Some(rank(5)));
    assert!(
        tokio::time::timeout(ms(0), oldest).await.is_ok(),
        "none is reserved for a younger event"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shut_gate_admits_one_probe_at_its_time() {
    let gate = gate(8);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    gate.acquire_call(rank(1), DeskCommand::TransferToHuman)
        .await
        .report(&Signal::Misconfigured("60021".into()), None);
    assert_eq!(gate.shut().unwrap().reason, ShutReason::Misconfigured);
    let start = Instant::now();
    let probe = gate.acquire_call(rank(2), DeskCommand::TransferToHuman).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    let second = gate.acquire_call(rank(3), DeskCommand::TransferToHuman);
    let waited = tokio::time::timeout(Duration::from_secs(100), second).await;
    assert!(waited.is_err(), "the probe is still in flight");
    probe.report(&Signal::Success, None);
    drop(gate.acquire_call(rank(4), DeskCommand::TransferToHuman).await);
    assert_eq!(gate.shut(), None);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_no_permit() {
    let gate = gate(1);
    let permit = gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await;
    let waited = tokio::time::timeout(
        Duration::from_secs(1),
        gate.acquire_call(rank(2), DeskCommand::TransferToHuman),
    )
    .await;
    assert!(waited.is_err());
    drop(permit);
    drop(gate.acquire_call(rank(3), DeskCommand::TransferToHuman).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_share_no_call_starts_until_there_is_one() {
    let gate = gate(1);
    gate.set_share(&[], &[0], 1);
    let transfer = gate.acquire_call(rank(1), DeskCommand::TransferToHuman);
    tokio::pin!(transfer);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut transfer).await.is_err());
    drop(gate.acquire_call(rank(2), DeskCommand::GetSessionState).await);
    gate.set_share(&[0], &[0], 1);
    drop(transfer.await);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_without_a_share_is_admitted_when_its_share_starts() {
    let gate = gate_with_quota(8, Some(100.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    gate.set_share(&[], &[], 4);
    let transfer = gate.acquire_call(rank(1), DeskCommand::TransferToHuman);
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
    drop(gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await);
    let start = Instant::now();
    let transfer = gate.acquire_call(rank(2), DeskCommand::TransferToHuman);
    let state_query = gate.acquire_call(rank(3), DeskCommand::GetSessionState);
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
