//! The commands of the simulated Desk over HTTP.
//!
//! A call is validated, counted, matched with a pending fault, executed and answered. No URL is
//! logged or stored, because the UserSig is part of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::contact_centre::{CommandRequest, Effect};
use super::counters::{CallEnd, OverLimit};
use super::odd_body::OddForm;
use super::pending::CallContext;
use super::schedule::{InjectedAnswer, InjectedFault};
use super::sessions::SimulatedState;
use super::stats::{ApiCommand, SeenRequest};
use super::validation::{Refusal, ValidRequest, command_of};
use super::{DeskState, control};

/// Above the limit for valid bodies, so that a body that is a little too long gets its code.
const MAX_READ_BYTES: usize = 1 << 20;

pub(super) fn router(desk: Arc<DeskState>) -> Router {
    Router::new()
        .route("/v4/desk_http_svc/{command}", any(handle_call))
        .merge(control::router())
        .with_state(desk)
}

/// A call in flight. Dropping it counts its end, also when the client disconnects.
struct CallInFlight {
    desk: Arc<DeskState>,
    command: ApiCommand,
    /// Present if the request is valid.
    request: Option<CommandRequest>,
    seq: u64,
    began: Instant,
    end: CallEnd,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let centre = &self.desk.contact_centre;
        if let Some(request) = &self.request {
            centre.end_call(&request.session, self.seq, self.end, Instant::now());
        }
        centre.counters.end(self.command, self.end, self.began.elapsed());
    }
}

