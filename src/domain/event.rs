//! An escalation as the service works on it, and the reasons why a record is not one.
//!
//! [`wire::escalation`](super::wire::escalation) decodes records into these types. [`Event`] goes
//! to the course; [`Malformed`] becomes a dead letter.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::record::{Header, Position};
use super::wire::headers::TRACEPARENT;

/// The reason why a record goes to the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The class of the error, for the header and the metric.
    pub class: MalformedClass,
    /// One sentence for the header and the log.
    pub error: String,
}

/// The classes of malformed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MalformedClass {
    /// The value is null (a tombstone).
    NullValue,
    /// The value is over the size limit.
    TooLarge,
    /// The value is not JSON.
    NotJson,
    /// The value is JSON, but not an object.
    NotAnObject,
    /// `type` is not text.
    BadType,
    /// `session_id` is missing or unusable.
    BadSessionId,
    /// `id` is unusable.
    BadId,
    /// The ledger has an entry with this `id` and another session.
    ConflictingId,
    /// No configured dialect recognises the value.
    UnknownFormat,
    /// An attribute of a CloudEvent is missing or unusable, or it has two kinds of data.
    BadCloudEvent,
    /// A CloudEvent in another format than JSON.
    EventFormat,
    /// A batch of CloudEvents.
    BatchNotSupported,
}

impl MalformedClass {
    /// All classes, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::NullValue,
        Self::TooLarge,
        Self::NotJson,
        Self::NotAnObject,
        Self::BadType,
        Self::BadSessionId,
        Self::BadId,
        Self::ConflictingId,
        Self::UnknownFormat,
        Self::BadCloudEvent,
        Self::EventFormat,
        Self::BatchNotSupported,
    ];

    /// The word in the header `handoff-error-class` and in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::BadType => "bad_type",
            Self::BadSessionId => "bad_session_id",
            Self::BadId => "bad_id",
            Self::ConflictingId => "conflicting_id",
            Self::UnknownFormat => "unknown_format",
            Self::BadCloudEvent => "bad_cloud_event",
            Self::EventFormat => "event_format",
            Self::BatchNotSupported => "batch_not_supported",
        }
    }
}

/// One escalation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The identity: the escalation's own `id`, or else the position of its record.
    pub id: Arc<str>,
    /// The session to transfer.
    pub session_id: Arc<str>,
    /// The position of the record.
    pub source: Position,
    /// When the customer began to wait; never later than the time of receipt.
    pub requested_at: Timestamp,
    /// No transfer is made at or after this time.
    pub deadline: Timestamp,
    /// The `traceparent` and `tracestate` headers, copied to the outcome.
    pub trace: Vec<Header>,
    /// The request, or the text for `reason` that names each invalid field.
    pub request: Result<TransferRequest, String>,
    /// What could not be read and was left out, a sentence each; copied to the outcome.
    pub notes: Vec<String>,
    /// What an outcome in the escalation's own format repeats of it.
    pub correlation: Correlation,
}

impl Event {
    /// The trace that its publisher began, as 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<&str> {
        let (_, parent) = self.trace.iter().find(|(name, _)| name == TRACEPARENT)?;
        trace_id(std::str::from_utf8(parent.as_deref()?).ok()?)
    }
}

/// The id in a `traceparent` (W3C Trace Context); `None`: it is not valid.
fn trace_id(parent: &str) -> Option<&str> {
    let mut parts = parent.trim().split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = id.len() == 32 && is_hex(id) && id.bytes().any(|b| b != b'0');
    let is_version = version.len() == 2 && is_hex(version) && version != "ff";
    (is_version && is_id).then_some(id)
}

/// What an outcome repeats of an escalation in another format, so that its publisher finds them both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Correlation {
    /// The `id` of the CloudEvent.
    pub cloudevent_id: Option<String>,
    /// The extension `correlationid` of the CloudEvent.
    pub correlation_id: Option<String>,
    /// The `conversation` of the activity.
    pub conversation: Option<Value>,
}

