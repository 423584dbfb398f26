//! The spans: of the delivery of an event, of a call to Desk, of the publication of an outcome.
//!
//! Names and attributes are those of the semantic conventions for messaging and HTTP.

use std::borrow::Cow;
use std::future::Future;

use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};

use super::{SpanParent, Traces, Tracing, propagation};
use crate::domain::event::Event;
use crate::domain::ids::without_session;
use crate::domain::record::{Header, Position, Record};
use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;

/// The span of one delivery of an event: from the moment at which its task begins until it is answered,
/// parked or released. It ends when it is dropped.
#[derive(Default)]
pub(crate) struct EventSpan(Option<OpenSpan>);

/// The span of a call to Desk.
pub(crate) struct CallSpan(Option<Context>);

/// The span of the publication of an outcome.
pub(crate) struct SendSpan(Option<Context>);

struct OpenSpan {
    traces: Traces,
    context: Context,
    /// Attributes of the spans below, which are personal.
    session: Option<KeyValue>,
}

impl Traces {
    /// Begins the span of a delivery.
    pub(crate) fn begin(&self, event: &Event, record: &Record) -> EventSpan {
        let Some(tracing) = self.0.as_deref() else { return EventSpan(None) };
        let publisher = propagation::extract(&event.trace);
        let parent = match (&publisher, tracing.settings.parent) {
            (Some(publisher), SpanParent::Message) => {
                Context::new().with_remote_span_context(publisher.clone())
            }
            _ => Context::new(),
        };
        let link = publisher.map(|publisher| Link::new(publisher, Vec::new(), 0));
        let personal = tracing.settings.personal;
        let session = personal.then(|| {
            KeyValue::new("messaging.message.conversation_id", event.session_id.to_string())
        });
        let mut attributes = tracing.of_delivery(event, record);
        attributes.extend(session.clone());
        let key = record.key.as_deref().filter(|_| personal);
        attributes.extend(key.map(|key| {
            let key = String::from_utf8_lossy(key).into_owned();
            KeyValue::new("messaging.kafka.message.key", key)
        }));
        let builder = tracing
            .tracer
            .span_builder(format!("process {}", tracing.names.escalations))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes)
            .with_links(link.into_iter().collect());
        let span = tracing.tracer.build_with_context(builder, &parent);
        let context = Context::new().with_span(span);
        EventSpan(Some(OpenSpan { traces: self.clone(), context, session }))
    }
}

impl Tracing {
    /// The id of the event, without the session that some formats put into it.
    fn message_id(&self, event: &Event) -> String {
        if self.settings.personal {
            event.id.to_string()
        } else {
            without_session(&event.id, &event.session_id)
        }
    }

    fn of_delivery(&self, event: &Event, record: &Record) -> Vec<KeyValue> {
        let Position { topic, partition, offset } = &record.position;
        vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", topic.to_string()),
            KeyValue::new("messaging.destination.partition.id", partition.to_string()),
            KeyValue::new("messaging.kafka.offset", *offset),
            KeyValue::new("messaging.consumer.group.name", self.names.group.clone()),
            KeyValue::new("messaging.client.id", self.names.client.clone()),
            KeyValue::new("messaging.message.id", self.message_id(event)),
        ]
    }
}

impl EventSpan {
    /// Links the span to the first one of its event, which has ended: `first` is its `traceparent`.
    pub(crate) fn link_to(&self, first: &str) {
        if let Some(OpenSpan { context, .. }) = &self.0
            && let Some(first) = propagation::parse(first)
        {
            context.span().add_link(first, Vec::new());
        }
    }

    /// The span as a `traceparent`.
    pub(crate) fn traceparent(&self) -> Option<String> {
        propagation::to_traceparent(&self.0.as_ref()?.context)
    }

    /// The ids of the trace and of the span, for the log.
    pub(crate) fn ids(&self) -> Option<(String, String)> {
        let context = self.0.as_ref()?.context.span().span_context().clone();
        Some((context.trace_id().to_string(), context.span_id().to_string()))
    }

