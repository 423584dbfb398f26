//! What the ledger stores of an unfinished event: parking it until its next try, releasing it to
//! the partition's next owner, and its interim outcome.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::info;

use super::claim::Hold;
use super::publish::Unpublished;
use super::wait::Waited;
use super::{Delivery, Ended, Ports, PublishedBy, TaskEvent};
use crate::domain::course::{Course, InterimOutcome};
use crate::domain::ledger_entry::{Claim, Park, WriteResult};
use crate::ledger::Ledger as _;

impl<P: Ports> Delivery<'_, P> {
    /// Park the event and wait until its next try is due.
    pub(super) async fn park(
        &self,
        course: &Course<'_>,
        claim: &Claim,
        hold: Hold,
        wait: Duration,
    ) -> Result<Hold, Ended> {
        drop(hold);
        let now = self.context.clock.now();
        let due = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        // The record is stored too: once its offset is committed, Kafka does not deliver it again.
        let record = Some(self.record.clone());
        let park = Park { record, ..park(course, due) };
        let parked = self.context.ledger.park(claim.key.clone(), park).await;
        if parked == WriteResult::Refused {
            return Err(Ended::Fenced);
        }
        self.report(TaskEvent::Parked);
        match self.wait_for(course, sleep(wait)).await {
            Waited::Done(()) | Waited::DeadlineReached => Ok(Hold::Parked),
            Waited::Draining => Err(Ended::Released),
        }
    }

    /// Release the event to the partition's next owner. No call is in flight, so that owner need
    /// not reconcile one: it goes on from the snapshot at once.
    pub(super) async fn release(&self, course: &Course<'_>, claim: &Claim, now: Timestamp) {
        // Refused where another instance owns the event: then there is nothing to release.
        self.context.ledger.park(claim.key.clone(), park(course, now)).await;
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
        let parked = self.context.ledger.park(claim.key.clone(), park(course, now)).await;
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

fn park(course: &Course<'_>, until: Timestamp) -> Park {
    let snapshot = course.snapshot();
    let note = snapshot.note();
    let snapshot = serde_json::to_string(&snapshot).expect("texts and numbers are always JSON");
    Park { until, snapshot, note, record: None }
}
