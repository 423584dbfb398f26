//! Claiming an event: under which key, how long a claim may be relied on, and claiming again.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::wait::Waited;
use super::{Delivery, Ended, Ports};
use crate::domain::course::Course;
use crate::domain::event::Event;
use crate::domain::ledger_entry::{Claim, ClaimResult, RecordOrigin, key};
use crate::domain::record::Record;
use crate::gate::ClaimPermit;
use crate::lease::FencingToken;
use crate::ledger::Ledger as _;

/// An event that waited for its turn for longer than this is claimed again before its call.
const MAX_CLAIM_AGE: Duration = Duration::from_secs(1);

/// How this delivery holds its event between two steps of the course.
///
/// A claim permit is kept until the call begins. It bounds how many events wait for their call with a
/// claim in the ledger.
pub(super) enum Hold {
    /// Claimed: a call may begin while the lease accepts the token.
    Claimed { permit: Option<ClaimPermit>, token: FencingToken },
    /// Another instance may have claimed the event meanwhile: claim it again before the next call.
    Stale { permit: Option<ClaimPermit> },
    /// Parked: acquire a claim permit and claim the event again before the next call.
    Parked,
}

impl Hold {
    /// The hold of an event whose turn has come.
    pub(super) fn new(
        permit: Option<ClaimPermit>,
        token: FencingToken,
        claimed_at: Instant,
    ) -> Self {
        if claimed_at.elapsed() > MAX_CLAIM_AGE {
            Self::Stale { permit }
        } else {
            Self::Claimed { permit, token }
        }
    }

    /// The same without its claim permit, which other events can use now.
    pub(super) fn without_permit(self) -> Self {
        match self {
            Self::Claimed { token, .. } => Self::Claimed { permit: None, token },
            Self::Stale { .. } => Self::Stale { permit: None },
            Self::Parked => Self::Parked,
        }
    }
}

impl<P: Ports> Delivery<'_, P> {
    /// The claim with which the delivery begins.
    pub(super) fn first_claim(&self, now: Timestamp) -> Claim {
        let (origin, expected_version) = (self.origin, self.expected_version);
        Claim { origin, expected_version, ..for_event(self.event, self.record, now) }
    }

    /// Acquire a claim permit for a parked event.
    pub(super) async fn acquire_claim_permit_again(
        &self,
        course: &Course<'_>,
    ) -> Result<Hold, Ended> {
        let acquire = self.context.gate.acquire_claim(self.caller(course.attempt()));
        match self.wait_for(course, acquire).await {
            Waited::Done(permit) => Ok(Hold::Stale { permit: Some(permit) }),
            Waited::DeadlineReached => Ok(Hold::Parked),
            // It is parked already: there is nothing to release.
            Waited::Draining => Err(Ended::Released),
        }
    }

    /// Claim the event again, once the lease is valid.
    pub(super) async fn claim_again(
        &self,
        course: &mut Course<'_>,
        claim: &mut Claim,
        permit: Option<ClaimPermit>,
    ) -> Result<Hold, Ended> {
        let now = self.context.clock.now();
        // The token is taken before the claim: a pause in between makes the claim worthless.
        let token = match self.wait_for(course, self.context.lease.token()).await {
            Waited::Done(token) => token,
            Waited::DeadlineReached => return Ok(Hold::Stale { permit }),
            Waited::Draining => {
                self.release(course, claim, now).await;
                return Err(Ended::Released);
            }
        };
        let our_last_claim = claim.at;
        claim.expected_version = None;
        claim.at = self.context.clock.now();
        match self.context.ledger.claim(claim.clone()).await {
            // Parking does not change `claimed_at`, so another value means another instance, and
            // that one may have a call in flight.
            ClaimResult::Resumed(prior) if prior.claimed_at == our_last_claim => {
                if let Some(given_up) = prior.given_up {
                    course.give_up(given_up);
                }
                Ok(Hold::Claimed { permit, token })
            }
            _ => Err(Ended::Fenced),
        }
    }
}

/// The claim of an event. Its key is the event's id, or position and timestamp of the record
/// where it has none.
pub(super) fn for_event(event: &Event, record: &Record, now: Timestamp) -> Claim {
    let claim = claim(key::of_event(&event.id, record), record, now);
    let session_id = Some(event.session_id.clone());
    Claim { session_id, deadline: Some(event.deadline), ..claim }
}

/// The claim of a dead letter. Its key is the record's position and timestamp: a malformed record
/// has no id.
pub(super) fn for_dead_letter(record: &Record, now: Timestamp) -> Claim {
    claim(key::of_dead_letter(record), record, now)
}

fn claim(key: String, record: &Record, now: Timestamp) -> Claim {
    Claim {
        key: key.into(),
        session_id: None,
        source: record.position.clone(),
        recorded_at: record.timestamp,
        first_seen: now,
        deadline: None,
        at: now,
        origin: RecordOrigin::Kafka,
        expected_version: None,
    }
}