    /// Begins the span of a call. `resent` is the number of transfers before it that it repeats.
    pub(crate) fn call(&self, command: DeskCommand, resent: Option<u32>) -> CallSpan {
        CallSpan(self.below(|_| {
            let template = format!("/v4/desk_http_svc/{}", command.as_str());
            let name = format!("POST {template}");
            let mut attributes = vec![
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("url.template", template),
            ];
            let resent = resent.filter(|resent| *resent > 0);
            attributes.extend(
                resent.map(|resent| KeyValue::new("http.request.resend_count", i64::from(resent))),
            );
            (name, SpanKind::Client, attributes)
        }))
    }

    /// Begins the span of the publication of an outcome.
    pub(crate) fn send(&self) -> SendSpan {
        SendSpan(self.below(|tracing| {
            let topic = tracing.names.outcomes.clone();
            let attributes = vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "send"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", topic.clone()),
                KeyValue::new("messaging.client.id", tracing.names.client.clone()),
            ];
            (format!("send {topic}"), SpanKind::Producer, attributes)
        }))
    }

    /// Begins a span below this one, of this name, kind and with these attributes.
    fn below(
        &self,
        describe: impl FnOnce(&Tracing) -> (String, SpanKind, Vec<KeyValue>),
    ) -> Option<Context> {
        let OpenSpan { traces, context, session } = self.0.as_ref()?;
        let tracing = traces.0.as_deref()?;
        let (name, kind, mut attributes) = describe(tracing);
        attributes.extend(session.clone());
        let builder = tracing.tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        Some(Context::new().with_span(tracing.tracer.build_with_context(builder, context)))
    }
}

impl CallSpan {
    /// Makes the call, so that [`describe_request`] finds this span.
    pub(crate) async fn within<F: Future>(&self, call: F) -> F::Output {
        match &self.0 {
            Some(context) => call.with_context(context.clone()).await,
            None => call.await,
        }
    }

    /// The call returned.
    pub(crate) fn end(self, reply: &Reply, verdict: &'static str) {
        let Some(context) = self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("handoff.verdict", verdict));
        let error: Option<Cow<'static, str>> = match reply {
            Reply::Answer(answer) => {
                span.set_attribute(KeyValue::new("handoff.desk.code", answer.desk.code));
                (answer.desk.code != 0).then(|| answer.desk.code.to_string().into())
            }
            Reply::Http { status, .. } => Some(status.to_string().into()),
            Reply::Unsigned(_) => Some("_OTHER".into()),
            // The client has said which.
            Reply::NotSent(_) | Reply::Lost(_) => {
                span.set_status(Status::error(""));
                None
            }
        };
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

impl SendSpan {
    /// Puts the context of this span into the headers of the outcome.
    pub(crate) fn continue_in(&self, headers: &mut Vec<Header>) {
        if let Some(context) = &self.0 {
            propagation::inject(context, headers);
        }
    }

    /// The broker has acknowledged the outcome, which is at this position.
    pub(crate) fn end(self, position: &Position) {
        let Some(context) = self.0 else { return };
        let span = context.span();
        let partition = position.partition.to_string();
        span.set_attribute(KeyValue::new("messaging.destination.partition.id", partition));
        span.set_attribute(KeyValue::new("messaging.kafka.offset", position.offset));
        span.end();
    }
}

/// Describes the request that is made now, in the span of its call. `url` has no query.
pub(crate) fn describe_request(url: &reqwest::Url, status: Option<u16>) {
    Context::map_current(|context| {
        if !context.has_active_span() {
            return;
        }
        let span = context.span();
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default();
        let mut full = url.clone();
        full.set_query(None);
        // Neither can fail for a URL with a host.
        full.set_username("").and_then(|()| full.set_password(None)).unwrap_or_default();
        span.set_attribute(KeyValue::new("server.address", host));
        span.set_attributes(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        span.set_attribute(KeyValue::new("url.full", full.to_string()));
        let status = status.map(i64::from);
        span.set_attributes(status.map(|code| KeyValue::new("http.response.status_code", code)));
    });
}

/// Says in the span of a call why its request got no response.
pub(crate) fn describe_failed_request(error: &reqwest::Error) {
    Context::map_current(|context| {
        if !context.has_active_span() {
            return;
        }
        let kind = match () {
            () if error.is_timeout() => "timeout",
            () if error.is_connect() => "connect",
            () => "connection_lost",
        };
        context.span().set_attribute(KeyValue::new("error.type", kind));
    });
}
