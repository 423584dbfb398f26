//! When the gate is held, shut and opened, who probes it, and which refusals are isolated.

use jiff::Timestamp;

use super::*;
use crate::domain::signal::Attempt;
use crate::gate::permits::{Rank, SessionHash, Ticket};

const S: fn(u64) -> Duration = Duration::from_secs;
const TRANSFER: DeskCommand = DeskCommand::TransferToHuman;

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(BreakerPolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 })
}

fn refused() -> Signal {
    Signal::Misconfigured("60021".into())
}

fn no_response() -> Signal {
    Signal::NoResponse("refused".into())
}

fn shut(reason: ShutReason) -> impl Fn(Option<BreakerChange>) -> bool {
    move |change| matches!(change, Some(BreakerChange::Shut(shut)) if shut.reason == reason)
}

/// Event `ticket`, in a session of its own.
fn caller(ticket: Ticket) -> Caller {
    let rank = Rank { requested_at: Timestamp::UNIX_EPOCH, ticket };
    Caller { rank, session: SessionHash::of(&ticket.to_string()), attempt: Attempt::First }
}

fn waiting(tickets: &[Ticket]) -> Vec<Candidate> {
    tickets.iter().map(|n| Candidate { command: TRANSFER, caller: caller(*n) }).collect()
}

/// A regular call of this event that starts and returns at once.
fn call(
    breaker: &mut CircuitBreaker,
    ticket: Ticket,
    signal: &Signal,
    now: Duration,
) -> Option<BreakerChange> {
    let call = breaker.start(TRANSFER, caller(ticket), now);
    breaker.on_signal(&call, signal, now)
}

/// The event that probes now.
fn prober(breaker: &CircuitBreaker, tickets: &[Ticket], now: Duration) -> Option<Ticket> {
    match breaker.choose_probe(&waiting(tickets), now) {
        ProbeTurn::Now(chosen) => Some(chosen.caller.rank.ticket),
        ProbeTurn::At(_) => None,
    }
}

fn probe(
    breaker: &mut CircuitBreaker,
    ticket: Ticket,
    signal: &Signal,
    now: Duration,
) -> Option<BreakerChange> {
    assert_eq!(prober(breaker, &[ticket], now), Some(ticket));
    let call = breaker.start_probe(waiting(&[ticket])[0], now);
    breaker.on_signal(&call, signal, now)
}

#[test]
fn a_refusal_of_one_session_holds_the_gate_until_another_one_was_asked() {
    let mut breaker = breaker();
    assert_eq!(call(&mut breaker, 1, &refused(), S(0)), None);
    assert!(breaker.is_held() && breaker.shut().is_none());
    assert_eq!(prober(&breaker, &[1], S(1)), None, "not the same session");
    assert_eq!(prober(&breaker, &[1, 2, 3], S(1)), Some(3));
    assert_eq!(probe(&mut breaker, 3, &Signal::Success, S(1)), None, "it was never shut");
    assert!(!breaker.is_held());
    assert_eq!(breaker.call_limit(64, S(1)).calls, 64, "no slow start");
    let mut breaker = self::breaker();
    call(&mut breaker, 1, &refused(), S(0));
    assert!(shut(ShutReason::Misconfigured)(probe(&mut breaker, 2, &refused(), S(1))));
}

#[test]
fn a_call_in_flight_is_a_witness_too() {
    let mut breaker = breaker();
    let in_flight = [2, 3].map(|n| breaker.start(TRANSFER, caller(n), S(0)));
    call(&mut breaker, 1, &refused(), S(1));
    assert_eq!(breaker.on_signal(&in_flight[0], &Signal::Success, S(2)), None);
    assert!(!breaker.is_held());
    call(&mut breaker, 1, &refused(), S(3));
    let change = breaker.on_signal(&in_flight[1], &refused(), S(4));
    assert!(shut(ShutReason::Misconfigured)(change));
}

#[test]
fn the_only_session_that_calls_is_asked_again_before_the_gate_shuts() {
    let mut breaker = breaker();
    call(&mut breaker, 1, &refused(), S(0));
    assert_eq!(breaker.choose_probe(&waiting(&[1]), S(1)), ProbeTurn::At(Some(S(5))));
    assert!(shut(ShutReason::Misconfigured)(probe(&mut breaker, 1, &refused(), S(5))));
    // A session that arrives now need not wait for the next probe.
    assert_eq!(prober(&breaker, &[1], S(6)), None);
    assert_eq!(prober(&breaker, &[1, 2], S(6)), Some(2));
    let opened = Some(BreakerChange::Opened { after: S(1) });
    assert_eq!(probe(&mut breaker, 2, &Signal::Success, S(6)), opened);
}

