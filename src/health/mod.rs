//! What `/health`, `/ready` and `/status` say: progress, blocked partitions, what the start waits for.
//!
//! `/health` fails only where a restart may help. Waiting for Kafka, the ledger or the group shows
//! in `/ready` alone, because an orchestrator restarts what is not healthy. Written from the hot path
//! with plain atomics, read by [`crate::adapters::admin`]. Faults of Kafka, with cause and remedy, are
//! in [`faults`].

mod faults;

pub use self::faults::{ActiveFault, Fault, FaultKind, Faults};

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::clock::millis;
use crate::lease::Lease;

/// Without progress for longer than this the service is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Recovery from the ledger may take this long before `/ready` reports it.
const RECOVERY_TIME: Duration = Duration::from_secs(10);

/// The state behind `/health` and `/ready`.
#[derive(Debug)]
pub struct Health {
    lease: Arc<Lease>,
    epoch: Instant,
    joined: AtomicBool,
    waiting_for: Mutex<Option<String>>,
    bug: OnceLock<String>,
    progress_ms: AtomicU64,
    /// Milliseconds since the Unix epoch; `i64::MAX` where no event is unfinished.
    earliest_deadline_ms: AtomicI64,
    /// Milliseconds since `epoch`; 0 where no partition waits for recovery.
    recovering_ms: AtomicU64,
    blocked_events: AtomicUsize,
    rooms: Mutex<Vec<RoomStatus>>,
    faults: Faults,
    /// When a broker was heard last, in milliseconds since `epoch`.
    broker_contact_ms: AtomicU64,
    /// The consumer has reported an error after which it may read nothing any more.
    reading_is_suspect: AtomicBool,
    grace: Duration,
}

/// What `/status` shows of a waiting room: events that wait until somebody of their plan is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomStatus {
    /// Its name: the targets of the plan in words, and their hash.
    pub name: Arc<str>,
    /// Parked events; `None`: those of the partition's previous owner are still being counted.
    pub events: Option<u64>,
    /// When the first of them was first seen.
    pub oldest: Timestamp,
    /// When its next probe is due; `None`: a probe is out, or probes succeed and the others follow.
    pub next_probe: Option<Timestamp>,
}

impl Health {
    /// `grace`: how long after its deadline an event may still be unfinished.
    pub fn new(lease: Arc<Lease>, grace: Duration) -> Self {
        Self {
            lease,
            epoch: Instant::now(),
            joined: AtomicBool::new(false),
            waiting_for: Mutex::default(),
            bug: OnceLock::new(),
            progress_ms: AtomicU64::new(0),
            earliest_deadline_ms: AtomicI64::new(i64::MAX),
            recovering_ms: AtomicU64::new(0),
            blocked_events: AtomicUsize::new(0),
            rooms: Mutex::default(),
            faults: Faults::default(),
            broker_contact_ms: AtomicU64::new(0),
            reading_is_suspect: AtomicBool::new(false),
            grace,
        }
    }

    /// Faults because of which events cannot be answered.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether somebody has to find out if the escalations can be read.
    pub fn set_reading_is_suspect(&self, is_suspect: bool) {
        self.reading_is_suspect.store(is_suspect, Ordering::Relaxed);
    }

    /// See [`Self::set_reading_is_suspect`].
    pub fn reading_is_suspect(&self) -> bool {
        self.reading_is_suspect.load(Ordering::Relaxed)
    }

    /// A broker sent something this long ago.
    pub fn report_broker_contact(&self, ago: Duration) {
        let at_ms = self.elapsed_ms().saturating_sub(millis(ago));
        self.broker_contact_ms.fetch_max(at_ms, Ordering::Relaxed);
    }

