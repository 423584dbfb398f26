//! Sends a malformed record to the dead-letter topic, exactly once: through the ledger, as an
//! answer.

use std::sync::Arc;

use tracing::{error, warn};

use super::publish::Unpublished;
use super::{
    Context, Ended, EventSink, Ports, PublishedBy, ReadBefore, TaskEvent, claim, is_forgotten,
};
use crate::domain::event::Malformed;
use crate::domain::ledger_entry::{ClaimResult, Settle, WriteResult};
use crate::domain::record::Record;
use crate::domain::wire::dead_letter::dead_letter;
use crate::ledger::Ledger as _;

/// Send a malformed record to the dead-letter topic, unless that was done. `None`: its dead letter is
/// stored.
pub(crate) async fn send_dead_letter<P: Ports>(
    context: &Context<P>,
    record: &Record,
    malformed: Option<&Malformed>,
    read_before: ReadBefore,
    on_event: &EventSink<'_>,
) -> Ended {
    let now = context.clock.now();
    let claim = claim::for_dead_letter(record, now);
    let key = claim.key.clone();
    let (partition, offset) = (record.position.partition, record.position.offset);
    if read_before == ReadBefore::Maybe && is_forgotten(context, key.to_string(), record).await {
        return Ended::BeyondMemory;
    }
    let token = Some(context.lease.token().await);
    match context.ledger.claim(claim).await {
        // The others do not occur: the key names the record itself, and it is never parked, so no
        // version of it is expected.
        ClaimResult::Settled { published: true, .. }
        | ClaimResult::Parked { .. }
        | ClaimResult::Changed
        | ClaimResult::Duplicate { .. }
        | ClaimResult::Conflict { .. } => {}
        ClaimResult::Settled { answer, at, .. } => {
            let stored = Unpublished { message: answer, stored_at: at, token: None };
            stored.publish_recovered(context, key, || {}).await;
        }
        ClaimResult::Unreadable { why } => {
            error!(
                kafka.partition = partition,
                kafka.offset = offset,
                error = why,
                "blocked: the ledger entry of a malformed record cannot be read"
            );
            on_event(TaskEvent::Blocked);
            return Ended::Blocked;
        }
        // A dead letter needs no call, so a claim without an answer leaves nothing in doubt.
        claimed @ (ClaimResult::Fresh | ClaimResult::Resumed(_)) => {
            // The entry was pruned after it had been read.
            let Some(malformed) = malformed else { return Ended::BeyondMemory };
            let first_seen = match claimed {
                ClaimResult::Resumed(prior) => prior.first_seen,
                _ => now,
            };
            let message = Arc::new(dead_letter(record.clone(), malformed, first_seen));
            let settle = Settle { answer: message.clone(), at: now, wake: None };
            if context.ledger.settle(key.clone(), settle).await == WriteResult::Refused {
                return Ended::Fenced;
            }
            let unpublished = Unpublished { message, stored_at: now, token };
            let published = unpublished.publish(context, || {}).await;
            context.ledger.mark_published(key, Some(published.position)).await;
            if published.by == PublishedBy::Us {
                context.metrics.dead_letter(malformed.class);
                context.activity.dead_letter(&record.position, malformed);
                let class = malformed.class.as_str();
                if let Some(suppressed) = context.dead_letter_log.admit(class) {
                    warn!(
                        kafka.partition = partition,
                        kafka.offset = offset,
                        class,
                        suppressed,
                        error = malformed.error,
                        "record sent to the dead-letter topic"
                    );
                }
            }
        }
    }
    Ended::Published
}