#[test]
fn a_shut_gate_is_probed_at_growing_intervals_and_in_turn() {
    let mut breaker = breaker();
    let all = [1, 2, 3, 4];
    for ticket in [1, 2] {
        call(&mut breaker, ticket, &refused(), S(0));
    }
    for ticket in [3, 4] {
        assert_eq!(probe(&mut breaker, ticket, &refused(), S(ticket)), None);
    }
    assert_eq!(prober(&breaker, &[5, 6], S(4)), None, "there are enough witnesses");
    assert_eq!(prober(&breaker, &all, S(5)), Some(1), "asked longest ago");
    assert_eq!(probe(&mut breaker, 1, &refused(), S(5)), None);
    assert_eq!(breaker.choose_probe(&waiting(&all), S(6)), ProbeTurn::At(Some(S(15))));
    assert_eq!(prober(&breaker, &all, S(15)), Some(2), "nobody twice in a row");
    let abandoned = breaker.start_probe(waiting(&[2])[0], S(15));
    breaker.on_abandoned(&abandoned, S(15));
    assert_eq!(probe(&mut breaker, 3, &refused(), S(15)), None);
    assert_eq!(breaker.choose_probe(&waiting(&all), S(16)), ProbeTurn::At(Some(S(30))));
    let opened = Some(BreakerChange::Opened { after: S(30) });
    assert_eq!(probe(&mut breaker, 4, &Signal::Success, S(30)), opened);
    assert!(!breaker.is_held());
}

#[test]
fn a_refusal_is_isolated_if_another_session_was_accepted_in_between() {
    let mut breaker = breaker();
    let contradicted =
        |breaker: &CircuitBreaker, n, at| breaker.start(TRANSFER, caller(n), at).contradicted;
    let in_flight = breaker.start(TRANSFER, caller(2), S(0));
    call(&mut breaker, 1, &refused(), S(1));
    breaker.on_signal(&in_flight, &Signal::Success, S(2));
    assert!(!contradicted(&breaker, 1, S(2)), "that call started before the refusal");
    call(&mut breaker, 2, &Signal::Success, S(3));
    assert!(contradicted(&breaker, 1, S(3)));
    assert!(!contradicted(&breaker, 3, S(3)), "its first refusal");
    let query = breaker.start(DeskCommand::GetSessionState, caller(1), S(3));
    assert!(!query.contradicted, "another command");
    assert_eq!(call(&mut breaker, 1, &refused(), S(3)), None);
    assert!(!breaker.is_held());
    assert!(contradicted(&breaker, 1, S(4)), "still");
    call(&mut breaker, 3, &refused(), S(5));
    assert!(!contradicted(&breaker, 1, S(6)), "others are refused now");
    call(&mut breaker, 1, &Signal::Success, S(7));
    assert!(!contradicted(&breaker, 1, S(8)), "it was accepted");
}

#[test]
fn the_second_reply_in_a_row_that_may_be_misrouted_asks_another_session() {
    let mut breaker = breaker();
    let misrouted = Signal::Misrouted("HTTP 403".into());
    assert_eq!(call(&mut breaker, 1, &misrouted, S(0)), None);
    assert!(!breaker.is_held(), "it may pass");
    call(&mut breaker, 1, &misrouted, S(1));
    assert!(breaker.is_held());
    assert_eq!(probe(&mut breaker, 2, &Signal::Success, S(2)), None);
    assert!(!breaker.is_held());
    assert!(breaker.start(TRANSFER, caller(1), S(3)).contradicted);
    call(&mut breaker, 3, &misrouted, S(3));
    call(&mut breaker, 3, &misrouted, S(3));
    assert!(shut(ShutReason::Misconfigured)(probe(&mut breaker, 2, &misrouted, S(4))));
}

#[test]
fn the_events_that_are_remembered_as_refused_are_bounded() {
    let mut breaker = breaker();
    for ticket in 0..2_000 {
        call(&mut breaker, ticket, &refused(), S(0));
        call(&mut breaker, 5_000, &Signal::Success, S(1));
    }
    assert!(!breaker.start(TRANSFER, caller(0), S(2)).contradicted, "forgotten");
    assert!(breaker.start(TRANSFER, caller(1_999), S(2)).contradicted);
}