/// The part of an escalation that decides who is asked, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransferRequest {
    /// The agents or group that the escalation names.
    pub requested_target: RequestedTarget,
    /// Position in Desk's queue: 0 is the highest, 9 the lowest.
    pub priority: Option<u8>,
    /// Why a human is asked for; routes match on it.
    pub reason: Option<String>,
    /// The values that routes match on.
    pub attributes: BTreeMap<String, String>,
    /// The flags of `transfer_to_human`.
    pub options: TransferOptions,
}

/// The target that an escalation asks for; without agents and group it leaves the choice to the
/// routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedTarget {
    /// The logins of the agents who may take the session.
    pub agents: Vec<String>,
    /// The agent group to pick from.
    pub group: Option<u64>,
    /// Only these agents and this group are asked; routes add no targets.
    pub strict: bool,
}

/// The flags of `transfer_to_human`; Desk is sent only those that are `Some`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// Desk sends the customer a message when no agent is online.
    pub send_tip_if_no_agent_online: Option<bool>,
    /// Desk checks the console's working hours first.
    pub check_if_during_working_hours: Option<bool>,
    /// Desk sends the customer a message outside working hours.
    pub send_prompt_not_during_working_hours: Option<bool>,
    /// Desk ends the session when no agent is online.
    pub end_session_when_no_member_online: Option<bool>,
    /// Desk answers "busy" instead of queueing the session when all agents are full.
    pub disable_queuing: Option<bool>,
    /// Desk may assign agents who have set themselves to busy.
    pub allow_assign_busy_member: Option<bool>,
    /// The longest wait in Desk's queue, in seconds.
    pub queue_timeout: Option<u64>,
}

/// A document that [`TransferOptions`] are read from: an escalation or a configured route.
pub trait OptionSource {
    /// Returns the flag that is written under this name.
    fn flag(&mut self, name: &'static str) -> Option<bool>;
    /// Returns the number of seconds that is written under this name.
    fn seconds(&mut self, name: &'static str) -> Option<u64>;
}

impl TransferOptions {
    /// The names of the options, as escalations, the configuration and `handoff publish` write
    /// them: six flags, then `queue_timeout`.
    pub const NAMES: [&'static str; 7] = [
        "send_tip_if_no_agent_online",
        "check_if_during_working_hours",
        "send_prompt_not_during_working_hours",
        "end_session_when_no_member_online",
        "disable_queuing",
        "allow_assign_busy_member",
        "queue_timeout",
    ];

    /// Reads every option by its name.
    pub fn read(source: &mut impl OptionSource) -> Self {
        let [tip, hours, prompt, end, no_queue, busy, timeout] = Self::NAMES;
        Self {
            send_tip_if_no_agent_online: source.flag(tip),
            check_if_during_working_hours: source.flag(hours),
            send_prompt_not_during_working_hours: source.flag(prompt),
            end_session_when_no_member_online: source.flag(end),
            disable_queuing: source.flag(no_queue),
            allow_assign_busy_member: source.flag(busy),
            queue_timeout: source.seconds(timeout),
        }
    }

    /// Takes the options that are not set here from `others`.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let flag = |of: fn(&Self) -> Option<bool>| of(self).or(of(others));
        Self {
            send_tip_if_no_agent_online: flag(|o| o.send_tip_if_no_agent_online),
            check_if_during_working_hours: flag(|o| o.check_if_during_working_hours),
            send_prompt_not_during_working_hours: flag(|o| o.send_prompt_not_during_working_hours),
            end_session_when_no_member_online: flag(|o| o.end_session_when_no_member_online),
            disable_queuing: flag(|o| o.disable_queuing),
            allow_assign_busy_member: flag(|o| o.allow_assign_busy_member),
            queue_timeout: self.queue_timeout.or(others.queue_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_taken_from_valid_headers_only() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{id}-b7ad6b7169203331-01")), Some(id));
        assert_eq!(trace_id(&format!(" cc-{id}-b7ad6b7169203331-01-later ")), Some(id));
        let zeros = "0".repeat(32);
        for bad in ["", "00", "00-abc-b7ad6b7169203331-01", &format!("ff-{id}-b7-01")] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
        assert_eq!(trace_id(&format!("00-{zeros}-b7ad6b7169203331-01")), None);
        assert_eq!(trace_id(&format!("00-{}-b7ad6b7169203331-01", id.to_uppercase())), None);
    }
}
