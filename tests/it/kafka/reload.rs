//! The configuration file changes while the service runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handoff::sim::desk::{Agent, LatencyRange, SimulatedDeskSettings};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::worker::{
    Process, TIME_LIMIT, World, ask_admin, by_event, decided_at, escalation, free_port,
};

const VERSIONS: usize = 50;
const EVENTS: usize = 5_000;

/// A route whose name, targets, priority and options all name its version.
fn version(number: usize) -> String {
    format!(
        "[[routes]]\nname = \"v{number}\"\ntargets = [{{ agents = [\"gone-{number}@x\"] }}, \
         {{ group = {} }}]\ndefault_target = false\npriority = {}\noptions = {{ queue_timeout = \
         {} }}\n",
        1_000 + number,
        number % 10,
        7_000 + number,
    )
}

/// The version that a request to Desk shows.
fn version_of(body: &Value) -> usize {
    let number = body["QueueTimeout"].as_u64().unwrap() as usize - 7_000;
    assert_eq!(body["Priority"], number % 10, "{body}");
    match body.get("AgentGroupId") {
        Some(group) => assert_eq!(*group, 1_000 + number, "{body}"),
        None => assert_eq!(body["AgentIdList"], json!([format!("gone-{number}@x")]), "{body}"),
    }
    number
}

/// Nobody of the named agents is there, somebody of each group is.
fn staff() -> Vec<Agent> {
    let of_group = |number: usize| Agent {
        group: Some(1_000 + number as i64),
        ..Agent::new(format!("agent-{number}@x"))
    };
    let gone = |number: usize| Agent { online: false, ..Agent::new(format!("gone-{number}@x")) };
    (0..=VERSIONS).flat_map(|number| [of_group(number), gone(number)]).collect()
}

