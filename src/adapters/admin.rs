//! The admin port, for probes and people.
//!
//! - `/health`: 200 while there is progress, 503 and a sentence when something is stuck.
//! - `/ready`: 200 while events can be answered, 503 and what to repair while they cannot.
//! - `/metrics`: Prometheus (OpenMetrics text).
//! - `/status`: the same at a glance, as JSON.
//!
//! This file never changes anything: every route only reads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::gate::Gate;
use crate::health::Health;
use crate::telemetry::Metrics;

/// What the routes read.
#[derive(Clone)]
pub struct View {
    /// Signs of progress.
    pub health: Arc<Health>,
    /// The worker's gate towards Desk.
    pub gate: Arc<Gate>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// ShutReason the ledger does not answer, if it does not.
    pub ledger: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// The time.
    pub clock: Clock,
}

/// Serve until stopped.
pub async fn serve(
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
    answer(view.stuck())
}

async fn ready(State(view): State<View>) -> (StatusCode, String) {
    answer(view.not_ready())
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], view.metrics.render())
}

async fn status(State(view): State<View>) -> Json<Value> {
    let metrics = &view.metrics;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "healthy": view.stuck().is_none(),
        "ready": view.not_ready().is_none(),
        "why": view.stuck().or(view.not_ready()),
        "gate": view.gate.shut().map_or("open", |shut| shut.reason.as_str()),
        "assigned_partitions": metrics.partitions.get(),
        "unfinished_events": metrics.unfinished.get(),
        "calls_in_flight": metrics.in_flight.get(),
        "intake_paused": metrics.intake_paused.get() == 1,
    }))
}

impl View {
    fn stuck(&self) -> Option<String> {
        self.health.stalled(self.clock.now(), (self.ledger)().is_some())
    }

    fn not_ready(&self) -> Option<String> {
        if let Some(what) = self.health.waiting_for() {
            return Some(what);
        }
        if !self.health.has_joined() {
            return Some("not a member of the consumer group yet".into());
        }
        if let Some(problem) = self.health.cut_off() {
            return Some(problem);
        }
        if let Some(problem) = (self.ledger)() {
            return Some(format!("the ledger does not work: {problem}"));
        }
        if let Some(problem) = self.health.blocked() {
            return Some(problem);
        }
        self.gate.shut().map(|shut| format!("{}: {}", shut.reason.as_str(), shut.repair))
    }
}

fn answer(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".into()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}
