//! The JSON form of the log: one flat object a line, with fields that docs/logs.md promises.
//!
//! The fields of a line are its own and those of the spans around it. The formatter of
//! `tracing-subscriber` nests the latter, so that each query would have to know the code.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::VERSION;

/// Formats each line as JSON. The fields of spans must be formatted as JSON, too.
#[derive(Debug)]
pub(super) struct JsonLines;

/// What each line has, in this order, before its own fields.
#[derive(Serialize)]
struct LogObject<'l> {
    timestamp: String,
    level: &'l str,
    message: String,
    target: &'l str,
    #[serde(rename = "service.version")]
    version: &'l str,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = FieldCollector::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            let own = formatted.and_then(|fields| serde_json::from_str(fields.as_str()).ok());
            fields.values.extend(own.unwrap_or_else(Map::new));
        }
        event.record(&mut fields);
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = LogObject {
            timestamp,
            level: event.metadata().level().as_str(),
            message: fields.message,
            target: event.metadata().target(),
            version: VERSION,
            fields: fields.values,
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// Collects the fields of a line.
#[derive(Default)]
struct FieldCollector {
    message: String,
    values: Map<String, Value>,
}

impl FieldCollector {
    fn put(&mut self, field: &Field, value: Value) {
        self.values.insert(field.name().to_owned(), value);
    }
}

impl Visit for FieldCollector {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{info, info_span};
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_object_and_its_own_fields_go_before_those_of_its_spans() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .event_format(JsonLines)
            .fmt_fields(JsonFields::new())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, || {
            let _span = info_span!("escalation", event_id = "e1", kafka.partition = 3).entered();
            let absent: Option<&str> = None;
            info!(event_id = %"e\"2\n", elapsed_ms = 7_u64, share = 0.5, route = absent, "answered");
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("{\"timestamp\":\"2"), "{text}");
        let mut line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let timestamp: jiff::Timestamp =
            line.remove("timestamp").unwrap().as_str().unwrap().parse().unwrap();
        assert!(timestamp.as_second() > 0);
        let expected = serde_json::json!({
            "level": "INFO",
            "message": "answered",
            "target": module_path!(),
            "service.version": VERSION,
            "event_id": "e\"2\n",
            "kafka.partition": 3,
            "elapsed_ms": 7,
            "share": 0.5,
        });
        assert_eq!(Value::Object(line), expected);
    }
}
