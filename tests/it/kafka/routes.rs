//! Routes: chosen by attributes, run as a cascade, retried while no agent is online, also across a
//! `kill -9`.
//!
//! The simulated Desk answers by its agents, who are switched on and off; no reply is injected.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff::sim::desk::{Agent, ApiCommand, SimulatedDeskSettings, StaffChange};
use serde_json::{Value, json};

use crate::support::worker::{World, by_event, decided_at, escalation};

const ROUTES: &str = r#"
[[routes]]
name = "vip"
when = { tier = ["vip", "gold"] }
targets = [{ group = 9 }]
default_target = false

[[routes]]
name = "german"
when = { lang = "de" }
targets = [{ agents = ["dora@x"] }, { group = 8 }, { group = 7 }]

[[routes]]
name = "patient"
when = { patient = true }
targets = [{ group = 8 }]
while_nobody_online = "keep_trying"
retry_ms = [500, 1000]

[[routes]]
name = "slow"
when = { patient = "slowly" }
targets = [{ group = 8 }]
while_nobody_online = "keep_trying"
retry_ms = [60000]
"#;

/// Groups 7 and 9 are staffed, group 8 and Dora are not there.
fn staff() -> Vec<Agent> {
    let of = |group, id: &str| Agent { group: Some(group), ..Agent::new(id) };
    let gone = |agent: Agent| Agent { online: false, ..agent };
    vec![
        of(7, "anna@x"),
        of(9, "vera@x"),
        gone(of(8, "ben@x")),
        gone(Agent { group: None, ..Agent::new("dora@x") }),
    ]
}

async fn world(name: &str) -> World {
    let world = World::new(
        name,
        2,
        SimulatedDeskSettings { agents: staff(), ..SimulatedDeskSettings::default() },
    )
    .await;
    world.configure(ROUTES);
    world
}

