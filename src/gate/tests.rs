//! Who gets a pass, and when; no test here waits for a real clock.

use super::*;
use crate::gate::breaker::BreakerPolicy;
use crate::gate::rate_limiter::RateLimiter;

fn rank(ticket: Ticket) -> Rank {
    (Timestamp::UNIX_EPOCH, ticket)
}

fn gate(concurrency: usize) -> Arc<Gate> {
    limited(concurrency, None)
}

fn limited(concurrency: usize, per_second: Option<f64>) -> Arc<Gate> {
    let policy = BreakerPolicy {
        probe_initial: Duration::from_secs(5),
        probe_max: Duration::from_secs(60),
        outage_after: 10,
    };
    let state = GateState::new(policy, &RateLimiter::new(per_second));
    Gate::new(state, concurrency, Arc::new(Metrics::new()))
}

#[tokio::test(start_paused = true)]
async fn the_oldest_waiting_event_goes_first() {
    let gate = gate(1);
    let pass = gate.acquire_call(rank(9), DeskCommand::TransferToHuman).await;
    let mut order = tokio::task::JoinSet::new();
    for (second, ticket) in [(10, 7), (20, 3), (10, 5), (1, 8)] {
        let gate = gate.clone();
        order.spawn(async move {
            let since = Timestamp::from_second(second).unwrap();
            drop(gate.acquire_call((since, ticket), DeskCommand::TransferToHuman).await);
            ticket
        });
    }
    tokio::task::yield_now().await;
    drop(pass);
    let mut seen = Vec::new();
    while let Some(ticket) = order.join_next().await {
        seen.push(ticket.unwrap());
    }
    assert_eq!(seen, [8, 5, 7, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_for_the_oldest_while_its_session_becomes_free() {
    let gate = gate(1);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let pass = gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await;
    let young = gate.acquire_call(rank(9), DeskCommand::TransferToHuman);
    tokio::pin!(young);
    let ms = Duration::from_millis;
    assert!(tokio::time::timeout(ms(1), &mut young).await.is_err());
    pass.report(&Signal::Success, Some(rank(2)));
    assert!(tokio::time::timeout(ms(5), &mut young).await.is_err(), "kept for number 2");
    let next = gate.acquire_call(rank(2), DeskCommand::TransferToHuman).await;
    next.report(&Signal::Success, Some(rank(3)));
    let start = Instant::now();
    let pass = young.await;
    assert_eq!(start.elapsed(), RESERVED_FOR, "who does not come is not waited for any longer");
    let oldest = gate.acquire_call(rank(4), DeskCommand::TransferToHuman);
    tokio::pin!(oldest);
    assert!(tokio::time::timeout(ms(1), &mut oldest).await.is_err());
    pass.report(&Signal::Success, Some(rank(5)));
    assert!(tokio::time::timeout(ms(0), oldest).await.is_ok(), "nothing is kept for a younger");
}

#[tokio::test(start_paused = true)]
async fn a_shut_gate_lets_one_probe_through_at_its_time() {
    let gate = gate(8);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    gate.acquire_call(rank(1), DeskCommand::TransferToHuman)
        .await
        .report(&Signal::Misconfigured("60021".into()), None);
    assert_eq!(gate.shut().unwrap().0, ShutReason::Misconfigured);
    let start = Instant::now();
    let probe = gate.acquire_call(rank(2), DeskCommand::TransferToHuman).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    let second = gate.acquire_call(rank(3), DeskCommand::TransferToHuman);
    let waited = tokio::time::timeout(Duration::from_secs(100), second).await;
    assert!(waited.is_err(), "the probe is still out");
    probe.report(&Signal::Success, None);
    drop(gate.acquire_call(rank(4), DeskCommand::TransferToHuman).await);
    assert_eq!(gate.shut(), None);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_takes_no_place() {
    let gate = gate(1);
    let pass = gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await;
    let waited = tokio::time::timeout(
        Duration::from_secs(1),
        gate.acquire_call(rank(2), DeskCommand::TransferToHuman),
    )
    .await;
    assert!(waited.is_err());
    drop(pass);
    drop(gate.acquire_call(rank(3), DeskCommand::TransferToHuman).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_share_nothing_goes_until_one_comes() {
    let gate = gate(1);
    gate.share(&[], &[0], 1);
    let transfer = gate.acquire_call(rank(1), DeskCommand::TransferToHuman);
    tokio::pin!(transfer);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut transfer).await.is_err());
    drop(gate.acquire_call(rank(2), DeskCommand::GetSessionState).await);
    gate.share(&[0], &[0], 1);
    drop(transfer.await);
}

#[tokio::test(start_paused = true)]
async fn who_waits_without_a_share_goes_as_soon_as_its_share_begins() {
    let gate = limited(8, Some(100.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    gate.share(&[], &[], 4);
    let transfer = gate.acquire_call(rank(1), DeskCommand::TransferToHuman);
    tokio::pin!(transfer);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut transfer).await.is_err());
    gate.share(&[2], &[2], 4);
    let pass = tokio::time::timeout(Duration::from_millis(200), transfer).await;
    assert!(pass.is_ok(), "nobody else has to come");
}

#[tokio::test(start_paused = true)]
async fn a_question_does_not_wait_for_the_speed_of_transfers() {
    let gate = limited(8, Some(1.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    drop(gate.acquire_call(rank(1), DeskCommand::TransferToHuman).await);
    let start = Instant::now();
    let transfer = gate.acquire_call(rank(2), DeskCommand::TransferToHuman);
    let question = gate.acquire_call(rank(3), DeskCommand::GetSessionState);
    let (transferred, asked) = tokio::join!(
        async {
            drop(transfer.await);
            start.elapsed()
        },
        async {
            drop(question.await);
            start.elapsed()
        }
    );
    assert!(asked.is_zero() && transferred >= Duration::from_secs(1), "{transferred:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_was_not_used_leaves_its_part_of_the_quota() {
    let gate = limited(1, Some(1.0));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(gate.clone().drive());
    let start = Instant::now();
    for ticket in 0..5 {
        gate.acquire_call(rank(ticket), DeskCommand::TransferToHuman).await.unused();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(gate.acquire_call(rank(5), DeskCommand::TransferToHuman).await);
    drop(gate.acquire_call(rank(6), DeskCommand::TransferToHuman).await);
    assert!(start.elapsed() >= Duration::from_secs(1), "who called, or may have, has used it");
}
