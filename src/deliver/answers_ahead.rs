//! Answers of a session are published in the order of its events.
//!
//! In one process the session queue and the producer see to that. But an answer that is stored and not
//! published comes back with its record, after a crash, or after the partition was lost and assigned
//! again. A later event that was parked may come back sooner: the ledger has its record. So it asks
//! the ledger before it publishes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Delivery, Ended, Ports};
use crate::domain::ledger_entry::RecordOrigin;
use crate::ledger::Ledger as _;

/// An answer waits no longer than this for others: it keeps its customer waiting. Records are delivered
/// again within a second or two, on a busy machine within ten.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// From one question to the ledger to the next: at first, and at most.
const ASK_AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

const UNKNOWN: i64 = -1;

/// The offset below which all events of a partition are finished or parked: its watermark, once the
/// reading has begun. Of what is ahead of it, Kafka delivers nothing again; what is not published, the
/// ledger gives back before anything else.
#[derive(Debug)]
pub(crate) struct FinishedBelow(AtomicI64);

impl Default for FinishedBelow {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl FinishedBelow {
    pub(crate) fn set(&self, offset: i64) {
        self.0.store(offset, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN)
    }
}

impl<P: Ports> Delivery<'_, P> {
    /// Wait until the stored answers ahead of this one are published. The later events of its session
    /// wait with it.
    pub(super) async fn wait_for_answers_ahead(&self) -> Result<(), Ended> {
        timeout(MAX_WAIT, self.answers_ahead()).await.unwrap_or(Ok(()))
    }

    async fn answers_ahead(&self) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = self.turn.follows_stored() => {}
            () = self.draining.cancelled() => return self.leave_to_next_owner(),
        }
        let [mut pause, longest] = ASK_AGAIN;
        while self.is_behind_unpublished().await {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return self.leave_to_next_owner(),
                () = sleep(pause) => pause = (2 * pause).min(longest),
            }
        }
        Ok(())
    }

    /// The answer is stored, and comes back to the next owner: from Kafka, unless the topic was deleted.
    fn leave_to_next_owner(&self) -> Result<(), Ended> {
        if self.record_is_gone.load(Ordering::Relaxed) { Ok(()) } else { Err(Ended::Released) }
    }

    async fn is_behind_unpublished(&self) -> bool {
        if self.origin == RecordOrigin::Kafka {
            return false;
        }
        let position = &self.record.position;
        match self.finished_below.get() {
            None => true,
            Some(below) if position.offset <= below => false,
            Some(below) => {
                let session = self.event.session_id.clone();
                self.context.ledger.is_behind_unpublished(session, position.clone(), below).await
            }
        }
    }
}
