//! The reaction to "too fast": CUBIC, as in the SDKs of the large clouds.
//!
//! A complaint that a second session confirms, or that comes under a limit, sets the rate to a part
//! of what Desk really accepted in the last second. The rate then grows back along a cubic curve:
//! quickly to the old rate, flat around it, ever faster above it. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::gate::permits::SessionHash;

const SECOND: Duration = Duration::from_secs(1);
/// Complaints of several sessions count together within this time: twice the second in which Desk
/// counts, because a session that was refused comes back after one.
const TOGETHER: Duration = Duration::from_secs(2);
/// The sessions that have to complain together where there is no limit yet: one alone says nothing
/// about the common rate.
const CONFIRMED_BY: usize = 2;
/// The same for a session that repeats its complaint while Desk accepts others. At a very low limit
/// most sessions repeat theirs; a few that Desk always refuses back off and rarely come together.
const REPEATS_CONFIRMED_BY: usize = 4;
/// The limit ends after this time without a complaint that counts. The promise is ten seconds.
const FORGET_AFTER: Duration = Duration::from_secs(9);
/// The part of the accepted rate that is left after a complaint: the SDKs use 0.7, but Desk's limit is
/// a fixed number, which is found again after each reduction.
const BETA: f64 = 0.8;
/// How fast the curve of the whole group bends, in calls per second per cubed second (as in the SDKs).
const SCALE: f64 = 0.4;
/// What a first reduction takes as accepted at least, in calls per second of the whole group: few
/// calls prove little.
const FIRST_FLOOR: f64 = 10.0;
/// What every reduction takes as accepted at least, in calls per second of the whole group.
const FLOOR: f64 = 1.0;
/// From a reduction to the plateau, in seconds, at least. A very low limit is not exceeded more often
/// than this, and 8 calls a second still grow to 100 before [`FORGET_AFTER`].
const MIN_UNTIL_PLATEAU: f64 = 2.5;
/// Sessions remembered for their complaint.
const MAX_COMPLAINERS: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Cubic {
    limit: Option<Limit>,
    /// The last complaint of each session that complained within [`TOGETHER`], at most
    /// [`REPEATS_CONFIRMED_BY`] of them, the latest last.
    together: VecDeque<Complaint>,
    /// No call starts earlier, at whatever rate.
    hold_until: Duration,
    /// The successful calls of the last second.
    successes: VecDeque<Duration>,
    total_successes: u64,
    /// Sessions that have complained and had no success since, the latest last.
    complainers: VecDeque<Complainer>,
}

/// From `since` on, the rate follows the curve that levels off at `plateau` (calls per second).
#[derive(Debug, Clone)]
struct Limit {
    complained_at: Duration,
    since: Duration,
    plateau: f64,
    scale: f64,
}

#[derive(Debug, Clone)]
struct Complaint {
    at: Duration,
    session: SessionHash,
}

#[derive(Debug, Clone)]
struct Complainer {
    session: SessionHash,
    /// All successes until its last complaint.
    successes_before: u64,
}

impl Cubic {
    /// The limit in force, in calls per second; infinite where there is none.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        self.limit.as_ref().map_or(f64::INFINITY, |limit| limit.rate_at(now))
    }

    pub(super) fn hold_until(&self) -> Duration {
        self.hold_until
    }

    /// A call of this session was accepted.
    pub(super) fn succeed(&mut self, session: SessionHash, now: Duration) {
        self.complainers.retain(|known| known.session != session);
        self.forget_old_successes(now);
        self.successes.push_back(now);
        self.total_successes += 1;
    }

    /// Desk said "too fast" to this session. `part` is this instance's part of the group's calls (0 to
    /// 1), so that the rates of all instances together grow along one curve. Returns the reduced rate,
    /// or `None` if the complaint changes no rate.
    pub(super) fn throttle(
        &mut self,
        session: SessionHash,
        now: Duration,
        part: f64,
    ) -> Option<f64> {
        if self.limit.as_ref().is_some_and(|limit| now >= limit.since + FORGET_AFTER) {
            self.limit = None;
        }
        let needed = match (self.others_succeeded_since_complaint_of(session), &self.limit) {
            (true, _) => REPEATS_CONFIRMED_BY,
            (false, None) => CONFIRMED_BY,
            (false, Some(_)) => 1,
        };
        if self.sessions_together(session, now) < needed {
            return None;
        }
        // The calls that were in flight at the first complaint are all refused together.
        if self.limit.as_ref().is_some_and(|limit| now < limit.complained_at + SECOND) {
            return None;
        }
        Some(self.reduce(now, part))
    }

    /// No call starts in the next `pause`.
    pub(super) fn hold(&mut self, pause: Duration, now: Duration) {
        self.hold_until = self.hold_until.max(now + pause);
    }

    fn reduce(&mut self, now: Duration, part: f64) -> f64 {
        self.forget_old_successes(now);
        let floor = part * if self.limit.is_some() { FLOOR } else { FIRST_FLOOR };
        let accepted = (self.successes.len() as f64).max(floor);
        // Desk's second is full until the oldest call that it accepted has left it.
        let since = self.successes.front().map_or(now, |oldest| *oldest + SECOND);
        self.hold_until = self.hold_until.max(since);
        self.limit =
            Some(Limit { complained_at: now, since, plateau: accepted, scale: SCALE * part });
        accepted * BETA
    }

    /// Remembers the complaint. Returns how many sessions complained together with it.
    fn sessions_together(&mut self, session: SessionHash, now: Duration) -> usize {
        self.together.retain(|other| now <= other.at + TOGETHER && other.session != session);
        if self.together.len() >= REPEATS_CONFIRMED_BY {
            self.together.pop_front();
        }
        self.together.push_back(Complaint { at: now, session });
        self.together.len()
    }

    /// Remembers the complaint. True if it repeats one and Desk accepts others meanwhile: it says
    /// nothing about the common rate then.
    fn others_succeeded_since_complaint_of(&mut self, session: SessionHash) -> bool {
        let known = self.complainers.iter().position(|known| known.session == session);
        let earlier = known.and_then(|index| self.complainers.remove(index));
        if self.complainers.len() >= MAX_COMPLAINERS {
            self.complainers.pop_front();
        }
        let successes_before = self.total_successes;
        self.complainers.push_back(Complainer { session, successes_before });
        earlier.is_some_and(|earlier| earlier.successes_before < successes_before)
    }

    fn forget_old_successes(&mut self, now: Duration) {
        while self.successes.front().is_some_and(|at| *at + SECOND <= now) {
            self.successes.pop_front();
        }
    }
}

impl Limit {
    fn rate_at(&self, now: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= FORGET_AFTER {
            return f64::INFINITY;
        }
        let until_plateau =
            (self.plateau * (1.0 - BETA) / self.scale).cbrt().max(MIN_UNTIL_PLATEAU);
        let curve = self.plateau + self.scale * (elapsed.as_secs_f64() - until_plateau).powi(3);
        curve.max(self.plateau * BETA)
    }
}
