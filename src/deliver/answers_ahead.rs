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
/// From one question to the ledger to the next.
const ASK_AGAIN: Duration = Duration::from_millis(250);

const UNKNOWN: i64 = -1;

/// The first offset that Kafka delivers in a reading of a partition, once that is known. What is ahead of
/// it and not published, the ledger gives back before anything else.
#[derive(Debug)]
pub(crate) struct ReadFrom(AtomicI64);

impl Default for ReadFrom {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl ReadFrom {
    /// `None`: Kafka delivers nothing.
    pub(crate) fn set(&self, offset: Option<i64>) {
        self.0.store(offset.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN)
    }
}

impl<P: Ports> Delivery<'_, P> {
    /// Wait until the stored answers ahead of this one are published.
    pub(super) async fn wait_for_answers_ahead(&self) -> Result<(), Ended> {
        let ahead = async {
            self.turn.follows_stored().await;
            while self.is_behind_unpublished().await {
                sleep(ASK_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            _ = timeout(MAX_WAIT, ahead) => Ok(()),
            // It is stored: the next owner publishes it.
            () = self.draining.cancelled() => Err(Ended::Released),
        }
    }

    async fn is_behind_unpublished(&self) -> bool {
        if self.origin == RecordOrigin::Kafka {
            return false;
        }
        let position = self.record.position.clone();
        match self.read_from.get() {
            None => true,
            Some(from) if position.offset <= from => false,
            Some(from) => {
                let session = self.event.session_id.clone();
                self.context.ledger.is_behind_unpublished(session, position, from).await
            }
        }
    }
}
