//! Checks a request to the simulated Desk before it has any effect.
//!
//! URL, signature, headers and body are checked in this order against Tencent's documentation. The
//! first fault is answered with Tencent's code for it; where the documentation is silent, with the
//! closest code of its tables. No text of this module quotes the UserSig.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Method, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::contact_centre::{CommandRequest, TransferParameters};
use super::stats::ApiCommand;
use crate::domain::usersig::{self, Identity, UserSigFault};

/// Path of the commands.
pub(super) const PREFIX: &str = "/v4/desk_http_svc/";
const MAX_BODY_BYTES: usize = 12 * 1024;

/// Checks whole requests.
pub(super) struct Validator {
    pub(super) authentication: Authentication,
    pub(super) unknown_command_is_404: bool,
}

/// Checks signatures.
pub(super) struct Authentication {
    admin: Identity,
    key: SecretString,
    // Clients use one signature for days; verifying it again for each call would dominate the cost
    // of a call in benchmarks.
    last_verified: Mutex<Option<VerifiedSignature>>,
}

struct VerifiedSignature {
    usersig: SecretString,
    identifier: String,
    expires_at_unix: i64,
}

/// A valid request.
#[derive(Debug)]
pub(super) struct ValidRequest {
    pub(super) command: CommandRequest,
    pub(super) random: u32,
    pub(super) body: Value,
}

/// The answer to an invalid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Code(i64, String),
    Status(u16),
}

type Checked<T> = Result<T, Refusal>;

impl Validator {
    pub(super) fn check(&self, head: &Parts, body: &[u8], now_unix: i64) -> Checked<ValidRequest> {
        if head.method != Method::POST {
            return Err(Refusal::Status(405));
        }
        let command = command_of(head);
        if command == ApiCommand::Other {
            return Err(self.unknown_command());
        }
        let random = self.check_query(head, command, now_unix)?;
        check_content_type(head)?;
        let body = parse_body(body, command)?;
        let session = session_id(&body)?;
        let transfer = match command {
            ApiCommand::Transfer => transfer_parameters(&body)?,
            _ => no_parameters(&body)?,
        };
        let command = CommandRequest { command, session, transfer };
        Ok(ValidRequest { command, random, body: Value::Object(body) })
    }

    fn unknown_command(&self) -> Refusal {
        if self.unknown_command_is_404 {
            return Refusal::Status(404);
        }
        refusal(60009, "no such command: check the URL")
    }

    fn check_query(&self, head: &Parts, command: ApiCommand, now_unix: i64) -> Checked<u32> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&head.uri)
            .map_err(|_| refusal(60002, "the query cannot be parsed"))?;
        let value = |name: &str| {
            let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
            let first = values.next().map(String::as_str).filter(|value| !value.is_empty());
            if values.next().is_some() { Err(repeated_parameter(name)) } else { Ok(first) }
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
        if sdkappid != self.authentication.admin.sdkappid {
            return Err(refusal(70020, "sdkappid is unknown in this data centre"));
        }
        let caller = Identity { sdkappid, identifier: identifier.to_owned() };
        self.authentication.check_signature(usersig, &caller, now_unix)?;
        if caller.identifier == self.authentication.admin.identifier {
            return Ok(random);
        }
        let code = if command == ApiCommand::Transfer { 90009 } else { 60010 };
        Err(refusal(code, "App administrator rights are needed"))
    }
}

impl Authentication {
    pub(super) fn new(admin: Identity, key: SecretString) -> Self {
        Self { admin, key, last_verified: Mutex::default() }
    }

    fn check_signature(&self, usersig: &str, caller: &Identity, now_unix: i64) -> Checked<()> {
        let mut last_verified = self.last_verified.lock();
        if last_verified.as_ref().is_some_and(|last| last.matches(usersig, caller, now_unix)) {
            return Ok(());
        }
        usersig::verify(usersig, caller, &self.key, now_unix).map_err(Refusal::from)?;
        *last_verified = usersig::decode(usersig).ok().map(|claims| VerifiedSignature {
            usersig: SecretString::from(usersig),
            expires_at_unix: claims.expires_at_unix(),
            identifier: claims.identifier,
        });
        Ok(())
    }
}