async fn handle_call(
    State(desk): State<Arc<DeskState>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let counters = &desk.contact_centre.counters;
    if desk.connections.are_cut() {
        counters.calls_cut_by_outage.fetch_add(1, Relaxed);
        return cut(&connection);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_READ_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let began = Instant::now();
    let command = command_of(&head);
    let admitted = counters.begin(command, began);
    let seq = counters.seq.fetch_add(1, Relaxed) + 1;
    let end = CallEnd::NoAnswer;
    let desk = Arc::clone(&desk);
    let mut call = CallInFlight { desk, command, request: None, seq, began, end };
    let validated = call.desk.validator.check(&head, &body, (call.desk.clock)());
    match (validated, admitted) {
        (Err(refusal), _) => call.refuse(refusal),
        (Ok(_), Err(OverLimit)) => call.answer_code(60007, None),
        (Ok(valid), Ok(())) => {
            let request = call.record(valid);
            call.execute(request, &connection).await
        }
    }
}

/// The response is never sent: its connection is cut before the first byte.
fn cut(connection: &Connection) -> Response {
    connection.cut();
    Response::new(Body::empty())
}

impl CallInFlight {
    fn record(&mut self, valid: ValidRequest) -> CommandRequest {
        let ValidRequest { command: request, random, body } = valid;
        let centre = &self.desk.contact_centre;
        let (command, seq) = (self.command, self.seq);
        let began_ns = centre.counters.since_start(self.began).as_nanos() as u64;
        centre.counters.count_random(random);
        centre.counters.record(|| SeenRequest { seq, command, began_ns, body });
        centre.begin_call(&request, seq, self.began);
        if command == ApiCommand::Transfer {
            centre.counters.transfers_asked.fetch_add(1, Relaxed);
        }
        self.request = Some(request.clone());
        request
    }

    async fn execute(&mut self, request: CommandRequest, connection: &Connection) -> Response {
        let centre = &self.desk.contact_centre;
        let mut rng = self.desk.rng(self.seq);
        let transfers = centre.counters.transfers_asked.load(Relaxed);
        let (session, command, now) = (&*request.session, self.command, self.began);
        let context = CallContext { session, command, transfers, now };
        let (fault, staff_changes) = self.desk.pending.take(&context, &mut rng);
        for change in staff_changes {
            centre.change_staff(&change);
        }
        let fault = fault.unwrap_or_default();
        let before = self.desk.latency().draw(&mut rng) + fault.delay.draw(&mut rng);
        let after = fault.answer_delay.draw(&mut rng);
        let has_effect = fault.has_effect();
        if before.is_zero() && after.is_zero() {
            let effect = has_effect.then(|| centre.execute(&request));
            return self.answer(fault, effect, connection).await;
        }
        // In a task of its own: a client that disconnects does not cancel the effect, as it would
        // not at Tencent.
        let desk = Arc::clone(&self.desk);
        let work = self.desk.tasks.spawn(async move {
            sleep(before).await;
            let effect = has_effect.then(|| desk.contact_centre.execute(&request));
            sleep(after).await;
            effect
        });
        match work.await {
            Ok(effect) => self.answer(fault, effect, connection).await,
            Err(_) => cut(connection),
        }
    }

    async fn answer(
        &mut self,
        fault: InjectedFault,
        effect: Option<Effect>,
        connection: &Connection,
    ) -> Response {
        match fault.answer {
            InjectedAnswer::Normal => match effect {
                Some(effect) => self.answer_effect(effect),
                None => cut(connection),
            },
            InjectedAnswer::Error { code, info } => self.answer_code(code, info),
            InjectedAnswer::Status { status, retry_after, location } => {
                let headers = [(header::RETRY_AFTER, retry_after), (header::LOCATION, location)];
                self.answer_status(status, headers)
            }
            InjectedAnswer::Body { text, content_type } => {
                self.end = CallEnd::Status(200);
                let content_type = header_value(&content_type);
                ([(header::CONTENT_TYPE, content_type)], text).into_response()
            }
            InjectedAnswer::Odd { form, code } => {
                let response = match (code, effect) {
                    (Some(code), _) => self.answer_code(code, None),
                    (None, Some(effect)) => self.answer_effect(effect),
                    (None, None) => return cut(connection),
                };
                in_form(form, response).await
            }
            InjectedAnswer::Hang => std::future::pending().await,
            InjectedAnswer::Close => cut(connection),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Code(code, info) => self.answer_code(code, Some(info)),
            Refusal::Status(status) => self.answer_status(status, []),
        }
    }

    fn answer_status<const N: usize>(
        &mut self,
        status: u16,
        headers: [(header::HeaderName, Option<String>); N],
    ) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.end = CallEnd::Status(status.as_u16());
        let mut response = status.into_response();
        for (name, value) in headers {
            if let Some(value) = value {
                response.headers_mut().insert(name, header_value(&value));
            }
        }
        response
    }

    fn answer_code(&mut self, code: i64, info: Option<String>) -> Response {
        let info = info.unwrap_or_else(|| usual_text(code).to_owned());
        self.send(AnswerBody { error_code: code, error_info: info, ..AnswerBody::default() })
    }

    fn answer_effect(&mut self, effect: Effect) -> Response {
        let body = match effect {
            Effect::Refused(code) => return self.answer_code(code, None),
            Effect::Assigned(agent) => {
                AnswerBody { agent_id: Some(agent.to_string()), ..AnswerBody::default() }
            }
            Effect::Queued => AnswerBody { is_in_queue: Some(1), ..AnswerBody::default() },
            Effect::State { state, agent } => AnswerBody {
                session_id: self.request.as_ref().map(|request| request.session.to_string()),
                current_state: Some(state),
                agent_id: Some(agent.as_deref().unwrap_or("").to_owned()),
                ..AnswerBody::default()
            },
            Effect::Ended => AnswerBody::default(),
        };
        self.send(body)
    }

    fn send(&mut self, body: AnswerBody) -> Response {
        self.end = CallEnd::Code(body.error_code);
        let action_status = if body.error_code == 0 { "OK" } else { "FAIL" };
        let request_id = format!("sim-{}", self.seq);
        Json(AnswerBody { action_status, request_id, ..body }).into_response()
    }
}

/// The answer of every command. Like the sample in Tencent's documentation it omits `IsInQueue`
/// unless the session was queued.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerBody {
    error_code: i64,
    error_info: String,
    action_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_in_queue: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_state: Option<SimulatedState>,
    request_id: String,
}

/// Writes the body of an answer in an odd form.
async fn in_form(form: OddForm, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let json = to_bytes(body, MAX_READ_BYTES).await.unwrap_or_default();
    head.headers.remove(header::CONTENT_LENGTH);
    if let Some(encoding) = form.encoding() {
        head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Response::from_parts(head, Body::from(form.write(&json)))
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

fn usual_text(code: i64) -> &'static str {
    match code {
        0 => "",
        60007 => "the call frequency of this REST interface is exceeded",
        60008 => "the service timed out",
        70001 => "the UserSig has expired",
        90001 => "the request JSON cannot be parsed",
        141000 => "the app is not a Desk app",
        141001 => "no agent is available",
        141002 => "internal error, try again",
        141003 => "the session cannot be transferred",
        141004 => "illegal parameters",
        141005 => "no such session",
        141006 => "the SessionId is malformed",
        141012 => "the agents are at their maximum of sessions",
        _ => "simulated",
    }
}
