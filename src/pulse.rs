//! Signs of progress, for `/health`: when the consumer last polled, when the consuming task last
//! turned, and when the oldest unfinished event is due.
//!
//! Written from the hot path with plain atomics, read by the admin port.
//! This file never decides to stop anything.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// So long without a turn means stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// So long without a poll, and the process may have been frozen: its partitions may be gone.
const FROZEN_AFTER: Duration = Duration::from_secs(5);
/// After a freeze the consumer needs so long to find out whether its partitions are gone.
const QUARANTINE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The signs.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    joined: AtomicBool,
    /// What the start waits for.
    waits_for: Mutex<Option<String>>,
    broken: OnceLock<String>,
    polled_ms: AtomicU64,
    /// Nothing begins before this.
    quarantined_ms: AtomicU64,
    consumed_ms: AtomicU64,
    /// Milliseconds since the Unix epoch; `i64::MAX` where nothing is unfinished.
    oldest_due_ms: AtomicI64,
    /// How long after its deadline an event may still be unfinished.
    grace: Duration,
}

impl Pulse {
    /// `grace` is how long after its deadline an event may still be unfinished.
    pub fn new(grace: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            joined: AtomicBool::new(false),
            waits_for: Mutex::default(),
            broken: OnceLock::new(),
            polled_ms: AtomicU64::new(0),
            quarantined_ms: AtomicU64::new(0),
            consumed_ms: AtomicU64::new(0),
            oldest_due_ms: AtomicI64::new(i64::MAX),
            grace,
        }
    }

    /// The start waits for this to be repaired; `None`: for nothing any more.
    pub fn waits_for(&self, what: Option<String>) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// What the start waits for, if it does.
    pub fn is_waiting_for(&self) -> Option<String> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The consumer is a member of its group.
    pub fn joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    /// The consumer has been a member of its group.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Something broke that only a restart mends; the first one is kept.
    pub fn broke(&self, what: String) {
        drop(self.broken.set(what));
    }

    /// The consumer polled.
    pub fn polled(&self) {
        let now = self.elapsed_ms();
        let last = self.polled_ms.load(Ordering::Acquire);
        // In this order: nobody may see the new poll without the quarantine that it begins.
        if last > 0 && now - last > millis(FROZEN_AFTER) {
            self.quarantined_ms.store(now + millis(QUARANTINE), Ordering::Release);
        }
        self.polled_ms.store(now, Ordering::Release);
    }

    /// The process runs, and has not been frozen just now: what it thinks is its own is its own.
    pub fn is_steady(&self) -> bool {
        let (now, polled) = (self.elapsed_ms(), self.polled_ms.load(Ordering::Acquire));
        let runs = polled == 0 || now.saturating_sub(polled) <= millis(FROZEN_AFTER);
        runs && now >= self.quarantined_ms.load(Ordering::Acquire)
    }

    /// Wait until the process is steady.
    pub async fn steady(&self) {
        while !self.is_steady() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The consuming task turned.
    pub fn consumed(&self) {
        self.consumed_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// The earliest deadline among the unfinished events.
    pub fn oldest_due(&self, due: Option<Timestamp>) {
        let due = due.map_or(i64::MAX, Timestamp::as_millisecond);
        self.oldest_due_ms.store(due, Ordering::Relaxed);
    }

    /// What is stuck, if anything is. What waits for the ledger is not stuck: a restart would not
    /// help it.
    pub fn stuck(&self, now: Timestamp, ledger_is_away: bool) -> Option<String> {
        let late = |since_ms: &AtomicU64| {
            let age = self.elapsed_ms().saturating_sub(since_ms.load(Ordering::Relaxed));
            Duration::from_millis(age) > STUCK_AFTER
        };
        let due = self.oldest_due_ms.load(Ordering::Relaxed);
        let overdue = now.as_millisecond().saturating_sub(due);
        if let Some(what) = self.broken.get() {
            Some(what.clone())
        } else if late(&self.polled_ms) {
            Some(format!("the consumer has not polled for {} s", STUCK_AFTER.as_secs()))
        } else if late(&self.consumed_ms) {
            Some(format!("the consuming task has not turned for {} s", STUCK_AFTER.as_secs()))
        } else if !ledger_is_away
            && u64::try_from(overdue).is_ok_and(|ms| u128::from(ms) > self.grace.as_millis())
        {
            Some(format!("an event is unfinished {} s after its deadline", overdue / 1000))
        } else {
            None
        }
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_frozen_begins_nothing_until_it_knows_what_is_its_own() {
        let pulse = Pulse::new(Duration::from_secs(90));
        assert!(pulse.is_steady());
        tokio::time::advance(Duration::from_secs(1)).await;
        pulse.polled();
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!pulse.is_steady(), "woken up, and not polled yet");
        pulse.polled();
        assert!(!pulse.is_steady(), "the consumer may not know yet that it has lost everything");
        let start = Instant::now();
        pulse.steady().await;
        assert!(start.elapsed() >= QUARANTINE);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_overdue_events_are_told() {
        let pulse = Pulse::new(Duration::from_secs(90));
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert_eq!(pulse.stuck(now, false), None);
        pulse.oldest_due(Some(now - Duration::from_secs(89)));
        assert_eq!(pulse.stuck(now, false), None);
        pulse.oldest_due(Some(now - Duration::from_secs(91)));
        assert!(pulse.stuck(now, false).unwrap().contains("after its deadline"));
        assert_eq!(pulse.stuck(now, true), None, "it waits for the ledger");
        pulse.oldest_due(None);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(pulse.stuck(now, false).unwrap().contains("polled"));
        pulse.polled();
        assert!(pulse.stuck(now, false).unwrap().contains("turned"));
        pulse.consumed();
        assert_eq!(pulse.stuck(now, false), None);
    }
}
