//! The W3C trace context in the headers of Kafka records.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::domain::record::Header;
use crate::domain::wire::headers::{TRACEPARENT, TRACESTATE};

/// The context in these headers, if there is a valid one.
pub(super) fn extract(headers: &[Header]) -> Option<SpanContext> {
    valid(&TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers)))
}

/// The context in a `traceparent`.
pub(super) fn parse(parent: &str) -> Option<SpanContext> {
    extract(&[(TRACEPARENT.to_owned(), Some(parent.as_bytes().to_vec()))])
}

/// Puts the context into the headers, in place of the one that is there.
pub(super) fn inject(context: &Context, headers: &mut Vec<Header>) {
    let mut injected = Injected::default();
    TraceContextPropagator::new().inject_context(context, &mut injected);
    // Both: the state of another trace must not stay beside the new parent.
    headers.retain(|(name, _)| name != TRACEPARENT && name != TRACESTATE);
    headers.append(&mut injected.0);
}

/// The context as a `traceparent`.
pub(super) fn to_traceparent(context: &Context) -> Option<String> {
    let mut headers = Vec::new();
    inject(context, &mut headers);
    let (_, value) = headers.into_iter().find(|(name, _)| name == TRACEPARENT)?;
    String::from_utf8(value?).ok()
}

fn valid(context: &Context) -> Option<SpanContext> {
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

struct Headers<'h>(&'h [Header]);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[derive(Default)]
struct Injected(Vec<Header>);

impl Injector for Injected {
    fn set(&mut self, key: &str, value: String) {
        // Without a state the propagator writes an empty text.
        if !value.is_empty() {
            self.0.push((key.to_owned(), Some(value.into_bytes())));
        }
    }
}
