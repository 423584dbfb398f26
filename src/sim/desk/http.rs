//! The simulated Desk over HTTP: the commands of Tencent.
//!
//! A call is checked, counted, matched with the act that waits for it, performed and answered. A
//! call that takes time is performed in a task of its own, so that a client's leaving does not
//! undo it, as it would not undo it at Tencent. No URL is ever logged or kept.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::book::Cue;
use super::counters::Sent;
use super::floor::{Ask, Truth};
use super::line::Line;
use super::script::{Act, Answer};
use super::session::State;
use super::stats::{Command, SeenRequest};
use super::strict::{Checked, Refusal, command_of};
use super::{House, control};

/// More than any body that is checked; longer ones are not read to their end.
const MAX_READ_BYTES: usize = 1 << 20;

/// Every route of the simulated Desk.
pub(super) fn router(house: Arc<House>) -> Router {
    Router::new()
        .route("/v4/desk_http_svc/{command}", any(call))
        .merge(control::router())
        .with_state(house)
}

/// A call that is under way; its end is counted however it ends.
struct Call {
    house: Arc<House>,
    command: Command,
    ask: Option<Ask>,
    seq: u64,
    began: Instant,
    sent: Sent,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(ask) = &self.ask {
            let sent = (self.sent, Instant::now());
            self.house.floor.end_of_call(&ask.session, self.seq, sent);
        }
        self.house.floor.counters.end(self.command, self.sent, self.began.elapsed());
    }
}

async fn call(
    Shared(house): Shared<Arc<House>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    if house.lines.are_out() {
        house.floor.counters.calls_cut_by_outage.fetch_add(1, Relaxed);
        line.cut();
        return Response::new(Body::empty());
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_READ_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let now = Instant::now();
    let command = command_of(&head);
    let counters = &house.floor.counters;
    let over_limit = counters.begin(command, now);
    let seq = counters.seq.fetch_add(1, Relaxed) + 1;
    let house = Arc::clone(&house);
    let mut call = Call { house, command, ask: None, seq, began: now, sent: Sent::Nothing };
    let checked = call.house.door.check(&head, &body, (call.house.clock)());
    match checked {
        Err(refusal) => call.refuse(refusal),
        Ok(_) if over_limit => call.tell(60007, None),
        Ok(checked) => {
            call.note(checked, now);
            call.perform(&line, now).await
        }
    }
}

impl Call {
    fn note(&mut self, checked: Checked, now: Instant) {
        let Checked { ask, random, body } = checked;
        let (floor, command, seq) = (&self.house.floor, self.command, self.seq);
        let began_ns = floor.counters.since_start(now).as_nanos() as u64;
        floor.counters.saw_random(random);
        floor.counters.keep(|| SeenRequest { seq, command, began_ns, body });
        floor.begin(&ask, seq, now);
        if command == Command::Transfer {
            floor.counters.transfers_asked.fetch_add(1, Relaxed);
        }
        self.ask = Some(ask);
    }

    async fn perform(&mut self, line: &Line, now: Instant) -> Response {
        let Some(ask) = self.ask.clone() else { return self.tell(60002, None) };
        let mut rng = self.house.rng(self.seq);
        let (command, session) = (self.command, &*ask.session);
        let transfers = self.house.floor.counters.transfers_asked.load(Relaxed);
        let cue = Cue { session, command, transfers, now };
        let (act, shifts) = self.house.book.look_up(&cue, &mut rng);
        for staffing in shifts {
            self.house.floor.staff(&staffing);
        }
        let act = act.unwrap_or_default();
        let before = self.house.latency().draw(&mut rng) + act.delay.draw(&mut rng);
        let after = act.answer_delay.draw(&mut rng);
        let acts = act.really_acts();
        if before.is_zero() && after.is_zero() {
            let truth = acts.then(|| self.house.floor.act(&ask));
            return self.answer(act, truth, line).await;
        }
        let house = Arc::clone(&self.house);
        let work = self.house.tasks.spawn(async move {
            sleep(before).await;
            let truth = acts.then(|| house.floor.act(&ask));
            sleep(after).await;
            truth
        });
        match work.await {
            Ok(truth) => self.answer(act, truth, line).await,
            Err(_) => self.cut(line),
        }
    }

    async fn answer(&mut self, act: Act, truth: Option<Truth>, line: &Line) -> Response {
        match act.answer {
            Answer::Normal => match truth {
                Some(truth) => self.tell_truth(truth),
                None => self.cut(line),
            },
            Answer::Error { code, info } => self.tell(code, info),
            Answer::Status { status, retry_after, location } => {
                let headers = [(header::RETRY_AFTER, retry_after), (header::LOCATION, location)];
                self.status(status, headers)
            }
            Answer::Body { text, content_type } => {
                self.sent = Sent::Status(200);
                let content_type = header_value(&content_type);
                ([(header::CONTENT_TYPE, content_type)], text).into_response()
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => self.cut(line),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Code(code, info) => self.tell(code, Some(info)),
            Refusal::Status(status) => self.status(status, []),
        }
    }

    /// The response is never seen: its line is cut before the first byte.
    fn cut(&mut self, line: &Line) -> Response {
        line.cut();
        Response::new(Body::empty())
    }

    fn status<const N: usize>(
        &mut self,
        status: u16,
        headers: [(header::HeaderName, Option<String>); N],
    ) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.sent = Sent::Status(status.as_u16());
        let mut response = status.into_response();
        for (name, value) in headers {
            if let Some(value) = value {
                response.headers_mut().insert(name, header_value(&value));
            }
        }
        response
    }

    fn tell(&mut self, code: i64, info: Option<String>) -> Response {
        let info = info.unwrap_or_else(|| usual_text(code).to_owned());
        self.send(Reply { error_code: code, error_info: info, ..Reply::default() })
    }

    fn tell_truth(&mut self, truth: Truth) -> Response {
        let reply = match truth {
            Truth::Refused(code) => return self.tell(code, None),
            Truth::Assigned(agent) => {
                Reply { agent_id: Some(agent.to_string()), ..Reply::default() }
            }
            Truth::Queued => Reply { is_in_queue: Some(1), ..Reply::default() },
            Truth::State(state, agent) => Reply {
                session_id: self.ask.as_ref().map(|ask| ask.session.to_string()),
                current_state: Some(state),
                agent_id: Some(agent.as_deref().unwrap_or("").to_owned()),
                ..Reply::default()
            },
            Truth::Done => Reply::default(),
        };
        self.send(reply)
    }

    fn send(&mut self, reply: Reply) -> Response {
        self.sent = Sent::Code(reply.error_code);
        let action_status = if reply.error_code == 0 { "OK" } else { "FAIL" };
        let request_id = format!("sim-{}", self.seq);
        Json(Reply { action_status, request_id, ..reply }).into_response()
    }
}

/// The answer of every command. Like the real page's sample it leaves `IsInQueue` out when
/// nobody was queued.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
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
    current_state: Option<State>,
    request_id: String,
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
