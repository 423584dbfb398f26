//! The admin port, for probes and people. Every route only reads.
//!
//! - `/health`: 200 while the service makes progress; 503 and the reason where a restart may help.
//! - `/ready`: 200 while events can be answered; 503 and what to repair while they cannot.
//! - `/metrics`: for Prometheus, as OpenMetrics where the scraper accepts it.
//! - `/status`: all of it at a glance, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::gate::Gate;
use crate::health::Health;
use crate::telemetry::{Metrics, MetricsFormat};

/// What the routes read.
#[derive(Clone)]
pub(crate) struct View {
    /// Progress and blocked partitions.
    pub(crate) health: Arc<Health>,
    /// Admission control towards Desk.
    pub(crate) gate: Arc<Gate>,
    /// All metrics.
    pub(crate) metrics: Arc<Metrics>,
    /// Why the ledger is unavailable, if it is.
    pub(crate) ledger: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// The wall clock.
    pub(crate) clock: Clock,
}

/// Serve the routes until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    view: View,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(view);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn health(State(view): State<View>) -> (StatusCode, String) {
    probe_result(view.stalled())
}

async fn ready(State(view): State<View>) -> (StatusCode, String) {
    probe_result(view.not_ready())
}

async fn metrics(State(view): State<View>, headers: HeaderMap) -> impl IntoResponse {
    view.metrics.healthy.set(i64::from(view.stalled().is_none()));
    view.metrics.ready.set(i64::from(view.not_ready().is_none()));
    view.metrics.ledger_up.set(i64::from((view.ledger)().is_none()));
    view.gate.report_rates();
    let format = metrics_format(&headers);
    let content_type = match format {
        MetricsFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, content_type)], view.metrics.render(format))
}

/// OpenMetrics for those who ask for it; the older format for all others.
fn metrics_format(headers: &HeaderMap) -> MetricsFormat {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let asks = accepted.flat_map(|value| value.split(',')).any(|media_type| {
        let mut parts = media_type.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| part.strip_prefix("q=").is_some_and(is_zero));
        name.eq_ignore_ascii_case("application/openmetrics-text") && !is_refused
    });
    if asks { MetricsFormat::OpenMetrics } else { MetricsFormat::Prometheus }
}

fn is_zero(number: &str) -> bool {
    number.parse() == Ok(0.0)
}

async fn status(State(view): State<View>) -> Json<Value> {
    let metrics = &view.metrics;
    let (stalled, not_ready) = (view.stalled(), view.not_ready());
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "healthy": stalled.is_none(),
        "ready": not_ready.is_none(),
        "why": stalled.or(not_ready),
        "gate": view.gate.shut().map_or("open", |shut| shut.reason.as_str()),
        "assigned_partitions": metrics.partitions.get(),
        "unfinished_events": metrics.unfinished.get(),
        "parked_events": metrics.parked(),
        "waiting_rooms": view.health.rooms(),
        "calls_in_flight": metrics.in_flight.get(),
        "intake_paused": metrics.intake_paused.get() == 1,
    }))
}

impl View {
    /// What has stalled, if anything has: what `/health` says.
    pub(crate) fn stalled(&self) -> Option<String> {
        // While the ledger is unavailable events become overdue, and a restart would not help.
        self.health.stalled(self.clock.now(), (self.ledger)().is_some())
    }

    /// The first reason why events cannot be answered: each of them hides those after it.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(problem) = self.health.waiting_for() {
            return Some(problem);
        }
        if let Some(problem) = self.health.faults().first() {
            return Some(problem);
        }
        if !self.health.has_joined() {
            return Some("not a member of the consumer group yet".into());
        }
        if let Some(problem) = self.health.cut_off() {
            return Some(problem);
        }
        if let Some(problem) = (self.ledger)() {
            return Some(format!("the ledger is unavailable: {problem}"));
        }
        if let Some(problem) = self.health.blocked() {
            return Some(problem);
        }
        self.gate.shut().map(|shut| format!("{}: {}", shut.reason.as_str(), shut.repair))
    }
}

fn probe_result(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".into()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: Option<&'static str>, expected: MetricsFormat) {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(metrics_format(&headers), expected, "{accept:?}");
    }

    #[test]
    fn open_metrics_are_for_those_who_ask_for_them() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3,*/*;q=0.1";
        check(Some(prometheus), MetricsFormat::OpenMetrics);
        check(Some("Application/OpenMetrics-Text"), MetricsFormat::OpenMetrics);
        for accept in
            [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics-text;q=0")]
        {
            check(accept, MetricsFormat::Prometheus);
        }
    }
}
