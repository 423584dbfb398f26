//! Activities of the Bot Framework and of Copilot Studio: the event `handoff.initiate`, alone, in a list,
//! or in a set of activities as Direct Line sends it. A set may hold other activities, too.

use serde_json::{Map, Value, json};

use super::{DialectInput, Reading};
use crate::domain::event::Correlation;
use crate::domain::wire::escalation::EscalationFields;
use crate::domain::wire::escalation::written::{
    Parsed, SessionHelp, Written, joined_identity, parse,
};

/// What a record is that this dialect recognises.
pub(super) const SHAPE: &str = "activity of the Bot Framework: it has no type of an activity with a `conversation`, and no \
     `activities`";

/// The types of activities. Others are known by their channel.
const TYPES: [&str; 19] = [
    "message",
    "event",
    "handoff",
    "typing",
    "conversationUpdate",
    "endOfConversation",
    "trace",
    "invoke",
    "invokeResponse",
    "messageReaction",
    "messageUpdate",
    "messageDelete",
    "installationUpdate",
    "contactRelationUpdate",
    "deleteUserData",
    "suggestion",
    "command",
    "commandResult",
    "delay",
];

/// The longest `conversation` that an outcome repeats, in bytes of JSON.
const MAX_CONVERSATION_BYTES: usize = 4096;

/// Reads an activity, or the first of several that asks for a human.
pub(super) fn read<'r>(input: &DialectInput<'_>) -> Reading<'r> {
    let Ok(Parsed { value, is_repaired }) = parse::<Value>(input.text, input.headers) else {
        return Reading::unrecognised("no JSON");
    };
    let activities = match &value {
        Value::Array(list) => list.as_slice(),
        Value::Object(set) => match set.get("activities") {
            Some(Value::Array(list)) => list.as_slice(),
            _ => std::slice::from_ref(&value),
        },
        _ => return Reading::unrecognised("neither an object nor a list"),
    };
    let mut activities = activities.iter().filter_map(Value::as_object).filter(|a| is_activity(a));
    let Some(first) = activities.next() else {
        return Reading::unrecognised(
            "no activity: neither `type` with a `conversation` nor `activities`",
        );
    };
    let initiate = std::iter::once(first).chain(activities).find(|a| is_initiate(a));
    let Some(activity) = initiate else {
        return Reading::not_for_us("an activity other than the event handoff.initiate");
    };
    Reading::escalation(Written { is_repaired, ..escalation(activity) })
}

/// Whether it is an activity: an escalation may have a `type` and a `conversation`, too.
fn is_activity(activity: &Map<String, Value>) -> bool {
    let text = |name| activity.get(name).and_then(Value::as_str);
    let is_known = |kind| TYPES.contains(&kind) || text("channelId").is_some();
    text("type").is_some_and(is_known) && conversation(activity).is_some()
}

/// `handoff` is the type that the Agents SDK for .NET writes.
fn is_initiate(activity: &Map<String, Value>) -> bool {
    let text = |name| activity.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "event" => text("name") == "handoff.initiate",
        kind => kind == "handoff",
    }
}

/// The conversation of an activity, or the one that it refers to.
fn conversation(activity: &Map<String, Value>) -> Option<&Value> {
    let own = activity.get("conversation").filter(|conversation| conversation.is_object());
    own.or_else(|| activity.get("relatesTo")?.get("conversation").filter(|c| c.is_object()))
}

fn escalation<'r>(activity: &Map<String, Value>) -> Written<'r> {
    let details = details(activity.get("value"));
    let member = |name: &str| activity.get(name).filter(|value| !value.is_null());
    let conversation = conversation(activity);
    let session = conversation.and_then(|c| c.get("id")).cloned();
    // An outcome must fit its topic; without it, the outcome names the conversation by its id.
    let is_short = |c: &&Value| c.to_string().len() <= MAX_CONVERSATION_BYTES;
    let conversation = conversation.filter(is_short).cloned();
    // The id of an activity is unique in its conversation only.
    let id = match (&session, member("id")) {
        (Some(Value::String(session)), Some(Value::String(id))) if !id.trim().is_empty() => {
            Some(joined_identity(session, id).into())
        }
        _ => None,
    };
    let mut attributes = details.attributes;
    for name in ["channelId", "locale"] {
        if let Some(value) = member(name) {
            attributes.entry(name).or_insert_with(|| value.clone());
        }
    }
    let fields = EscalationFields {
        id,
        session_id: session,
        requested_at: member("timestamp").cloned(),
        reason: details.reason,
        attributes: (!attributes.is_empty()).then(|| json!(attributes)),
        ..EscalationFields::default()
    };
    let help = SessionHelp::Sentence("the activity's `conversation` has no `id`".to_owned());
    let correlation = Correlation { conversation, ..Correlation::default() };
    Written { correlation, ..Written::new(fields, help) }
}

/// What the free `value` of an activity says.
#[derive(Default)]
struct ActivityDetails {
    reason: Option<Value>,
    attributes: Map<String, Value>,
}

/// Copilot Studio writes a flat object of texts and lists; a bot of its own may write anything.
fn details(value: Option<&Value>) -> ActivityDetails {
    let object = match value {
        Some(Value::Object(object)) => object.clone(),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(object) => object,
            Err(_) => {
                let reason = Some(Value::from(text.as_str()));
                return ActivityDetails { reason, ..ActivityDetails::default() };
            }
        },
        _ => return ActivityDetails::default(),
    };
    let reason = object.get("va_AgentMessage").filter(|message| message.is_string()).cloned();
    let is_flat = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    let attributes = object.into_iter().filter(|(_, value)| is_flat(value)).collect();
    ActivityDetails { reason, attributes }
}
