//! The same message for a topic that refuses its size.
//!
//! Each step leaves more out, and a header of ours says what. A poisonous record may cost its
//! own answer the details, but it may not hold its partition up.
//! This file never leaves out the answer itself, nor where the record that it answers lies.

use serde_json::{Map, Value};

use super::outcome::{Channel, Message, text_header};

/// What a field of an outcome may have when space is short, in bytes.
const MAX_FIELD_BYTES: usize = 1024;

impl Message {
    /// Leave something out. False: all that is left is needed.
    pub fn make_smaller(&mut self) -> bool {
        match self.channel {
            Channel::Outcomes => self.leave_details_out(),
            Channel::DeadLetters => self.leave_value_out() || self.leave_the_records_own_out(),
        }
    }

    /// An outcome without the cascade, the trace, and more of its reason than anybody reads.
    fn leave_details_out(&mut self) -> bool {
        let mut omitted = Vec::new();
        let parsed = self.value.as_deref().map(serde_json::from_slice::<Map<String, Value>>);
        if let Some(Ok(mut outcome)) = parsed {
            omitted = cut_fields(&mut outcome);
            if !omitted.is_empty() {
                self.value = Some(Value::Object(outcome).to_string().into_bytes());
            }
        }
        self.headers.retain(|(name, _)| {
            let kept = name != "traceparent" && name != "tracestate";
            if !kept {
                omitted.push(name.clone());
            }
            kept
        });
        if !omitted.is_empty() {
            self.headers.push(text_header("handoff-details-omitted", &omitted.join(",")));
        }
        !omitted.is_empty()
    }

    /// A letter with an empty value; null would be a tombstone.
    fn leave_value_out(&mut self) -> bool {
        let bytes = self.value.as_ref().map_or(0, Vec::len);
        if bytes > 0 {
            self.value = Some(Vec::new());
            self.headers.push(text_header("handoff-value-omitted", &bytes.to_string()));
        }
        bytes > 0
    }

    /// A letter with our headers only: the record's key or headers are too large.
    fn leave_the_records_own_out(&mut self) -> bool {
        // Ours follow the record's own, which may have such names too: it may have been a letter.
        let is_first_of_ours = |(name, _): &(String, _)| name == "handoff-error-class";
        let own = self.headers.iter().rposition(is_first_of_ours).unwrap_or(0);
        let key = self.key.take();
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let headers = self.headers.drain(..own).map(|(name, value)| name.len() + size(&value));
        let bytes = headers.sum::<usize>() + size(&key);
        if bytes > 0 {
            self.headers.push(text_header("handoff-headers-omitted", &bytes.to_string()));
        }
        bytes > 0
    }
}

/// The names of the fields that were cut or taken out.
fn cut_fields(outcome: &mut Map<String, Value>) -> Vec<String> {
    let mut cut = Vec::new();
    let is_large = |field: &Value| field.to_string().len() > MAX_FIELD_BYTES;
    if outcome.remove("tried").is_some() {
        cut.push("tried".to_owned());
    }
    if outcome.get("target").is_some_and(is_large) {
        outcome.remove("target");
        cut.push("target".to_owned());
    }
    if let Some(Value::String(reason)) = outcome.get_mut("reason")
        && reason.len() > MAX_FIELD_BYTES
    {
        reason.truncate(reason.floor_char_boundary(MAX_FIELD_BYTES - "...".len()));
        reason.push_str("...");
        cut.push("reason".to_owned());
    }
    cut
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

    /// Every step down to where there is none.
    fn steps(mut message: Message) -> Vec<Message> {
        let mut steps = Vec::new();
        while message.make_smaller() {
            steps.push(message.clone());
        }
        steps
    }

    #[test]
    fn an_outcome_keeps_its_answer() {
        let status = header("handoff-status", "rejected");
        let large = outcome(
            &json!({
                "id": "e/final", "status": "rejected", "final": true,
                "target": {"agents": ["a".repeat(2000)]},
                "tried": [{"target": {"default": true}, "code": 141_001}],
                "desk": {"code": 0, "info": "", "action_status": "OK"},
                "reason": "ä".repeat(600),
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
                header("handoff-details-omitted", "tried,target,reason,traceparent,tracestate"),
            ],
        );
        assert_eq!(steps(large), [small]);
    }

    #[test]
    fn an_outcome_without_details_cannot_be_smaller() {
        let small = json!({"id": "e/final", "target": {"default": true}, "reason": "r"});
        assert_eq!(steps(outcome(&small, &[header("handoff-status", "failed")])), []);
    }

    #[test]
    fn a_letter_loses_its_value_then_its_key_and_own_headers() {
        let ours = [header("handoff-error-class", "not_json"), header("handoff-error", "why")];
        // Itself a letter once.
        let own = [header("handoff-error-class", "bad_id"), ("null".into(), None)];
        let letter = Message {
            channel: Channel::DeadLetters,
            key: Some(vec![b'k'; 7]),
            value: Some(vec![0xff; 5000]),
            headers: [own.clone(), ours.clone()].concat(),
        };
        let omitted = [header("handoff-value-omitted", "5000")];
        let without_value = Message {
            value: Some(Vec::new()),
            headers: [&own[..], &ours, &omitted].concat(),
            ..letter.clone()
        };
        let with_ours_only = Message {
            key: None,
            headers: [&ours[..], &omitted, &[header("handoff-headers-omitted", "36")]].concat(),
            ..without_value.clone()
        };
        assert_eq!(steps(letter), [without_value, with_ours_only]);
    }

    #[test]
    fn a_tombstone_stays_one() {
        let letter = Message {
            channel: Channel::DeadLetters,
            key: Some(b"key".to_vec()),
            value: None,
            headers: vec![header("handoff-error-class", "null_value")],
        };
        let steps = steps(letter);
        assert_eq!((steps.len(), &steps[0].value, &steps[0].key), (1, &None, &None));
    }
}
