//! Every error code of Desk, and everything else that may come back instead of one, from record to
//! outcome. The expected class of each code comes from the table in `domain::codes`.

use std::time::Duration;

use futures_util::future::join_all;
use handoff::domain::codes::{CODES, CodeRow};
use handoff::domain::verdict::VerdictClass;
use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings, SimulatedState};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::worker::{World, by_event, escalation};

async fn world(name: &str) -> World {
    let mut world = World::new(name, 2, SimulatedDeskSettings::default()).await;
    world.set("DESK__PROBE_INITIAL_MS", "50").set("DESK__PROBE_MAX_MS", "50");
    world.set("RETRY__INITIAL_MS", "20").set("DESK__SETTLE_MS", "300");
    world.set("DESK__TIMEOUT_MS", "3000").set("DESK__CONNECT_TIMEOUT_MS", "2000");
    world
}

/// Run these events, each with its faults, to their outcomes.
async fn run(world: &World, events: &[(Value, Vec<InjectedFault>)]) -> Vec<Value> {
    for (event, faults) in events {
        for fault in faults {
            world.desk.schedule(fault.clone().session(event["session_id"].as_str().unwrap()));
        }
    }
    let worker = world.worker();
    world.publish(events.iter().map(|(event, _)| event.clone())).await;
    let outcomes = by_event(world.outcomes(events.len()).await);
    worker.stop().await;
    world.assert_all_committed().await;
    events.iter().map(|(event, _)| outcomes[event["id"].as_str().unwrap()].clone()).collect()
}

fn status_after_one(class: VerdictClass) -> (&'static str, u64) {
    match class {
        VerdictClass::Assigned | VerdictClass::Queued => ("assigned", 1),
        VerdictClass::NoAgent => ("no_agent_online", 1),
        VerdictClass::Occupied | VerdictClass::Rejected => ("rejected", 1),
        VerdictClass::Transient
        | VerdictClass::Throttled
        | VerdictClass::Reauthenticate
        | VerdictClass::Misconfigured => ("assigned", 2),
    }
}

fn check(row: &CodeRow, outcome: &Value) {
    let (status, attempts) = status_after_one(row.class);
    assert_eq!(outcome["status"], status, "{} {}: {outcome}", row.code, row.class);
    assert_eq!(outcome["attempts"], attempts, "{} {}: {outcome}", row.code, row.class);
    if status != "assigned" {
        assert_eq!(outcome["desk"]["code"], row.code, "verbatim: {outcome}");
        assert!(outcome["reason"].as_str().unwrap().contains(&row.code.to_string()), "{outcome}");
    }
}

