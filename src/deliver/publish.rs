//! Publishing what was decided: once, whatever an earlier life did with it.
//!
//! An answer that an earlier life wrote down may be in its topic already: that is read first. The
//! same where the process was frozen between writing an answer down and publishing it.
//! This file never hands a message over while this process may have been frozen.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::info;

use super::{Context, OutcomePublisher as _, Ports, Published, TaskEvent};
use crate::domain::wire::outcome::Message;
use crate::lease::FencingToken;
use crate::ledger::Ledger as _;

/// Publish an answer that an earlier life wrote down, unless it did that itself. Its session goes
/// on when it is there or handed over, so that nothing overtakes it in the topic.
pub(super) async fn publish_once<P: Ports>(
    context: &Context<P>,
    key: Arc<str>,
    (answer, settled_at): (Arc<Message>, Timestamp),
    tell: impl Fn(TaskEvent),
) {
    let (channel, title) = (answer.channel, answer.label().to_owned());
    let answer = (answer, settled_at);
    let told = || tell(TaskEvent::Settled);
    let published = hand_over(context, None, answer, told).await;
    if published.by_us {
        context.metrics.published_from_outbox(channel, &title);
        info!(event.key = %key, status = title, "answered with what an earlier life had decided");
    }
    context.ledger.published(key, Some(published.place)).await;
}

/// Publish what exists since then. Nobody but us could since the process was `steady`; where it was
/// frozen meanwhile a successor may have, and without `steady` an earlier life: that is looked for.
/// `told` hears when it is there or handed over.
pub(super) async fn hand_over<P: Ports>(
    context: &Context<P>,
    mut steady: Option<FencingToken>,
    (message, since): (Arc<Message>, Timestamp),
    told: impl FnOnce(),
) -> Published {
    loop {
        if let Some(steady) = steady.filter(|steady| context.lease.accepts(*steady)) {
            let published = context.outcomes.publish(message, steady);
            told();
            return published.await;
        }
        // Looking takes its time, and somebody may be quicker: that counts from before it.
        steady = Some(context.lease.token().await);
        if let Some(place) = context.outcomes.find_published(&message, since).await {
            told();
            return Published { place, by_us: false };
        }
    }
}