/// Waits until the log has this many lines with a text.
async fn logged(worker: &Process, text: &str, lines: usize) {
    let until = Instant::now() + TIME_LIMIT;
    while worker.log().matches(text).count() < lines {
        assert!(Instant::now() < until, "not logged {lines} times: {text}\n{}", worker.log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// The last line of the log with a text.
fn line(worker: &Process, text: &str) -> String {
    worker.log().lines().rfind(|line| line.contains(text)).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_uses_one_version_of_the_routes_wholly() {
    let settings = SimulatedDeskSettings {
        agents: staff(),
        latency: LatencyRange::between(20, 400),
        requests_kept: 3 * EVENTS,
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::new("reload", 4, settings).await;
    let admin = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{admin}"));
    world.configure(&version(0));
    let worker = world.process();
    let of_round = EVENTS / VERSIONS;
    for round in 1..=VERSIONS {
        let ids = (round - 1) * of_round..round * of_round;
        world.publish(ids.map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
        if round == 1 {
            world.outcomes(1).await;
        }
        if round == VERSIONS / 2 {
            refuse_broken_version(&world, &worker, round).await;
        }
        world.configure(&version(round));
        worker.signal("HUP");
        logged(&worker, "configuration reloaded", round).await;
    }
    let (_, metrics) = ask_admin(admin, "metrics").await;
    assert!(metrics.contains("handoff_config_last_reload_successful 1"), "{metrics}");
    let answered = by_event(world.outcomes(EVENTS).await);
    worker.terminate().await;
    let mut by_session: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for request in world.desk.stats().last_requests {
        let session = request.body["SessionId"].as_str().unwrap().to_owned();
        by_session.entry(session).or_default().insert(version_of(&request.body));
    }
    let mut used = BTreeSet::new();
    for outcome in answered.values() {
        let versions = &by_session[outcome["session_id"].as_str().unwrap()];
        assert_eq!(versions.len(), 1, "two versions in one delivery: {versions:?} {outcome}");
        let number = *versions.first().unwrap();
        used.insert(number);
        assert_eq!(outcome["route"], format!("v{number}"), "{outcome}");
        assert_eq!(outcome["target"]["group"], 1_000 + number, "{outcome}");
        assert_eq!(outcome["tried"][0]["target"]["agents"][0], format!("gone-{number}@x"));
        assert_eq!(outcome["status"], "assigned", "{outcome}");
    }
    assert!(used.len() > VERSIONS / 2, "most versions were used: {used:?}");
    world.assert_all_committed().await;
}

/// A version with a problem is reported with its line, and changes nothing.
async fn refuse_broken_version(world: &World, worker: &Process, round: usize) {
    let reloads = worker.log().matches("configuration reloaded").count();
    let broken = format!("{}[[routes]]\nname = \"broken\"\npriorty = 1\n", version(round + 1));
    world.configure(&broken);
    worker.signal("HUP");
    let refused = "configuration not reloaded; the old one stays in use";
    logged(worker, refused, 1).await;
    let told = line(worker, refused);
    assert!(told.contains("did you mean `priority`?") && told.contains("handoff.toml:9"), "{told}");
    assert_eq!(worker.log().matches("configuration reloaded").count(), reloads);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_told_and_a_broken_file_shows_in_the_metrics() {
    let mut world = World::new("reload-told", 1, SimulatedDeskSettings::default()).await;
    let admin = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{admin}"));
    world.configure(&version(0));
    let worker = world.process();
    world.publish([escalation("e-0", "s-0")]).await;
    world.outcomes(1).await;
    worker.signal("HUP");
    logged(&worker, "configuration unchanged", 1).await;
    // Without a signal: the content is compared.
    world.configure("[[routes]");
    logged(&worker, "configuration not reloaded", 1).await;
    let successful = |metrics: &str, value: u8| {
        let sample = format!("handoff_config_last_reload_successful {value}");
        assert!(metrics.contains(&sample), "{sample} in:\n{metrics}");
    };
    successful(&ask_admin(admin, "metrics").await.1, 0);
    let changed = version(1) + "[desk]\ntimeout_ms = 4500\n[log]\nlevel = \"info,handoff=debug\"\n";
    world.configure(&changed);
    worker.signal("HUP");
    let restart = "configuration changed where only a restart takes it";
    logged(&worker, restart, 1).await;
    assert!(line(&worker, restart).contains("desk.timeout_ms"), "{}", line(&worker, restart));
    let reloaded = line(&worker, "configuration reloaded");
    assert!(reloaded.contains("routes: added v1; removed v0"), "{reloaded}");
    successful(&ask_admin(admin, "metrics").await.1, 1);
    world.publish([escalation("e-1", "s-1")]).await;
    assert_eq!(by_event(world.outcomes(2).await)["e-1"]["route"], "v1");
    worker.terminate().await;
}

/// Hours that begin at the last full minute before this time from now, and last for an hour.
fn opening_in(seconds: i64) -> String {
    let now = handoff::clock::Clock::system().now();
    let from = now + jiff::Span::new().seconds(seconds);
    let to = from + jiff::Span::new().hours(1);
    let time = |time: jiff::Timestamp| time.strftime("%H:%M").to_string();
    let days = "mon-sun";
    format!(
        "[[hours]]\nname = \"shift\"\nzone = \"UTC\"\nweekly.{days} = [\"{}-{}\"]\n[[routes]]\nname \
         = \"shift\"\ntargets = [{{ group = 7 }}]\nhours = \"shift\"\n",
        time(from),
        time(to)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_parked_until_its_route_opens_and_meets_the_routes_of_then() {
    let mut world = World::new("opening", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DRAIN__TIMEOUT_MS", "3000");
    let parks = opening_in(90) + "outside_hours = \"park_until_open\"\n";
    world.configure(&parks);
    let worker = world.process();
    world.publish([escalation("parked", "s-1"), escalation("behind", "s-1")]).await;
    let interim = &world.outcomes(1).await[0];
    assert_eq!((&interim["final"], &interim["attempts"]), (&false.into(), &0.into()));
    assert_eq!(
        (&interim["status"], &interim["event_id"]),
        (&"no_agent_online".into(), &"parked".into())
    );
    let opens_at: jiff::Timestamp = interim["opens_at"].as_str().unwrap().parse().unwrap();
    // It is parked, so that it survives a crash; meanwhile the route gets another name.
    worker.kill().await;
    world.configure(&parks.replace("name = \"shift\"\ntargets", "name = \"later\"\ntargets"));
    let worker = world.process();
    let outcomes = world.outcomes(3).await;
    let finals =
        by_event(outcomes.into_iter().filter(|outcome| outcome["final"] == true).collect());
    assert_eq!(finals.len(), 2);
    for outcome in finals.values() {
        assert_eq!(outcome["status"], "assigned", "{outcome}");
        assert_eq!((&outcome["route"], &outcome["opens_at"]), (&"later".into(), &Value::Null));
        assert!(decided_at(outcome) >= opens_at, "{outcome}");
    }
    // Closed from now on: the answer comes at once, and Desk is not called.
    let calls = world.desk.stats().calls;
    world.configure(&opening_in(-2 * 3_600));
    worker.signal("HUP");
    logged(&worker, "configuration reloaded", 1).await;
    world.publish([escalation("late", "s-2")]).await;
    let late = world.outcomes(4).await.pop().unwrap();
    assert_eq!((&late["event_id"], &late["status"]), (&"late".into(), &"no_agent_online".into()));
    assert!(late["opens_at"].is_string() && late["reason"].as_str().unwrap().contains("\"shift\""));
    assert_eq!(world.desk.stats().calls, calls);
    worker.terminate().await;
    world.assert_all_committed().await;
}
