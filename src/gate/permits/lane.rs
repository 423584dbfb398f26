//! The lane of the newest: a quarter of the call permits, for first attempts and first state queries.
//!
//! Calls that hang for their whole time-out would hold every permit, and the events behind them would
//! wait although Desk would answer them. The lane serves the newest first attempts meanwhile (adaptive
//! LIFO): those that just arrived are the least likely to be among the hanging ones. Tokens bound how
//! many hanging calls it takes in: an answered call returns its token and, while none hangs, brings a
//! second one, so that half of the lane opens at once and all of it after one round trip. A hanging
//! call brings nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Rank;

/// A lane claim is for a call that follows at once; its permit is reserved for this long.
pub(super) const CLAIM_RESERVED_FOR: Duration = Duration::from_secs(1);
/// While the oldest first attempt has waited for less than this, the lane too serves the oldest.
pub(super) const NEWEST_FIRST_AFTER: Duration = Duration::from_secs(1);
/// A call in the lane that takes longer than this hangs.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// Without an answer for this long, tokens beyond the half that time fills are given up.
const UNUSED_AFTER: Duration = Duration::from_secs(1);
/// The smallest number of call permits with a lane.
const MIN_PERMITS: usize = 4;

/// How many of this many call permits are the lane.
pub(super) fn size(call_permits: usize) -> usize {
    if call_permits < MIN_PERMITS { 0 } else { call_permits / 4 }
}

pub(super) struct Lane {
    /// Permits at full concurrency.
    size: usize,
    /// By start.
    in_flight: BTreeSet<(Duration, Rank)>,
    /// Permits of events that are being claimed for the lane, and until when.
    reserved: BTreeMap<Rank, Duration>,
    tokens: f64,
    refilled_at: Duration,
    answered_at: Duration,
    /// How long a call can hang.
    call_timeout: Duration,
}

impl Lane {
    pub(super) fn new(concurrency: usize, call_timeout: Duration) -> Self {
        let mut lane = Self {
            size: size(concurrency),
            in_flight: BTreeSet::new(),
            reserved: BTreeMap::new(),
            tokens: 0.0,
            refilled_at: Duration::ZERO,
            answered_at: Duration::ZERO,
            call_timeout,
        };
        lane.tokens = lane.refill_limit();
        lane
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Add the tokens of the time that passed, and end reservations that were not used.
    pub(super) fn pass_time(&mut self, now: Duration) {
        let unused = self.reserved.extract_if(.., |_, until| *until <= now).count();
        let passed = now.saturating_sub(self.refilled_at);
        self.refilled_at = self.refilled_at.max(now);
        let earned = passed.as_secs_f64() * self.tokens_per_second();
        // Time alone fills half of the lane: the other half stays free for those who are answered.
        if self.tokens < self.refill_limit() {
            self.tokens = (self.tokens + earned).min(self.refill_limit());
        } else if now.saturating_sub(self.answered_at) > UNUSED_AFTER {
            self.tokens = self.refill_limit();
        }
        self.add_tokens(unused as f64);
    }

    /// Whether a call may start in a lane of this many permits.
    pub(super) fn has_place(&self, size: usize) -> bool {
        self.in_flight.len() + self.reserved.len() < size
    }

    /// When the next token comes; now, if there is one.
    pub(super) fn next_token_at(&self, now: Duration) -> Duration {
        if self.tokens > 1.0 - 1e-6 {
            return now;
        }
        now + Duration::from_secs_f64((1.0 - self.tokens) / self.tokens_per_second())
    }

    /// A call starts, with its reservation or with a token.
    pub(super) fn start_call(&mut self, rank: Rank, now: Duration) {
        if self.reserved.remove(&rank).is_none() {
            self.tokens -= 1.0;
        }
        self.in_flight.insert((now, rank));
    }

    pub(super) fn end_call(&mut self, rank: Rank, started_at: Duration) {
        self.in_flight.remove(&(started_at, rank));
    }

    /// A call of the lane that has ended was answered.
    pub(super) fn on_answer(&mut self, now: Duration) {
        let oldest = self.in_flight.first();
        let one_hangs = oldest.is_some_and(|(start, _)| now.saturating_sub(*start) > HANGS_AFTER);
        self.answered_at = now;
        self.add_tokens(if one_hangs { 1.0 } else { 2.0 });
    }

    pub(super) fn reserve(&mut self, rank: Rank, now: Duration) {
        self.tokens -= 1.0;
        self.reserved.insert(rank, now + CLAIM_RESERVED_FOR);
    }

    /// The event needs its reservation no more.
    pub(super) fn cancel(&mut self, rank: Rank) {
        if self.reserved.remove(&rank).is_some() {
            self.add_tokens(1.0);
        }
    }

    pub(super) fn reservations(&self) -> impl Iterator<Item = (Rank, Duration)> {
        self.reserved.iter().map(|(rank, until)| (*rank, *until))
    }

    fn add_tokens(&mut self, tokens: f64) {
        // A token stands for a free permit.
        let unused = self.size.saturating_sub(self.in_flight.len() + self.reserved.len()) as f64;
        if self.tokens < unused {
            self.tokens = (self.tokens + tokens).min(unused);
        }
    }

    fn refill_limit(&self) -> f64 {
        (self.size as f64 / 2.0).max(1.0)
    }

    /// Calls that all hang fill half of the lane.
    fn tokens_per_second(&self) -> f64 {
        self.refill_limit() / self.call_timeout.as_secs_f64()
    }
}