/// The session's state was asked for exactly where the code leaves open what has happened.
fn check_questions(world: &World, row: &CodeRow, session: &str) {
    let log = world.desk.session(session).expect("it was called").log;
    let asked = log.iter().any(|call| call.command == ApiCommand::State);
    let is_open = row.in_doubt || row.class == VerdictClass::Occupied;
    assert_eq!(asked, is_open, "{} {}: {log:?}", row.code, row.class);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_once_then_success() {
    let world = world("codes").await;
    let rows: Vec<&CodeRow> =
        CODES.iter().filter(|row| row.class != VerdictClass::Throttled).collect();
    let events: Vec<_> = rows
        .iter()
        .map(|row| {
            let name = format!("code-{}", row.code);
            let faults =
                if row.code == 0 { vec![] } else { vec![transfer(InjectedFault::error(row.code))] };
            (escalation(&name, &name), faults)
        })
        .collect();
    let outcomes = run(&world, &events).await;
    for (row, outcome) in rows.iter().zip(&outcomes) {
        check(row, outcome);
        check_questions(&world, row, outcome["session_id"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_throttling_code_delays_the_call_and_then_succeeds() {
    let throttling = CODES.iter().filter(|row| row.class == VerdictClass::Throttled);
    // Each with a worker of its own: they would slow each other down.
    join_all(throttling.map(|row| async move {
        if row.code == PAUSE_CODE {
            return one_call_too_many_pauses_all_sessions(row).await;
        }
        let world = world("throttled").await;
        let event = escalation("e", "s");
        let outcomes =
            run(&world, &[(event, vec![transfer(InjectedFault::error(row.code))])]).await;
        check(row, &outcomes[0]);
        check_questions(&world, row, "s");
        assert!(outcomes[0]["elapsed_ms"].as_u64().unwrap() >= 1000, "{}", outcomes[0]);
    }))
    .await;
}

/// "Bad signature, or too often": Desk wants no call of the app for a minute.
const PAUSE_CODE: i64 = 70_050;
const PAUSE: Duration = Duration::from_secs(60);

/// Each other session that comes meanwhile waits for that minute, and is answered afterwards.
async fn one_call_too_many_pauses_all_sessions(row: &CodeRow) {
    let world = world("paused-by-desk").await;
    world.desk.schedule(transfer(InjectedFault::error(row.code)).session("s"));
    let worker = world.worker();
    world.publish([escalation("e", "s")]).await;
    let answered = async {
        loop {
            let first = world.desk.session("s").and_then(|seen| seen.log.first()?.ended_ns);
            match first {
                Some(ended) => break Duration::from_nanos(ended),
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let answered_at = timeout(PAUSE, answered).await.expect("Desk answers");
    // The worker has read the answer by then.
    sleep(Duration::from_secs(1)).await;
    let others: Vec<_> = (0..5).map(|n| format!("other-{n}")).collect();
    world.publish(others.iter().map(|id| escalation(id, id))).await;
    let outcomes = by_event(world.outcomes(1 + others.len()).await);
    worker.stop().await;
    world.assert_all_committed().await;
    check(row, &outcomes["e"]);
    check_questions(&world, row, "s");
    let begun = |session: &str, number: usize| {
        let call = &world.desk.session(session).expect("it was called").log[number];
        Duration::from_nanos(call.began_ns).saturating_sub(answered_at)
    };
    let mut calls: Vec<_> = others.iter().map(|id| begun(id, 0)).collect();
    calls.push(begun("s", 1));
    calls.sort();
    println!("after {}: the next calls began after {calls:?}", row.code);
    assert!(calls[0] >= PAUSE, "a call in that minute: {calls:?}");
    assert!(outcomes.values().all(|outcome| outcome["status"] == "assigned"), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_codes_and_transport_errors_end_as_their_class_says() {
    let world = world("transport").await;
    let html = "<html>sign in to the network</html>";
    let table = [
        ("unknown-desk", vec![transfer(InjectedFault::error(141_099))], ("rejected", 1)),
        ("unknown-other", vec![transfer(InjectedFault::error(60_999)).times(9)], ("failed", 3)),
        ("http-502", vec![transfer(InjectedFault::status(502))], ("assigned", 2)),
        ("http-429", vec![transfer(InjectedFault::status(429))], ("assigned", 2)),
        ("http-403", vec![transfer(InjectedFault::status(403)).times(2)], ("assigned", 3)),
        ("http-302", vec![transfer(InjectedFault::status(302)).times(2)], ("assigned", 3)),
        ("html", vec![transfer(InjectedFault::garbage(html))], ("assigned", 2)),
        (
            "json",
            vec![transfer(InjectedFault::garbage("{\"ActionStatus\":\"OK\"}"))],
            ("assigned", 2),
        ),
        ("closed", vec![transfer(InjectedFault::close())], ("assigned", 2)),
        ("hang", vec![transfer(InjectedFault::hang())], ("assigned", 2)),
        ("lost", vec![transfer(InjectedFault::lost_answer())], ("assigned", 1)),
        (
            "141002-acted",
            vec![transfer(InjectedFault::error(141_002)).with_effect()],
            ("assigned", 1),
        ),
        ("502-acted", vec![transfer(InjectedFault::status(502)).with_effect()], ("assigned", 1)),
    ];
    let events: Vec<_> = table
        .iter()
        .map(|(name, faults, _)| (escalation(name, &format!("s-{name}")), faults.clone()))
        .collect();
    let outcomes = run(&world, &events).await;
    for ((name, _, (status, attempts)), outcome) in table.iter().zip(&outcomes) {
        assert_eq!(outcome["status"], *status, "{name}: {outcome}");
        assert_eq!(outcome["attempts"], *attempts, "{name}: {outcome}");
        let by_question = ["lost", "141002-acted", "502-acted"].contains(name);
        let by = if by_question { "session_state" } else { "reply" };
        if *status == "assigned" {
            assert_eq!(outcome["confirmed_by"], by, "{name}: {outcome}");
        }
    }
    assert_eq!(world.desk.stats().transferred_again, 0, "no session was transferred twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_state_decides_after_141003_and_after_a_lost_answer() {
    let world = world("states").await;
    let occupied = || vec![transfer(InjectedFault::error(141_003))];
    let table = [
        ("agent", SimulatedState::Agent, occupied(), "assigned"),
        ("waiting", SimulatedState::WaitingForAgentAnswering, occupied(), "assigned"),
        ("queueing", SimulatedState::Queueing, occupied(), "queued"),
        ("chatbot", SimulatedState::Chatbot, occupied(), "rejected"),
        ("ended", SimulatedState::NotInSession, occupied(), "rejected"),
        (
            "ended-lost",
            SimulatedState::NotInSession,
            vec![transfer(InjectedFault::close())],
            "rejected",
        ),
    ];
    for (name, state, _, _) in &table {
        world.desk.set_session_state(*name, *state);
    }
    let events: Vec<_> =
        table.iter().map(|(name, _, faults, _)| (escalation(name, name), faults.clone())).collect();
    let outcomes = run(&world, &events).await;
    for ((name, _, _, status), outcome) in table.iter().zip(&outcomes) {
        assert_eq!(outcome["status"], *status, "{name}: {outcome}");
        assert_eq!(outcome["confirmed_by"], "session_state", "{name}: {outcome}");
    }
    assert_eq!(world.desk.stats().transfers_acted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_state_query_is_repeated_and_an_unsupported_one_is_not() {
    let world = world("state-queries").await;
    let doubt = || transfer(InjectedFault::error(141_002));
    let state = |fault: InjectedFault| fault.commands(&[ApiCommand::State]);
    let table = [
        ("502", vec![doubt(), state(InjectedFault::status(502)).times(2)], ("assigned", 2)),
        ("reauthenticate", vec![doubt(), state(InjectedFault::error(70_001))], ("assigned", 2)),
        ("wrong", vec![doubt(), state(InjectedFault::error(60_021))], ("assigned", 2)),
        ("gone", vec![doubt(), state(InjectedFault::error(141_005))], ("rejected", 1)),
        ("cannot", vec![doubt(), state(InjectedFault::status(404))], ("assigned", 2)),
        ("cannot-60009", vec![doubt(), state(InjectedFault::error(60_009))], ("assigned", 2)),
    ];
    let events: Vec<_> =
        table.iter().map(|(name, faults, _)| (escalation(name, name), faults.clone())).collect();
    let outcomes = run(&world, &events).await;
    for ((name, _, (status, attempts)), outcome) in table.iter().zip(&outcomes) {
        assert_eq!(outcome["status"], *status, "{name}: {outcome}");
        assert_eq!(outcome["attempts"], *attempts, "{name}: {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cascade_tries_agents_group_and_default_and_lists_them_in_tried() {
    let world = world("cascade").await;
    let nobody = |times| vec![transfer(InjectedFault::error(141_001)).times(times)];
    let target = json!({"agents": ["a@x"], "group": 7});
    let strict = json!({"agents": ["a@x"], "group": 7, "strict": true});
    let event = |id: &str, target: &Value| json!({"id": id, "session_id": id, "target": target});
    let events = [
        (event("first", &target), nobody(0).into_iter().skip(1).collect()),
        (event("group", &target), nobody(1)),
        (event("default", &target), nobody(2)),
        (event("nobody", &target), nobody(3)),
        (event("strict", &strict), nobody(2)),
    ];
    let outcomes = run(&world, &events).await;
    let (both, group, default) =
        (json!({"agents": ["a@x"], "group": 7}), json!({"group": 7}), json!({"default": true}));
    let tried = |target: &Value, code: i64| json!({"target": target, "code": code});
    let (a, b) = (tried(&both, 141_001), tried(&group, 141_001));
    let expected = [
        ("assigned", &both, Value::Null),
        ("assigned", &group, json!([a, tried(&group, 0)])),
        ("assigned", &default, json!([a, b, tried(&default, 0)])),
        ("no_agent_online", &default, json!([a, b, tried(&default, 141_001)])),
        ("no_agent_online", &group, json!([a, b])),
    ];
    for ((status, target, tried), outcome) in expected.iter().zip(&outcomes) {
        assert_eq!(outcome["status"], *status, "{outcome}");
        assert_eq!(outcome["target"], **target, "{outcome}");
        assert_eq!(outcome["tried"], *tried, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_the_last_known_result_decides_the_status() {
    let mut world = world("deadline").await;
    world.set("ESCALATION__DOUBT_GRACE_S", "2").set("DESK__OUTAGE_AFTER", "1000");
    // The worker starts and calls before that, also on a slow machine.
    let soon = (handoff::clock::Clock::system().now() + Duration::from_secs(15)).to_string();
    let past = "2026-01-01T00:00:00Z";
    let event =
        |id: &str, expires: &str| json!({"id": id, "session_id": id, "expires_at": expires});
    let state_502 = || InjectedFault::status(502).commands(&[ApiCommand::State]).times(0);
    let events = [
        (event("never-called", past), vec![]),
        (event("fault", &soon), vec![transfer(InjectedFault::error(60_014)).times(0)]),
        (event("unknown", &soon), vec![transfer(InjectedFault::lost_answer()), state_502()]),
    ];
    let outcomes = run(&world, &events).await;
    let seen: Vec<_> = outcomes.iter().map(|o| (&o["status"], &o["attempts"])).collect();
    assert_eq!(seen[0], (&json!("expired"), &json!(0)));
    assert_eq!(outcomes[1]["status"], "failed", "{}", outcomes[1]);
    assert!(outcomes[1]["reason"].as_str().unwrap().contains("60014"), "{}", outcomes[1]);
    assert_eq!(seen[2], (&json!("failed"), &json!(1)));
    assert!(outcomes[2]["reason"].as_str().unwrap().contains("unknown"), "{}", outcomes[2]);
}

fn transfer(fault: InjectedFault) -> InjectedFault {
    fault.commands(&[ApiCommand::Transfer])
}
