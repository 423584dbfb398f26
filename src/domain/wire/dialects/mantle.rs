//! Rasa's newer envelope: `{"conversation_id": .., "event_id": .., "action": {..}, ..}` with exactly one
//! payload; the other members are null. It is part of the dialect [`rasa`](super::rasa).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::rasa::{Details, RasaEnvelope, RasaSignal, is_text};
use super::{DialectInput, Reading, rasa};

#[derive(Deserialize)]
struct MantleEvent<'a> {
    #[serde(borrow)]
    conversation_id: &'a RawValue,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    skill_activated: Option<&'a RawValue>,
    #[serde(borrow)]
    memory_set: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_executed: Option<&'a RawValue>,
    #[serde(borrow)]
    unsupported_request_classified: Option<&'a RawValue>,
    #[serde(borrow)]
    session_ended: Option<&'a RawValue>,
}

impl MantleEvent<'_> {
    /// Whether it is an event of Rasa: many an escalation has a `conversation_id`, too.
    fn is_event(&self) -> bool {
        let payloads = [
            self.action,
            self.skill_activated,
            self.memory_set,
            self.tool_executed,
            self.unsupported_request_classified,
            self.session_ended,
        ];
        let count = payloads.into_iter().flatten().filter(|raw| raw.get().starts_with('{')).count();
        self.event_id.is_some_and(|id| id.get().starts_with('"')) || count == 1
    }
}

/// The members that matter of all payloads.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    skill_id: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value_json: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments_json: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
}

/// Reads a value that has a `conversation_id` and no `event`.
pub(super) fn read<'r>(input: &DialectInput<'_>, signal: &RasaSignal) -> Reading<'r> {
    let Ok(event) = serde_json::from_slice::<MantleEvent<'_>>(input.text) else {
        return Reading::unrecognised(rasa::NO_EVENT);
    };
    if !event.is_event() {
        return Reading::unrecognised(rasa::NO_EVENT);
    }
    let details = match signal {
        RasaSignal::Action(name) => {
            payload(event.action).filter(|a| is_text(a.name, name)).map(|_| Details::default())
        }
        RasaSignal::Skill(id) => payload(event.skill_activated)
            .filter(|skill| is_text(skill.skill_id, id))
            .map(|_| Details::default()),
        RasaSignal::Slot(name) => payload(event.memory_set)
            .filter(|memory| is_text(memory.key, name))
            .and_then(|memory| Details::of_json_text(memory.value_json)),
        RasaSignal::Tool(name) => payload(event.tool_executed)
            .filter(|tool| is_text(tool.tool_name, name))
            .filter(|tool| tool.is_error.is_none_or(|is_error| is_error.get() != "true"))
            .map(|tool| Details::of_json_text(tool.arguments_json).unwrap_or_default()),
        RasaSignal::Flow(_) | RasaSignal::Pause => None,
    };
    let Some(details) = details else {
        return Reading::not_for_us(rasa::OTHER_EVENT);
    };
    let (session, time, id) = (event.conversation_id, event.timestamp, event.event_id);
    details.into_reading(RasaEnvelope { session, time, id }, input)
}

/// Reads a payload; `None`: it is absent, null or no object.
fn payload(raw: Option<&RawValue>) -> Option<Payload<'_>> {
    serde_json::from_str(raw?.get()).ok()
}
