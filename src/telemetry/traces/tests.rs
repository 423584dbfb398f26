//! The spans as the SDK exports them. tests/it/kafka/traces.rs has those of a real run.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;

use super::*;
use crate::domain::event::Event;
use crate::domain::record::{Header, Position, Record};
use crate::domain::reply::{DeskAnswer, DeskStatus, Reply};
use crate::domain::request::DeskCommand;
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode};

const PUBLISHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[derive(Debug, Clone, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

impl Exported {
    /// The spans so far, in the order in which they ended.
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock())
    }
}

fn traces(parent: SpanParent, personal: bool) -> (Traces, Exported) {
    let exported = Exported::default();
    let names = TracedNames {
        escalations: "escalations".into(),
        outcomes: "outcomes".into(),
        group: "group".into(),
        client: "client".into(),
    };
    let settings = TraceSettings { endpoint: None, parent, personal };
    let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone());
    (Traces::with_provider(provider, settings, names), exported)
}

fn record(headers: &[(&str, &str)]) -> Record {
    let header = |(name, value): &(&str, &str)| -> Header {
        ((*name).to_owned(), Some(value.as_bytes().to_vec()))
    };
    Record {
        position: Position { topic: "escalations".into(), partition: 3, offset: 42 },
        timestamp: Some(Timestamp::UNIX_EPOCH),
        key: Some(b"personal-key".to_vec()),
        value: Some(br#"{"id": "personal-session 7", "session_id": "personal-session"}"#.to_vec()),
        headers: headers.iter().map(header).collect(),
    }
}

fn event(record: &Record) -> Event {
    let rules = DecodeRules {
        types: Vec::new(),
        max_bytes: 1000,
        time_to_live: Duration::from_secs(60),
        input: Arc::default(),
    };
    let decoded = decode(record, &rules, Timestamp::UNIX_EPOCH);
    let Decoded::Event(event) = decoded else { panic!("no event") };
    *event
}

/// The attributes as `name=value`, sorted.
fn attributes(span: &SpanData) -> Vec<String> {
    let text = |attribute: &KeyValue| format!("{}={}", attribute.key, attribute.value);
    let mut attributes: Vec<_> = span.attributes.iter().map(text).collect();
    attributes.sort();
    attributes
}

#[test]
fn the_span_of_a_delivery_belongs_to_the_trace_of_its_publisher() {
    let (traces, exported) = traces(SpanParent::Message, false);
    let record = record(&[("traceparent", PUBLISHER), ("tracestate", "a=1")]);
    drop(traces.begin(&event(&record), &record));
    let [span] = &exported.take()[..] else { panic!("one span") };
    assert_eq!((&*span.name, &span.span_kind), ("process escalations", &SpanKind::Consumer));
    let publisher = propagation::parse(PUBLISHER).unwrap();
    assert_eq!(span.span_context.trace_id(), publisher.trace_id());
    assert_eq!(span.parent_span_id, publisher.span_id());
    assert_eq!(span.links.len(), 1);
    assert_eq!(span.links[0].span_context.span_id(), publisher.span_id());
    let expected = [
        "messaging.client.id=client",
        "messaging.consumer.group.name=group",
        "messaging.destination.name=escalations",
        "messaging.destination.partition.id=3",
        "messaging.kafka.offset=42",
        "messaging.message.id=pers.. 7",
        "messaging.operation.name=process",
        "messaging.operation.type=process",
        "messaging.system=kafka",
    ];
    assert_eq!(attributes(span), expected);
}

#[test]
fn a_trace_of_its_own_is_linked_to_that_of_the_publisher() {
    let (traces, exported) = traces(SpanParent::None, false);
    let record = record(&[("traceparent", PUBLISHER)]);
    drop(traces.begin(&event(&record), &record));
    let [span] = &exported.take()[..] else { panic!("one span") };
    let publisher = propagation::parse(PUBLISHER).unwrap();
    assert_ne!(span.span_context.trace_id(), publisher.trace_id());
    assert_eq!(span.links[0].span_context.trace_id(), publisher.trace_id());
}

#[test]
fn a_later_burst_is_linked_to_the_first_and_the_outcome_continues_it() {
    let (traces, exported) = traces(SpanParent::Message, false);
    let record = record(&[("traceparent", "broken")]);
    let event = event(&record);
    let span = traces.begin(&event, &record);
    let first = span.traceparent().unwrap();
    drop(span);
    let span = traces.begin(&event, &record);
    span.link_to(&first);
    let send = span.send();
    let mut headers = vec![
        ("traceparent".to_owned(), Some(b"broken".to_vec())),
        ("tracestate".to_owned(), Some(b"of=another".to_vec())),
    ];
    send.continue_in(&mut headers);
    send.end(&Position { topic: "outcomes".into(), partition: 1, offset: 7 });
    drop(span);
    let [first_span, sent, second] = &exported.take()[..] else { panic!("three spans") };
    assert!(first_span.links.is_empty());
    assert_eq!(second.links[0].span_context.span_id(), first_span.span_context.span_id());
    assert_eq!((&*sent.name, &sent.span_kind), ("send outcomes", &SpanKind::Producer));
    assert_eq!(sent.parent_span_id, second.span_context.span_id());
    let expected = [
        "messaging.client.id=client",
        "messaging.destination.name=outcomes",
        "messaging.destination.partition.id=1",
        "messaging.kafka.offset=7",
        "messaging.operation.name=send",
        "messaging.operation.type=send",
        "messaging.system=kafka",
    ];
    assert_eq!(attributes(sent), expected);
    let [(name, Some(value))] = &headers[..] else { panic!("{headers:?}") };
    let continued = propagation::parse(std::str::from_utf8(value).unwrap()).unwrap();
    assert_eq!(name, "traceparent");
    assert_eq!(continued.span_id(), sent.span_context.span_id());
    assert_eq!(continued.trace_id(), second.span_context.trace_id());
}

#[tokio::test]
async fn the_span_of_a_call_has_no_query_and_says_what_failed() {
    let (traces, exported) = traces(SpanParent::Message, false);
    let record = record(&[]);
    let span = traces.begin(&event(&record), &record);
    let url = "https://user:word@desk.example/v4/desk_http_svc/transfer_to_human?usersig=secret";
    let url = reqwest::Url::parse(url).unwrap();
    let call = span.call(DeskCommand::TransferToHuman, Some(2));
    call.within(async { describe_request(&url, Some(200)) }).await;
    let desk = DeskStatus { code: 141_001, ..DeskStatus::default() };
    call.end(&Reply::Answer(DeskAnswer { desk, ..DeskAnswer::default() }), "no_agent");
    let call = span.call(DeskCommand::GetSessionState, None);
    call.end(&Reply::Http { status: 502, retry_after: None }, "transient");
    // Nothing is described where no span is active.
    describe_request(&url, None);
    let [refused, failed] = &exported.take()[..] else { panic!("two spans") };
    assert_eq!(refused.name, "POST /v4/desk_http_svc/transfer_to_human");
    assert_eq!(refused.span_kind, SpanKind::Client);
    let expected = [
        "error.type=141001",
        "handoff.desk.code=141001",
        "handoff.verdict=no_agent",
        "http.request.method=POST",
        "http.request.resend_count=2",
        "http.response.status_code=200",
        "server.address=desk.example",
        "server.port=443",
        "url.full=https://desk.example/v4/desk_http_svc/transfer_to_human",
        "url.template=/v4/desk_http_svc/transfer_to_human",
    ];
    assert_eq!(attributes(refused), expected);
    assert_eq!(refused.status, Status::error(""));
    let expected = [
        "error.type=502",
        "handoff.verdict=transient",
        "http.request.method=POST",
        "url.template=/v4/desk_http_svc/get_session_state",
    ];
    assert_eq!(attributes(failed), expected);
}

#[test]
fn personal_attributes_are_in_every_span_if_they_are_wanted() {
    let (traces, exported) = traces(SpanParent::Message, true);
    let record = record(&[]);
    let span = traces.begin(&event(&record), &record);
    span.send().end(&record.position);
    drop(span);
    let session = "messaging.message.conversation_id=personal-session".to_owned();
    let key = "messaging.kafka.message.key=personal-key".to_owned();
    let [sent, delivered] = &exported.take()[..] else { panic!("two spans") };
    assert!(attributes(delivered).contains(&session) && attributes(delivered).contains(&key));
    let id = "messaging.message.id=personal-session 7".to_owned();
    assert!(attributes(delivered).contains(&id));
    assert!(attributes(sent).contains(&session));
}

#[test]
fn nothing_is_done_where_traces_are_off() {
    let record = record(&[("traceparent", PUBLISHER)]);
    let span = Traces::off().begin(&event(&record), &record);
    assert_eq!((span.traceparent(), span.ids()), (None, None));
    let mut headers = record.headers.clone();
    span.send().continue_in(&mut headers);
    assert_eq!(headers, record.headers);
}
