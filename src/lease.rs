//! The lease: whether this process may still act for its partitions.
//!
//! A process that was paused (SIGSTOP, a starved machine) or cut off from its consumer group may
//! have lost its partitions to another instance without knowing it yet. It must then neither call
//! Desk nor publish. Each poll of the Kafka client renews the lease, and so does each sign of life
//! of the group's coordinator. A renewal that comes too late makes the lease invalid for
//! [`REJOIN_TIME`], in which the client finds out what it still owns. Fencing tokens from before
//! are refused from then on. A client that has lost its partitions interrupts the lease the same way.
//!
//! Written from the hot path with plain atomics. Read [`crate::health`] for what `/ready` says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::millis;

/// A poll later than this means that the process was paused: its partitions may be gone.
const MAX_POLL_GAP: Duration = Duration::from_secs(5);
/// A poll later than this means that this process did not run for a while: what arrived meanwhile is
/// not read yet, and every time limit that has passed seems to be exceeded.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// After a pause such time limits are noticed within this time.
const AFTER_PAUSE: Duration = Duration::from_secs(1);
/// After a pause the client needs this long to learn which partitions it has lost.
const REJOIN_TIME: Duration = Duration::from_secs(3);
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Proof that the lease was valid at one moment. [`Lease::accepts`] checks that it has been valid
/// ever since.
#[derive(Debug, Clone, Copy)]
pub struct FencingToken {
    term: u64,
}

/// Whether this process may still act for its partitions. Shared by everything that calls or
/// publishes.
#[derive(Debug)]
pub struct Lease {
    epoch: Instant,
    /// A coordinator that has been silent for longer may have given the partitions to another
    /// member. librdkafka does not notice it by itself under KIP-848, nor while it waits for the
    /// answer to a JoinGroup request: it sends no heartbeats then.
    max_coordinator_silence: Duration,
    /// When the client polled last, in milliseconds since `epoch`; 0 before the first poll.
    polled_ms: AtomicU64,
    /// When the last poll came that was later than [`SHORT_PAUSE`]; 0: none was.
    resumed_ms: AtomicU64,
    /// When the coordinator answered last; 0 where nothing watches it.
    coordinator_ms: AtomicU64,
    /// Invalid before this moment.
    invalid_until_ms: AtomicU64,
    /// Counts how often the lease became invalid.
    term: AtomicU64,
}

