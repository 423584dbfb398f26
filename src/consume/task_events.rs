//! The channel on which delivery tasks report their events to the event loop.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task;

use crate::deliver::TaskEvent;

/// The event loop's end of the channel.
pub(super) struct TaskEvents {
    sender: mpsc::UnboundedSender<(task::Id, TaskEvent)>,
    receiver: mpsc::UnboundedReceiver<(task::Id, TaskEvent)>,
}

impl TaskEvents {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    /// A sender for one task.
    pub(super) fn sender(&self) -> TaskEventSender {
        TaskEventSender { sender: self.sender.clone(), blocked: AtomicBool::new(false) }
    }

    /// The next event and the task that reports it. Never `None`: a sender is kept here.
    pub(super) async fn next(&mut self) -> Option<(task::Id, TaskEvent)> {
        self.receiver.recv().await
    }
}

/// A task's end of the channel.
pub(super) struct TaskEventSender {
    sender: mpsc::UnboundedSender<(task::Id, TaskEvent)>,
    blocked: AtomicBool,
}

impl TaskEventSender {
    /// Report an event of the current task.
    pub(super) fn send(&self, event: TaskEvent) {
        // A blocked task retries for hours, and each delivery reports its claim: only a change
        // concerns the event loop.
        let changed = match event {
            TaskEvent::Blocked => !self.blocked.swap(true, Ordering::Relaxed),
            TaskEvent::Claimed => self.blocked.swap(false, Ordering::Relaxed),
            TaskEvent::Settled { .. } => true,
        };
        if changed {
            // Fails only after the event loop has ended, when no task is left to report on.
            self.sender.send((task::id(), event)).unwrap_or_default();
        }
    }
}
