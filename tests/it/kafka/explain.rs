//! `handoff explain` against the service: for 1,000 generated escalations and routes, the calls that an
//! explanation names are those that the simulated Desk receives, and its ending is what is published.
//!
//! Nobody is online, so that every call of a plan is made.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use handoff::clock::Clock;
use handoff::config::{self, Config};
use handoff::domain::explanation::{ExplainedEnding, ExplainedRecord, explain};
use handoff::domain::record::{Position, Record as ReadRecord};
use handoff::sim::desk::{Agent, ApiCommand, SimulatedDeskSettings, StaffChange};
use serde_json::{Value, json};

use crate::support::kafka::Record;
use crate::support::worker::World;

const EVENTS: usize = 1_000;
const ROUTES: usize = 20;

/// Open at every moment of the test, and closed at each.
const HOURS: &str = r#"
[[hours]]
name = "always"
zone = "UTC"
weekly = { mon-sun = ["00:00-24:00"] }

[[hours]]
name = "later"
zone = "UTC"
weekly = { mon-sun = ["00:00-24:00"] }
closed = [CLOSED]
"#;

fn one_of<'w>(rng: &mut Rng, words: &[&'w str]) -> &'w str {
    words[rng.usize(..words.len())]
}

/// A route with random conditions, targets and options.
fn route(rng: &mut Rng, number: usize) -> String {
    let mut when = Vec::new();
    for (key, values) in [
        ("tier", &["\"vip\"", "[\"gold\", \"vip\"]", "{ not = \"basic\" }"][..]),
        ("lang", &["\"de\"", "{ prefix = \"f\" }", "{ exists = false }"]),
        ("score", &["{ min = 3 }", "{ max = 2 }", "{ min = 2, max = 4 }"]),
        ("reason", &["\"asked\"", "{ prefix = \"re\" }"]),
        ("hours", &["\"always\"", "{ not = \"later\" }"]),
    ] {
        // The last one: without any condition it would hide all routes behind it.
        if rng.u8(..3) == 0 || key == "hours" && when.len() < 2 {
            when.push(format!("{key} = {}", one_of(rng, values)));
        }
    }
    let targets = [
        "{ group = 1 }",
        "{ group = 2 }",
        "{ agents = [\"a@x\"] }",
        "{ agents = [\"a@x\", \"b@x\"], group = 3 }",
        "{ default = true }",
    ];
    let targets: Vec<_> = (0..rng.usize(1..4)).map(|_| one_of(rng, &targets)).collect();
    let more = [
        "while_nobody_online = \"keep_trying\"\nretry_ms = [300000]",
        "hours = \"later\"\noutside_hours = \"park_until_open\"",
        "shadow = true",
        "default_target = false",
        "priority = 4",
        "options = { send_tip_if_no_agent_online = true, queue_timeout = 60 }",
        "options = { disable_queuing = true }\npriority = 0",
        "hours = \"later\"\noutside_hours = \"answer\"",
        "hours = \"always\"\noutside_hours = \"answer\"",
        "",
    ];
    let (when, targets) = (when.join(", "), targets.join(", "));
    let more = more[number % more.len()];
    format!(
        "\n[[routes]]\nname = \"r{number}\"\nwhen = {{ {when} }}\ntargets = [{targets}]\n{more}\n"
    )
}

/// As many random routes as asked for, without those that can never be used.
fn configured(rng: &mut Rng, world: &World, file: &Path) -> (String, Config) {
    let today = jiff::tz::TimeZone::UTC.to_datetime(Clock::system().now()).date();
    let days = [today, today.tomorrow().unwrap()].map(|day| format!("\"{day}\""));
    let mut toml = HOURS.replace("CLOSED", &days.join(", "));
    let load = |toml: &str| {
        std::fs::write(file, toml).unwrap();
        config::load(Some(file), world.env())
    };
    let mut config = load(&toml).expect("hours are valid");
    let mut number = 0;
    for _ in 0..20 * ROUTES {
        if number == ROUTES {
            break;
        }
        let more = format!("{toml}{}", route(rng, number));
        if let Ok(valid) = load(&more) {
            (toml, config) = (more, valid);
            number += 1;
        }
    }
    assert_eq!(number, ROUTES, "each of the others is never used\n{toml}");
    (toml, config)
}

/// After the hours "later" have begun.
fn in_four_days() -> String {
    (Clock::system().now() + Duration::from_secs(4 * 24 * 60 * 60)).to_string()
}

/// A random escalation of its own session, in one of the envelopes; now and then one that is invalid,
/// past its deadline, of another type, or malformed.
fn value(rng: &mut Rng, number: usize) -> Value {
    let mut attributes = json!({});
    for (name, values) in [
        ("tier", [json!("vip"), json!("gold"), json!("basic")]),
        ("lang", [json!("de"), json!("fr"), json!("en")]),
        ("score", [json!(1), json!(3), json!("5")]),
    ] {
        if rng.u8(..4) > 0 {
            attributes[name] = values[rng.usize(..3)].clone();
        }
    }
    let mut event = json!({"id": format!("e-{number}"), "session_id": format!("s-{number}"), "attributes": attributes});
    if rng.bool() {
        event["reason"] = one_of(rng, &["asked", "refund"]).into();
    }
    match rng.u8(..8) {
        0 => event["target"] = json!({"group": 2}),
        1 => event["target"] = json!({"agents": ["a@x"], "group": 1}),
        2 => event["target"] = json!({"agents": ["b@x"], "strict": true}),
        _ => {}
    }
    match rng.u8(..30) {
        0 => event["priority"] = 11.into(),
        1 => event["expires_at"] = "2020-01-01T00:00:00Z".into(),
        2 => event["type"] = "message".into(),
        3 => event["session_id"] = Value::Null,
        4 => event["priority"] = 1.into(),
        5..9 => event["expires_at"] = in_four_days().into(),
        9 => event["options"] = json!({"allow_assign_busy_member": true, "queue_timeout": 5}),
        _ => {}
    }
    match rng.u8(..6) {
        0 => json!({"schema": null, "payload": event}),
        1 => json!({"schema": null, "payload": event.to_string()}),
        2 => json!({
            "specversion": "1.0", "id": format!("e-{number}"), "type": "t", "source": "/", "data": event,
        }),
        _ => event,
    }
}

