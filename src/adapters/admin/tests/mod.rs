//! The port over HTTP, on a service that has no Kafka: what is shown, to whom, and how.

mod access;
mod listeners;

use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::activity::DeliveryPhase;
use crate::domain::backoff::Backoff;
use crate::domain::course::{Policy, RetryPolicy};
use crate::domain::event::Event;
use crate::domain::record::{Position, Record};
use crate::domain::request::DeskCommand;
use crate::domain::route::{RouteConfig, Routes};
use crate::domain::target::Target;
use crate::domain::verdict::Verdicts;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};
use crate::domain::wire::outcome::{Outcome, Status};
use crate::domain::wire::outcome_format::OutcomeFormat;
use crate::gate::{BreakerPolicy, GateSettings};
use crate::health::{Fault, FaultKind};
use crate::lease::Lease;

const SECOND: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    "2026-11-30T03:00:00Z".parse().unwrap()
}

fn rules() -> DecodeRules {
    DecodeRules {
        types: vec!["escalation".into()],
        max_bytes: 1_000,
        time_to_live: 600 * SECOND,
        input: Arc::default(),
    }
}

fn policy() -> Policy {
    let targets = vec![Target::Named { agents: vec![], group: Some(7) }];
    let route = RouteConfig { name: "vip".into(), targets, ..RouteConfig::default() };
    Policy {
        verdicts: Verdicts::default(),
        retry: RetryPolicy {
            backoff: Backoff::new(SECOND, SECOND).unwrap(),
            quick_attempts: 1,
            park: vec![],
        },
        settle_time: SECOND,
        doubt_grace: SECOND,
        default_target: true,
        routes: Routes::compile(vec![route]).expect("a good route"),
        outcome_format: OutcomeFormat::Native,
    }
}

fn view(settings: AdminSettings) -> View {
    let metrics = Arc::new(Metrics::new());
    metrics.config_reloaded(now());
    let breaker = BreakerPolicy { probe_initial: SECOND, probe_max: SECOND, outage_after: 3 };
    let gate = GateSettings {
        breaker,
        quota_per_second: Some(50.0),
        concurrency: 64,
        retry_budget: 0.2,
        call_timeout: SECOND,
    };
    let lease = Arc::new(Lease::new(30 * SECOND));
    let health = Arc::new(Health::new(lease, 60 * SECOND));
    health.set_joined();
    let clock = Clock::from_fn(now);
    View {
        settings,
        about: About {
            instance: "test-1".into(),
            group_id: "handoff".into(),
            topic: "handoff.escalations".into(),
            outcome_topic: "handoff.outcomes".into(),
            dead_letter_topic: "handoff.dead-letters".into(),
        },
        health,
        gate: Gate::new(gate, metrics.clone()),
        activity: Activity::new(clock.clone()),
        metrics,
        rules: SharedRules::new(rules()),
        policy: SharedPolicy::new(policy()),
        outage: Arc::new(|| None),
        ledger: LedgerUrl::Sqlite("/nowhere/handoff.db".into()),
        clock,
    }
}

fn event(id: &str) -> Event {
    let value = json!({"id": id, "session_id": format!("session-of-{id}"),
        "context": {"summary": "a secret"}});
    let record = Record {
        position: Position { topic: "handoff.escalations".into(), partition: 3, offset: 42 },
        timestamp: Some(now()),
        key: None,
        value: Some(value.to_string().into_bytes()),
        headers: vec![],
    };
    match decode(&record, &rules(), now()) {
        Decoded::Event(event) => *event,
        other => panic!("{other:?}"),
    }
}

