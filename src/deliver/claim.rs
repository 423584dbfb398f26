//! What is claimed, under which key, and when a claim has to be made again.
//!
//! This file never reads what a claim found as anything but ours or not ours.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::park::leave;
use super::wait::until;
use super::{Context, Delivery, Ports};
use crate::domain::course::Course;
use crate::domain::event::Event;
use crate::domain::ledger_entry::{Claim, ClaimResult};
use crate::domain::record::Record;
use crate::lease::FencingToken;
use crate::ledger::Ledger as _;

/// A claim that waited for its turn for longer is made again: it may be somebody else's by now.
const CLAIMED_AHEAD: Duration = Duration::from_secs(1);

/// ClaimResult so long ago that it may be somebody else's by now.
pub(super) fn is_old(claimed: Instant) -> bool {
    claimed.elapsed() > CLAIMED_AHEAD
}

/// Claim again what was ours, once the process is steady. `Some(None)`: there is no more time;
/// `None`: it is left open, or was not ours any more. Somebody else has claimed it then, and a call
/// of theirs may be out.
pub(super) async fn claim_in_time<P: Ports>(
    context: &Context<P>,
    (delivery, course): (&Delivery<'_>, &Course<'_>),
    claim: &mut Claim,
) -> Option<Option<FencingToken>> {
    let now = context.clock.now();
    let Some(steady) = until(context, (delivery, course), context.lease.token()).await else {
        leave(context, claim, course, now).await;
        return None;
    };
    let Some(steady) = steady else { return Some(None) };
    let before = claim.at;
    claim.at = context.clock.now();
    let found = context.ledger.claim(claim.clone()).await;
    // Putting it away leaves the time of its claim alone.
    let is_ours = matches!(found, ClaimResult::Resumed(last) if last.claimed_at == before);
    is_ours.then_some(Some(steady))
}

/// An event is known by its id; one without by its record's place.
pub(super) fn claim_of_event(event: &Event, record: &Record, now: Timestamp) -> Claim {
    let kind = if *event.id == record.position.to_string() { "place" } else { "id" };
    let claim = claim(format!("{kind}:{}", event.id), record, now);
    let session_id = Some(event.session_id.clone());
    Claim { session_id, deadline: Some(event.deadline), ..claim }
}

/// A dead letter is known by the place of its record.
pub(super) fn claim_of_letter(record: &Record, now: Timestamp) -> Claim {
    claim(format!("letter:{}", record.position), record, now)
}

fn claim(key: String, record: &Record, now: Timestamp) -> Claim {
    Claim {
        key: key.into(),
        session_id: None,
        source: record.position.clone(),
        first_seen: now,
        deadline: None,
        at: now,
    }
}
