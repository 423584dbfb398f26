//! A group of instances under a limit of Desk that none of them knows, simulated in pure time.

use std::collections::{HashMap, VecDeque};

use super::*;

const CONCURRENCY: usize = 64;
/// The limit is lifted at this second.
const LIFTED_AT: usize = 25;
/// The seconds simulated.
const SECONDS: usize = 36;

/// A Desk with a limit of calls per second, counted per second of its clock or in a sliding window.
struct LimitedDesk {
    limit: usize,
    sliding: bool,
    admitted: VecDeque<u64>,
}

impl LimitedDesk {
    fn accepts(&mut self, ms: u64) -> bool {
        let sliding = self.sliding;
        let is_old = |at: &u64| if sliding { at + 1000 <= ms } else { at / 1000 < ms / 1000 };
        while self.admitted.front().is_some_and(is_old) {
            self.admitted.pop_front();
        }
        let accepted = self.admitted.len() < self.limit;
        if accepted {
            self.admitted.push_back(ms);
        }
        accepted
    }
}

/// An instance with a backlog that never ends.
struct Instance {
    limiter: RateLimiter,
    in_flight: VecDeque<InFlight>,
    /// When each refused event calls again.
    waiting: Vec<(u64, u64)>,
    refusals: HashMap<u64, u32>,
    next_event: u64,
    rng: u64,
}

struct InFlight {
    ends_at: u64,
    event: u64,
    accepted: bool,
}

impl Instance {
    /// 0 to 1, the same in each run.
    fn random(&mut self) -> f64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.rng >> 40) as f64 / (1_u64 << 24) as f64
    }

    fn end_calls(&mut self, ms: u64) {
        while let Some(call) = self.in_flight.pop_front_if(|call| call.ends_at <= ms) {
            if call.accepted {
                self.limiter.succeed(session(call.event), MS(ms));
                continue;
            }
            self.limiter.throttle(session(call.event), MS(ms));
            let refusals = self.refusals.entry(call.event).or_default();
            *refusals += 1;
            let back_off = 1000 << (*refusals - 1).min(5);
            let jittered = back_off as f64 * (0.5 + self.random() / 2.0);
            self.waiting.push((ms + jittered as u64, call.event));
        }
    }

    /// Starts the calls that are allowed now. Returns how many were made and how many accepted.
    fn start_calls(&mut self, ms: u64, desk: &mut LimitedDesk) -> (u64, u64) {
        let (mut made, mut accepted) = (0, 0);
        while self.in_flight.len() < CONCURRENCY
            && self.limiter.next_at(MS(ms)).is_some_and(|at| at <= MS(ms))
        {
            let due = self.waiting.iter().position(|(due, _)| *due <= ms);
            let event = due.map_or(self.next_event, |index| self.waiting.swap_remove(index).1);
            self.next_event += u64::from(due.is_none());
            self.limiter.start_call(MS(ms));
            let is_accepted = desk.accepts(ms);
            (made, accepted) = (made + 1, accepted + u64::from(is_accepted));
            self.in_flight.push_back(InFlight { ends_at: ms + 50, event, accepted: is_accepted });
        }
        (made, accepted)
    }
}

/// What happened in each second.
#[derive(Default)]
struct Second {
    made: u64,
    accepted: u64,
    /// The rates of all instances together at its end.
    rate: f64,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    quota: Option<f64>,
    limit: usize,
    instances: usize,
    sliding: bool,
}

