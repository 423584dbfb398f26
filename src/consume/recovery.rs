//! Recovery: read from the ledger what the previous owner of a partition left unfinished.
//!
//! Each assignment is recovered by a task of its own, because the ledger may be unavailable for
//! hours. The records of a partition wait until its recovery is complete.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::error;

use crate::deliver::{Context, Ports};
use crate::ledger::{Ledger as _, Recovered};

/// Entries that cannot be read are read again after this time: an operator may have repaired them.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(5);

/// What the ledger holds of some partitions of one assignment.
pub(super) struct RecoveryResult {
    pub(super) partitions: Vec<i32>,
    /// The epoch of the assignment for which it was read.
    pub(super) epoch: u64,
    pub(super) found: Recovered,
}

/// The recoveries in progress.
pub(super) struct Recovery<P: Ports> {
    context: Arc<Context<P>>,
    topic: Arc<str>,
    tasks: JoinSet<RecoveryResult>,
    by_epoch: HashMap<u64, AbortHandle>,
}

impl<P: Ports> Recovery<P> {
    pub(super) fn new(context: Arc<Context<P>>, topic: Arc<str>) -> Self {
        Self { context, topic, tasks: JoinSet::new(), by_epoch: HashMap::new() }
    }

    /// Read these partitions' unfinished entries after a delay.
    pub(super) fn start(&mut self, partitions: Vec<i32>, epoch: u64, delay: Duration) {
        // An assignment may add nothing, and then nothing waits for the ledger.
        if partitions.is_empty() {
            return;
        }
        let (context, topic) = (self.context.clone(), self.topic.clone());
        let task = self.tasks.spawn(async move {
            sleep(delay).await;
            let found = context.ledger.recover(topic, partitions.clone()).await;
            RecoveryResult { partitions, epoch, found }
        });
        self.by_epoch.insert(epoch, task);
    }

    /// Abort the recoveries of assignments that have ended.
    pub(super) fn retain(&mut self, is_assigned: impl Fn(u64) -> bool) {
        self.by_epoch.retain(|epoch, task| {
            let keep = is_assigned(*epoch);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// The next result; pends while no recovery is in progress.
    pub(super) async fn next(&mut self) -> RecoveryResult {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(result)) => {
                    self.by_epoch.remove(&result.epoch);
                    return result;
                }
                Some(Err(aborted)) if aborted.is_cancelled() => {}
                Some(Err(panicked)) => {
                    // Its partitions stay unrecovered: reading on could break the sessions' order.
                    error!(error = %panicked, "recovery panicked: a bug; restart to recover");
                    let bug = format!("the recovery of partitions panicked: {panicked}: a bug");
                    self.context.health.report_bug(bug);
                }
                None => std::future::pending().await,
            }
        }
    }
}
