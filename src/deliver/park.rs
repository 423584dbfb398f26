//! What the ledger stores of an unfinished event: parking it until its next try, releasing it to
//! the partition's next owner, and its interim outcome.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::info;

use super::claim::Hold;
use super::publish::Unpublished;
use super::wait::Start;
use super::{Delivery, Ended, Ports, PublishedBy};
use crate::domain::course::{Course, InterimOutcome};
use crate::domain::ledger_entry::{Claim, Park, RecordOrigin, WaitsFor, WriteResult};
use crate::ledger::Ledger as _;

impl<P: Ports> Delivery<'_, P> {
    /// Park the event for a time. The delivery ends; the ledger has the event.
    pub(super) async fn park(
        &self,
        course: &Course<'_>,
        claim: &Claim,
        wait: Duration,
        waits_for: WaitsFor,
    ) -> Ended {
        let now = self.context.clock.now();
        let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.turn.will_park();
        // The record is stored too: once its offset is committed, Kafka does not deliver it again.
        let record = Some(self.record.clone());
        let park = Park { record, ..park(course, until, waits_for.clone()) };
        match self.context.ledger.park(claim.key.clone(), park).await {
            WriteResult::Refused => Ended::Fenced,
            WriteResult::Done => Ended::Parked { until, waits_for },
        }
    }

    /// Park the event behind the parked events of its session, or behind those in memory.
    pub(super) async fn park_behind(&self, course: &Course<'_>, claim: &Claim) -> Ended {
        if course.in_doubt() {
            // Desk may still be working on a call of the previous incarnation. No call is in flight
            // when the event is parked; its state is queried when its turn comes.
            sleep(self.policy.settle_time).await;
        }
        let now = self.context.clock.now();
        let wait = Duration::try_from(self.event.deadline.duration_since(now)).unwrap_or_default();
        let ended = self.park(course, claim, wait, WaitsFor::Session).await;
        if let Ended::Parked { .. } = ended
            && let Some(wake) = self.turn.parked()
        {
            self.context.ledger.wake_session(wake).await;
        }
        ended
    }

    /// Leave the event, whose record Kafka has delivered again, parked in the ledger. If it waits for
    /// its session, it is woken when its turn comes.
    pub(super) async fn stay_parked(&self, waits_for: &WaitsFor, start: Start) -> Ended {
        // The events behind it, which arrive later, have to ask the ledger.
        self.turn.will_park();
        let must_park = matches!(start, Start::Park);
        drop(start);
        if *waits_for != WaitsFor::Session {
            return Ended::StaysParked;
        }
        let wake = if must_park {
            self.turn.parked()
        } else {
            match self.wait_for_turn(self.event.deadline).await {
                Ok(true) => self.turn.parked(),
                Ok(false) => self.turn.wake_itself(),
                Err(ended) => return ended,
            }
        };
        if let Some(wake) = wake {
            self.context.ledger.wake_session(wake).await;
        }
        Ended::StaysParked
    }

    /// Leave the event, which came from the ledger and has changed there, as it is.
    pub(super) async fn leave_changed(&self, start: Start) -> Ended {
        drop(start);
        // For the events behind it, it is parked. Those that were parked meanwhile may rely on it to
        // wake them.
        self.turn.will_park();
        if let Some(wake) = self.turn.parked() {
            self.context.ledger.wake_session(wake).await;
        }
        Ended::Changed
    }

    /// Whether the event may wait in the ledger for its turn.
    pub(super) fn may_park_behind(&self) -> bool {
        self.context.clock.now() < self.event.deadline
    }

    /// Whether the event may wait in the ledger for its repetition. In doubt too: `wait` covers the
    /// time for which Desk may still be working on the call.
    pub(super) fn may_park_instead(&self, wait: Duration) -> bool {
        let now = self.context.clock.now();
        now.saturating_add(wait).is_ok_and(|due| due < self.event.deadline)
    }

    /// The answer of the event is stored, or it needs none: wake the parked events behind it.
    /// `woken`: those that were known before the answer was stored are woken already.
    pub(super) async fn wake_parked(&self, woken: bool) {
        if let Some(wake) = self.turn.answered(woken) {
            self.context.ledger.wake_session(wake).await;
        }
    }

    /// Release the event to the partition's next owner. No call is in flight, so that owner need
    /// not reconcile one: it goes on from the snapshot at once.
    pub(super) async fn release(&self, course: &Course<'_>, claim: &Claim, now: Timestamp) {
        // Refused where another instance owns the event: then there is nothing to release.
        let park = self.park_for_next_owner(course, now);
        self.context.ledger.park(claim.key.clone(), park).await;
    }

    /// Release an event whose turn has not come. If it never had one, and Kafka does not deliver it
    /// to the next owner, that one starts it behind the events ahead of it all the same.
    pub(super) async fn release_before_turn(&self, course: &Course<'_>, claim: &Claim) {
        let is_gone = self.record_is_gone();
        if !(self.waited_for_session || is_gone) || self.turn.is_out_of_turn() {
            return self.release(course, claim, claim.at).await;
        }
        // As one that was woken.
        let park = park(course, claim.at, WaitsFor::Session);
        let record = is_gone.then(|| self.record.clone());
        self.context.ledger.park(claim.key.clone(), Park { record, ..park }).await;
    }

    /// Whether neither Kafka delivers the record again nor the ledger has it.
    fn record_is_gone(&self) -> bool {
        self.origin == RecordOrigin::Kafka && self.record_is_gone.load(Ordering::Relaxed)
    }

    fn park_for_next_owner(&self, course: &Course<'_>, now: Timestamp) -> Park {
        let is_gone = self.record_is_gone();
        let (until, waits_for) = if self.turn.is_out_of_turn() {
            // It stays behind the events ahead of it.
            (self.event.deadline, WaitsFor::Session)
        } else if self.origin == RecordOrigin::Kafka && !is_gone {
            (now, WaitsFor::Redelivery)
        } else {
            (now, WaitsFor::Time)
        };
        Park { record: is_gone.then(|| self.record.clone()), ..park(course, until, waits_for) }
    }

    /// Publish an interim outcome, at most once per event.
    pub(super) async fn publish_interim(
        &self,
        course: &mut Course<'_>,
        claim: &Claim,
        hold: Hold,
        interim: InterimOutcome,
    ) -> Result<Hold, Ended> {
        drop(hold);
        let token = self.context.lease.token().await;
        let now = self.context.clock.now();
        // Stored before it is published: after a crash the next owner looks for it in the topic
        // first. The snapshot says that it exists.
        let park = self.park_for_next_owner(course, now);
        let parked = self.context.ledger.park(claim.key.clone(), park).await;
        if parked == WriteResult::Refused {
            return Err(Ended::Fenced);
        }
        let (token, stored_at) = match interim.since {
            None => (Some(token), now),
            Some(since) => (None, since),
        };
        let unpublished = Unpublished { message: interim.message.into(), stored_at, token };
        let published = unpublished.publish(self.context, || {}).await;
        course.on_interim_published();
        if published.by == PublishedBy::Us {
            self.context.metrics.interim_outcome();
            info!("no agent online; interim outcome published, will retry");
        }
        Ok(Hold::Parked)
    }
}

fn park(course: &Course<'_>, until: Timestamp, waits_for: WaitsFor) -> Park {
    let snapshot = course.snapshot();
    let note = snapshot.note();
    let snapshot = serde_json::to_string(&snapshot).expect("texts and numbers are always JSON");
    Park { until, waits_for, snapshot, note, record: None }
}
