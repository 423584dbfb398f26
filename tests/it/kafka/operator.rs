//! An operator lists, retries and gives up events of a real worker, on both ledgers: what is stored is
//! done by the worker, once, also after a crash of either.

use std::process::Output;
use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::support::postgres;
use crate::support::worker::{TIME_LIMIT, World, by_event, escalation};

/// Transfers of this session fail so often that its event is parked.
fn fails_at_first(session: &str) -> InjectedFault {
    InjectedFault::error(60_014).commands(&[ApiCommand::Transfer]).session(session).times(4)
}

async fn world(name: &str, ledger: Option<String>) -> World {
    let mut world = World::new(name, 1, SimulatedDeskSettings::default()).await;
    world.set("RETRY__INITIAL_MS", "10").set("RETRY__MAX_MS", "20");
    world.set("RETRY__PARK_MS", "300000").set("ESCALATION__TIME_TO_LIVE_S", "3600");
    if let Some(url) = ledger {
        world.set("LEDGER__URL", &url);
    }
    world
}

fn command(world: &World, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    command.args(words).env_clear().envs(world.env()).kill_on_drop(true);
    command
}

async fn run(world: &World, words: &[&str]) -> Output {
    command(world, words).output().await.unwrap()
}

fn text(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    texts.concat()
}

/// The lines of `handoff events list --json`.
async fn listed(world: &World, words: &[&str]) -> Vec<Value> {
    let words = [&["events", "list", "--json"], words].concat();
    let output = run(world, &words).await;
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn until_parked(world: &World, count: usize) {
    let until = Instant::now() + TIME_LIMIT;
    while listed(world, &["--state", "parked"]).await.len() < count {
        assert!(Instant::now() < until, "{:?}", listed(world, &[]).await);
        sleep(Duration::from_millis(200)).await;
    }
}

async fn the_worker_does_what_the_operator_stores(mut world: World) {
    for session in ["s-1", "s-2", "s-3"] {
        world.desk.schedule(fails_at_first(session));
    }
    let events = [("e-1", "s-1"), ("e-2", "s-2"), ("e-3", "s-3"), ("ok", "s-4")];
    world.publish(events.map(|(id, session)| escalation(id, session))).await;
    let worker = world.process();
    until_parked(&world, 3).await;

    let table = text(&run(&world, &["events", "list"]).await);
    assert!(table.starts_with("ID "), "{table}");
    for part in ["e-1", "s-1", "parked", "60014"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let problems = run(&world, &["events", "list", "--problem", "--session", "s-1"]).await;
    assert_eq!(problems.status.code(), Some(1), "{}", text(&problems));
    let one = &listed(&world, &["--session", "s-1"]).await[0];
    assert_eq!(
        (&one["id"], &one["code"], &one["attempts"]),
        (&"e-1".into(), &60014.into(), &4.into())
    );

    // The event waits for minutes; its next attempt comes now.
    let retried = run(&world, &["events", "retry", "e-1", "--by", "ann"]).await;
    assert_eq!(retried.status.code(), Some(0), "{}", text(&retried));
    assert!(text(&retried).contains("e-1: it is due"), "{}", text(&retried));
    let give_up = ["events", "give-up", "e-2", "--by", "ann", "--reason", "called the hotline"];
    let given_up = run(&world, &give_up).await;
    assert_eq!(given_up.status.code(), Some(0), "{}", text(&given_up));
    assert!(text(&given_up).contains("e-2: it is given up"), "{}", text(&given_up));
    let outcomes = by_event(world.outcomes(3).await);
    assert_eq!(outcomes["e-1"]["status"], "assigned");
    assert_eq!(outcomes["e-1"]["attempts"], 5);
    assert_eq!(outcomes["e-2"]["status"], "failed");
    let reason = outcomes["e-2"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("given up by ann: called the hotline; last: "), "{reason}");
    assert_eq!(outcomes["e-2"]["attempts"], 4, "no further transfer");

    // Again: nothing happens twice, and the text says what became of it.
    let again = run(&world, &give_up).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("was given up by ann at"), "{}", text(&again));
    let again = run(&world, &["events", "retry", "e-1"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("it is answered: assigned"), "{}", text(&again));
    assert_eq!(run(&world, &["events", "retry", "nobody"]).await.status.code(), Some(1));
    let shown = text(&run(&world, &["events", "show", "e-2"]).await);
    assert!(shown.contains("given_up") && shown.contains("called the hotline"), "{shown}");

    // What is stored while no worker runs is done by the next one; so is what a killed one left.
    worker.kill().await;
    let words = ["events", "give-up", "e-3", "--reason", "too late"];
    let mut killed = command(&world, &words).spawn().unwrap();
    sleep(Duration::from_millis(5)).await;
    // It may have ended already.
    drop(killed.start_kill());
    killed.wait().await.unwrap();
    let given_up = run(&world, &words).await;
    assert_eq!(given_up.status.code(), Some(0), "{}", text(&given_up));
    let worker = world.process();
    let outcomes = by_event(world.outcomes(4).await);
    assert_eq!(outcomes["e-3"]["status"], "failed");
    assert_eq!(listed(&world, &[]).await.len(), 0, "nothing is left");
    let audit = run(&world, &["audit"]).await;
    assert_eq!(audit.status.code(), Some(0), "{}", text(&audit));
    worker.terminate().await;
    world.set("LEDGER__URL", "sqlite:///no/such/folder/ledger.db");
    assert_eq!(run(&world, &words).await.status.code(), Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_sqlite_does_what_an_operator_stores() {
    the_worker_does_what_the_operator_stores(world("operator", None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_postgres_does_what_an_operator_stores() {
    let url = postgres::schema().await;
    the_worker_does_what_the_operator_stores(world("operator-pg", Some(url)).await).await;
}
