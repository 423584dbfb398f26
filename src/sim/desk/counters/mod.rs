//! The counters behind [`DeskStats`].
//!
//! Counting uses atomics and locks that are held for a few instructions, so that a benchmark
//! measures its client and not this. All collections are bounded. The only count that changes
//! an answer is the limit per second.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::stats::{ApiCommand, CommandStats, DeskStats, SecondCount, SeenRequest};

/// What was sent at the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallEnd {
    Code(i64),
    Status(u16),
    NoAnswer,
}

/// The call exceeds the limit per second.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OverLimit;

const SECONDS_KEPT: usize = 3_600;
const RANDOMS_KEPT: usize = 1 << 18;

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
    by_command: [Mutex<CommandCounter>; 4],
    randoms: Mutex<SeenRandoms>,
    requests: Mutex<VecDeque<SeenRequest>>,
    requests_kept: usize,
}

#[derive(Default)]
struct CommandCounter {
    stats: CommandStats,
    seconds: VecDeque<SecondCount>,
    /// When the calls of the last second were admitted.
    admitted: VecDeque<Instant>,
}

#[derive(Default)]
struct SeenRandoms {
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
            by_command: Default::default(),
            randoms: Mutex::default(),
            requests: Mutex::default(),
            requests_kept,
        }
    }

    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.started.lock())
    }

    /// Counts the start of a call; fails if the call exceeds the limit per second.
    pub(super) fn begin(&self, command: ApiCommand, now: Instant) -> Result<(), OverLimit> {
        let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Relaxed);
        let second = self.since_start(now).as_secs();
        let limit = self.limit_per_second.load(Relaxed) as usize;
        let mut counter = self.counter(command).lock();
        counter.count(second);
        if limit == 0 || counter.admit(now, limit) { Ok(()) } else { Err(OverLimit) }
    }

    pub(super) fn end(&self, command: ApiCommand, end: CallEnd, took: Duration) {
        self.in_flight.fetch_sub(1, Relaxed);
        let stats = &mut self.counter(command).lock().stats;
        stats.took_us += took.as_micros() as u64;
        match end {
            CallEnd::Code(code) => *stats.codes.entry(code).or_default() += 1,
            CallEnd::Status(status) => *stats.statuses.entry(status).or_default() += 1,
            CallEnd::NoAnswer => stats.unanswered += 1,
        }
    }

    pub(super) fn count_random(&self, random: u32) {
        let mut randoms = self.randoms.lock();
        if !randoms.seen.insert(random) {
            // Its first use is in `oldest_first` already.
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

    pub(super) fn record(&self, request: impl FnOnce() -> SeenRequest) {
        if self.requests_kept == 0 {
            return;
        }
        let mut requests = self.requests.lock();
        if requests.len() == self.requests_kept {
            requests.pop_front();
        }
        requests.push_back(request());
    }

    pub(super) fn stats(&self, now: Instant) -> DeskStats {
        let by_command = |command| (command, self.counter(command).lock().stats());
        let commands: BTreeMap<_, _> = ApiCommand::ALL
            .into_iter()
            .map(by_command)
            .filter(|(_, stats)| stats.calls > 0)
            .collect();
        DeskStats {
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
            duplicate_randoms: self.randoms.lock().duplicates,
            tips_sent: self.tips_sent.load(Relaxed),
            commands,
            last_requests: self.requests.lock().iter().cloned().collect(),
            ..DeskStats::default()
        }
    }

    /// Resets all counts; calls in flight stay in flight.
    pub(super) fn clear(&self, now: Instant) {
        *self.started.lock() = now;
        // Calls in flight count towards the new maximum, because they will end after the reset.
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
        for counter in &self.by_command {
            *counter.lock() = CommandCounter::default();
        }
        *self.randoms.lock() = SeenRandoms::default();
        self.requests.lock().clear();
    }

    fn counter(&self, command: ApiCommand) -> &Mutex<CommandCounter> {
        &self.by_command[command as usize]
    }
}

impl CommandCounter {
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

    /// A sliding window: admits at most `limit` calls in any second, wherever it starts.
    fn admit(&mut self, now: Instant, limit: usize) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= Duration::from_secs(1);
        while self.admitted.front().is_some_and(is_old) {
            self.admitted.pop_front();
        }
        let has_room = self.admitted.len() < limit;
        if has_room {
            self.admitted.push_back(now);
        }
        has_room
    }

    fn stats(&self) -> CommandStats {
        CommandStats { per_second: self.seconds.iter().copied().collect(), ..self.stats.clone() }
    }
}

#[cfg(test)]
mod tests;
