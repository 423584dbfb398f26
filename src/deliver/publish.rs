//! Publishing what was decided: once, whatever an earlier life did with it.
//!
//! An answer that an earlier life wrote down may be in its topic already: that is read first.
//! This file never hands a message over while this process may have been frozen, nor after it without
//! looking.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::info;

use super::{Context, Outcomes as _, Ports, Told};
use crate::domain::outcome::Message;
use crate::domain::record::Position;
use crate::ledger::Ledger as _;
use crate::pulse::Steady;

/// Publish an answer that an earlier life wrote down, unless it did that itself. Its session goes
/// on when it is there or handed over, so that nothing overtakes it in the topic.
pub(super) async fn publish_once<P: Ports>(
    context: &Context<P>,
    key: Arc<str>,
    (answer, settled_at): (Message, Timestamp),
    tell: impl Fn(Told),
) {
    let (channel, title) = (answer.channel, answer.title().to_owned());
    let answer = (answer, settled_at);
    let told = || tell(Told::Settled);
    let place = match hand_over_unless_there(context, answer, told).await {
        Place::Found(place) => place,
        Place::New(place) => {
            context.metrics.answer_of_an_earlier_life(channel, &title);
            info!(event.key = %key, status = title, "answered with what an earlier life had decided");
            place
        }
    };
    context.ledger.published(key, Some(place)).await;
}

/// Where a message lies.
pub(super) enum Place {
    /// Somebody, or an earlier life, has published it.
    Found(Position),
    /// Published now.
    New(Position),
}

/// Publish what exists since then, unless somebody did.
pub(super) async fn hand_over_unless_there<P: Ports>(
    context: &Context<P>,
    (message, since): (Message, Timestamp),
    told: impl FnOnce(),
) -> Place {
    loop {
        let steady = context.pulse.steady().await;
        if let Some(place) = context.outcomes.published_at(&message, since).await {
            told();
            return Place::Found(place);
        }
        // Looking takes its time, and a successor may have been quicker.
        if context.pulse.is_still(steady) {
            let published = context.outcomes.publish(message);
            told();
            return Place::New(published.await);
        }
    }
}

/// Publish what exists since then; nobody but us could, while the process was `steady`. Where it
/// may have been frozen since, a successor may have published it: that is looked for. `told` hears
/// when it is handed over.
pub(super) async fn hand_over<P: Ports>(
    context: &Context<P>,
    steady: Steady,
    (message, since): (Message, Timestamp),
    told: impl FnOnce(),
) -> Position {
    if !context.pulse.is_still(steady) {
        let (Place::Found(place) | Place::New(place)) =
            hand_over_unless_there(context, (message, since), told).await;
        return place;
    }
    let published = context.outcomes.publish(message);
    told();
    published.await
}
