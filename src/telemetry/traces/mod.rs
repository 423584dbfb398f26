//! Traces: OpenTelemetry spans of deliveries, calls and publications, sent to a collector.
//!
//! Off by default. [`Traces`] begins the span of a delivery, [`EventSpan`] those below it; where
//! traces are off they hold nothing and do nothing. The attributes have the names of the semantic
//! conventions (docs/traces.md lists them), and no span has a secret or the query of a URL.
//!
//! The spans are made by the API of OpenTelemetry and not by those of `tracing`: the fields of
//! these stand in every log line, and `log.level` decides whether they exist.

mod exporter;
mod propagation;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use tracing::warn;

pub(crate) use self::spans::{EventSpan, describe_failed_request, describe_request};
use super::VERSION;

/// The settings of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// Base URL of the collector; `None`: `OTEL_EXPORTER_OTLP_ENDPOINT`, else port 4318 of this machine.
    pub endpoint: Option<String>,
    /// Which trace the span of an event belongs to.
    pub parent: SpanParent,
    /// Whether spans name the session and the key of the record, which are personal.
    pub personal: bool,
}

/// Which trace the span of an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanParent {
    /// The one that the escalation's publisher began.
    Message,
    /// One of its own, which is linked to that of the publisher.
    None,
}

/// The names that are the same in all spans.
#[derive(Debug, Clone)]
pub struct TracedNames {
    /// The escalation topic.
    pub escalations: String,
    /// The outcome topic.
    pub outcomes: String,
    /// The consumer group.
    pub group: String,
    /// The `client.id` of the Kafka clients.
    pub client: String,
}

/// Begins spans; clones share one exporter.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

/// What spans are made with.
struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    settings: TraceSettings,
    names: TracedNames,
}

impl Traces {
    /// No spans.
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the thread that exports spans. No spans where `OTEL_SDK_DISABLED` is `true`.
    pub fn start(settings: TraceSettings, names: TracedNames) -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the SDK reads its other variables there, too"
        )]
        let disabled = std::env::var("OTEL_SDK_DISABLED");
        if disabled.is_ok_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            return Ok(Self::off());
        }
        let exporter = exporter::exporter(settings.endpoint.as_deref())?;
        let processor = BatchSpanProcessor::builder(exporter).build();
        Ok(Self::with_provider(
            SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()),
            settings,
            names,
        ))
    }

    fn with_provider(
        provider: opentelemetry_sdk::trace::TracerProviderBuilder,
        settings: TraceSettings,
        names: TracedNames,
    ) -> Self {
        let provider = provider.build();
        let tracer = provider.tracer("handoff");
        Self(Some(Arc::new(Tracing { provider, tracer, settings, names })))
    }

    /// Sends the spans that have ended, for at most this time. Blocks.
    pub fn shutdown(&self, timeout: Duration) {
        let Some(tracing) = &self.0 else { return };
        if let Err(error) = tracing.provider.shutdown_with_timeout(timeout) {
            warn!(error = %error, "traces not exported at shutdown");
        }
    }
}

/// Who the spans come from: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go first.
fn resource() -> Resource {
    let of_environment = Resource::builder().build();
    let name = of_environment.get(&"service.name".into()).map(|name| name.to_string());
    let version = of_environment.get(&"service.version".into());
    let mut resource = Resource::builder();
    if name.is_none_or(|name| name.starts_with("unknown_service")) {
        resource = resource.with_service_name("handoff");
    }
    if version.is_none() {
        resource = resource.with_attribute(KeyValue::new("service.version", VERSION));
    }
    resource.build()
}

#[cfg(test)]
mod tests;
