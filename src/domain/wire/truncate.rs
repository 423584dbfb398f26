//! Truncation: shrinks a message that its topic refuses for its size.
//!
//! Each step removes the least important part that is left and says so in a header. Status,
//! identity and source stay, so a single oversized record cannot block its partition.

use serde_json::{Map, Value};

use super::dead_letter::own_headers_start;
use super::headers::{self, text_header};
use super::message::{Channel, Message};
use super::outcome_format::outcome_inside;

/// The longest field that a truncated outcome keeps, in bytes of JSON.
const MAX_FIELD_BYTES: usize = 1024;
/// The longest key that a truncated dead letter keeps: a session id is no longer, and its dead letters are
/// found by it.
const MAX_KEY_BYTES: usize = 256;

impl Message {
    /// Removes the next part that can be spared, and returns whether there was one.
    pub fn truncate(&mut self) -> bool {
        match self.channel {
            Channel::Outcomes => self.remove_details(),
            Channel::DeadLetters => self.remove_value() || self.remove_original_headers(),
        }
    }

    /// Removes the cascade and the trace of an outcome, and cuts its long fields.
    fn remove_details(&mut self) -> bool {
        let mut omitted = Vec::new();
        let parsed = self.value.as_deref().map(serde_json::from_slice::<Map<String, Value>>);
        if let Some(Ok(mut outcome)) = parsed {
            omitted = cut_fields(outcome_inside(&mut outcome));
            // `handoff.status` repeats the reason beside the outcome.
            let status = outcome.get_mut("value").and_then(Value::as_object_mut);
            if status.is_some_and(|status| cut_text(status, "message")) {
                omitted.push("message".to_owned());
            }
            if !omitted.is_empty() {
                self.value = Some(Value::Object(outcome).to_string().into_bytes());
            }
        }
        self.headers.retain(|(name, _)| {
            let is_trace = name == headers::TRACEPARENT || name == headers::TRACESTATE;
            if is_trace {
                omitted.push(name.clone());
            }
            !is_trace
        });
        if !omitted.is_empty() {
            self.headers.push(text_header(headers::DETAILS_OMITTED, &omitted.join(",")));
        }
        !omitted.is_empty()
    }

    fn remove_value(&mut self) -> bool {
        let bytes = self.value.as_ref().map_or(0, Vec::len);
        if bytes > 0 {
            // Empty, not null: null is a tombstone and deletes the key on compaction.
            self.value = Some(Vec::new());
            self.headers.push(text_header(headers::VALUE_OMITTED, &bytes.to_string()));
        }
        bytes > 0
    }

    /// Removes a large key and the headers that the malformed record brought along.
    fn remove_original_headers(&mut self) -> bool {
        let original = own_headers_start(&self.headers);
        let key = self.key.take_if(|key| key.len() > MAX_KEY_BYTES);
        if original == 0 && key.is_none() {
            return false;
        }
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let removed = self.headers.drain(..original).map(|(name, value)| name.len() + size(&value));
        let bytes = removed.sum::<usize>() + size(&key);
        self.headers.push(text_header(headers::HEADERS_OMITTED, &bytes.to_string()));
        true
    }
}

/// Returns the names of the fields that were cut or removed.
fn cut_fields(outcome: &mut Map<String, Value>) -> Vec<String> {
    let mut cut = Vec::new();
    let is_large = |field: &Value| field.to_string().len() > MAX_FIELD_BYTES;
    if outcome.remove("tried").is_some() {
        cut.push("tried".to_owned());
    }
    if outcome.remove("notes").is_some() {
        cut.push("notes".to_owned());
    }
    if outcome.get("target").is_some_and(is_large) {
        outcome.remove("target");
        cut.push("target".to_owned());
    }
    if cut_text(outcome, "reason") {
        cut.push("reason".to_owned());
    }
    cut
}

