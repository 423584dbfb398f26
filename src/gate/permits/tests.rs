//! Which of many waiting events are granted a permit, class by class.

use std::time::Duration;

use super::call::{CallEnd, CallGrant, CallPermits, NextPermit, Search};
use super::claim::ClaimPermits;
use super::*;
use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;
use crate::gate::admission::AdmissionControl;
use crate::gate::breaker::BreakerPolicy;

const TRANSFER: DeskCommand = DeskCommand::TransferToHuman;
const TIMEOUT: Duration = Duration::from_secs(5);

fn caller(ticket: Ticket, attempt: Attempt) -> Caller {
    let rank = Rank { requested_at: Timestamp::UNIX_EPOCH, ticket };
    Caller { rank, session: SessionHash::of(&ticket.to_string()), attempt }
}

/// The permits of a gate, whose waiters are numbers.
struct Permits {
    control: AdmissionControl,
    claims: ClaimPermits<Ticket>,
    calls: CallPermits<Ticket>,
    now: Duration,
    in_flight: Vec<CallGrant>,
}

fn breaker_policy() -> BreakerPolicy {
    BreakerPolicy { probe_initial: TIMEOUT, probe_max: TIMEOUT, outage_after: 1_000 }
}

impl Permits {
    fn new(concurrency: usize) -> Self {
        Self {
            control: AdmissionControl::new(breaker_policy(), None),
            claims: ClaimPermits::new(concurrency),
            calls: CallPermits::new(concurrency, 0.2, TIMEOUT),
            now: Duration::ZERO,
            in_flight: Vec::new(),
        }
    }

    fn enqueue(
        &mut self,
        command: DeskCommand,
        tickets: impl IntoIterator<Item = Ticket>,
        attempt: Attempt,
    ) {
        for ticket in tickets {
            self.calls.enqueue(command, caller(ticket, attempt), self.now, ticket);
        }
    }

    /// Grant what can be granted: the events in this order.
    fn granted(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| {
            let search = Search::new(&mut self.control, &mut self.claims, self.now);
            match self.calls.next(search) {
                NextPermit::Call(grant, ticket) => {
                    self.in_flight.push(grant);
                    Some(ticket)
                }
                NextPermit::Claim(grant, ticket) => {
                    self.calls.enqueue(TRANSFER, caller(ticket, Attempt::First), self.now, ticket);
                    self.claims.release(grant.kind);
                    Some(1_000_000 + ticket)
                }
                NextPermit::LookAgain(_) => None,
            }
        })
        .collect()
    }

    /// All calls return with this signal.
    fn returned(&mut self, signal: &Signal) {
        for grant in std::mem::take(&mut self.in_flight) {
            self.control.on_signal(&grant.call, signal, self.now);
            let end = if signal.is_silence() { CallEnd::NoResponse } else { CallEnd::Answered };
            self.calls.release(&grant, end, self.now);
        }
    }
}

#[test]
fn while_first_attempts_wait_one_of_five_transfers_is_a_re_attempt() {
    let mut permits = Permits::new(1_000);
    permits.enqueue(TRANSFER, 0..100, Attempt::Again);
    permits.enqueue(TRANSFER, 100..200, Attempt::First);
    let granted = permits.granted();
    let again: Vec<_> = granted[..125].iter().filter(|ticket| **ticket < 100).collect();
    assert_eq!(again.len(), 25, "{granted:?}");
    assert_eq!(granted[..6], [100, 101, 102, 103, 0, 104], "each class by age");
    assert_eq!(granted.len(), 200, "without first attempts all of them");
}

#[test]
fn re_attempts_that_hang_hold_at_most_half_of_the_permits() {
    let mut permits = Permits::new(8);
    permits.enqueue(TRANSFER, 0..20, Attempt::Again);
    permits.enqueue(DeskCommand::GetSessionState, 20..40, Attempt::Again);
    assert_eq!(permits.granted(), [20, 21, 22, 23]);
    permits.enqueue(TRANSFER, 40..60, Attempt::First);
    assert_eq!(permits.granted(), [40, 41, 42]);
    let mut alone = Permits::new(1);
    alone.enqueue(TRANSFER, 0..2, Attempt::Again);
    assert_eq!(alone.granted(), [0]);
}

#[test]
fn state_queries_go_by_their_age() {
    let mut permits = Permits::new(1);
    permits.enqueue(TRANSFER, [2], Attempt::First);
    permits.enqueue(DeskCommand::GetSessionState, [1, 3], Attempt::First);
    for ticket in [1, 2, 3] {
        assert_eq!(permits.granted(), [ticket]);
        permits.returned(&Signal::Success);
    }
}

#[test]
fn the_lane_serves_the_newest_while_calls_hang() {
    let mut permits = Permits::new(16);
    permits.enqueue(TRANSFER, 0..40, Attempt::First);
    assert_eq!(permits.granted(), (0..14).collect::<Vec<_>>(), "the pool, and half of the lane");
    permits.now += Duration::from_secs(2);
    permits.enqueue(TRANSFER, [90], Attempt::First);
    assert_eq!(permits.granted(), [0; 0], "no token yet");
    permits.now += Duration::from_millis(500);
    assert_eq!(permits.granted(), [90]);
    permits.claims.enqueue(caller(95, Attempt::First), permits.now, 95);
    permits.now += Duration::from_millis(2_500);
    assert_eq!(permits.granted(), [1_000_095, 95], "newer, and claimed for its call");
    permits.now += Duration::from_secs(60);
    assert_eq!(permits.granted(), [0; 0], "the lane is full");
}

