//! The rules of the contact centre, one row per case.
//!
//! They are kept beside the file they test because they use its private parts. Tests here never
//! open a socket.

use super::*;
use crate::sim::desk::agents::Agent;

const RULES: HouseRules = HouseRules {
    auto_sessions: true,
    agents_must_accept: false,
    calls_kept_per_session: 8,
    sessions_return: false,
};

fn floor(agents: &[Agent], rules: HouseRules) -> Floor {
    let floor = Floor::new(Sessions::new(1_000), Counters::new(0, 0), rules);
    floor.open_anew(Roster::new(agents));
    floor
}

fn ask(command: Command, session: &str) -> Ask {
    Ask { command, session: Arc::from(session), transfer: Transfer::default() }
}

fn transfer(floor: &Floor, session: &str) -> Truth {
    floor.act(&ask(Command::Transfer, session))
}

fn state(floor: &Floor, session: &str) -> Truth {
    floor.act(&ask(Command::State, session))
}

fn put(floor: &Floor, session: &str, state: State) {
    floor.put(&SessionChange { session_id: session.to_owned(), state, agent_id: None });
}

fn with_capacity(id: &str, capacity: u32) -> Agent {
    Agent { capacity: Some(capacity), ..Agent::new(id) }
}

#[test]
fn a_transfer_succeeds_from_the_chatbot_only() {
    let rows = [
        (State::Chatbot, 0),
        (State::NotInSession, 141005),
        (State::Queueing, 141003),
        (State::WaitingForAgentAnswering, 141003),
        (State::Agent, 141003),
    ];
    for (from, code) in rows {
        let floor = floor(&[], RULES);
        put(&floor, "s", from);
        assert_eq!(transfer(&floor, "s").code(), code, "from {from:?}");
        let acted = floor.sessions.report("s").unwrap().transfers_acted;
        assert_eq!(acted, u64::from(code == 0), "from {from:?}");
    }
}

#[test]
fn where_sessions_return_each_transfer_succeeds() {
    let floor = floor(&[with_capacity("a", 1)], HouseRules { sessions_return: true, ..RULES });
    for _ in 0..3 {
        assert_eq!(transfer(&floor, "s"), Truth::Assigned(Arc::from("a")));
        assert_eq!(state(&floor, "s"), Truth::State(State::Chatbot, None));
    }
    assert_eq!(floor.sessions.report("s").unwrap().transfers_acted, 3);
    assert_eq!(floor.counters.transferred_again.load(Relaxed), 0);
}

#[test]
fn a_transferred_session_keeps_its_agent_until_it_ends() {
    let floor = floor(&[Agent::new("a")], RULES);
    assert_eq!(state(&floor, "s"), Truth::State(State::Chatbot, None));
    assert_eq!(transfer(&floor, "s"), Truth::Assigned(Arc::from("a")));
    assert_eq!(state(&floor, "s"), Truth::State(State::Agent, Some(Arc::from("a"))));
    assert_eq!(transfer(&floor, "s"), Truth::Refused(141003));
    assert_eq!(floor.act(&ask(Command::End, "s")), Truth::Done);
    assert_eq!(state(&floor, "s"), Truth::State(State::NotInSession, None));
    assert_eq!(transfer(&floor, "s"), Truth::Refused(141005));
    assert_eq!(floor.act(&ask(Command::End, "s")), Truth::Refused(141005));
}

#[test]
fn agents_may_have_to_accept() {
    let floor = floor(&[Agent::new("a")], HouseRules { agents_must_accept: true, ..RULES });
    transfer(&floor, "s");
    let waiting = Truth::State(State::WaitingForAgentAnswering, Some(Arc::from("a")));
    assert_eq!(state(&floor, "s"), waiting);
}

#[test]
fn unannounced_sessions_may_be_unknown() {
    let floor = floor(&[], HouseRules { auto_sessions: false, ..RULES });
    for command in [Command::Transfer, Command::State, Command::End] {
        assert_eq!(floor.act(&ask(command, "s")), Truth::Refused(141005));
    }
    put(&floor, "s", State::Chatbot);
    assert_eq!(transfer(&floor, "s").code(), 0);
}

#[test]
fn nobody_online_ends_the_session_only_if_asked_to() {
    let floor = floor(&[Agent { online: false, ..Agent::new("a") }], RULES);
    assert_eq!(transfer(&floor, "s"), Truth::Refused(141001));
    assert_eq!(state(&floor, "s"), Truth::State(State::Chatbot, None));
    let end = Transfer { end_session: true, send_tip: true, ..Transfer::default() };
    let end = Ask { transfer: end, ..ask(Command::Transfer, "s") };
    assert_eq!(floor.act(&end), Truth::Refused(141001));
    assert_eq!(state(&floor, "s"), Truth::State(State::NotInSession, None));
    assert_eq!(floor.counters.tips_sent.load(Relaxed), 1);
}

#[test]
fn full_agents_mean_the_queue_or_a_refusal() {
    let floor = floor(&[with_capacity("a", 1)], RULES);
    transfer(&floor, "first");
    let impatient = Transfer { disable_queuing: true, ..Transfer::default() };
    let impatient = Ask { transfer: impatient, ..ask(Command::Transfer, "second") };
    assert_eq!(floor.act(&impatient), Truth::Refused(141012));
    assert_eq!(transfer(&floor, "second"), Truth::Queued);
    assert_eq!(state(&floor, "second"), Truth::State(State::Queueing, None));
    floor.act(&ask(Command::End, "first"));
    assert_eq!(state(&floor, "second"), Truth::State(State::Agent, Some(Arc::from("a"))));
}

#[test]
fn who_ends_in_the_queue_takes_no_place() {
    let floor = floor(&[with_capacity("a", 1)], RULES);
    for session in ["first", "second", "third"] {
        transfer(&floor, session);
    }
    floor.act(&ask(Command::End, "second"));
    floor.act(&ask(Command::End, "first"));
    assert_eq!(state(&floor, "third"), Truth::State(State::Agent, Some(Arc::from("a"))));
}

#[test]
fn overlapping_calls_of_a_session_are_noticed() {
    let floor = floor(&[], RULES);
    let (ask, now) = (ask(Command::Transfer, "s"), Instant::now());
    floor.begin(&ask, 1, now);
    floor.begin(&ask, 2, now);
    floor.end_of_call("s", 1, (Sent::Code(0), now));
    floor.end_of_call("s", 2, (Sent::Nothing, now));
    floor.begin(&ask, 3, now);
    let report = floor.sessions.report("s").unwrap();
    assert_eq!((report.calls, report.in_flight, report.max_overlap), (3, 1, 2));
    assert_eq!(floor.counters.stats(now).overlapping_calls, 1);
    let codes: Vec<_> = report.log.iter().map(|call| (call.seq, call.code)).collect();
    assert_eq!(codes, [(1, Some(0)), (2, None), (3, None)]);
}
