//! Partitions that drain, as the poll loop of [`super::process`] keeps them.

use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::time::Instant;

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