#[test]
fn the_lane_serves_the_first_state_query_of_a_new_event() {
    let query = DeskCommand::GetSessionState;
    let mut permits = Permits::new(16);
    permits.enqueue(TRANSFER, 0..40, Attempt::First);
    assert_eq!(permits.granted().len(), 14);
    permits.now += Duration::from_millis(2_500);
    permits.enqueue(query, [80], Attempt::Again);
    permits.enqueue(query, [90], Attempt::First);
    assert_eq!(permits.granted(), [90]);
    let mut without_transfers = Permits::new(16);
    without_transfers.enqueue(TRANSFER, 0..14, Attempt::First);
    assert_eq!(without_transfers.granted().len(), 14);
    without_transfers.now += Duration::from_millis(2_500);
    without_transfers.enqueue(query, [90], Attempt::First);
    assert_eq!(without_transfers.granted(), [90]);
}

#[test]
fn answers_open_the_lane_fully_and_hanging_calls_do_not() {
    let mut permits = Permits::new(16);
    permits.enqueue(TRANSFER, 0..100, Attempt::First);
    assert_eq!(permits.granted().len(), 14);
    permits.returned(&Signal::Success);
    assert_eq!(permits.granted(), (14..30).collect::<Vec<_>>(), "oldest first: none waits long");
    permits.returned(&Signal::NoResponse("time-out".into()));
    assert_eq!(permits.granted().len(), 12, "the tokens are used up");
    permits.now += TIMEOUT;
    permits.returned(&Signal::NoResponse("time-out".into()));
    assert_eq!(permits.granted().len(), 14, "half of the lane by time");
}

#[test]
fn a_lane_reservation_that_is_not_used_ends() {
    let mut permits = Permits::new(4);
    permits.enqueue(TRANSFER, 0..3, Attempt::First);
    assert_eq!(permits.granted(), [0, 1, 2]);
    permits.now += TIMEOUT;
    permits.enqueue(TRANSFER, [3], Attempt::First);
    permits.claims.enqueue(caller(9, Attempt::First), permits.now - TIMEOUT, 9);
    let search = Search::new(&mut permits.control, &mut permits.claims, permits.now);
    let NextPermit::Claim(grant, 9) = permits.calls.next(search) else { panic!("the newest") };
    assert_eq!(permits.granted(), [0; 0], "the lane is reserved");
    permits.claims.release(grant.kind);
    permits.calls.on_claim_released(grant.rank);
    assert_eq!(permits.granted(), [3]);
}

#[test]
fn while_the_oldest_wait_for_long_at_the_rate_limit_the_newest_get_a_part() {
    let mut permits = Permits::new(1_000);
    permits.control = AdmissionControl::new(breaker_policy(), Some(10.0));
    permits.enqueue(TRANSFER, 0..200, Attempt::First);
    let mut granted = Vec::new();
    for n in 0..600 {
        permits.now += Duration::from_millis(20);
        granted.extend(permits.granted());
        if n == 100 {
            permits.claims.enqueue(caller(900, Attempt::First), permits.now, 900);
        }
    }
    assert_eq!(granted[..9], [0, 1, 2, 3, 4, 5, 6, 7, 8], "in the first second by age");
    let newest = granted.iter().position(|ticket| *ticket == 900).unwrap();
    assert!(newest < 20 + 8, "{granted:?}");
    let old = granted.iter().filter(|ticket| **ticket < 100).count();
    assert!((85..=95).contains(&old), "three of four: {old} of {}", granted.len());
}

#[test]
fn the_slow_start_does_not_count_calls_that_hang_since_before_the_outage() {
    let mut permits = Permits::new(64);
    permits.enqueue(TRANSFER, 0..40, Attempt::First);
    assert_eq!(permits.granted().len(), 40);
    // Two of them are refused, so the gate shuts; a new session opens it.
    let refused = Signal::Misconfigured("60021".into());
    for grant in permits.in_flight.drain(..2).collect::<Vec<_>>() {
        permits.control.on_signal(&grant.call, &refused, permits.now);
        permits.calls.release(&grant, CallEnd::Answered, permits.now);
    }
    permits.now += Duration::from_secs(1);
    permits.enqueue(TRANSFER, [100], Attempt::First);
    assert_eq!(permits.granted(), [100], "the probe");
    let probe = permits.in_flight.pop().unwrap();
    permits.control.on_signal(&probe.call, &Signal::Success, permits.now);
    permits.calls.release(&probe, CallEnd::Answered, permits.now);
    permits.enqueue(TRANSFER, 200..300, Attempt::First);
    assert_eq!(permits.granted(), [200, 201, 202, 203], "four beside 38 that hang");
    permits.now += Duration::from_secs(10);
    assert_eq!(permits.in_flight.len() + permits.granted().len(), 57, "half of the lane");
}