impl VerifiedSignature {
    fn matches(&self, usersig: &str, caller: &Identity, now_unix: i64) -> bool {
        now_unix < self.expires_at_unix
            && caller.identifier == self.identifier
            && usersig == self.usersig.expose_secret()
    }
}

impl From<UserSigFault> for Refusal {
    fn from(fault: UserSigFault) -> Self {
        Self::Code(fault.code(), fault.to_string())
    }
}

/// The command in the path, whether or not the rest of the request is valid.
pub(super) fn command_of(head: &Parts) -> ApiCommand {
    head.uri.path().strip_prefix(PREFIX).map_or(ApiCommand::Other, ApiCommand::of_path)
}

fn check_content_type(head: &Parts) -> Checked<()> {
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(refusal(60002, "Content-Type must be application/json"))
}

fn parse_body(body: &[u8], command: ApiCommand) -> Checked<Map<String, Value>> {
    if body.len() > MAX_BODY_BYTES {
        return Err(refusal(93000, "the body is longer than 12k"));
    }
    if body.is_empty() {
        return Err(refusal(60003, "the body is empty"));
    }
    let unparsable = if command == ApiCommand::Transfer { 90001 } else { 60003 };
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(refusal(unparsable, "the body is not a JSON object")),
        Err(_) => Err(refusal(unparsable, "the body is not JSON")),
    }
}

fn session_id(body: &Map<String, Value>) -> Checked<Arc<str>> {
    match body.get("SessionId") {
        Some(Value::String(id)) if !id.is_empty() => Ok(Arc::from(id.as_str())),
        _ => Err(refusal(141006, "SessionId must be a string that is not empty")),
    }
}

fn no_parameters(body: &Map<String, Value>) -> Checked<TransferParameters> {
    match body.keys().find(|name| *name != "SessionId") {
        Some(name) => Err(illegal(name, "is not a field of this command")),
        None => Ok(TransferParameters::default()),
    }
}

fn transfer_parameters(body: &Map<String, Value>) -> Checked<TransferParameters> {
    let mut transfer = TransferParameters::default();
    for (name, value) in body {
        match name.as_str() {
            "SessionId" => {}
            "AgentIdList" => transfer.requested.agents = agents(value)?,
            "AgentGroupId" => transfer.requested.group = Some(integer(name, value)?),
            "SendTipIfNoAgentOnline" => transfer.send_tip = flag(name, value)?,
            "EndSessionWhenNoMemberOnline" => transfer.end_session = flag(name, value)?,
            "DisableQueuing" => transfer.disable_queuing = flag(name, value)?,
            "AllowAssignBusyMember" => transfer.requested.allow_busy = flag(name, value)?,
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

fn agents(value: &Value) -> Checked<Vec<String>> {
    let agent = |value: &Value| value.as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let list = value.as_array().and_then(|values| values.iter().map(agent).collect());
    list.ok_or_else(|| illegal("AgentIdList", "must be an array of strings"))
}

fn integer(name: &str, value: &Value) -> Checked<i64> {
    value.as_i64().ok_or_else(|| illegal(name, "must be an integer"))
}

fn flag(name: &str, value: &Value) -> Checked<bool> {
    match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(illegal(name, "must be 0 or 1")),
    }
}

fn priority(name: &str, value: &Value) -> Checked<u8> {
    let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
    number.filter(|number| *number <= 9).ok_or_else(|| illegal(name, "must be from 0 to 9"))
}

fn refusal(code: i64, info: &str) -> Refusal {
    Refusal::Code(code, info.to_owned())
}

fn illegal(name: &str, requirement: &str) -> Refusal {
    Refusal::Code(141004, format!("{name} {requirement}"))
}

fn repeated_parameter(name: &str) -> Refusal {
    Refusal::Code(60002, format!("{name} occurs twice in the URL"))
}
