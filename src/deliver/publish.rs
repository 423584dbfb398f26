//! Publishing from the outbox: an answer is stored in the ledger first and published after that,
//! exactly once.
//!
//! A message may be in its topic already if a previous incarnation stored it, or if this process
//! was paused between storing and publishing. The topic is searched for it in both cases: for what a
//! previous incarnation stored, before its turn in its session.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    Context, Delivery, Ended, OutcomePublisher as _, Ports, Published, PublishedBy, TaskEvent,
};
use crate::activity::DeliveryPhase;
use crate::domain::ledger_entry::{Claim, Settle, WriteResult};
use crate::domain::record::Position;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::outcome::{Outcome, Status};
use crate::domain::wire::{Channel, Message};
use crate::lease::FencingToken;
use crate::ledger::Ledger as _;
use crate::telemetry::{LoggedEventId, LoggedId};

/// A message that is stored in the ledger and may not have been published.
pub(super) struct Unpublished {
    pub(super) message: Arc<Message>,
    /// When it was stored. It is not in its topic before this.
    pub(super) stored_at: Timestamp,
    /// A token from before it was stored: nobody else has published it while the lease accepts
    /// this. `None`: a previous incarnation stored it.
    pub(super) token: Option<FencingToken>,
}

impl Unpublished {
    /// Publish it unless it is in its topic. `on_enqueued` is called as soon as no later message
    /// of its session can overtake it there.
    pub(super) async fn publish<P: Ports>(
        mut self,
        context: &Context<P>,
        on_enqueued: impl FnOnce(),
    ) -> Published {
        loop {
            if let Some(token) = self.token.filter(|token| context.lease.accepts(*token)) {
                let acknowledged = context.outcomes.publish(self.message, token);
                on_enqueued();
                return acknowledged.await;
            }
            if let Some(position) = self.search(context).await {
                on_enqueued();
                return Published { position, by: PublishedBy::PreviousOwner };
            }
        }
    }

    /// Search for it in its topic. If it is not there, [`Self::publish`] does not search again while the
    /// lease is valid.
    async fn search<P: Ports>(&mut self, context: &Context<P>) -> Option<Position> {
        // The new token is from before the search: a pause during it leads to another one.
        self.token = Some(context.lease.token().await);
        context.outcomes.find_published(&self.message, self.stored_at).await
    }

    /// Publish what a previous incarnation stored, and note in the ledger that it is published.
    pub(super) async fn publish_recovered<P: Ports>(
        self,
        context: &Context<P>,
        key: Arc<str>,
        on_enqueued: impl FnOnce(),
    ) {
        let (channel, label) = (self.message.channel, self.message.label().to_owned());
        let is_dead_letter = channel == Channel::DeadLetters;
        let dead_letter = is_dead_letter.then(|| DeadLetter::read(&self.message.headers));
        let route = self.message.route();
        // The key of an outcome is its session.
        let session = self.message.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let session = session.into_owned();
        let published = self.publish(context, on_enqueued).await;
        if published.by == PublishedBy::Us {
            context.metrics.published_from_outbox(channel, &label, route.as_deref());
            context.activity.answered_earlier(&label);
            match dead_letter {
                Some(DeadLetter { class, error, .. }) => {
                    let throttle = &context.dead_letter_log;
                    if let Some(suppressed) = throttle.admit(class.as_deref().unwrap_or_default()) {
                        warn!(
                            event_key = %key,
                            class,
                            suppressed,
                            error,
                            "record sent to the dead-letter topic"
                        );
                    }
                }
                None => info!(
                    event_key = %LoggedEventId { id: &key, session: &session },
                    status = label,
                    "published an outcome stored before the restart"
                ),
            }
        }
        context.ledger.mark_published(key, Some(published.position)).await;
    }
}

