//! The controls of the simulated Desk under `/sim/`, the same as the methods of its handle.
//!
//! Bodies are JSON whatever their `Content-Type` says, so that a bare `curl -d` will do; a
//! misspelt word is answered with HTTP 400 and its name. The controls are open to whoever reaches
//! the port, and never show a key or a signature.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::House;
use super::agents::Staffing;
use super::line::{Lines, Outage};
use super::script::Script;
use super::session::SessionChange;

const MAX_SCRIPT_BYTES: usize = 64 << 20;
const ANSWER_FIRST: Duration = Duration::from_millis(20);

/// The routes of the controls.
pub(super) fn router() -> Router<Arc<House>> {
    Router::new()
        .route("/sim/stats", get(stats))
        .route("/sim/sessions/{id}", get(session))
        .route("/sim/sessions", post(put_session))
        .route("/sim/script", post(script))
        .route("/sim/agents", post(staff))
        .route("/sim/outage", post(outage))
        .route("/sim/reset", post(reset))
        .layer(DefaultBodyLimit::max(MAX_SCRIPT_BYTES))
}

/// The body of `POST /sim/outage`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageChange {
    on: bool,
    /// Shut the port too.
    #[serde(default)]
    refuse: bool,
    /// It ends by itself after so many milliseconds.
    #[serde(default)]
    for_ms: Option<u64>,
}

async fn stats(Shared(house): Shared<Arc<House>>) -> impl IntoResponse {
    Json(house.stats())
}

async fn session(Shared(house): Shared<Arc<House>>, Path(id): Path<String>) -> Response {
    match house.floor.sessions.report(&id) {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "no call named this session"})))
            .into_response(),
    }
}

async fn put_session(Shared(house): Shared<Arc<House>>, body: Bytes) -> Response {
    control(&body, |change: SessionChange| house.floor.put(&change))
}

async fn script(Shared(house): Shared<Arc<House>>, body: Bytes) -> Response {
    answer(Script::parse(&body).map(|script| house.script(&script)))
}

async fn staff(Shared(house): Shared<Arc<House>>, body: Bytes) -> Response {
    control(&body, |staffing: Staffing| house.floor.staff(&staffing))
}

async fn reset(Shared(house): Shared<Arc<House>>) -> Response {
    house.reset();
    done()
}

async fn outage(Shared(house): Shared<Arc<House>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(OutageChange { on: true, refuse: true, for_ms: None }) => {
            bad_request("with refuse, for_ms is needed: nobody could reach this control to end it")
        }
        Ok(change) => {
            house.tasks.spawn(change.perform(Arc::clone(&house.lines)));
            done()
        }
        Err(fault) => bad_request(&fault.to_string()),
    }
}

impl OutageChange {
    /// The answer has to leave before the line it travels on is cut.
    async fn perform(self, lines: Arc<Lines>) {
        if !self.on {
            return lines.set(Outage::None);
        }
        sleep(ANSWER_FIRST).await;
        lines.set(if self.refuse { Outage::Refusing } else { Outage::Closing });
        if let Some(ms) = self.for_ms {
            sleep(Duration::from_millis(ms)).await;
            lines.set(Outage::None);
        }
    }
}

fn control<T: for<'de> Deserialize<'de>>(body: &[u8], apply: impl FnOnce(T)) -> Response {
    answer(serde_json::from_slice(body).map(apply).map_err(anyhow::Error::new))
}

fn answer(obeyed: anyhow::Result<()>) -> Response {
    match obeyed {
        Ok(()) => done(),
        Err(fault) => bad_request(&format!("{fault:#}")),
    }
}

fn bad_request(fault: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": fault}))).into_response()
}

fn done() -> Response {
    Json(json!({"ok": true})).into_response()
}
