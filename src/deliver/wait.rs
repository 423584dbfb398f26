//! What a delivery waits for besides Desk and the ledger: its turn, the way to the gate, the time.
//!
//! Each waiting ends when the event has no more time, and when its partition is being given up.
//! This file never claims, calls or writes anything.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::session_queues::QueuePosition;
use super::{Context, Delivery, Ports};
use crate::domain::course::Course;
use crate::gate::ClaimPermit;
use crate::lease::FencingToken;

/// The partition is being given up.
pub(super) struct GivenUp;

/// Wait until the event may be claimed: near the gate once its turn has come, or at once while the
/// event before it is with Desk. One that has no more time waits for nothing, and one that needs no
/// call not for the gate.
pub(super) async fn approach<P: Ports>(
    context: &Context<P>,
    delivery: &Delivery<'_>,
) -> Result<Option<ClaimPermit>, GivenUp> {
    let way = async {
        match delivery.turn.reaches(QueuePosition::Next).await {
            QueuePosition::Head if delivery.calls => {
                Some(context.gate.acquire_claim(delivery.turn.rank()).await)
            }
            _ => None,
        }
    };
    tokio::select! {
        biased;
        () = delivery.draining.cancelled() => Err(GivenUp),
        near = way => Ok(near),
        () = passes(context, delivery.event.deadline) => Ok(None),
    }
}

/// Wait until the process is steady.
pub(super) async fn steady<P: Ports>(
    context: &Context<P>,
    delivery: &Delivery<'_>,
) -> Result<FencingToken, GivenUp> {
    tokio::select! {
        biased;
        steady = context.lease.token() => Ok(steady),
        () = delivery.draining.cancelled() => Err(GivenUp),
    }
}

/// Wait for the turn, at most until then.
pub(super) async fn my_turn<P: Ports>(
    context: &Context<P>,
    delivery: &Delivery<'_>,
    until: Timestamp,
) -> Result<(), GivenUp> {
    tokio::select! {
        biased;
        _ = delivery.turn.reaches(QueuePosition::Head) => Ok(()),
        () = delivery.draining.cancelled() => Err(GivenUp),
        () = passes(context, until) => Ok(()),
    }
}

async fn passes<P: Ports>(context: &Context<P>, until: Timestamp) {
    loop {
        let left = time_left(until, context.clock.now());
        if left.is_zero() {
            return;
        }
        // The wall clock may be set back meanwhile: look again.
        sleep(left).await;
    }
}

/// Wait for `what`, at most until the course gives up (`Some(None)`); `None`: left open.
pub(super) async fn until<P: Ports, T>(
    context: &Context<P>,
    (delivery, course): (&Delivery<'_>, &Course<'_>),
    what: impl Future<Output = T>,
) -> Option<Option<T>> {
    let left = time_left(course.gives_up_at(), context.clock.now());
    tokio::select! {
        biased;
        () = delivery.draining.cancelled(), if !course.in_doubt() => None,
        done = what => Some(Some(done)),
        () = sleep(left) => Some(None),
    }
}

fn time_left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}
