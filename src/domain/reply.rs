//! Everything that can come back from a call to Desk, including nothing.
//!
//! Only a JSON body with an `ErrorCode` is an answer of Desk. Fields are read leniently: a number where
//! text is documented, and the reverse. `verdict` says what a reply means.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What came back from one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Desk answered.
    Answer(DeskAnswer),
    /// An HTTP response that is no answer of Desk: from a gateway, a proxy or a foreign page.
    Http {
        /// The HTTP status.
        status: u16,
        /// The header `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The request was not sent: name resolution, connection or TLS failed.
    NotSent(String),
    /// The request may have arrived; no answer did.
    Lost(String),
    /// No signature could be made, for example without a readable key: nothing was sent.
    Unsigned(String),
}

impl Reply {
    /// Whether Desk is certainly done with the call: it answered, or it never received it.
    pub fn call_is_over(&self) -> bool {
        !matches!(self, Self::Http { .. } | Self::Lost(_))
    }

    /// Whether the request may have reached Desk.
    pub fn was_sent(&self) -> bool {
        !matches!(self, Self::NotSent(_) | Self::Unsigned(_))
    }

    /// Desk's answer, if this is one.
    pub fn answer(&self) -> Option<&DeskAnswer> {
        match self {
            Self::Answer(answer) => Some(answer),
            _ => None,
        }
    }
}

/// Desk's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeskAnswer {
    /// `ErrorCode`, `ErrorInfo` and `ActionStatus`.
    pub desk: DeskStatus,
    /// `AgentId`; absent and empty are the same.
    pub agent_id: Option<String>,
    /// `IsInQueue`; absent means no.
    pub in_queue: bool,
    /// `CurrentState`, in the answer to a state query.
    pub state: Option<String>,
    /// `RequestId`, for Tencent's support.
    pub request_id: Option<String>,
}

/// The part of an answer that outcomes repeat verbatim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeskStatus {
    /// `ErrorCode`: 0 is success.
    pub code: i64,
    /// `ErrorInfo`: text for people.
    pub info: String,
    /// `ActionStatus`: `OK` or `FAIL`.
    pub action_status: String,
}

/// A longer `ErrorInfo` is cut off, so that an outcome stays small.
const MAX_INFO_CHARS: usize = 1024;

impl DeskAnswer {
    /// Parses a response body; `None` if it is no answer of Desk.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let code = integer(value.get("ErrorCode")?)?;
        let text = |name: &str| value.get(name).and_then(text);
        let info = text("ErrorInfo").unwrap_or_default();
        Some(Self {
            desk: DeskStatus {
                code,
                info: info.chars().take(MAX_INFO_CHARS).collect(),
                action_status: text("ActionStatus").unwrap_or_default(),
            },
            agent_id: text("AgentId").filter(|id| !id.is_empty()),
            in_queue: value.get("IsInQueue").is_some_and(flag),
            state: text("CurrentState"),
            request_id: text("RequestId").filter(|id| !id.is_empty()),
        })
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

fn flag(value: &Value) -> bool {
    // Desk's own requests write flags as 1 and 0, so its answers may too.
    match value {
        Value::Bool(flag) => *flag,
        other => integer(other) == Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<(i64, Option<&str>, bool)>) {
        let answer = DeskAnswer::parse(body.as_bytes());
        let seen = answer.as_ref().map(|a| (a.desk.code, a.agent_id.as_deref(), a.in_queue));
        assert_eq!(seen, expected, "{body}");
    }

    #[test]
    fn field_types_are_lenient_but_an_error_code_is_required() {
        check(r#"{"ErrorCode":0,"AgentId":"a@x"}"#, Some((0, Some("a@x"), false)));
        check(r#"{"ErrorCode":0,"AgentId":"","IsInQueue":0}"#, Some((0, None, false)));
        check(r#"{"ErrorCode":"0","IsInQueue":"1","AgentId":7}"#, Some((0, Some("7"), true)));
        check(r#"{"ErrorCode":141002,"New":[1]}"#, Some((141002, None, false)));
        check(r#"{"ErrorCode":null}"#, None);
        check(r#"{"ActionStatus":"OK"}"#, None);
        check(r#"[0]"#, None);
        check("<html>", None);
        check("", None);
    }
}
