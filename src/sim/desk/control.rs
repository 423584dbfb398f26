//! The control routes of the simulated Desk under `/sim/`, which do what its handle's methods do.
//!
//! The `Content-Type` of a body is ignored, so that a bare `curl -d` works; a body that cannot be
//! parsed is answered with HTTP 400 and the reason. The routes need no signature: anyone who reaches
//! the port may use them, and their answers contain neither keys nor signatures.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::DeskState;
use super::agents::StaffChange;
use super::connection::{ConnectionOutage, Connections};
use super::schedule::FaultSchedule;
use super::sessions::SessionChange;

const MAX_BODY_BYTES: usize = 64 << 20;
/// Time for the answer to this control to leave before its own connection is cut.
const ANSWER_DELAY: Duration = Duration::from_millis(20);

pub(super) fn router() -> Router<Arc<DeskState>> {
    Router::new()
        .route("/sim/stats", get(stats))
        .route("/sim/sessions/{id}", get(session))
        .route("/sim/sessions", post(change_session))
        .route("/sim/schedule", post(schedule))
        .route("/sim/agents", post(change_staff))
        .route("/sim/outage", post(outage))
        .route("/sim/reset", post(reset))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// The body of `POST /sim/outage`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageChange {
    on: bool,
    /// Close the port, instead of cutting each call's connection.
    #[serde(default)]
    refuse: bool,
    /// The outage ends by itself after this many milliseconds.
    #[serde(default)]
    for_ms: Option<u64>,
}

async fn stats(State(desk): State<Arc<DeskState>>) -> impl IntoResponse {
    Json(desk.stats())
}

async fn session(State(desk): State<Arc<DeskState>>, Path(id): Path<String>) -> Response {
    match desk.contact_centre.sessions.report(&id) {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "no call named this session"})))
            .into_response(),
    }
}

async fn change_session(State(desk): State<Arc<DeskState>>, body: Bytes) -> Response {
    apply(&body, |change: SessionChange| desk.contact_centre.change_session(&change))
}

async fn schedule(State(desk): State<Arc<DeskState>>, body: Bytes) -> Response {
    answer(FaultSchedule::parse(&body).map(|schedule| desk.schedule(&schedule)))
}

async fn change_staff(State(desk): State<Arc<DeskState>>, body: Bytes) -> Response {
    let change = serde_json::from_slice::<StaffChange>(&body).map_err(anyhow::Error::new);
    let change = change.and_then(|change| change.check().map(|()| change));
    answer(change.map(|change| desk.contact_centre.change_staff(&change)))
}

async fn reset(State(desk): State<Arc<DeskState>>) -> Response {
    desk.reset();
    done()
}

async fn outage(State(desk): State<Arc<DeskState>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(OutageChange { on: true, refuse: true, for_ms: None }) => {
            bad_request("refuse needs for_ms: with the port closed no control can end the outage")
        }
        Ok(change) => {
            desk.tasks.spawn(change.perform(Arc::clone(&desk.connections)));
            done()
        }
        Err(error) => bad_request(&error.to_string()),
    }
}

impl OutageChange {
    async fn perform(self, connections: Arc<Connections>) {
        if !self.on {
            return connections.set(ConnectionOutage::None);
        }
        sleep(ANSWER_DELAY).await;
        connections.set(if self.refuse {
            ConnectionOutage::Refusing
        } else {
            ConnectionOutage::Closing
        });
        if let Some(ms) = self.for_ms {
            sleep(Duration::from_millis(ms)).await;
            connections.set(ConnectionOutage::None);
        }
    }
}

fn apply<T: for<'de> Deserialize<'de>>(body: &[u8], change: impl FnOnce(T)) -> Response {
    answer(serde_json::from_slice(body).map(change).map_err(anyhow::Error::new))
}

fn answer(result: anyhow::Result<()>) -> Response {
    match result {
        Ok(()) => done(),
        Err(error) => bad_request(&format!("{error:#}")),
    }
}

fn bad_request(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response()
}

fn done() -> Response {
    Json(json!({"ok": true})).into_response()
}
