//! Publishing what was decided: once, whatever an earlier life did with it.
//!
//! An answer that an earlier life wrote down may be in its topic already: that is read first.
//! This file never hands a message over while this process may have been frozen.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::info;

use super::{Context, Outcomes as _, Ports, Told};
use crate::domain::outcome::Message;
use crate::domain::record::Position;
use crate::ledger::Ledger as _;

/// Publish an answer that an earlier life wrote down, unless it did that itself. Its session goes
/// on when it is there or handed over, so that nothing overtakes it in the topic.
pub(super) async fn publish_once<P: Ports>(
    context: &Context<P>,
    key: Arc<str>,
    (answer, settled_at): (Message, Timestamp),
    tell: impl Fn(Told),
) {
    let found = context.outcomes.published_at(&answer, settled_at).await;
    let place = match found {
        Some(place) => {
            tell(Told::Settled);
            place
        }
        None => {
            let (channel, title) = (answer.channel, answer.title().to_owned());
            let answer = (answer, settled_at);
            let place = hand_over(context, answer, || tell(Told::Settled)).await;
            context.metrics.answer_of_an_earlier_life(channel, &title);
            info!(event.key = %key, status = title, "answered with what an earlier life had decided");
            place
        }
    };
    context.ledger.published(key, Some(place)).await;
}

/// Publish a message, unless an earlier life did so since then.
pub(super) async fn publish_unless_there<P: Ports>(
    context: &Context<P>,
    (message, since): (Message, Option<Timestamp>),
) -> Position {
    if let Some(since) = since
        && let Some(place) = context.outcomes.published_at(&message, since).await
    {
        return place;
    }
    let since = since.unwrap_or_else(|| (context.nature.now)());
    hand_over(context, (message, since), || {}).await
}

/// Publish what exists since then, once it is sure that this process was not frozen just now. Where
/// it may have been, a successor may have published it: that is looked for. `told` hears when
/// it is handed over.
pub(super) async fn hand_over<P: Ports>(
    context: &Context<P>,
    (message, since): (Message, Timestamp),
    told: impl FnOnce(),
) -> Position {
    while !context.pulse.is_steady() {
        context.pulse.steady().await;
        if let Some(place) = context.outcomes.published_at(&message, since).await {
            told();
            return place;
        }
    }
    let published = context.outcomes.publish(message);
    told();
    published.await
}
