//! Everything that can come back from a call to Desk, including nothing.
//!
//! Only a JSON body with an `ErrorCode` is an answer of Desk. It is read leniently: a number where text
//! is documented, and the reverse; a text that is broken is repaired, because the `ErrorCode` beside it
//! still counts. `verdict` says what a reply means.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::repair;

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
        let value = json(body)?;
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

/// Parses JSON, where needed after a repair.
fn json(body: &[u8]) -> Option<Value> {
    let body = repair::trimmed(body);
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    let repaired = |body: &[u8]| serde_json::from_str(&repair::repaired(body)).ok();
    repaired(body).or_else(|| {
        // In GBK a backslash can be half of a character and no escape.
        let is_utf8 = std::str::from_utf8(body).is_ok();
        if is_utf8 { None } else { repaired(&repair::without_split_characters(body)) }
    })
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| {
            let float = n.as_f64()?;
            // Below 2^53 a float without a fraction is exactly that whole number.
            (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
        }),
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
        check(r#"{"ErrorCode":141001.0}"#, Some((141001, None, false)));
        check(r#"{"ErrorCode":0.5}"#, None);
        check(r#"{"ErrorCode":1e400}"#, None);
    }

    fn info(body: &[u8]) -> String {
        let answer = DeskAnswer::parse(body).unwrap_or_else(|| panic!("{body:?}"));
        assert_eq!(answer.desk.code, 141_001, "{body:?}");
        answer.desk.info
    }

    #[test]
    fn a_broken_text_is_repaired_and_the_error_code_counts() {
        let with = |text: &[u8]| {
            [&br#"{"ErrorInfo":"x"#[..], text, br#"","ErrorCode":141001,"ActionStatus":"FAIL"}"#]
                .concat()
        };
        assert_eq!(info(&[&b"\xef\xbb\xbf"[..], &with(b"")].concat()), "x");
        assert_eq!(info(&with(b"\xe4\xbd")), "x\u{fffd}", "a cut character");
        assert_eq!(info(&with(br"\ud83d")), "x\u{fffd}", "half an emoji");
        assert_eq!(info(&with(b"\ta\x01")), "x\ta\u{1}", "raw control characters");
        assert_eq!(info(&with(br"\'")), r"x\'", "an unknown escape");
        // GBK for "the agents are busy", then a character whose second byte is a backslash.
        let gbk = info(&with(b"\xd7\xf9\xcf\xaf\xc3\xa6\x95\\"));
        assert!(gbk.starts_with('x') && gbk.ends_with('\u{fffd}'), "{gbk}");
        let deep =
            format!(r#"{{"New":{}{},"ErrorCode":141001}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(info(deep.as_bytes()), "");
        assert_eq!(
            info(br#"{"ErrorCode":0,"New":1e400,"ErrorCode":141001}"#),
            "",
            "the last counts"
        );
    }

    #[test]
    fn a_cut_body_is_no_answer() {
        check(r#"{"ErrorCode":0,"ErrorInfo":"#, None);
        check("{\"ErrorCode\":0,\"ErrorInfo\":\"\u{fffd}", None);
    }
}
