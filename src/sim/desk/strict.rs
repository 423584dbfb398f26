//! What the simulated Desk demands of a request before it does anything.
//!
//! It checks what Tencent documents, in the order of the URL, the signature, the head and the
//! body, and names the first fault with Tencent's own code. Where the documentation is silent the
//! nearest code of its tables is used. Nothing here waits or changes a session, and no text that
//! it writes ever quotes the UserSig.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Method, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::counters::lock;
use super::floor::{Ask, Transfer};
use super::stats::Command;
use crate::domain::usersig::{self, Identity, SigFault};

/// Where the commands live.
pub(super) const PREFIX: &str = "/v4/desk_http_svc/";
const MAX_BODY_BYTES: usize = 12 * 1024;

/// Whom this Desk lets in.
pub(super) struct Door {
    pub(super) admin: Identity,
    pub(super) key: SecretString,
    pub(super) unknown_command_is_404: bool,
    /// The last signature that was in order: clients use one for days, so it is verified once.
    pub(super) last_good: Mutex<Option<Good>>,
}

/// A signature that was in order.
pub(super) struct Good {
    usersig: SecretString,
    identifier: String,
    expires_at_unix: i64,
}

/// A request without fault.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) ask: Ask,
    pub(super) random: u32,
    pub(super) body: Value,
}

/// A request with a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Code(i64, String),
    Status(u16),
}

type Check<T> = Result<T, Refusal>;

impl Door {
    /// Checks a whole request.
    pub(super) fn check(&self, head: &Parts, body: &[u8], now_unix: i64) -> Check<Checked> {
        if head.method != Method::POST {
            return Err(Refusal::Status(405));
        }
        let command = command_of(head);
        if command == Command::Other {
            return Err(self.unknown_command());
        }
        let random = self.check_query(head, command, now_unix)?;
        check_content_type(head)?;
        let body = parse_body(body, command)?;
        let session = session_id(&body)?;
        let transfer = match command {
            Command::Transfer => wishes(&body)?,
            _ => only_the_session(&body)?,
        };
        Ok(Checked { ask: Ask { command, session, transfer }, random, body: Value::Object(body) })
    }

    fn unknown_command(&self) -> Refusal {
        if self.unknown_command_is_404 {
            return Refusal::Status(404);
        }
        refusal(60009, "no such command: check the URL")
    }

    fn check_query(&self, head: &Parts, command: Command, now_unix: i64) -> Check<u32> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&head.uri)
            .map_err(|_| refusal(60002, "the query cannot be parsed"))?;
        let value = |name: &str| {
            let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
            let first = values.next().map(String::as_str).filter(|value| !value.is_empty());
            if values.next().is_some() { Err(twice(name)) } else { Ok(first) }
        };
        let sdkappid =
            value("sdkappid")?.ok_or_else(|| refusal(60012, "sdkappid is missing in the URL"))?;
        let sdkappid: u64 =
            sdkappid.parse().map_err(|_| refusal(60006, "sdkappid is not a number"))?;
        let identifier =
            value("identifier")?.ok_or_else(|| refusal(60004, "identifier is missing"))?;
        let usersig = value("usersig")?.ok_or_else(|| refusal(60004, "usersig is missing"))?;
        let random = value("random")?
            .and_then(|random| random.parse().ok())
            .ok_or_else(|| refusal(60002, "random must be an integer from 0 to 4294967295"))?;
        if value("contenttype")? != Some("json") {
            return Err(refusal(60002, "contenttype must be json"));
        }
        if sdkappid != self.admin.sdkappid {
            return Err(refusal(70020, "sdkappid is unknown in this data centre"));
        }
        let caller = Identity { sdkappid, identifier: identifier.to_owned() };
        self.check_signature(usersig, &caller, now_unix)?;
        if caller.identifier == self.admin.identifier {
            return Ok(random);
        }
        let code = if command == Command::Transfer { 90009 } else { 60010 };
        Err(refusal(code, "App administrator rights are needed"))
    }

    fn check_signature(&self, usersig: &str, caller: &Identity, now_unix: i64) -> Check<()> {
        let mut last_good = lock(&self.last_good);
        if last_good.as_ref().is_some_and(|good| good.is(usersig, caller, now_unix)) {
            return Ok(());
        }
        usersig::verify(usersig, caller, &self.key, now_unix).map_err(Refusal::from)?;
        *last_good = usersig::decode(usersig).ok().map(|claims| Good {
            usersig: SecretString::from(usersig),
            expires_at_unix: claims.expires_at_unix(),
            identifier: claims.identifier,
        });
        Ok(())
    }
}

