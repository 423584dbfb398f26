//! What is written down of an event that is not answered yet: where it is put away until its time
//! comes, left to the partition's next owner, or told in an interim outcome.
//!
//! This file never writes down an answer.

use jiff::Timestamp;
use tracing::info;

use super::publish::hand_over;
use super::{Context, Ports};
use crate::domain::course::{Course, InterimOutcome, Snapshot};
use crate::domain::ledger_entry::{Claim, Parking};
use crate::ledger::Ledger as _;

/// Leave it to the next owner: no call is out, and nothing that is known is lost.
pub(super) async fn leave<P: Ports>(
    context: &Context<P>,
    claim: &Claim,
    course: &Course<'_>,
    now: Timestamp,
) {
    // Where it is somebody else's by now, there is nothing to leave.
    context.ledger.park(claim.key.clone(), parking(course, now)).await;
}

/// Publish an interim outcome, once; false: the event is somebody else's by now.
pub(super) async fn announce<P: Ports>(
    context: &Context<P>,
    claim: &Claim,
    course: &mut Course<'_>,
    tell: InterimOutcome,
) -> bool {
    // Written down before it is out, so that nobody tells it again unseen.
    let steady = context.lease.token().await;
    let now = context.clock.now();
    if !context.ledger.park(claim.key.clone(), parking(course, now)).await {
        return false;
    }
    // Nobody has told it so far, or an earlier life may have.
    let (steady, since) = tell.since.map_or((Some(steady), now), |since| (None, since));
    let published = hand_over(context, steady, (tell.message.into(), since), || {}).await;
    course.on_interim_published();
    if published.by_us {
        context.metrics.interim_outcome();
        info!(event.key = %claim.key, "nobody is online: told so, to be asked again");
    }
    true
}

pub(super) fn parking(course: &Course<'_>, until: Timestamp) -> Parking {
    let memory = course.snapshot();
    let note = memory.note();
    let memory = serde_json::to_string(&memory).expect("texts and numbers are always JSON");
    Parking { until, memory, note, record: None }
}

/// A memory of another version that cannot be read is none: the doubt remains.
pub(super) fn remembered(text: Option<&str>) -> Snapshot {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
