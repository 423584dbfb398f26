//! Waiting, at most until the event's deadline or until its partition is being revoked.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::session_queues::QueuePosition;
use super::{Delivery, Ended, Ports};
use crate::domain::course::Course;
use crate::domain::ledger_entry::Claim;
use crate::gate::ClaimPermit;
use crate::lease::FencingToken;

/// How waiting ended.
pub(super) enum Waited<T> {
    /// What was waited for has happened.
    Done(T),
    /// The course gives the event up now.
    DeadlineReached,
    /// The partition is being revoked, and nothing is in doubt.
    Draining,
}

impl<P: Ports> Delivery<'_, P> {
    /// Wait for `future`, at most until the course gives up. A course in doubt does not stop for a
    /// revocation: it uses the drain budget to reconcile its call.
    pub(super) async fn wait_for<T>(
        &self,
        course: &Course<'_>,
        future: impl Future<Output = T>,
    ) -> Waited<T> {
        let left = time_left(course.gives_up_at(), self.context.clock.now());
        tokio::select! {
            biased;
            () = self.draining.cancelled(), if !course.in_doubt() => Waited::Draining,
            done = future => Waited::Done(done),
            () = sleep(left) => Waited::DeadlineReached,
        }
    }

    /// Wait until the event may be claimed. The first event of a session needs a claim permit; one
    /// whose predecessor is with Desk is claimed without, so that its call can follow at once. No
    /// permit is needed either past the deadline or where no call will be made.
    pub(super) async fn acquire_claim_permit(&self) -> Result<Option<ClaimPermit>, Ended> {
        let acquire = async {
            match self.turn.reaches(QueuePosition::Next).await {
                QueuePosition::Head if self.needs_call => {
                    Some(self.context.gate.acquire_claim(self.caller(self.attempt)).await)
                }
                _ => None,
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Err(Ended::Released),
            permit = acquire => Ok(permit),
            () = self.sleep_until(self.event.deadline) => Ok(None),
        }
    }

    /// Wait until the lease is valid.
    pub(super) async fn acquire_token(&self) -> Result<FencingToken, Ended> {
        tokio::select! {
            biased;
            token = self.context.lease.token() => Ok(token),
            () = self.draining.cancelled() => Err(Ended::Released),
        }
    }

    /// Wait for the event's turn in its session, at most until `limit`.
    pub(super) async fn wait_for_turn(&self, limit: Timestamp) -> Result<(), Ended> {
        tokio::select! {
            biased;
            _ = self.turn.reaches(QueuePosition::Head) => Ok(()),
            () = self.draining.cancelled() => Err(Ended::Released),
            () = self.sleep_until(limit) => Ok(()),
        }
    }

    /// Wait for the turn of a claimed event.
    pub(super) async fn wait_for_turn_or_release(
        &self,
        claim: &Claim,
        course: &Course<'_>,
    ) -> Result<(), Ended> {
        // A course in doubt waits past the deadline: its state query means something only when no
        // other call of the session is in flight.
        let turn = self.wait_for_turn(course.gives_up_at()).await;
        // In doubt, the entry stays open: its next owner reconciles the call.
        if turn.is_err() && !course.in_doubt() {
            self.release(course, claim, claim.at).await;
        }
        turn
    }

    async fn sleep_until(&self, time: Timestamp) {
        loop {
            let left = time_left(time, self.context.clock.now());
            if left.is_zero() {
                return;
            }
            // The wall clock may be set back meanwhile: look again.
            sleep(left).await;
        }
    }
}

fn time_left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}