impl Good {
    fn is(&self, usersig: &str, caller: &Identity, now_unix: i64) -> bool {
        now_unix < self.expires_at_unix
            && caller.identifier == self.identifier
            && usersig == self.usersig.expose_secret()
    }
}

impl From<SigFault> for Refusal {
    fn from(fault: SigFault) -> Self {
        Self::Code(fault.code(), fault.to_string())
    }
}

/// The command in the path, whether or not the rest of the request is in order.
pub(super) fn command_of(head: &Parts) -> Command {
    head.uri.path().strip_prefix(PREFIX).map_or(Command::Other, Command::of_path)
}

fn check_content_type(head: &Parts) -> Check<()> {
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(refusal(60002, "Content-Type must be application/json"))
}

fn parse_body(body: &[u8], command: Command) -> Check<Map<String, Value>> {
    if body.len() > MAX_BODY_BYTES {
        return Err(refusal(93000, "the body is longer than 12k"));
    }
    if body.is_empty() {
        return Err(refusal(60003, "the body is empty"));
    }
    let unparsable = if command == Command::Transfer { 90001 } else { 60003 };
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(refusal(unparsable, "the body is not a JSON object")),
        Err(_) => Err(refusal(unparsable, "the body is not JSON")),
    }
}

fn session_id(body: &Map<String, Value>) -> Check<Arc<str>> {
    match body.get("SessionId") {
        Some(Value::String(id)) if !id.is_empty() => Ok(Arc::from(id.as_str())),
        _ => Err(refusal(141006, "SessionId must be a string that is not empty")),
    }
}

fn only_the_session(body: &Map<String, Value>) -> Check<Transfer> {
    match body.keys().find(|name| *name != "SessionId") {
        Some(name) => Err(illegal(name, "is not a field of this command")),
        None => Ok(Transfer::default()),
    }
}

fn wishes(body: &Map<String, Value>) -> Check<Transfer> {
    let mut transfer = Transfer::default();
    for (name, value) in body {
        match name.as_str() {
            "SessionId" => {}
            "AgentIdList" => transfer.wanted.agents = agents(value)?,
            "AgentGroupId" => transfer.wanted.group = Some(integer(name, value)?),
            "SendTipIfNoAgentOnline" => transfer.send_tip = flag(name, value)?,
            "EndSessionWhenNoMemberOnline" => transfer.end_session = flag(name, value)?,
            "DisableQueuing" => transfer.disable_queuing = flag(name, value)?,
            "AllowAssignBusyMember" => transfer.wanted.allow_busy = flag(name, value)?,
            "CheckIfDuringWorkingHours" | "SendPromptNotDuringWorkingHours" => {
                flag(name, value)?;
            }
            "Priority" => transfer.priority = priority(name, value)?,
            "QueueTimeout" => {
                value.as_u64().ok_or_else(|| illegal(name, "must be a number of seconds"))?;
            }
            _ => return Err(illegal(name, "is not a field of this command")),
        }
    }
    Ok(transfer)
}

fn agents(value: &Value) -> Check<Vec<String>> {
    let agent = |value: &Value| value.as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let list = value.as_array().and_then(|values| values.iter().map(agent).collect());
    list.ok_or_else(|| illegal("AgentIdList", "must be an array of strings"))
}

fn integer(name: &str, value: &Value) -> Check<i64> {
    value.as_i64().ok_or_else(|| illegal(name, "must be an integer"))
}

fn flag(name: &str, value: &Value) -> Check<bool> {
    match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(illegal(name, "must be 0 or 1")),
    }
}

fn priority(name: &str, value: &Value) -> Check<u8> {
    let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
    number.filter(|number| *number <= 9).ok_or_else(|| illegal(name, "must be from 0 to 9"))
}

fn refusal(code: i64, info: &str) -> Refusal {
    Refusal::Code(code, info.to_owned())
}

fn illegal(name: &str, must: &str) -> Refusal {
    Refusal::Code(141004, format!("{name} {must}"))
}

fn twice(name: &str) -> Refusal {
    Refusal::Code(60002, format!("{name} occurs twice in the URL"))
}
