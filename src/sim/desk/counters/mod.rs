//! The counters of the simulated Desk.
//!
//! Counting is cheap: atomics, and locks held for a few instructions, so that a benchmark measures
//! its client and not this. Whatever could grow is bounded: the seconds, the randoms, the requests.
//! A counter never changes what a call is answered, except for the limit per second.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::stats::{Command, CommandStats, SecondCount, SeenRequest, Stats};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Code(i64),
    Status(u16),
    Nothing,
}

const SECONDS_KEPT: usize = 3_600;
const RANDOMS_KEPT: usize = 1 << 18;

/// The counters behind [`Stats`].
pub(super) struct Counters {
    started: Mutex<Instant>,
    pub(super) seq: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) calls_cut_by_outage: AtomicU64,
    in_flight: AtomicU32,
    max_in_flight: AtomicU32,
    pub(super) transfers_asked: AtomicU64,
    pub(super) transfers_acted: AtomicU64,
    pub(super) transferred_again: AtomicU64,
    pub(super) overlapping_calls: AtomicU64,
    pub(super) max_overlap: AtomicU32,
    pub(super) tips_sent: AtomicU64,
    /// Calls per command in any one second; 0 for no limit.
    pub(super) limit_per_second: AtomicU32,
    tallies: [Mutex<Tally>; 4],
    randoms: Mutex<Randoms>,
    requests: Mutex<VecDeque<SeenRequest>>,
    requests_kept: usize,
}

#[derive(Default)]
struct Tally {
    stats: CommandStats,
    seconds: VecDeque<SecondCount>,
    /// The calls of the last second that were let through.
    window: VecDeque<Instant>,
}

#[derive(Default)]
struct Randoms {
    seen: HashSet<u32>,
    oldest_first: VecDeque<u32>,
    duplicates: u64,
}

impl Counters {
    pub(super) fn new(limit_per_second: u32, requests_kept: usize) -> Self {
        Self {
            started: Mutex::new(Instant::now()),
            seq: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            calls_cut_by_outage: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            max_in_flight: AtomicU32::new(0),
            transfers_asked: AtomicU64::new(0),
            transfers_acted: AtomicU64::new(0),
            transferred_again: AtomicU64::new(0),
            overlapping_calls: AtomicU64::new(0),
            max_overlap: AtomicU32::new(0),
            tips_sent: AtomicU64::new(0),
            limit_per_second: AtomicU32::new(limit_per_second),
            tallies: Default::default(),
            randoms: Mutex::default(),
            requests: Mutex::default(),
            requests_kept,
        }
    }

    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*lock(&self.started))
    }

    /// Counts a call that begins; says whether it goes over the limit.
    pub(super) fn begin(&self, command: Command, now: Instant) -> bool {
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Relaxed);
        let second = self.since_start(now).as_secs();
        let limit = self.limit_per_second.load(Relaxed) as usize;
        let mut tally = lock(self.tally(command));
        tally.count(second);
        limit > 0 && !tally.let_through(now, limit)
    }

    pub(super) fn end(&self, command: Command, sent: Sent, took: Duration) {
        self.in_flight.fetch_sub(1, Relaxed);
        let stats = &mut lock(self.tally(command)).stats;
        stats.took_us += took.as_micros() as u64;
        match sent {
            Sent::Code(code) => *stats.codes.entry(code).or_default() += 1,
            Sent::Status(status) => *stats.statuses.entry(status).or_default() += 1,
            Sent::Nothing => stats.unanswered += 1,
        }
    }

    pub(super) fn saw_random(&self, random: u32) {
        let mut randoms = lock(&self.randoms);
        if !randoms.seen.insert(random) {
            randoms.duplicates += 1;
            return;
        }
        randoms.oldest_first.push_back(random);
        if randoms.oldest_first.len() > RANDOMS_KEPT
            && let Some(oldest) = randoms.oldest_first.pop_front()
        {
            randoms.seen.remove(&oldest);
        }
    }

    pub(super) fn keep(&self, request: impl FnOnce() -> SeenRequest) {
        if self.requests_kept == 0 {
            return;
        }
        let mut requests = lock(&self.requests);
        if requests.len() == self.requests_kept {
            requests.pop_front();
        }
        requests.push_back(request());
    }

    pub(super) fn stats(&self, now: Instant) -> Stats {
        let by_command = |command| (command, lock(self.tally(command)).stats());
        let commands: BTreeMap<_, _> =
            Command::ALL.into_iter().map(by_command).filter(|(_, stats)| stats.calls > 0).collect();
        Stats {
            uptime_ms: self.since_start(now).as_millis() as u64,
            connections: self.connections.load(Relaxed),
            calls_cut_by_outage: self.calls_cut_by_outage.load(Relaxed),
            calls: commands.values().map(|stats| stats.calls).sum(),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            transfers_acted: self.transfers_acted.load(Relaxed),
            transferred_again: self.transferred_again.load(Relaxed),
            overlapping_calls: self.overlapping_calls.load(Relaxed),
            max_overlap: self.max_overlap.load(Relaxed),
            duplicate_randoms: lock(&self.randoms).duplicates,
            tips_sent: self.tips_sent.load(Relaxed),
            commands,
            last_requests: lock(&self.requests).iter().cloned().collect(),
            ..Stats::default()
        }
    }

    /// Begins again from zero; calls under way stay under way.
    pub(super) fn clear(&self, now: Instant) {
        *lock(&self.started) = now;
        self.max_in_flight.store(self.in_flight.load(Relaxed), Relaxed);
        self.max_overlap.store(0, Relaxed);
        for counter in [
            &self.connections,
            &self.calls_cut_by_outage,
            &self.transfers_asked,
            &self.transfers_acted,
            &self.transferred_again,
            &self.overlapping_calls,
            &self.tips_sent,
        ] {
            counter.store(0, Relaxed);
        }
        for tally in &self.tallies {
            *lock(tally) = Tally::default();
        }
        *lock(&self.randoms) = Randoms::default();
        lock(&self.requests).clear();
    }

    fn tally(&self, command: Command) -> &Mutex<Tally> {
        &self.tallies[command as usize]
    }
}

impl Tally {
    fn count(&mut self, second: u64) {
        self.stats.calls += 1;
        match self.seconds.back_mut().filter(|last| last.second >= second) {
            Some(last) => last.calls += 1,
            None => self.seconds.push_back(SecondCount { second, calls: 1 }),
        }
        let calls = self.seconds.back().map_or(0, |last| last.calls);
        self.stats.max_per_second = self.stats.max_per_second.max(calls);
        if self.seconds.len() > SECONDS_KEPT {
            self.seconds.pop_front();
        }
    }

    /// A rolling window: at most `limit` calls are let through in any one second.
    fn let_through(&mut self, now: Instant, limit: usize) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= Duration::from_secs(1);
        while self.window.front().is_some_and(is_old) {
            self.window.pop_front();
        }
        let free = self.window.len() < limit;
        if free {
            self.window.push_back(now);
        }
        free
    }

    fn stats(&self) -> CommandStats {
        CommandStats { per_second: self.seconds.iter().copied().collect(), ..self.stats.clone() }
    }
}

/// Locks; what a panicking holder left behind is still only counts.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests;
