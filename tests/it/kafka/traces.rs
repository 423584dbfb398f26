//! Traces of a real worker, as a collector gets them: a small OTLP receiver of the test decodes what the
//! worker sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use handoff::sim::desk::{DEMO_KEY, InjectedFault, SimulatedDeskSettings};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::crash::until;
use crate::support::kafka::{Record, read_to_end};
use crate::support::worker::{World, escalation, free_port};

const ROUTE: &str = r#"
[[routes]]
name = "keeps-trying"
when = { tier = "vip" }
targets = [{ group = 7 }]
default_target = false
while_nobody_online = "keep_trying"
retry_ms = [300]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_spans_that_their_page_promises() {
    let collector = Collector::start().await;
    let mut world = World::new("traces", 1, SimulatedDeskSettings::default()).await;
    world.set("TRACES__ENABLED", "true").set("TRACES__ENDPOINT", &collector.endpoint);
    world.set_variable("OTEL_SERVICE_NAME", "escalator");
    world.set_variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    world.configure(ROUTE);
    let busy = InjectedFault::error(141_001).session("personal-busy").times(1);
    world.desk.schedule(busy);
    world.desk.schedule(InjectedFault::status(502).session("personal-failing").times(1));
    let worker = world.process();
    let mut busy = escalation("busy", "personal-busy");
    busy["attributes"] = json!({"tier": "vip"});
    let events =
        [escalation("direct", "personal-direct"), busy, escalation("failing", "personal-failing")];
    let records = events.into_iter().zip(1_u8..).map(|(event, number)| {
        let key = event["session_id"].as_str().unwrap().to_owned();
        Record::new(key, event.to_string()).header("traceparent", publisher(number))
    });
    world.publish_raw(records).await;
    // Three final ones, and an interim one.
    world.outcomes(4).await;
    // The last spans are not exported yet: the stop sends them.
    worker.terminate().await;
    let received = collector.received();

    let resource = attributes(&received.resource);
    assert_eq!(resource["service.name"], "escalator");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    for secret in ["usersig", DEMO_KEY, "personal-"] {
        let found = received.bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} in the spans");
    }

    let [direct] = &received.deliveries("direct")[..] else { panic!("one delivery: {received:?}") };
    check_parent(direct, 1);
    let [call, send] = &received.below(direct)[..] else { panic!("two spans: {received:?}") };
    assert_eq!(call.name, "POST /v4/desk_http_svc/transfer_to_human");
    assert_eq!((call.kind(), send.kind()), (SpanKind::Client, SpanKind::Producer));
    let of_call = attributes(&call.attributes);
    let url = format!("{}/v4/desk_http_svc/transfer_to_human", world.desk.endpoint());
    assert_eq!((&*of_call["url.full"], &*of_call["http.response.status_code"]), (&*url, "200"));
    assert_eq!((&*of_call["handoff.verdict"], &*of_call["handoff.desk.code"]), ("assigned", "0"));
    // The trace goes on in the outcome.
    let outcomes = read_to_end(&world.bootstrap, &world.topic("out")).await;
    let outcome = outcomes.iter().find(|record| record.text("handoff-event-id") == "direct");
    let expected = format!("00-{}-{}-01", hex(&send.trace_id), hex(&send.span_id));
    assert_eq!(outcome.unwrap().text("traceparent"), expected);
    assert_eq!(attributes(&send.attributes)["messaging.destination.name"], world.topic("out"));

    // A parked event: its second burst is another span, linked to the first.
    let [first, second] = &received.deliveries("busy")[..] else { panic!("two: {received:?}") };
    check_parent(first, 2);
    check_parent(second, 2);
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano);
    let is_first = |span_id: &Vec<u8>| *span_id == first.span_id;
    assert!(second.links.iter().any(|link| is_first(&link.span_id)), "{second:?}");
    assert!(!first.links.iter().any(|link| is_first(&link.span_id)), "{first:?}");

    let [failing] = &received.deliveries("failing")[..] else { panic!("one: {received:?}") };
    let below = received.below(failing);
    let error = |span: &&Span| attributes(&span.attributes).get("error.type").cloned();
    let errors: Vec<_> = below.iter().filter_map(error).collect();
    assert_eq!(errors, ["502"]);

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/traces.md"));
    let documented = documented_attributes(&page.unwrap());
    let spans = received.spans.iter().flat_map(|span| &span.attributes);
    let seen: BTreeSet<String> = spans.map(|attribute| attribute.key.clone()).collect();
    assert_eq!(seen, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_one_warning() {
    let mut world = World::new("traces-away", 1, SimulatedDeskSettings::default()).await;
    world.set("TRACES__ENABLED", "true");
    world.set("TRACES__ENDPOINT", &format!("http://127.0.0.1:{}", free_port()));
    // Exported soon, so that it fails while the worker runs.
    world.set_variable("OTEL_BSP_SCHEDULE_DELAY", "100");
    let worker = world.process();
    world.publish((0..20).map(|n| escalation(&format!("e{n}"), &format!("s{n}")))).await;
    world.outcomes(20).await;
    let warnings = || worker.log().matches("failed to export traces").count();
    until(|| warnings() > 0).await;
    // The exports that fail after the first one are not logged.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = worker.log();
    worker.terminate().await;
    assert_eq!(log.matches("failed to export traces").count(), 1, "{log}");
}

/// The collector: keeps what it is sent.
struct Collector {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    _server: JoinSet<()>,
}

/// What a collector was sent.
#[derive(Debug)]
struct ReceivedSpans {
    bytes: Vec<u8>,
    resource: Vec<KeyValue>,
    /// In the order in which they began.
    spans: Vec<Span>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let take = move |body: Bytes| async move { kept.lock().push(body) };
        let routes = Router::new().route("/v1/traces", post(take));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        Self { endpoint, bodies, _server: server }
    }

    fn received(&self) -> ReceivedSpans {
        let (mut bytes, mut resource, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for body in &*self.bodies.lock() {
            bytes.extend_from_slice(body);
            let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
            for of_resource in request.resource_spans {
                resource = of_resource.resource.expect("a resource").attributes;
                spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans.sort_by_key(|span| span.start_time_unix_nano);
        ReceivedSpans { bytes, resource, spans }
    }
}

impl ReceivedSpans {
    /// The spans of the deliveries of an event.
    fn deliveries(&self, event: &str) -> Vec<&Span> {
        let is_of_event = |span: &&Span| {
            span.kind() == SpanKind::Consumer
                && attributes(&span.attributes)["messaging.message.id"] == event
        };
        self.spans.iter().filter(is_of_event).collect()
    }

    fn below(&self, parent: &Span) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    }
}

/// The trace context of the publisher of an event.
fn publisher(number: u8) -> String {
    format!("00-{number:032x}-{number:016x}-01")
}

/// The publisher's span is the parent, and linked.
fn check_parent(span: &Span, number: u8) {
    let parent = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.parent_span_id));
    assert_eq!(parent, publisher(number));
    assert!(span.links.iter().any(|link| link.span_id == span.parent_span_id), "{span:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        AttributeValue::StringValue(text) => Some(text.clone()),
        AttributeValue::IntValue(number) => Some(number.to_string()),
        other => panic!("{}: {other:?}", attribute.key),
    };
    let pair = |attribute| Some((KeyValue::clone(attribute).key, text(attribute)?));
    of.iter().filter_map(pair).collect()
}

/// The attributes in the table of docs/traces.md.
fn documented_attributes(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let last = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names = last.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}