#[test]
fn only_silence_of_several_sessions_without_an_answer_in_between_shuts_the_gate() {
    let mut breaker = breaker();
    let slow = breaker.start(TRANSFER, caller(9), S(0));
    for (ticket, signal) in
        [(1, no_response()), (2, no_response()), (3, Signal::Success), (1, no_response())]
    {
        assert_eq!(call(&mut breaker, ticket, &signal, S(1)), None);
    }
    assert_eq!(breaker.on_signal(&slow, &no_response(), S(1)), None, "Desk answered since then");
    for _ in 0..10 {
        assert_eq!(call(&mut breaker, 1, &no_response(), S(2)), None, "one session");
    }
    assert_eq!(call(&mut breaker, 2, &no_response(), S(2)), None);
    assert!(shut(ShutReason::Unreachable)(call(&mut breaker, 3, &no_response(), S(2))));
}

#[test]
fn a_long_silence_is_an_outage_however_few_sessions_call() {
    let mut breaker = breaker();
    for second in [0, 7, 14] {
        assert_eq!(call(&mut breaker, 1, &no_response(), S(second)), None);
    }
    assert!(shut(ShutReason::Unreachable)(call(&mut breaker, 1, &no_response(), S(15))));
}

#[test]
fn a_session_that_has_not_called_yet_probes_an_unreachable_desk_each_second() {
    let mut breaker = breaker();
    for ticket in 1..=3 {
        call(&mut breaker, ticket, &no_response(), S(0));
    }
    assert_eq!(prober(&breaker, &[1, 2, 3], S(4)), None);
    let hanging = [8, 7, 6, 5].map(|newest: Ticket| {
        let all: Vec<_> = (1..=newest).collect();
        let now = S(8 - newest);
        assert_eq!(prober(&breaker, &all, now), Some(newest), "the newest first");
        let started = breaker.start_probe(waiting(&[newest])[0], now);
        assert_eq!(prober(&breaker, &all[..all.len() - 1], now), None, "one each second");
        started
    });
    assert_eq!(prober(&breaker, &[1, 4], S(9)), None, "at most four at once");
    assert_eq!(breaker.on_signal(&hanging[0], &no_response(), S(9)), None);
    assert_eq!(prober(&breaker, &[1, 4], S(9)), Some(4));
    let opened = Some(BreakerChange::Opened { after: S(9) });
    assert_eq!(breaker.on_signal(&hanging[1], &Signal::Success, S(9)), opened);
}

#[test]
fn any_answer_opens_a_gate_that_is_shut_as_unreachable() {
    let mut breaker = breaker();
    let slow = breaker.start(TRANSFER, caller(9), S(0));
    for ticket in 1..=3 {
        call(&mut breaker, ticket, &no_response(), S(0));
    }
    let opened = Some(BreakerChange::Opened { after: S(4) });
    assert_eq!(breaker.on_signal(&slow, &Signal::Success, S(4)), opened);
}

#[test]
fn after_an_outage_the_call_limit_doubles_each_second() {
    let mut breaker = breaker();
    let full = |calls| CallLimit { calls, grows_at: None };
    let limited = |calls, at| CallLimit { calls, grows_at: Some(at) };
    assert_eq!(breaker.call_limit(64, S(0)), full(64), "no outage so far");
    call(&mut breaker, 1, &refused(), S(0));
    probe(&mut breaker, 2, &refused(), S(0));
    probe(&mut breaker, 1, &Signal::Success, S(6));
    assert_eq!(breaker.call_limit(64, S(6)), limited(4, S(7)));
    assert_eq!(breaker.call_limit(64, S(7)), limited(8, S(8)));
    assert_eq!(breaker.call_limit(64, S(9)), limited(32, S(10)));
    assert_eq!(breaker.call_limit(64, S(10)), full(64));
    assert_eq!(breaker.call_limit(2, S(6)), full(2));
    assert_eq!(breaker.call_limit(10_000, S(100_000)), full(10_000));
}

#[test]
fn a_gate_that_was_shut_for_a_moment_opens_at_once() {
    let mut breaker = breaker();
    for ticket in 1..=3 {
        call(&mut breaker, ticket, &no_response(), S(1));
    }
    let moment = Duration::from_millis(20);
    let opened = Some(BreakerChange::Opened { after: moment });
    assert_eq!(probe(&mut breaker, 4, &Signal::Success, S(1) + moment), opened);
    assert_eq!(breaker.call_limit(64, S(1) + moment).calls, 64);
}