impl Lease {
    /// A valid lease.
    pub fn new(max_coordinator_silence: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            max_coordinator_silence,
            polled_ms: AtomicU64::new(0),
            resumed_ms: AtomicU64::new(0),
            coordinator_ms: AtomicU64::new(0),
            invalid_until_ms: AtomicU64::new(0),
            term: AtomicU64::new(0),
        }
    }

    /// The Kafka client polled.
    pub fn renew(&self) {
        let now = self.elapsed_ms();
        if self.is_poll_late(now) {
            // Before the renewal is stored, so that no reader misses the pause.
            self.resumed_ms.store(now, Ordering::Release);
        }
        self.renew_at(&self.polled_ms, Renewal { at_ms: now, now_ms: now, limit: MAX_POLL_GAP });
    }

    /// The group's coordinator answered, this long ago.
    pub fn renew_by_coordinator(&self, ago: Duration) {
        let now = self.elapsed_ms();
        let at_ms = now.saturating_sub(millis(ago));
        let renewal = Renewal { at_ms, now_ms: now, limit: self.max_coordinator_silence };
        self.renew_at(&self.coordinator_ms, renewal);
    }

    fn renew_at(&self, last_ms: &AtomicU64, renewal: Renewal) {
        let Renewal { at_ms, now_ms, limit } = renewal;
        let last = last_ms.load(Ordering::Acquire);
        // The first renewal cannot be late, and one that is itself too old renews nothing.
        if last > 0 && now_ms - last > millis(limit) && now_ms - at_ms <= millis(limit) {
            // Before the renewal is stored: no reader may see it without the invalid time it starts.
            self.end_term(now_ms);
        }
        last_ms.store(at_ms.max(last), Ordering::Release);
    }

    /// Another process may own the partitions: the tokens so far are refused for good, and new ones are
    /// issued after [`REJOIN_TIME`].
    pub fn interrupt(&self) {
        self.end_term(self.elapsed_ms());
    }

    fn end_term(&self, now_ms: u64) {
        self.invalid_until_ms.fetch_max(now_ms + millis(REJOIN_TIME), Ordering::AcqRel);
        self.term.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether this process was neither paused nor cut off until now, so that the partitions it
    /// believes to own are its own.
    pub fn valid(&self) -> bool {
        let now = self.elapsed_ms();
        let fresh = |last_ms: &AtomicU64, limit| {
            let last = last_ms.load(Ordering::Acquire);
            last == 0 || now.saturating_sub(last) <= millis(limit)
        };
        fresh(&self.polled_ms, MAX_POLL_GAP)
            && fresh(&self.coordinator_ms, self.max_coordinator_silence)
            && now >= self.invalid_until_ms.load(Ordering::Acquire)
    }

    /// Wait until the lease is valid, then issue a token.
    pub async fn token(&self) -> FencingToken {
        loop {
            // The term is read before the check: a pause in between makes the token worthless
            // instead of hiding the pause.
            let token = FencingToken { term: self.term.load(Ordering::Acquire) };
            if self.valid() {
                return token;
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Whether the lease has been valid without a break since the token was issued.
    pub fn accepts(&self, token: FencingToken) -> bool {
        self.valid() && self.term.load(Ordering::Acquire) == token.term
    }

    /// Whether this process was paused until a moment ago, however shortly. A time limit that ends now
    /// says nothing about the other end then.
    pub fn was_paused_lately(&self) -> bool {
        let now = self.elapsed_ms();
        // In this order: a poll in between has stored both.
        let is_late = self.is_poll_late(now);
        let resumed = self.resumed_ms.load(Ordering::Acquire);
        is_late || resumed > 0 && now.saturating_sub(resumed) <= millis(AFTER_PAUSE)
    }

    fn is_poll_late(&self, now_ms: u64) -> bool {
        let last = self.polled_ms.load(Ordering::Acquire);
        last > 0 && now_ms.saturating_sub(last) > millis(SHORT_PAUSE)
    }

    /// How long the coordinator has been silent, if that is longer than it may be.
    pub fn expired(&self) -> Option<Duration> {
        let last = self.coordinator_ms.load(Ordering::Acquire);
        let silence = Duration::from_millis(self.elapsed_ms().saturating_sub(last));
        (last > 0 && silence > self.max_coordinator_silence).then_some(silence)
    }

    /// Time since the Kafka client polled last, or since the start.
    pub fn poll_age(&self) -> Duration {
        let last = self.polled_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.elapsed_ms().saturating_sub(last))
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

/// One renewal: when it happened, when it is reported, and how late it may be.
struct Renewal {
    at_ms: u64,
    now_ms: u64,
    limit: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_paused_waits_until_it_knows_its_partitions() {
        let lease = Lease::new(Duration::from_secs(30));
        assert!(lease.valid());
        tokio::time::advance(Duration::from_secs(1)).await;
        lease.renew();
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!lease.valid(), "it runs again and has not polled yet");
        lease.renew();
        assert!(!lease.valid(), "the client may not know yet that it has lost everything");
        let start = Instant::now();
        let token = lease.token().await;
        assert!(start.elapsed() >= REJOIN_TIME);
        assert!(lease.accepts(token));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!lease.accepts(token));
        lease.renew();
        let after = lease.token().await;
        assert!(!lease.accepts(token), "a token from before a pause is refused for good");
        assert!(lease.accepts(after));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_pause_is_noticed_until_a_moment_after_it_and_costs_no_token() {
        let lease = Lease::new(Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!lease.was_paused_lately(), "nobody has polled yet");
        lease.renew();
        let token = lease.token().await;
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!lease.was_paused_lately(), "polls may be a second apart");
            lease.renew();
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(lease.was_paused_lately(), "it runs again and has not polled yet");
        for _ in 0..10 {
            lease.renew();
            assert!(lease.was_paused_lately());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!lease.was_paused_lately());
        assert!(lease.accepts(token));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_ends_all_tokens_at_once_whatever_renews_the_lease() {
        let lease = Lease::new(Duration::from_secs(30));
        let token = lease.token().await;
        lease.interrupt();
        lease.renew();
        assert!(!lease.valid() && !lease.accepts(token));
        let start = Instant::now();
        let after = lease.token().await;
        assert!(start.elapsed() >= REJOIN_TIME);
        assert!(lease.accepts(after) && !lease.accepts(token));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_cut_off_from_its_group_stops_before_its_session_times_out() {
        let lease = Lease::new(Duration::from_secs(30));
        let poll_for = async |seconds| {
            for _ in 0..seconds {
                tokio::time::advance(Duration::from_secs(1)).await;
                lease.renew();
            }
        };
        poll_for(100).await;
        assert!(lease.valid(), "nothing watches the coordinator");
        lease.renew_by_coordinator(Duration::from_secs(5));
        poll_for(25).await;
        assert!(lease.valid());
        poll_for(1).await;
        assert!(!lease.valid(), "the coordinator has been silent for more than 30 s");
        assert_eq!(lease.expired().unwrap().as_secs(), 31);
        lease.renew_by_coordinator(Duration::from_secs(31));
        assert!(!lease.valid(), "the answer is from before the silence");
        lease.renew_by_coordinator(Duration::ZERO);
        assert!(!lease.valid(), "the client may not know yet that it has lost everything");
        poll_for(3).await;
        assert!(lease.valid());
    }
}