/// Cuts a long text; returns whether it was long.
fn cut_text(object: &mut Map<String, Value>, name: &str) -> bool {
    match object.get_mut(name) {
        Some(Value::String(text)) if text.len() > MAX_FIELD_BYTES => {
            text.truncate(text.floor_char_boundary(MAX_FIELD_BYTES - "...".len()));
            text.push_str("...");
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::record::Header;

    fn header(name: &str, value: &str) -> Header {
        text_header(name, value)
    }

    fn outcome(value: &Value, headers: &[Header]) -> Message {
        Message {
            channel: Channel::Outcomes,
            key: Some(b"s-1".to_vec()),
            value: Some(value.to_string().into_bytes()),
            headers: headers.to_vec(),
        }
    }

    /// Truncates the message as often as possible and returns each result.
    fn steps(mut message: Message) -> Vec<Message> {
        let mut steps = Vec::new();
        while message.truncate() {
            steps.push(message.clone());
        }
        steps
    }

    #[test]
    fn a_truncated_outcome_keeps_its_status_and_desk_reply() {
        let status = header("handoff-status", "rejected");
        let large = outcome(
            &json!({
                "id": "e/final", "status": "rejected", "final": true,
                "target": {"agents": ["a".repeat(2000)]},
                "tried": [{"target": {"default": true}, "code": 141_001}],
                "desk": {"code": 0, "info": "", "action_status": "OK"},
                "reason": "ä".repeat(600), "notes": ["reason ignored: {} is not a text"],
            }),
            &[status.clone(), header("traceparent", "00-abc"), header("tracestate", "a=b")],
        );
        let small = outcome(
            &json!({
                "id": "e/final", "status": "rejected", "final": true,
                "desk": {"code": 0, "info": "", "action_status": "OK"},
                "reason": format!("{}...", "ä".repeat(510)),
            }),
            &[
                status,
                header(
                    "handoff-details-omitted",
                    "tried,notes,target,reason,traceparent,tracestate",
                ),
            ],
        );
        assert_eq!(steps(large), [small]);
    }

    #[test]
    fn an_outcome_without_details_is_not_truncated() {
        let small = json!({"id": "e/final", "target": {"default": true}, "reason": "r"});
        assert_eq!(steps(outcome(&small, &[header("handoff-status", "failed")])), []);
    }

    #[test]
    fn a_dead_letter_loses_its_value_then_a_large_key_and_original_headers() {
        let ours = [header("handoff-error-class", "not_json"), header("handoff-error", "why")];
        // The record was itself read from a dead-letter topic.
        let original = [header("handoff-error-class", "bad_id"), ("null".into(), None)];
        let dead_letter = Message {
            channel: Channel::DeadLetters,
            key: Some(vec![b'k'; 257]),
            value: Some(vec![0xff; 5000]),
            headers: [original.clone(), ours.clone()].concat(),
        };
        let omitted = [header("handoff-value-omitted", "5000")];
        let without_value = Message {
            value: Some(Vec::new()),
            headers: [&original[..], &ours, &omitted].concat(),
            ..dead_letter.clone()
        };
        let with_ours_only = Message {
            key: None,
            headers: [&ours[..], &omitted, &[header("handoff-headers-omitted", "286")]].concat(),
            ..without_value.clone()
        };
        assert_eq!(steps(dead_letter), [without_value, with_ours_only]);
    }

    #[test]
    fn a_key_that_may_be_a_session_stays_and_what_is_not_truncated_stays_as_it_is() {
        for key in [Some(vec![]), Some(vec![b's'; 256]), None] {
            let ours = header("handoff-error-class", "null_value");
            let bare = Message {
                channel: Channel::DeadLetters,
                key,
                value: None,
                headers: vec![ours.clone()],
            };
            let mut unchanged = bare.clone();
            assert!(!unchanged.truncate());
            assert_eq!(unchanged, bare);
            let with_headers =
                Message { headers: vec![header("own", "large"), ours.clone()], ..bare.clone() };
            let omitted = header("handoff-headers-omitted", "8");
            let without = Message { headers: vec![ours, omitted], ..bare };
            assert_eq!(steps(with_headers), [without]);
        }
    }

    #[test]
    fn the_null_value_of_a_tombstone_stays_null() {
        let dead_letter = Message {
            channel: Channel::DeadLetters,
            key: Some(vec![b'k'; 300]),
            value: None,
            headers: vec![header("handoff-error-class", "null_value")],
        };
        let steps = steps(dead_letter);
        assert_eq!((steps.len(), &steps[0].value, &steps[0].key), (1, &None, &None));
    }
}
