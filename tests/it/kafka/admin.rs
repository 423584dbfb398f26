//! The admin port of a real worker: what it shows is what happens, and what an operator does there is
//! what the commands do.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::crash::until;
use super::json_log::{Promised, parse};
use crate::support::outcome_schema::{document, validator};
use crate::support::worker::{Process, TIME_LIMIT, World, by_event, escalation, free_port};

/// As the Bot Framework makes ids: the session is part of it.
const OF_SESSION_2: &str = "session-2.7";
const TOKEN: &str = "a-token-of-the-test";

struct AdminPort {
    client: reqwest::Client,
    base: String,
}

impl AdminPort {
    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}/{path}", self.base)).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Value {
        let request = self.client.post(format!("{}/{path}", self.base)).bearer_auth(TOKEN);
        let response = request.body(body.to_owned()).send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// The status, once it is as wanted.
    async fn status(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            let request = self.client.get(format!("{}/status", self.base)).send().await;
            if let Ok(response) = request {
                let status = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                if is_wanted(&status) {
                    return status;
                }
                assert!(Instant::now() < until, "{status:#}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn output(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    let output = command.args(words).env_clear().envs(world.env()).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

async fn world(token_file: &tempfile::NamedTempFile) -> (World, AdminPort) {
    // Fails if another test of this process has already installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    std::fs::write(token_file.path(), TOKEN).unwrap();
    let mut world = World::new("admin", 2, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("LOG__FORMAT", "json").set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("ADMIN__TOKEN_FILE", token_file.path().to_str().unwrap());
    world.set("RETRY__INITIAL_MS", "10").set("RETRY__MAX_MS", "20");
    world.set("RETRY__PARK_MS", "300000").set("ESCALATION__TIME_TO_LIVE_S", "3600");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    (world, AdminPort { client, base: format!("http://127.0.0.1:{port}") })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_shows_what_happens_and_takes_what_an_operator_wants() {
    let token_file = tempfile::NamedTempFile::new().unwrap();
    let (world, admin) = world(&token_file).await;
    for session in ["session-1", "session-2"] {
        let fault = InjectedFault::error(60_014).commands(&[ApiCommand::Transfer]);
        world.desk.schedule(fault.session(session).times(4));
    }
    let events = [("e-1", "session-1"), (OF_SESSION_2, "session-2"), ("ok", "session-3")];
    world.publish(events.map(|(id, session)| escalation(id, session))).await;
    let worker = world.process();

    let parked = |status: &Value| {
        // The rows of parked events are read every few seconds.
        let are_listed = status["unfinished_events"].as_array().unwrap().len() == 2;
        are_listed && status["now"]["parked"]["retry"] == 2 && status["last_hour"]["assigned"] == 1
    };
    let status = admin.status(parked).await;
    let errors: Vec<_> = validator(&document("status.schema.json"))
        .iter_errors(&status)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, [""; 0], "{status:#}");
    assert_eq!((&status["ready"], &status["service"]["partitions"]), (&json!(true), &json!(2)));
    assert_eq!(status["headline"]["what"], "all well");
    let open = status["unfinished_events"].as_array().unwrap();
    assert_eq!((open.len(), &open[0]["problem"]), (2, &json!("waiting_retry")), "{open:?}");
    assert_eq!((&open[0]["attempts"], &open[0]["session"]), (&json!(4), &json!("sess..")));
    assert!(open[0]["last"].as_str().unwrap().starts_with("60014"), "{open:?}");
    assert_eq!(status["last_outcomes"][0]["event"], "ok");

    // The history says the same as the commands.
    let row = open.iter().find(|row| row["event"] == "e-1").unwrap();
    let [partition, offset] = ["partition", "offset"].map(|field| &row["record"][field]);
    let by_position =
        format!("events/{}/{partition}/{offset}", row["record"]["topic"].as_str().unwrap());
    let event = admin.get(&by_position).await;
    assert_eq!(event["event"], "e-1");
    let (_, shown) = output(&world, &["events", "show", "e-1", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(event["entry"]["history"], shown["history"]);
    assert_eq!(event["explanation"]["result"], "call");
    assert_eq!(admin.get("events/ok").await["entry"]["state"], "published");
    let filtered = admin.get("events?problem=waiting_retry&search=session-2").await;
    assert_eq!(filtered["events"].as_array().unwrap().len(), 1, "{filtered}");
    assert_eq!(filtered["is_complete"], true);

    // A paused intake reads nothing; then what waits is answered.
    assert_eq!(admin.post("intake/pause", r#"{"by":"ann"}"#).await["result"], "done");
    let paused = admin.status(|status| status["now"]["intake"] == "paused").await;
    assert_eq!(paused["headline"]["what"], "the intake is paused by ann");
    world.publish([escalation("later", "session-4")]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(admin.status(|_| true).await["last_hour"]["assigned"], 1);
    assert_eq!(admin.post("intake/resume", "").await["result"], "done");

    let retried = admin.post(&format!("{by_position}/retry"), r#"{"by":"ann"}"#).await;
    assert_eq!(retried["result"], "done", "{retried}");
    let body = r#"{"by":"ann","reason":"called the hotline"}"#;
    let given_up = admin.post(&format!("events/{OF_SESSION_2}/give-up"), body).await;
    assert_eq!(given_up["result"], "done", "{given_up}");
    let outcomes = by_event(world.outcomes(4).await);
    assert_eq!(outcomes["e-1"]["status"], "assigned");
    let reason = outcomes[OF_SESSION_2]["reason"].as_str().unwrap();
    assert!(reason.starts_with("given up by ann: called the hotline"), "{reason}");
    assert_eq!(outcomes["later"]["status"], "assigned");
    let again = admin.post("events/e-1/retry", "").await;
    let expected = "it is answered: assigned";
    assert_eq!(again["result"], "refused");
    assert!(again["text"].as_str().unwrap().starts_with(expected), "{again}");
    let event = admin.get("events/e-1").await;
    let history = event["entry"]["history"].as_array().unwrap();
    let retried = history.iter().find(|item| item["what"] == "retried").unwrap();
    assert_eq!(retried["owner"], "ann");
    check_acts(&worker).await;
    worker.terminate().await;
}

/// Acts on events are logged as docs/logs.md says.
async fn check_acts(worker: &Process) {
    const ACTED: &str = "operator acted on an event";
    until(|| worker.log().matches(ACTED).count() >= 3).await;
    let log = worker.log();
    assert!(!log.contains(TOKEN) && !log.contains("session-2"), "{log}");
    let acts: Vec<_> = log.lines().map(parse).filter(|line| line.contains_key("act")).collect();
    let promised = Promised::read();
    let logged = acts.iter().filter(|act| act["message"] == ACTED);
    let logged: Vec<_> = logged
        .map(|act| {
            promised.each_event.check(act);
            ["act", "event_id", "session", "result"].map(|field| act[field].as_str().unwrap())
        })
        .collect();
    let expected = [
        ["retry", "e-1", "sess..", "done"],
        ["give-up", "sess...7", "sess..", "done"],
        ["retry", "e-1", "sess..", "refused"],
    ];
    assert_eq!(logged, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_explained_as_the_command_does() {
    let token_file = tempfile::NamedTempFile::new().unwrap();
    let (world, admin) = world(&token_file).await;
    let worker = world.process();
    admin.status(|status| status["ready"] == true).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    for record in [
        json!({"session_id": "s-1", "target": {"group": 7}, "context": {"summary": "x"}}),
        json!({"session_id": "s-1", "priority": 11}),
        json!({"type": "other"}),
        json!([]),
    ] {
        std::fs::write(&file, record.to_string()).unwrap();
        let (_, text) = output(&world, &["explain", file.to_str().unwrap(), "--json"]).await;
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        let mut explained = admin.post("explain", &record.to_string()).await;
        // Only the times differ, by the moment at which each was read.
        for object in [&mut expected, &mut explained] {
            object["read_at"].take();
            for time in ["requested_at", "deadline"] {
                if let Some(time) = object.pointer_mut(&format!("/escalation/{time}")) {
                    time.take();
                }
            }
        }
        assert_eq!(explained, expected);
    }
    worker.terminate().await;
}