/// The port of a service.
struct Port {
    view: View,
    client: Client,
    base: String,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Port {
    async fn open(settings: AdminSettings) -> Self {
        Self::on("127.0.0.1:0", settings).await
    }

    async fn on(address: &str, settings: AdminSettings) -> Self {
        Self::within(UNREAD_LIMIT, address, settings).await
    }

    async fn within(unread_limit: Duration, address: &str, settings: AdminSettings) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (view, stop) = (view(settings), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let (served, stopped) = (view.clone(), stop.clone());
        let served = serve_within(unread_limit, listener, served, stopped);
        tasks.spawn(async move { served.await.unwrap() });
        // Fails if another test of this process has already installed it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().no_proxy().build().unwrap();
        Self { view, client, base: format!("http://127.0.0.1:{port}"), stop, tasks }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    fn post(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).body(body.into())
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }
}

async fn ended(response: Result<Response, reqwest::Error>) -> (u16, String) {
    let response = response.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn schema_errors(status: &Value) -> Vec<String> {
    let schema = include_str!("../../../../schemas/status.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator =
        jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    validator
        .iter_errors(status)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[tokio::test]
async fn the_document_is_what_its_schema_says() {
    let port = Port::open(AdminSettings::default()).await;
    let calm = port.json("/status").await;
    assert_eq!(schema_errors(&calm), [""; 0], "{calm:#}");
    assert_eq!(calm["headline"]["what"], "all well");

    let (activity, metrics) = (&port.view.activity, &port.view.metrics);
    activity.set_assigned(vec![0, 3], 12);
    let opened: Vec<_> = (0..120)
        .map(|n| activity.unfinished_events().add(&event(&format!("evt-{n}")), now()))
        .collect();
    opened[0].enter(DeliveryPhase::Calling(DeskCommand::TransferToHuman));
    opened[1].enter(DeliveryPhase::Blocked);
    opened[2].enter(DeliveryPhase::Waiting(now() + SECOND));
    metrics.in_memory.set(120);
    metrics.parked_events([2, 3, 4]);
    metrics.lag("handoff.escalations", 3, Some(i64::MAX));
    activity.answered(&Outcome::new(&event("a"), Status::Assigned, now()));
    activity.called(DeskCommand::TransferToHuman, "assigned", SECOND);
    let fault = Fault { cause: "no broker answers".into(), remedy: "start one".into() };
    port.view.health.faults().report(FaultKind::BrokersSilent, tokio::time::Instant::now(), fault);
    tokio::time::sleep(SECOND).await;
    let busy = port.json("/status").await;
    assert_eq!(schema_errors(&busy), [""; 0], "{busy:#}");
    assert_eq!(busy["headline"]["what"], "no broker answers");
    assert_eq!(busy["not_ready"].as_array().unwrap().len(), 1);
    assert_eq!(busy["now"]["unfinished"], 129);
    let by_problem = &busy["now"]["by_problem"];
    assert_eq!([&by_problem["calling"], &by_problem["blocked"]], [1, 1]);
    assert_eq!(by_problem["waiting_retry"], 3, "one in memory, two in the ledger");
    assert_eq!(busy["unfinished_events"].as_array().unwrap().len(), 100);
    let (_, scraped) = ended(port.get("/metrics").send().await).await;
    for (problem, events) in by_problem.as_object().unwrap() {
        let sample = format!("handoff_unfinished_events{{problem=\"{problem}\"}} {events}");
        assert!(scraped.lines().any(|line| line == sample), "{sample} in {scraped}");
    }
    assert_eq!(busy["partitions"][1]["lag"], i64::MAX.to_string());
    assert_eq!(busy["partitions"][1]["blocked"], true);
    assert_eq!(busy["routes"][0]["name"], "vip");
    let text = busy.to_string();
    assert!(!text.contains("session-of") && !text.contains("a secret"), "{text}");
    assert!(text.contains("sess.."));
}

#[tokio::test]
async fn unfinished_events_are_filtered_and_paged() {
    let port = Port::open(AdminSettings::default()).await;
    let open = port.view.activity.unfinished_events().clone();
    let kept: Vec<_> = (0..5).map(|n| open.add(&event(&format!("evt-{n}")), now())).collect();
    kept[3].enter(DeliveryPhase::Publishing);
    // The ledger cannot be read: what is in memory is shown all the same, and that there is more.
    let page = port.json("/events?limit=3").await;
    let ids = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), ["evt-0", "evt-1", "evt-2"]);
    assert_eq!(page["is_complete"], false);
    let next = page["next"].as_str().unwrap();
    let second = port.json(&format!("/events?limit=3&after={}", next.replace(' ', "%20"))).await;
    assert_eq!(ids(&second), ["evt-3", "evt-4"]);
    let unpublished = port.json("/events?problem=unpublished").await;
    assert_eq!(ids(&unpublished), ["evt-3"]);
    assert_eq!(ids(&port.json("/events?search=of-evt-4").await), ["evt-4"]);
    for wrong in ["/events?problem=running", "/events?after=x", "/events?colour=red"] {
        let (status, text) = ended(port.get(wrong).send().await).await;
        assert_eq!(status, 400, "{wrong}: {text}");
    }
    let (status, text) = ended(port.get("/events?search=nobody").send().await).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.starts_with("the ledger cannot be read"), "{text}");
}

#[tokio::test]
async fn an_event_is_found_by_its_id_and_its_position() {
    let port = Port::open(AdminSettings::default()).await;
    let open = port.view.activity.unfinished_events().clone();
    let _kept = open.add(&event("a b/<x>"), now());
    for name in ["a%20b%2F%3Cx%3E", "handoff.escalations/3/42", "handoff.escalations%2F3%2F42"] {
        let event = port.json(&format!("/events/{name}")).await;
        assert_eq!(event["event"], "a b/<x>");
        assert_eq!(event["unfinished"]["problem"], "behind_in_session");
        assert_eq!(event["session"], "sess..");
        assert_eq!(event["commands"][0], "handoff events show 'a b/<x>'");
        assert_eq!(event["actions"], json!([]), "there is no token");
    }
    let (status, text) = ended(port.get("/events/handoff.escalations/3/43").send().await).await;
    assert_eq!(status, 503, "it may be in the ledger, which is not there: {text}");
}

#[tokio::test]
async fn a_record_is_explained_and_not_kept() {
    let port = Port::open(AdminSettings::default()).await;
    let value = json!({"session_id": "s-1", "context": {"summary": "a secret"}}).to_string();
    let (status, text) = ended(port.post("/explain", value).send().await).await;
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &explained["result"]), (200, &json!("call")), "{text}");
    assert!(!text.contains("a secret"));
    let (_, text) = ended(port.post("/explain", "{").send().await).await;
    assert!(text.contains("dead_letter"), "{text}");
    let (status, _) = ended(port.post("/explain", "x".repeat(1_002)).send().await).await;
    assert_eq!(status, 413, "no more than a record");
    assert!(port.view.activity.unfinished_events().all().is_empty());
}
