//! What the task of an event says on its way to the one task that keeps the books.
//!
//! This file never waits: whoever says something goes on at once.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::deliver::TaskEvent;

/// What a task says of its event on the way.
pub(super) struct Said {
    pub(super) task: tokio::task::Id,
    pub(super) told: TaskEvent,
}

/// How this task says what happens; that it is claimed, only where it was stuck before.
pub(super) fn teller(said: &mpsc::UnboundedSender<Said>) -> impl Fn(TaskEvent) {
    let (task, stuck) = (tokio::task::id(), AtomicBool::new(false));
    move |told| {
        let is_news = match told {
            TaskEvent::Stuck => !stuck.swap(true, Ordering::Relaxed),
            TaskEvent::Claimed => stuck.swap(false, Ordering::Relaxed),
            TaskEvent::Parked | TaskEvent::Settled => true,
        };
        if is_news {
            // Nobody listens any more only when the whole intake has ended.
            said.send(Said { task, told }).unwrap_or_default();
        }
    }
}
