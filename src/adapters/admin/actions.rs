//! What an operator may do here: retry an event, give it up, pause and resume the intake.
//!
//! Each act needs the token, is logged, and does what the command of the same name does; those on an
//! event stand in its history. A pause of the intake ends with the process.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Admin;
use super::event_history::no_such_event;
use super::reply::AdminRefusal;
use crate::activity::IntakePause;
use crate::adapters::ledger::{LedgerOperator, Operation};
use crate::domain::ledger_entry::{
    OperatorAct, OperatorResult, key, operator_words, parse_operator_line,
};
use crate::telemetry::{LoggedEventId, LoggedId};

/// Who acts, where the request does not say it.
const NOBODY: &str = "an operator";

/// The body of an act; it may be empty where nothing is required.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ActBody {
    by: Option<String>,
    reason: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct ActAnswer {
    result: &'static str,
    text: String,
}

impl ActAnswer {
    fn response(self) -> Response {
        let is_refused = self.result == "refused";
        let status = if is_refused { StatusCode::CONFLICT } else { StatusCode::OK };
        (status, Json(self)).into_response()
    }
}

/// `POST /events/ID/retry` and `/events/ID/give-up`.
pub(super) async fn on_event(
    State(admin): State<Admin>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AdminRefusal> {
    admin.check_actor(&headers).await?;
    let ActBody { by, reason } = act_body(&body)?;
    let (name, act) = match path.rsplit_once('/') {
        Some((name, "retry")) => (name, OperatorAct::Retry),
        Some((name, "give-up")) => (name, OperatorAct::GiveUp { reason: line("reason", reason)? }),
        _ => return Err(AdminRefusal::new(StatusCode::NOT_FOUND, "an act is retry or give-up")),
    };
    let by: Arc<str> = name_of(by)?.into();
    let now = admin.view.clock.now();
    let done = LedgerOperator::perform_on(&admin.view.ledger, name, &act, by.clone(), now).await;
    let done = done.map_err(|error| AdminRefusal::unavailable(&error))?;
    let Some(Operation { key, before, result }) = done else {
        if admin.unfinished_event(name).is_none() {
            return Err(no_such_event());
        }
        let text = "the ledger has no entry of this event: it was not called yet";
        return Ok(ActAnswer { result: "refused", text: text.into() }.response());
    };
    let words = operator_words(&act, &before, &result);
    let act = if act == OperatorAct::Retry { "retry" } else { "give-up" };
    let word = match (&words, &result) {
        (Err(_), _) => "refused",
        (Ok(_), OperatorResult::Stored(_)) => "done",
        (Ok(_), _) => "already",
    };
    let session = before.session_id.as_deref().unwrap_or_default();
    info!(
        act,
        event_id = %LoggedEventId { id: key::name_of(&key), session },
        session = %LoggedId(session),
        kafka.partition = before.source.partition,
        kafka.offset = before.source.offset,
        by = %by,
        result = word,
        "operator acted on an event"
    );
    let (Ok(text) | Err(text)) = words;
    let text = admin.ids.text(&text, session);
    Ok(ActAnswer { result: word, text }.response())
}

/// `POST /intake/pause` and `/intake/resume`.
pub(super) async fn on_intake(
    State(admin): State<Admin>,
    Path(action): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AdminRefusal> {
    admin.check_actor(&headers).await?;
    let by = name_of(act_body(&body)?.by)?;
    let at = admin.view.clock.now();
    let (pause, done, already) = match action.as_str() {
        "pause" => (
            Some(IntakePause { at, by: by.clone() }),
            "the intake is paused until it is resumed, or the process restarts",
            "the intake is paused already",
        ),
        "resume" => (None, "the intake is resumed", "the intake is not paused"),
        _ => return Err(AdminRefusal::new(StatusCode::NOT_FOUND, "an act is pause or resume")),
    };
    let has_changed = admin.view.activity.pause_intake(pause);
    let result = if has_changed { "done" } else { "already" };
    info!(act = action, by, result, "operator acted on the intake");
    let text = if has_changed { done } else { already };
    Ok(ActAnswer { result, text: text.into() }.response())
}

impl Admin {
    /// Actions exist only with a token.
    async fn check_actor(&self, headers: &HeaderMap) -> Result<(), AdminRefusal> {
        if !self.guard.has_token() {
            let text = "there are no actions here: set `admin.token_file`";
            return Err(AdminRefusal::new(StatusCode::NOT_FOUND, text));
        }
        self.guard.check_token(headers).await
    }
}

fn act_body(body: &[u8]) -> Result<ActBody, AdminRefusal> {
    if body.is_empty() {
        return Ok(ActBody::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("the body is {{\"by\": \"..\", \"reason\": \"..\"}}: {error}");
        AdminRefusal::new(StatusCode::BAD_REQUEST, text)
    })
}

fn name_of(by: Option<String>) -> Result<String, AdminRefusal> {
    by.map_or_else(|| Ok(NOBODY.into()), |by| line("by", Some(by)))
}

fn line(name: &str, text: Option<String>) -> Result<String, AdminRefusal> {
    let parsed = parse_operator_line(text.as_deref().unwrap_or_default());
    parsed.map_err(|error| AdminRefusal::new(StatusCode::BAD_REQUEST, format!("`{name}`: {error}")))
}