impl Case {
    /// `limit_at` gives Desk's limit in each second.
    fn run(self, limit_at: impl Fn(usize) -> usize) -> Vec<Second> {
        let all = first(12);
        let mut group: Vec<_> = all
            .chunks(12 / self.instances)
            .zip(1..)
            .map(|(ours, n)| {
                let mut limiter = RateLimiter::new(self.quota);
                limiter.set_share(ours, 12, MS(0));
                let (in_flight, waiting, refusals) = Default::default();
                Instance { limiter, in_flight, waiting, refusals, next_event: n << 32, rng: n }
            })
            .collect();
        let mut desk = LimitedDesk { limit: 0, sliding: self.sliding, admitted: VecDeque::new() };
        let mut seconds = Vec::new();
        for number in 0..SECONDS {
            desk.limit = limit_at(number);
            let mut second = Second::default();
            // After the start, when every share is in force.
            for ms in (number as u64 + 1) * 1000..(number as u64 + 2) * 1000 {
                for instance in &mut group {
                    instance.end_calls(ms);
                    let (made, accepted) = instance.start_calls(ms, &mut desk);
                    (second.made, second.accepted) =
                        (second.made + made, second.accepted + accepted);
                }
            }
            let end = MS((number as u64 + 2) * 1000);
            second.rate = group.iter().map(|instance| instance.limiter.rate(end)).sum();
            seconds.push(second);
        }
        seconds
    }

    /// The most calls per accepted call from the second second on. In the first, up to
    /// `desk.concurrency` calls of each instance are refused together before any answer says so.
    fn calls_per_event(self) -> f64 {
        match (self.limit, self.quota, self.instances) {
            // One refused call is a fifth of a second's calls, and each instance sees only its own.
            (5, Some(_), 1) => 1.15,
            (5, Some(_), 2) => 1.3,
            (5, Some(_), _) => 1.65,
            (5, None, 1) => 1.25,
            (5, None, 2) => 1.5,
            (5, None, _) => 2.2,
            // Without a quota nothing is between the curve and all permits at once.
            (_, None, 1) => 1.1,
            (_, None, _) => 1.25,
            _ => 1.1,
        }
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let quotas = [Some(100.0), Some(500.0), None];
    let limits = quotas.into_iter().flat_map(|quota| [5, 40, 90, 400].map(|limit| (quota, limit)));
    let groups = [(1, false), (1, true), (2, false), (2, true), (6, false), (6, true)];
    limits.filter(|(quota, limit)| quota.is_none_or(|quota| *limit < quota as usize)).flat_map(
        move |(quota, limit)| {
            groups.map(|(instances, sliding)| Case { quota, limit, instances, sliding })
        },
    )
}

fn sum(seconds: &[Second]) -> (f64, f64) {
    seconds.iter().fold((0.0, 0.0), |(made, accepted), second| {
        (made + second.made as f64, accepted + second.accepted as f64)
    })
}

#[test]
fn a_lower_limit_of_desk_is_used_and_the_quota_returns_within_ten_seconds() {
    let mut missed = Vec::new();
    for case in cases() {
        let seconds = case.run(|second| if second < LIFTED_AT { case.limit } else { usize::MAX });
        let used = sum(&seconds[10..LIFTED_AT]).1 / (15.0 * case.limit as f64);
        let (made, accepted) = sum(&seconds[1..LIFTED_AT]);
        let calls_per_event = made / accepted;
        let quota = case.quota.unwrap_or(f64::INFINITY);
        let back = seconds[LIFTED_AT..].iter().position(|second| second.rate >= 0.99 * quota);
        // At 5 calls a second, one second that stays empty after a complaint weighs more.
        let least_used = if case.limit == 5 { 0.75 } else { 0.9 };
        let seen = format!("{case:?}: {used:.2} used, {calls_per_event:.2} calls, back {back:?}");
        println!("{seen}");
        let reached = used >= least_used
            && calls_per_event <= case.calls_per_event()
            && back.is_some_and(|back| back < 10);
        if !reached {
            missed.push(seen);
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_limit_that_changes_is_followed_within_ten_seconds() {
    for sliding in [false, true] {
        for instances in [1, 2, 6] {
            let case = Case { quota: Some(100.0), limit: 0, instances, sliding };
            let seconds = case.run(|second| if second < 12 { 20 } else { 60 });
            assert!(sum(&seconds[22..]).1 >= 0.9 * 60.0 * 14.0, "up: {case:?}");
            let seconds = case.run(|second| if second < 12 { 90 } else { 20 });
            let (made, accepted) = sum(&seconds[13..]);
            assert!(accepted >= 0.85 * 20.0 * 23.0, "down: {case:?}, {accepted}");
            assert!(made <= 1.15 * accepted, "down: {case:?}: {made} for {accepted}");
        }
    }
}
