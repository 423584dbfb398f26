//! Partitions that drain, as the poll loop of [`super::process`] keeps them.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use handoff::consume::Inbound;
use tokio::time::Instant;

use super::world::SimWorld;

/// Partitions that drain.
pub(super) struct Draining {
    pub(super) partitions: Vec<i32>,
    pub(super) lost: bool,
    pub(super) drained: Receiver<()>,
    pub(super) until: Instant,
}

impl Draining {
    pub(super) fn is_over(&self) -> bool {
        match self.drained.try_recv() {
            Err(TryRecvError::Empty) => Instant::now() >= self.until,
            Ok(()) | Err(TryRecvError::Disconnected) => true,
        }
    }
}

/// What the consumer sends for a revocation.
pub(super) fn revocation(
    world: &SimWorld,
    partitions: &[i32],
    lost: bool,
    done: SyncSender<()>,
) -> Vec<Inbound> {
    let partitions = partitions.to_vec();
    let mut messages = Vec::new();
    if lost {
        messages.push(Inbound::OwnershipInDoubt);
    }
    // No broker said in time that the topic is there, although it is.
    if world.one_in(4) {
        let partitions = partitions.clone();
        messages.push(Inbound::TopicGone { partitions, is_certain: false });
    }
    // A client that has failed for good loses everything, and a new one goes on.
    messages.push(if lost && world.one_in(2) {
        Inbound::Ending { lost, done }
    } else {
        Inbound::Revoked { partitions, lost, done }
    });
    messages
}