    /// For how long no broker has sent anything.
    pub fn broker_silence(&self) -> Duration {
        let contact_ms = self.broker_contact_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.elapsed_ms().saturating_sub(contact_ms))
    }

    /// The fullest waiting rooms.
    pub fn set_rooms(&self, rooms: Vec<RoomStatus>) {
        *self.rooms.lock() = rooms;
    }

    /// The fullest waiting rooms, as reported last.
    pub fn rooms(&self) -> Vec<RoomStatus> {
        self.rooms.lock().clone()
    }

    /// The service does not start until this is repaired; `None` once it starts.
    pub fn set_waiting_for(&self, problem: Option<String>) {
        *self.waiting_for.lock() = problem;
    }

    /// What the start waits for, if it does.
    pub fn waiting_for(&self) -> Option<String> {
        self.waiting_for.lock().clone()
    }

    /// The consumer has joined its group.
    pub fn set_joined(&self) {
        self.faults.clear(FaultKind::ConsumerFailed);
        self.joined.store(true, Ordering::Relaxed);
    }

    /// Whether the consumer has ever joined its group.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Report a bug after which only a restart may help. The first one is kept: the others may be
    /// its consequences.
    pub fn report_bug(&self, bug: String) {
        self.bug.set(bug).unwrap_or_default();
    }

    /// The event loop of `consume` has completed a round.
    pub fn report_progress(&self) {
        self.progress_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Set the earliest deadline of the unfinished events; `None` where there are none.
    pub fn set_earliest_deadline(&self, deadline: Option<Timestamp>) {
        let deadline = deadline.map_or(i64::MAX, Timestamp::as_millisecond);
        self.earliest_deadline_ms.store(deadline, Ordering::Relaxed);
    }

    /// Set since when an assigned partition has waited for recovery; `None` where none waits.
    pub fn set_recovering_since(&self, since: Option<Instant>) {
        // At least 1: 0 stands for `None`.
        let since = since.map_or(0, |since| millis(since - self.epoch).max(1));
        self.recovering_ms.store(since, Ordering::Relaxed);
    }

    /// Set how many events wait for a ledger entry that cannot be read.
    pub fn set_blocked_events(&self, events: usize) {
        self.blocked_events.store(events, Ordering::Relaxed);
    }

    /// What an unreadable or slow ledger blocks, if it does.
    pub fn blocked(&self) -> Option<String> {
        let events = self.blocked_events.load(Ordering::Relaxed);
        if events > 0 {
            return Some(format!(
                "{events} events are blocked: their ledger entries cannot be read; the log names \
                 them"
            ));
        }
        let since = self.recovering_ms.load(Ordering::Relaxed);
        let waited = Duration::from_millis(self.elapsed_ms().saturating_sub(since));
        (since > 0 && waited > RECOVERY_TIME).then(|| {
            let seconds = waited.as_secs();
            format!(
                "partitions are blocked: recovery from the ledger has taken {seconds} s; the log \
                 says why"
            )
        })
    }

    /// For how long the group's coordinator has been silent, if that is too long.
    pub fn coordinator_silence(&self) -> Option<Duration> {
        self.lease.expired()
    }

    /// The same for people.
    pub fn cut_off(&self) -> Option<String> {
        let silence = self.coordinator_silence()?.as_secs();
        Some(format!(
            "no answer from the group coordinator for {silence} s: neither calling nor publishing \
             until it answers"
        ))
    }

    /// What has stalled, if anything has. Waiting for the ledger or for Kafka is not stalling: a
    /// restart would not help.
    pub fn stalled(&self, now: Timestamp, ledger_is_unavailable: bool) -> Option<String> {
        let limit = STALLED_AFTER.as_secs();
        let progress_ms = self.progress_ms.load(Ordering::Relaxed);
        let idle = Duration::from_millis(self.elapsed_ms().saturating_sub(progress_ms));
        let deadline = self.earliest_deadline_ms.load(Ordering::Relaxed);
        let overdue = now.as_millisecond().saturating_sub(deadline);
        if let Some(bug) = self.bug.get() {
            Some(bug.clone())
        } else if self.lease.poll_age() > STALLED_AFTER {
            Some(format!("the consumer has not polled for {limit} s"))
        } else if idle > STALLED_AFTER {
            Some(format!("the consuming task has made no progress for {limit} s"))
        } else if !ledger_is_unavailable
            && self.lease.valid()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new(Arc::new(Lease::new(Duration::from_secs(30))), Duration::from_secs(90))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_recovery_and_blocked_events_are_reported() {
        let health = health();
        health.set_recovering_since(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(health.blocked(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(health.blocked().unwrap().contains("10 s"));
        health.set_recovering_since(None);
        assert_eq!(health.blocked(), None);
        health.set_blocked_events(2);
        assert!(health.blocked().unwrap().starts_with("2 events are blocked"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_poll_missing_progress_and_an_overdue_event_are_stalls() {
        let health = health();
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert_eq!(health.stalled(now, false), None);
        health.set_earliest_deadline(Some(now - Duration::from_secs(89)));
        assert_eq!(health.stalled(now, false), None);
        health.set_earliest_deadline(Some(now - Duration::from_secs(91)));
        assert!(health.stalled(now, false).unwrap().contains("after its deadline"));
        assert_eq!(health.stalled(now, true), None, "waiting for the ledger is not stalling");
        health.set_earliest_deadline(None);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(health.stalled(now, false).unwrap().contains("polled"));
        health.lease.renew();
        assert!(health.stalled(now, false).unwrap().contains("progress"));
        health.report_progress();
        assert_eq!(health.stalled(now, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_coordinator_is_not_a_stall() {
        let health = health();
        tokio::time::advance(Duration::from_secs(1)).await;
        health.lease.renew_by_coordinator(Duration::ZERO);
        for _ in 0..31 {
            tokio::time::advance(Duration::from_secs(1)).await;
            health.lease.renew();
        }
        assert!(health.cut_off().unwrap().contains("for 31 s"));
        health.report_progress();
        health.set_earliest_deadline(Some(Timestamp::MIN));
        assert_eq!(health.stalled(Timestamp::UNIX_EPOCH, false), None, "a restart would not help");
    }
}
