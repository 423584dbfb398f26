//! The steps of a course that wait or call Desk.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::claim::Hold;
use super::wait::Waited;
use super::{Delivery, DeskApi as _, Ended, Ports};
use crate::activity::DeliveryPhase;
use crate::domain::course::{CompletedCall, Course};
use crate::domain::ledger_entry::Claim;
use crate::domain::request::DeskCommand;
use crate::domain::signal::Attempt;
use crate::gate::{CallPermit, ClaimPermit, Reported};
use crate::lease::FencingToken;

/// A call to be made.
pub(super) struct DeskCall {
    pub(super) command: DeskCommand,
    pub(super) body: Vec<u8>,
}

impl<P: Ports> Delivery<'_, P> {
    /// Wait between two attempts of one burst. The event stays claimed.
    pub(super) async fn back_off(
        &self,
        course: &Course<'_>,
        claim: &Claim,
        hold: Hold,
        wait: Duration,
    ) -> Result<Hold, Ended> {
        let now = self.context.clock.now();
        self.progress
            .enter(DeliveryPhase::Waiting(now.saturating_add(wait).unwrap_or(Timestamp::MAX)));
        let hold = hold.without_permit();
        match self.wait_for(course, sleep(wait)).await {
            Waited::Done(()) | Waited::DeadlineReached => Ok(hold),
            Waited::Draining => {
                self.release(course, claim, now).await;
                Err(Ended::Released)
            }
        }
    }

    /// Get one step closer to the call: acquire a claim permit, claim the event, or make the call.
    /// The course is asked again after each of them, because each takes time.
    pub(super) async fn call(
        &self,
        course: &mut Course<'_>,
        claim: &mut Claim,
        hold: Hold,
        call: DeskCall,
    ) -> Result<Hold, Ended> {
        self.progress.enter(DeliveryPhase::AwaitsPermit);
        match hold {
            Hold::Parked => self.acquire_claim_permit_again(course).await,
            Hold::Claimed { permit, token } if self.context.lease.accepts(token) => {
                let claimed = Claimed { claim, permit, token };
                self.call_when_permitted(course, claimed, call).await
            }
            // Another instance may own the event since this process was paused.
            Hold::Claimed { permit, .. } | Hold::Stale { permit } => {
                self.claim_again(course, claim, permit).await
            }
        }
    }

    async fn call_when_permitted(
        &self,
        course: &mut Course<'_>,
        claimed: Claimed<'_>,
        call: DeskCall,
    ) -> Result<Hold, Ended> {
        let Claimed { claim, permit, token } = claimed;
        let now = self.context.clock.now();
        let acquire = self.context.gate.acquire_call(self.caller(course.attempt()), call.command);
        match self.wait_for(course, acquire).await {
            Waited::Done(call_permit) => {
                // The wall clock may have been set, and the process paused, while it waited.
                if !course.may_call(self.context.clock.now()) || !self.context.lease.accepts(token)
                {
                    drop(call_permit);
                    return Ok(Hold::Claimed { permit, token });
                }
                drop(permit);
                self.make_call(course, call, call_permit, token).await;
                Ok(Hold::Claimed { permit: None, token })
            }
            Waited::DeadlineReached => Ok(Hold::Claimed { permit, token }),
            Waited::Draining => {
                self.release(course, claim, now).await;
                Err(Ended::Released)
            }
        }
    }

    async fn make_call(
        &self,
        course: &mut Course<'_>,
        call: DeskCall,
        permit: CallPermit,
        token: FencingToken,
    ) {
        let DeskCall { command, body } = call;
        self.progress.enter(DeliveryPhase::Calling(command));
        let started_at = self.context.clock.now();
        if permit.probes_refusal() {
            // Each probe may be of another event, which has not asked for a new signature yet: with
            // the old one none could notice that the key was replaced.
            course.sign_again(started_at);
        }
        let started = Instant::now();
        let resent = (course.attempt() == Attempt::Again).then(|| course.transfers());
        let span = self.span.call(command, resent);
        let request = self.context.desk.call(command, body, course.signature_after());
        let request = span.within(request);
        // `call_started` lets the next event of the session be claimed. `biased` polls the request
        // first, so that this work does not delay it.
        let (reply, ()) = tokio::join!(biased; request, async { self.turn.call_started() });
        let duration = started.elapsed();
        let finished_at = self.context.clock.now();
        let call = CompletedCall { command, started_at, finished_at, reply };
        let assessment = course.on_reply(&call, self.context.rng.jitter());
        span.end(&call.reply, assessment.verdict);
        self.context.metrics.desk_call(command, assessment.verdict, duration);
        if assessment.in_doubt {
            self.context.metrics.calls_in_doubt.inc();
        }
        self.context.activity.called(command, assessment.verdict, duration);
        self.progress.observe(course);
        debug!(
            command = command.as_str(),
            verdict = assessment.verdict,
            code = call.reply.answer().map(|answer| answer.desk.code),
            duration_ms = duration.as_millis() as u64,
            "called Desk"
        );
        let next = if course.is_settled() {
            self.turn.rank_behind()
        } else {
            self.turn.call_returned();
            None
        };
        let lease = &self.context.lease;
        let was_paused = lease.was_paused_lately() || !lease.accepts(token);
        if assessment.signal.is_silence() && was_paused {
            // The answer may have come while this process was paused: its time-out says nothing about
            // Desk. If Desk is silent, the next call shows it.
            return;
        }
        if permit.report(&assessment.signal, next) == Reported::IsolatedRefusal {
            course.on_isolated_refusal(finished_at, self.context.rng.jitter());
            info!(verdict = assessment.verdict, "refused for this session only");
        }
    }
}

/// An event whose claim the lease accepts.
struct Claimed<'a> {
    claim: &'a Claim,
    permit: Option<ClaimPermit>,
    token: FencingToken,
}