impl<P: Ports> Delivery<'_, P> {
    /// Finish an event whose answer a previous incarnation stored.
    pub(super) async fn finish_stored(
        &self,
        claim: Claim,
        mut stored: Unpublished,
        published: bool,
    ) -> Result<(), Ended> {
        self.progress.enter(DeliveryPhase::Publishing);
        // Searched for before its turn, so that all stored answers of a session share one reading of the
        // topic. There may be hundreds, and each reading takes a second or more.
        let found = if published {
            None
        } else {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return Err(Ended::Released),
                found = stored.search(self.context) => found,
            }
        };
        self.wait_for_stored_ahead().await?;
        self.wait_for_answers_ahead().await?;
        // A crash may have come between the answer and the waking. Nothing is woken too early: what
        // Kafka has yet to deliver is waited for, and a woken event looks for those ahead of it.
        self.wake_parked(false).await;
        let settled = TaskEvent::Settled { found_agent: false };
        if published {
            self.report(settled);
        } else if found.is_some() {
            self.report(settled);
            self.context.ledger.mark_published(claim.key, found).await;
        } else {
            let settled = || self.report(settled);
            stored.publish_recovered(self.context, claim.key, settled).await;
        }
        Ok(())
    }

    /// Store the final answer, then publish it.
    pub(super) async fn publish_answer(
        &self,
        key: Arc<str>,
        outcome: &Outcome,
        last_verdict: Option<&str>,
    ) -> Result<(), Ended> {
        let Context { ledger, lease, metrics, activity, .. } = self.context;
        let span = self.span.send();
        let mut message = outcome.to_message(self.event, &self.policy.outcome_format);
        span.continue_in(&mut message.headers);
        let message = Arc::new(message);
        let token = Some(lease.token().await);
        let stored_at = outcome.decided_at;
        let wake = self.turn.wake();
        let woken = wake.is_some();
        let settle = Settle { answer: message.clone(), at: stored_at, wake };
        if ledger.settle(key.clone(), settle).await == WriteResult::Refused {
            warn!("fenced: another instance owns this event");
            return Err(Ended::Fenced);
        }
        self.wake_parked(woken).await;
        self.turn.set_stored(true);
        self.wait_for_answers_ahead().await?;
        // One behind it may have been parked meanwhile.
        self.wake_parked(true).await;
        let unpublished = Unpublished { message, stored_at, token };
        let found_agent = matches!(outcome.status, Status::Assigned | Status::Queued);
        let settled = || self.report(TaskEvent::Settled { found_agent });
        let published = unpublished.publish(self.context, settled).await;
        span.end(&published.position);
        ledger.mark_published(key, Some(published.position)).await;
        if published.by == PublishedBy::Us {
            metrics.outcome(outcome.status, outcome.route.as_deref());
            metrics.decided(outcome.status, outcome.elapsed(), outcome.attempts);
            activity.answered(outcome);
            self.log_outcome(outcome, last_verdict);
        }
        Ok(())
    }

    /// The one line per outcome. Its fields are an interface (docs/logs.md), so it repeats those of
    /// the span.
    fn log_outcome(&self, outcome: &Outcome, verdict: Option<&str>) {
        let (trace_id, span_id) = self.span.ids().unzip();
        let agent = outcome.agent_id.as_deref().map(LoggedId).map(tracing::field::display);
        info!(
            event_id = %LoggedEventId { id: &outcome.event_id, session: &outcome.session_id },
            session = %LoggedId(&outcome.session_id),
            status = outcome.status.as_str(),
            route = outcome.route,
            code = outcome.desk.as_ref().map(|desk| desk.code),
            verdict,
            attempt = outcome.attempts,
            agent,
            elapsed_ms = outcome.elapsed_ms,
            reason = outcome.reason,
            kafka.topic = outcome.source.topic.as_ref(),
            kafka.partition = outcome.source.partition,
            kafka.offset = outcome.source.offset,
            trace_id = trace_id.as_deref().or(self.event.trace_id()),
            span_id,
            "escalation answered"
        );
    }
}
