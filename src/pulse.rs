//! Signs of progress: when the consumer last polled, when the group was heard of, when the consuming
//! task last turned, since when partitions wait, and when the oldest unfinished event is due.
//!
//! Written from the hot path with plain atomics, read by the admin port and by whoever must know
//! whether the process was frozen or cut off.
//! This file never decides to stop anything.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
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
/// So long without a word from a group that the broker runs, and its partitions may soon be gone:
/// two thirds of the broker's time-out. Nobody else tells; the other protocols count by themselves.
const CUT_OFF_AFTER: Duration = Duration::from_secs(30);
/// So long the look into the ledger for what was left open may take, unnoticed.
const HELD_FOR: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Steady from some moment on; lasts until the process is frozen or cut off from its group.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    quarantines: u64,
}

/// The signs.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    joined: AtomicBool,
    /// What the start waits for.
    waits_for: Mutex<Option<String>>,
    broken: OnceLock<String>,
    polled_ms: AtomicU64,
    /// When the group was heard of last; 0: nobody listens for it.
    heard_ms: AtomicU64,
    /// Nothing begins before this.
    quarantined_ms: AtomicU64,
    /// How many times that has been set.
    quarantines: AtomicU64,
    consumed_ms: AtomicU64,
    /// Milliseconds since the Unix epoch; `i64::MAX` where nothing is unfinished.
    oldest_due_ms: AtomicI64,
    /// Since when partitions wait for the ledger to say what was left open; 0: none does.
    held_ms: AtomicU64,
    /// Events that wait for a row of the ledger that cannot be read.
    unreadable: AtomicUsize,
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
            heard_ms: AtomicU64::new(0),
            quarantined_ms: AtomicU64::new(0),
            quarantines: AtomicU64::new(0),
            consumed_ms: AtomicU64::new(0),
            oldest_due_ms: AtomicI64::new(i64::MAX),
            held_ms: AtomicU64::new(0),
            unreadable: AtomicUsize::new(0),
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
        self.sign(&self.polled_ms, now, (now, FROZEN_AFTER));
    }

    /// The group's coordinator was heard of, so long ago.
    pub fn heard_of_group(&self, ago: Duration) {
        let now = self.elapsed_ms();
        self.sign(&self.heard_ms, now.saturating_sub(millis(ago)), (now, CUT_OFF_AFTER));
    }

    /// Cut off from the group, in words, if it is.
    pub fn cut_off(&self) -> Option<String> {
        let heard = self.heard_ms.load(Ordering::Acquire);
        let silent = Duration::from_millis(self.elapsed_ms().saturating_sub(heard));
        (heard > 0 && silent > CUT_OFF_AFTER).then(|| {
            let seconds = silent.as_secs();
            format!("cut off from the consumer group for {seconds} s: nothing begins until it is heard of")
        })
    }

    /// A sign of life; one that comes late begins a quarantine.
    fn sign(&self, last_ms: &AtomicU64, at_ms: u64, (now, limit): (u64, Duration)) {
        let last = last_ms.load(Ordering::Acquire);
        // In this order: nobody may see the new sign without the quarantine that it begins.
        if last > 0 && now - last > millis(limit) && now - at_ms <= millis(limit) {
            self.quarantined_ms.store(now + millis(QUARANTINE), Ordering::Release);
            self.quarantines.fetch_add(1, Ordering::AcqRel);
        }
        last_ms.store(at_ms.max(last), Ordering::Release);
    }

    /// The process runs, has not been frozen or cut off from its group just now: what it thinks is
    /// its own is its own.
    pub fn is_steady(&self) -> bool {
        let now = self.elapsed_ms();
        let fresh = |last_ms: &AtomicU64, limit| {
            let last = last_ms.load(Ordering::Acquire);
            last == 0 || now.saturating_sub(last) <= millis(limit)
        };
        fresh(&self.polled_ms, FROZEN_AFTER)
            && fresh(&self.heard_ms, CUT_OFF_AFTER)
            && now >= self.quarantined_ms.load(Ordering::Acquire)
    }

    /// Wait until the process is steady.
    pub async fn steady(&self) -> Steady {
        loop {
            let steady = Steady { quarantines: self.quarantines.load(Ordering::Acquire) };
            if self.is_steady() {
                return steady;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// It has been steady all the time since then.
    pub fn is_still(&self, since: Steady) -> bool {
        self.is_steady() && self.quarantines.load(Ordering::Acquire) == since.quarantines
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

    /// Since when partitions wait for the ledger to say what was left open in them.
    pub fn held_since(&self, since: Option<Instant>) {
        let since = since.map_or(0, |since| millis(since - self.epoch).max(1));
        self.held_ms.store(since, Ordering::Relaxed);
    }

    /// So many events wait for a row of the ledger that cannot be read.
    pub fn unreadable(&self, events: usize) {
        self.unreadable.store(events, Ordering::Relaxed);
    }

    /// What waits for a part of the ledger that cannot be read, in words, if anything does.
    pub fn held(&self) -> Option<String> {
        let events = self.unreadable.load(Ordering::Relaxed);
        if events > 0 {
            return Some(format!(
                "{events} events wait for rows of the ledger that cannot be read; the log names them"
            ));
        }
        let since = self.held_ms.load(Ordering::Relaxed);
        let held = Duration::from_millis(self.elapsed_ms().saturating_sub(since));
        (since > 0 && held > HELD_FOR).then(|| {
            let seconds = held.as_secs();
            format!(
                "the ledger has not said for {seconds} s what was left open in partitions that were \
                 assigned: they wait; the log says why"
            )
        })
    }

    /// What is stuck, if anything is. What waits for the ledger or for Kafka is not stuck: a restart
    /// would not help it.
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
            && self.is_steady()
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
        let steady = pulse.steady().await;
        assert!(start.elapsed() >= QUARANTINE);
        assert!(pulse.is_still(steady));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!pulse.is_still(steady));
        pulse.polled();
        let after = pulse.steady().await;
        assert!(!pulse.is_still(steady), "whoever slept through it does not take it for steady");
        assert!(pulse.is_still(after));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cut_off_from_the_group_begins_nothing_before_it_would_be_given_up() {
        let pulse = Pulse::new(Duration::from_secs(90));
        let pass = async |seconds| {
            for _ in 0..seconds {
                tokio::time::advance(Duration::from_secs(1)).await;
                pulse.polled();
            }
        };
        pass(100).await;
        assert!(pulse.is_steady(), "nobody listens for the group");
        pulse.heard_of_group(Duration::from_secs(5));
        pass(25).await;
        assert!(pulse.is_steady());
        pass(1).await;
        assert!(!pulse.is_steady(), "30 s after it was heard of");
        assert!(pulse.cut_off().unwrap().contains("for 31 s"));
        pulse.consumed();
        pulse.oldest_due(Some(Timestamp::MIN));
        assert_eq!(pulse.stuck(Timestamp::UNIX_EPOCH, false), None, "a restart would not help");
        pulse.heard_of_group(Duration::from_secs(31));
        assert!(!pulse.is_steady(), "no news");
        pulse.heard_of_group(Duration::ZERO);
        assert!(!pulse.is_steady(), "the consumer may not know yet that it has lost everything");
        pass(3).await;
        assert!(pulse.is_steady());
    }

    #[tokio::test(start_paused = true)]
    async fn partitions_that_wait_for_the_ledger_are_told() {
        let pulse = Pulse::new(Duration::from_secs(90));
        pulse.held_since(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(pulse.held(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pulse.held().unwrap().contains("for 10 s"));
        pulse.held_since(None);
        assert_eq!(pulse.held(), None);
        pulse.unreadable(2);
        assert!(pulse.held().unwrap().starts_with("2 events wait"));
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
