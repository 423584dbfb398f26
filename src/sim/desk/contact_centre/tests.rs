//! The rules of the contact centre. No test here opens a socket.

use super::*;
use crate::sim::desk::agents::Agent;

const RULES: CentreRules = CentreRules {
    auto_sessions: true,
    agents_must_accept: false,
    calls_kept_per_session: 8,
    sessions_return: false,
};

fn centre(agents: &[Agent], rules: CentreRules) -> ContactCentre {
    let centre = ContactCentre::new(SessionStore::new(1_000), Counters::new(0, 0), rules);
    centre.reset(Roster::new(agents));
    centre
}

fn request(command: ApiCommand, session: &str) -> CommandRequest {
    CommandRequest { command, session: Arc::from(session), transfer: TransferParameters::default() }
}

fn transfer(centre: &ContactCentre, session: &str) -> Effect {
    centre.execute(&request(ApiCommand::Transfer, session))
}

fn state(centre: &ContactCentre, session: &str) -> Effect {
    centre.execute(&request(ApiCommand::State, session))
}

fn set_state(centre: &ContactCentre, session: &str, state: SimulatedState) {
    centre.change_session(&SessionChange { session_id: session.to_owned(), state, agent_id: None });
}

fn with_capacity(id: &str, capacity: u32) -> Agent {
    Agent { capacity: Some(capacity), ..Agent::new(id) }
}

#[test]
fn a_transfer_succeeds_only_from_the_chatbot() {
    let rows = [
        (SimulatedState::Chatbot, 0),
        (SimulatedState::NotInSession, 141005),
        (SimulatedState::Queueing, 141003),
        (SimulatedState::WaitingForAgentAnswering, 141003),
        (SimulatedState::Agent, 141003),
    ];
    for (from, code) in rows {
        let centre = centre(&[], RULES);
        set_state(&centre, "s", from);
        assert_eq!(transfer(&centre, "s").code(), code, "from {from:?}");
        let acted = centre.sessions.report("s").unwrap().transfers_acted;
        assert_eq!(acted, u64::from(code == 0), "from {from:?}");
    }
}

#[test]
fn each_transfer_succeeds_if_sessions_return() {
    let centre = centre(&[with_capacity("a", 1)], CentreRules { sessions_return: true, ..RULES });
    for _ in 0..3 {
        assert_eq!(transfer(&centre, "s"), Effect::Assigned(Arc::from("a")));
        assert_eq!(
            state(&centre, "s"),
            Effect::State { state: SimulatedState::Chatbot, agent: None }
        );
    }
    assert_eq!(centre.sessions.report("s").unwrap().transfers_acted, 3);
    assert_eq!(centre.counters.transferred_again.load(Relaxed), 0);
}

#[test]
fn a_transferred_session_keeps_its_agent_until_it_ends() {
    let centre = centre(&[Agent::new("a")], RULES);
    assert_eq!(state(&centre, "s"), Effect::State { state: SimulatedState::Chatbot, agent: None });
    assert_eq!(transfer(&centre, "s"), Effect::Assigned(Arc::from("a")));
    assert_eq!(
        state(&centre, "s"),
        Effect::State { state: SimulatedState::Agent, agent: Some(Arc::from("a")) }
    );
    assert_eq!(transfer(&centre, "s"), Effect::Refused(141003));
    assert_eq!(centre.execute(&request(ApiCommand::End, "s")), Effect::Ended);
    assert_eq!(
        state(&centre, "s"),
        Effect::State { state: SimulatedState::NotInSession, agent: None }
    );
    assert_eq!(transfer(&centre, "s"), Effect::Refused(141005));
    assert_eq!(centre.execute(&request(ApiCommand::End, "s")), Effect::Refused(141005));
}

