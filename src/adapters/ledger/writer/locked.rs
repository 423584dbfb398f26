//! What waits because another session has locked its row, and when it is tried again.
//!
//! All of it is tried at the same times, in the batch with everything else, so it cannot delay the
//! other commands more often than every two seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::super::batch::PendingCommand;
use super::{RETRY_FIRST, RETRY_LAST};
use crate::domain::ledger_entry::WakeSession;

/// Why a session is not woken, where its next event is locked.
pub(super) const LOCKED_EVENT: &str = "another session has locked one of them";

/// A session that is to be woken.
pub(super) struct PendingWake {
    pub(super) wake: WakeSession,
    /// `None`: the answer that wakes it is stored and acknowledged.
    pub(super) reply: Option<oneshot::Sender<()>>,
}

impl PendingWake {
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    pub(super) fn done(self) {
        if let Some(reply) = self.reply {
            // The caller may be gone; the event is due all the same.
            reply.send(()).unwrap_or_default();
        }
    }
}

/// Commands and wakes that wait for the locks of other sessions.
pub(super) struct LockedWork {
    commands: Vec<PendingCommand>,
    wakes: Vec<PendingWake>,
    pub(super) retry_at: Instant,
    /// Between the next retry and the one after it.
    pause: Duration,
    /// Whether it is logged that there are commands, and wakes.
    commands_logged: bool,
    wakes_logged: bool,
}

impl LockedWork {
    pub(super) fn new() -> Self {
        Self {
            commands: Vec::new(),
            wakes: Vec::new(),
            retry_at: Instant::now(),
            pause: RETRY_FIRST,
            commands_logged: false,
            wakes_logged: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.wakes.is_empty()
    }

    /// Whether a command on this key waits. Later ones on it have to wait behind it.
    pub(super) fn has(&self, key: &Arc<str>) -> bool {
        self.commands.iter().any(|pending| pending.key == *key)
    }

    pub(super) fn add_command(&mut self, pending: PendingCommand) {
        self.schedule();
        if !self.commands_logged {
            let key = &pending.key;
            warn!(event_key = %key, "ledger row locked by another session; its event waits");
            self.commands_logged = true;
        }
        self.commands.push(pending);
    }

    /// The answers that wake these sessions are stored, but the events to be woken are locked.
    pub(super) fn add_sessions(&mut self, sessions: Vec<WakeSession>) {
        let wakes = sessions.into_iter().map(|wake| PendingWake { wake, reply: None });
        self.add_wakes(wakes, LOCKED_EVENT);
    }

    /// `why` they are not woken is logged once, until no wake is left.
    pub(super) fn add_wakes(&mut self, wakes: impl IntoIterator<Item = PendingWake>, why: &str) {
        self.schedule();
        let before = self.wakes.len();
        self.wakes.extend(wakes);
        if self.wakes.len() > before && !self.wakes_logged {
            warn!(error = why, "parked events not woken; will retry");
            self.wakes_logged = true;
        }
    }

    fn schedule(&mut self) {
        if self.is_empty() && self.pause == RETRY_FIRST {
            self.retry_at = Instant::now() + RETRY_FIRST;
        }
    }

    /// Moves everything to the heads of these queues, if it is time to try it again.
    pub(super) fn retry(
        &mut self,
        commands: &mut VecDeque<PendingCommand>,
        wakes: &mut Vec<PendingWake>,
    ) {
        let now = Instant::now();
        if self.is_empty() || now < self.retry_at {
            return;
        }
        self.pause = (self.pause * 2).min(RETRY_LAST);
        self.retry_at = now + self.pause;
        self.commands.drain(..).rev().for_each(|pending| commands.push_front(pending));
        wakes.splice(..0, self.wakes.drain(..));
    }

    /// After each retry: what is locked later is something new.
    pub(super) fn end_retry(&mut self) {
        self.commands_logged &= !self.commands.is_empty();
        self.wakes_logged &= !self.wakes.is_empty();
        if self.is_empty() {
            self.pause = RETRY_FIRST;
        }
    }
}