fn with(id: &str, more: Value) -> Value {
    let mut event = escalation(id, &format!("s-{id}"));
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn patient(id: &str) -> Value {
    with(id, json!({"attributes": {"patient": true}}))
}

/// The interim outcomes by event id, at most one each, and the final ones.
fn parted(outcomes: Vec<Value>) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let (finals, interims): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|outcome| outcome["final"] == true);
    let mut by_id = BTreeMap::new();
    for interim in interims {
        assert_eq!(interim["status"], "no_agent_online", "{interim}");
        let id = interim["event_id"].as_str().unwrap().to_owned();
        assert_eq!(interim["id"], format!("{id}/interim"));
        assert_eq!(by_id.insert(id, interim.clone()), None, "a second one: {interim}");
    }
    (by_id, by_event(finals))
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_choose_the_route_and_its_targets_are_tried_in_order() {
    let world = world("routes").await;
    let german = json!({"lang": "de"});
    let strict = json!({"agents": ["dora@x"], "strict": true});
    world
        .publish([
            with("vip", json!({"attributes": {"tier": "gold", "lang": "de"}})),
            with("german", json!({"attributes": german})),
            with("own", json!({"attributes": german, "target": {"group": 9}})),
            with("strict", json!({"attributes": german, "target": strict})),
            with("other", json!({"attributes": {"tier": "basic"}})),
        ])
        .await;
    let worker = world.worker();
    let answered = by_event(world.outcomes(5).await);
    worker.stop().await;
    let outcome_of = |id: &str| {
        let outcome = &answered[id];
        [&outcome["status"], &outcome["route"], &outcome["agent_id"]].map(Value::clone)
    };
    assert_eq!(outcome_of("vip"), ["assigned", "vip", "vera@x"].map(Value::from));
    assert_eq!(outcome_of("german"), ["assigned", "german", "anna@x"].map(Value::from));
    assert_eq!(outcome_of("own"), ["assigned", "german", "vera@x"].map(Value::from));
    assert_eq!(outcome_of("strict")[..2], ["no_agent_online", "german"].map(Value::from));
    assert_eq!(outcome_of("other")[..2], [Value::from("assigned"), Value::Null]);
    assert_eq!(
        answered["german"]["tried"],
        json!([
            {"target": {"agents": ["dora@x"]}, "code": 141_001},
            {"target": {"group": 8}, "code": 141_001},
            {"target": {"group": 7}, "code": 0},
        ])
    );
    assert_eq!(answered["strict"]["attempts"], 1);
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_online_publishes_one_interim_outcome_and_keeps_trying() {
    let world = world("patient").await;
    world.desk.change_staff(&StaffChange::everyone(false));
    let second = json!({"id": "second", "session_id": "s-first"});
    world.publish([patient("first"), second, escalation("impatient", "s-impatient")]).await;
    let worker = world.worker();
    // The interim outcome, and the final one of the session that nobody keeps trying for.
    let (interims, finals) = parted(world.outcomes(2).await);
    assert_eq!(finals["impatient"]["status"], "no_agent_online");
    assert_eq!(interims["first"]["route"], "patient");
    assert_eq!(interims["first"]["attempts"], 2);
    let reason = interims["first"]["reason"].as_str().unwrap();
    assert!(reason.contains("retried until"), "{reason}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.desk.change_staff(&StaffChange::agent("ben@x", true));
    let (interims, finals) = parted(world.outcomes(4).await);
    worker.stop().await;
    assert_eq!((interims.len(), finals.len()), (1, 3));
    world.assert_all_committed().await;
    assert_eq!(finals["first"]["agent_id"], "ben@x");
    assert!(finals["first"]["attempts"].as_u64().unwrap() > 4, "{}", finals["first"]);
    assert_eq!(finals["first"]["tried"], Value::Null, "one target in its last round");
    assert_eq!(finals["second"]["confirmed_by"], "session_state", "it waited its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_online_is_the_final_outcome_at_the_deadline() {
    let world = world("nobody").await;
    world.desk.change_staff(&StaffChange::everyone(false));
    let within =
        |ms| (handoff::clock::Clock::system().now() + Duration::from_millis(ms)).to_string();
    let mut long = patient("long");
    let mut short = with("short", json!({"attributes": {"patient": "slowly"}}));
    let worker = world.worker();
    // The deadline is chosen when the worker has started, so that its rounds can be counted.
    world.publish([escalation("warm-up", "s-warm-up")]).await;
    world.outcomes(1).await;
    long["expires_at"] = within(8_000).into();
    world.publish([long]).await;
    let (interims, _) = parted(world.outcomes(2).await);
    assert_eq!(interims.keys().collect::<Vec<_>>(), ["long"]);
    short["expires_at"] = within(30_000).into();
    world.publish([short]).await;
    let (interims, finals) = parted(world.outcomes(4).await);
    worker.stop().await;
    assert_eq!((interims.len(), finals.len()), (1, 3), "no interim where no try would follow");
    for outcome in finals.values() {
        assert_eq!(outcome["status"], "no_agent_online", "{outcome}");
    }
    let attempts = finals["long"]["attempts"].as_u64().unwrap();
    assert!((6..=24).contains(&attempts), "some rounds of two targets: {}", finals["long"]);
    assert_eq!(finals["long"]["tried"].as_array().unwrap().len(), 2, "the last round");
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_interim_and_final_outcome_yields_one_of_each() {
    const EVENTS: usize = 60;
    let mut world = world("patient-kill").await;
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DESK__SETTLE_MS", "300").set("DRAIN__TIMEOUT_MS", "3000");
    world.desk.change_staff(&StaffChange::everyone(false));
    let ids: Vec<_> = (0..EVENTS).map(|n| format!("e-{n}")).collect();
    for (round, ids) in ids.chunks(EVENTS / 3).enumerate() {
        let worker = world.process();
        world.publish(ids.iter().map(|id| patient(id))).await;
        // Some are published by then, some are about to be.
        world.outcomes(round * EVENTS / 3 + 3).await;
        worker.kill().await;
    }
    let worker = world.process();
    let (interims, finals) = parted(world.outcomes(EVENTS).await);
    assert_eq!((interims.len(), finals.len()), (EVENTS, 0));
    let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert!(calls >= 2 * EVENTS as u64, "everybody was asked for: {calls}");
    worker.kill().await;
    world.desk.change_staff(&StaffChange::everyone(true));
    let worker = world.process();
    let (interims, finals) = parted(world.outcomes(2 * EVENTS).await);
    worker.terminate().await;
    assert_eq!((interims.len(), finals.len()), (EVENTS, EVENTS));
    assert!(finals.values().all(|outcome| outcome["status"] == "assigned"), "{finals:?}");
    for (id, interim) in &interims {
        assert!(decided_at(interim) < decided_at(&finals[id]), "{id}");
    }
    assert_eq!(world.desk.stats().transfers_acted, EVENTS as u64, "each acted on once");
    world.assert_all_committed().await;
}