#[test]
fn agents_may_have_to_accept() {
    let centre = centre(&[Agent::new("a")], CentreRules { agents_must_accept: true, ..RULES });
    transfer(&centre, "s");
    let waiting = Effect::State {
        state: SimulatedState::WaitingForAgentAnswering,
        agent: Some(Arc::from("a")),
    };
    assert_eq!(state(&centre, "s"), waiting);
}

#[test]
fn without_auto_sessions_a_new_session_is_unknown() {
    let centre = centre(&[], CentreRules { auto_sessions: false, ..RULES });
    for command in [ApiCommand::Transfer, ApiCommand::State, ApiCommand::End] {
        assert_eq!(centre.execute(&request(command, "s")), Effect::Refused(141005));
    }
    set_state(&centre, "s", SimulatedState::Chatbot);
    assert_eq!(transfer(&centre, "s").code(), 0);
}

#[test]
fn a_transfer_to_nobody_ends_the_session_only_on_request() {
    let centre = centre(&[Agent { online: false, ..Agent::new("a") }], RULES);
    assert_eq!(transfer(&centre, "s"), Effect::Refused(141001));
    assert_eq!(state(&centre, "s"), Effect::State { state: SimulatedState::Chatbot, agent: None });
    let end =
        TransferParameters { end_session: true, send_tip: true, ..TransferParameters::default() };
    let end = CommandRequest { transfer: end, ..request(ApiCommand::Transfer, "s") };
    assert_eq!(centre.execute(&end), Effect::Refused(141001));
    assert_eq!(
        state(&centre, "s"),
        Effect::State { state: SimulatedState::NotInSession, agent: None }
    );
    assert_eq!(centre.counters.tips_sent.load(Relaxed), 1);
}

#[test]
fn a_session_without_a_free_agent_is_queued_or_refused() {
    let centre = centre(&[with_capacity("a", 1)], RULES);
    transfer(&centre, "first");
    let no_queue = TransferParameters { disable_queuing: true, ..TransferParameters::default() };
    let no_queue = CommandRequest { transfer: no_queue, ..request(ApiCommand::Transfer, "second") };
    assert_eq!(centre.execute(&no_queue), Effect::Refused(141012));
    assert_eq!(transfer(&centre, "second"), Effect::Queued);
    assert_eq!(
        state(&centre, "second"),
        Effect::State { state: SimulatedState::Queueing, agent: None }
    );
    centre.execute(&request(ApiCommand::End, "first"));
    assert_eq!(
        state(&centre, "second"),
        Effect::State { state: SimulatedState::Agent, agent: Some(Arc::from("a")) }
    );
}

#[test]
fn a_session_that_ends_in_the_queue_uses_no_capacity() {
    let centre = centre(&[with_capacity("a", 1)], RULES);
    for session in ["first", "second", "third"] {
        transfer(&centre, session);
    }
    centre.execute(&request(ApiCommand::End, "second"));
    centre.execute(&request(ApiCommand::End, "first"));
    assert_eq!(
        state(&centre, "third"),
        Effect::State { state: SimulatedState::Agent, agent: Some(Arc::from("a")) }
    );
}

#[test]
fn overlapping_calls_of_a_session_are_counted() {
    let centre = centre(&[], RULES);
    let (call, now) = (request(ApiCommand::Transfer, "s"), Instant::now());
    centre.begin_call(&call, 1, now);
    centre.begin_call(&call, 2, now);
    centre.end_call("s", 1, CallEnd::Code(0), now);
    centre.end_call("s", 2, CallEnd::NoAnswer, now);
    centre.begin_call(&call, 3, now);
    let report = centre.sessions.report("s").unwrap();
    assert_eq!((report.calls, report.in_flight, report.max_overlap), (3, 1, 2));
    assert_eq!(centre.counters.stats(now).overlapping_calls, 1);
    let codes: Vec<_> = report.log.iter().map(|call| (call.seq, call.code)).collect();
    assert_eq!(codes, [(1, Some(0)), (2, None), (3, None)]);
}