/// What is expected of the service, by the session; an event without one is a dead letter.
#[derive(Default)]
struct Expected {
    calls: BTreeMap<String, Vec<Value>>,
    outcomes: BTreeMap<String, (String, bool)>,
    dead_letters: usize,
    skipped: usize,
}

impl Expected {
    fn add(&mut self, value: &[u8], config: &Config) {
        let now = Clock::system().now();
        let record = ReadRecord {
            position: Position { topic: "t".into(), partition: 0, offset: 0 },
            timestamp: Some(now),
            key: None,
            value: Some(value.to_vec()),
            headers: Vec::new(),
        };
        let event = match explain(&record, &config.rules, &config.policy, now).record {
            ExplainedRecord::NotForUs(_) => {
                self.skipped += 1;
                return;
            }
            ExplainedRecord::Malformed(_) => {
                self.dead_letters += 1;
                return;
            }
            ExplainedRecord::Event(event) => event,
        };
        let session = event.event.session_id.to_string();
        let bodies = event.calls.iter().map(|call| serde_json::from_slice(&call.body).unwrap());
        let bodies: Vec<_> = bodies.collect();
        if !bodies.is_empty() {
            self.calls.insert(session.clone(), bodies);
        }
        let outcome = match &event.ending {
            ExplainedEnding::Outcome(outcome) => (outcome.status.to_string(), true),
            ExplainedEnding::TriedAgain(_) | ExplainedEnding::Parked(_) => {
                ("no_agent_online".to_owned(), false)
            }
            ExplainedEnding::NotKnown => panic!("the codes are the built-in ones"),
        };
        self.outcomes.insert(session, outcome);
    }
}

fn staff() -> Vec<Agent> {
    let of = |id: &str, group| Agent { group: Some(group), ..Agent::new(id) };
    vec![of("a@x", 1), of("b@x", 2), of("c@x", 3)]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_explanation_says_is_what_desk_receives() {
    let mut rng = Rng::with_seed(15);
    let settings = SimulatedDeskSettings {
        agents: staff(),
        requests_kept: 10 * EVENTS,
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::new("explain", 4, settings).await;
    world.desk.change_staff(&StaffChange::everyone(false));
    world.set("DESK__CONCURRENCY", "100");
    let folder = tempfile::tempdir().unwrap();
    let (toml, config) = configured(&mut rng, &world, &folder.path().join("handoff.toml"));
    world.configure(&toml);

    let values: Vec<_> = (0..EVENTS).map(|number| value(&mut rng, number).to_string()).collect();
    let mut expected = Expected::default();
    values.iter().for_each(|value| expected.add(value.as_bytes(), &config));
    let records = values.iter().enumerate();
    let records = records.map(|(number, value)| Record::new(format!("s-{number}"), value.as_str()));
    world.publish_raw(records).await;
    let worker = world.worker();
    let outcomes = world.outcomes(expected.outcomes.len()).await;
    let dead_letters = world.dead_letters(expected.dead_letters).await;
    worker.stop().await;

    let mut requests = world.desk.stats().last_requests;
    requests.sort_by_key(|request| request.seq);
    let mut calls: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for request in requests {
        assert_eq!(request.command, ApiCommand::Transfer, "{request:?}");
        let session = request.body["SessionId"].as_str().unwrap().to_owned();
        calls.entry(session).or_default().push(request.body);
    }
    for (session, expected) in &expected.calls {
        assert_eq!(calls.get(session), Some(expected), "{session}\n{toml}");
    }
    assert_eq!(calls.len(), expected.calls.len(), "sessions that were called");
    let published: BTreeMap<_, _> = outcomes
        .iter()
        .map(|outcome| {
            let text = |name: &str| outcome[name].as_str().unwrap().to_owned();
            (text("session_id"), (text("status"), outcome["final"] == true))
        })
        .collect();
    assert_eq!(published, expected.outcomes);
    assert_eq!(dead_letters.len(), expected.dead_letters);

    // The generator makes all kinds.
    let has = |status: &str, is_final| {
        expected.outcomes.values().any(|outcome| *outcome == (status.to_owned(), is_final))
    };
    let all = [has("no_agent_online", true), has("no_agent_online", false), has("expired", true)];
    assert_eq!((all, has("rejected", true)), ([true; 3], true));
    assert!(expected.skipped > 0 && expected.dead_letters > 0);
    assert!(expected.calls.values().any(|bodies| bodies.len() > 3), "long plans");
    assert!(expected.outcomes.len() > expected.calls.len(), "some are never called");
}
