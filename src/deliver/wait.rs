//! Waiting, at most until the event's deadline or until its partition is being revoked.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::session_queues::QueuePosition;
use super::{Delivery, Ended, Ports};
use crate::activity::DeliveryPhase;
use crate::domain::course::Course;
use crate::domain::ledger_entry::{Claim, RecordOrigin};
use crate::gate::ClaimPermit;
use crate::lease::FencingToken;
use crate::ledger::Ledger as _;

/// How an event starts.
pub(super) enum Start {
    /// It may be claimed and called.
    Call(Option<ClaimPermit>),
    /// It must be parked behind the parked events of its session.
    Park,
}

impl Start {
    pub(super) fn into_permit(self) -> Option<ClaimPermit> {
        match self {
            Self::Call(permit) => permit,
            Self::Park => None,
        }
    }
}

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
    /// permit is needed either past the deadline or where no call will be made. A stored answer waits
    /// for its turn only when it is known whether it has to be published.
    pub(super) async fn wait_for_start(&self) -> Result<Start, Ended> {
        let start = async {
            if self.turn.is_stored() {
                return Start::Call(None);
            }
            let position = self.turn.reaches(QueuePosition::Next).await;
            if position == QueuePosition::MustPark || self.is_behind_parked().await {
                return Start::Park;
            }
            self.progress.enter(DeliveryPhase::AwaitsPermit);
            let needs_permit = position == QueuePosition::Head && self.needs_call;
            let acquire = self.context.gate.acquire_claim(self.caller(self.attempt));
            Start::Call(if needs_permit { Some(acquire.await) } else { None })
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Err(Ended::Released),
            start = start => Ok(start),
            () = self.sleep_until(self.event.deadline) => Ok(Start::Call(None)),
        }
    }

    /// Whether an event that is ahead of this one in its session is parked. One that was parked itself,
    /// and not behind others, has had its turn.
    async fn is_behind_parked(&self) -> bool {
        let had_turn = self.origin == RecordOrigin::Ledger && !self.waited_for_session;
        if had_turn || !self.turn.may_be_behind_parked() {
            return false;
        }
        let (session, position) = (self.event.session_id.clone(), self.record.position.clone());
        let in_memory = self.turn.offsets_ahead();
        let is_behind = self.context.ledger.is_session_parked(session, position, in_memory).await;
        if is_behind {
            self.turn.must_park();
        }
        is_behind
    }

    /// Wait until the lease is valid.
    pub(super) async fn acquire_token(&self) -> Result<FencingToken, Ended> {
        tokio::select! {
            biased;
            token = self.context.lease.token() => Ok(token),
            () = self.draining.cancelled() => Err(Ended::Released),
        }
    }

    /// Wait for the event's turn in its session, at most until `limit`. Returns whether it must be
    /// parked instead.
    pub(super) async fn wait_for_turn(&self, limit: Timestamp) -> Result<bool, Ended> {
        tokio::select! {
            biased;
            position = self.turn.reaches(QueuePosition::Head) => {
                Ok(position == QueuePosition::MustPark)
            }
            () = self.draining.cancelled() => Err(Ended::Released),
            () = self.sleep_until(limit) => Ok(false),
        }
    }

    /// Wait until a stored answer may be published: behind the stored answers ahead of it in its session.
    /// They wait for nothing but the same reading of the topic, so its deadline does not matter. It
    /// waits for no other event: one ahead that has no answer was passed when this answer was stored.
    pub(super) async fn wait_for_stored_ahead(&self) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = self.turn.follows_stored() => Ok(()),
            () = self.draining.cancelled() => Err(Ended::Released),
        }
    }

    /// Wait for the turn of a claimed event. Returns whether it must be parked instead.
    pub(super) async fn wait_for_turn_or_release(
        &self,
        claim: &Claim,
        course: &Course<'_>,
    ) -> Result<bool, Ended> {
        // A course in doubt waits past the deadline: its state query means something only when no
        // other call of the session is in flight.
        let turn = self.wait_for_turn(course.gives_up_at()).await;
        // In doubt, the entry stays open: its next owner reconciles the call.
        if turn.is_err() && !course.in_doubt() {
            self.release_before_turn(course, claim).await;
        }
        turn
    }

    async fn sleep_until(&self, time: Timestamp) {
        loop {
            let left = time_left(time, self.context.clock.now());
            if left.is_zero() {
                return;
            }
            // The wall clock may be set back meanwhile: check again.
            sleep(left).await;
        }
    }
}

fn time_left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}
