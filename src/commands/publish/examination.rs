//! What the service will make of an escalation, by its own decoder.
//!
//! Everything that would keep the service from calling Desk is a fault here: a skipped type, a
//! dead letter, the outcome `rejected`, a deadline in the past. Only [`decode_with`]
//! decides that.

use std::sync::Arc;

use jiff::Timestamp;

use super::input::InputItem;
use crate::domain::record::{Position, Record};
use crate::domain::wire::escalation::{DecodeRules, Decoded, decode_with};
use crate::domain::wire::ignored_fields::{IgnoredField, ignored_fields};
use crate::domain::wire::reading::ReadingSteps;

/// What the service will make of an item.
#[derive(Debug, Default)]
pub(super) struct Examination {
    /// The line of the input; `None` for arguments.
    pub(super) line: Option<usize>,
    /// The session, where it can be read.
    pub(super) session_id: Option<Arc<str>>,
    /// The escalation's own id, where it has one.
    pub(super) event_id: Option<Arc<str>>,
    /// Why the service would not call Desk.
    pub(super) fault: Option<String>,
    /// The line of the input where the fault is, if it is in one line of several.
    pub(super) fault_line: Option<usize>,
    /// What the service will leave out because it cannot read it.
    pub(super) notes: Vec<String>,
    /// What the service will ignore because it does not know it.
    pub(super) ignored: Vec<IgnoredField>,
}

/// Decodes an item as the service will, as if it were received now.
pub(super) fn examine(item: &InputItem, rules: &DecodeRules, now: Timestamp) -> Examination {
    // The record has no position yet. An event whose id is this position has no id of its own.
    let nowhere = Position { topic: "".into(), partition: -1, offset: -1 };
    let record = Record {
        position: nowhere.clone(),
        timestamp: Some(now),
        key: None,
        value: Some(item.value.clone()),
        headers: Vec::new(),
    };
    let mut steps = ReadingSteps::kept();
    let decoded = decode_with(&record, rules, now, &mut steps);
    let steps = steps.into_steps();
    let (line, ignored) = (item.line, ignored_fields(&item.value, &steps));
    let event = match decoded {
        Decoded::NotForUs(skip) => {
            let remedy = skip.reason.remedy();
            let fault = Some(format!("the service skips it: {}; {remedy}", skip.why));
            return Examination { line, fault, ignored, ..Examination::default() };
        }
        Decoded::Malformed(malformed) => {
            let LocatedFault { text, line: fault_line } = LocatedFault::new(line, malformed.error);
            let fault = Some(text);
            return Examination { line, fault, fault_line, ignored, ..Examination::default() };
        }
        Decoded::Event(event) => event,
    };
    let fault = match &event.request {
        Err(problems) => Some(problems.clone()),
        Ok(_) if event.deadline <= now => {
            Some(format!("its deadline has passed: {}", event.deadline))
        }
        Ok(_) => None,
    };
    let has_id = *event.id != *nowhere.to_string();
    Examination {
        line,
        session_id: Some(event.session_id),
        event_id: has_id.then_some(event.id),
        fault,
        fault_line: None,
        notes: event.notes,
        ignored,
    }
}

/// A fault of an item, with its line in the input if the item has several.
struct LocatedFault {
    text: String,
    line: Option<usize>,
}

impl LocatedFault {
    /// The parser counts lines from the first of the item; people count those of the input.
    fn new(first_line: Option<usize>, fault: String) -> Self {
        let Some((first, place)) = first_line.zip(ErrorPosition::at_end_of(&fault)) else {
            return Self { text: fault, line: None };
        };
        let text = format!("{} at column {}", place.text, place.column);
        Self { text, line: Some(first + place.line.saturating_sub(1)) }
    }
}

/// "TEXT at line LINE column COLUMN", as the JSON parser ends its messages.
struct ErrorPosition<'a> {
    text: &'a str,
    line: usize,
    column: usize,
}

impl<'a> ErrorPosition<'a> {
    fn at_end_of(message: &'a str) -> Option<Self> {
        let (text, place) = message.rsplit_once(" at line ")?;
        let (line, column) = place.split_once(" column ")?;
        Some(Self { text, line: line.parse().ok()?, column: column.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::event::TransferOptions;
    use crate::domain::wire::escalation::FIELDS;

    const NOW: &str = "2026-11-23T10:00:00Z";

    #[test]
    fn a_syntax_error_names_the_line_of_the_input() {
        let check = |value: &str, fault: &str, line: usize| {
            let item = InputItem { line: Some(7), value: value.into() };
            let examined = examine(&item, &rules(), NOW.parse().unwrap());
            let seen = (examined.fault.as_deref(), examined.fault_line);
            assert_eq!(seen, (Some(fault), Some(line)), "{value}");
        };
        check("{\n \"id\": 7,\n oops}", "not JSON: key must be a string at column 2", 9);
        check("{\"id\": 1,\n\"id\" 2}", "not JSON: expected `:` at column 6", 8);
    }

    #[test]
    fn the_decoder_knows_every_option() {
        for name in TransferOptions::NAMES {
            let value = format!(r#"{{"session_id":"s","options":{{"{name}":"no"}}}}"#);
            check(&value, S, Some(&format!("options.{name} is \"no\"; ")));
        }
    }

    #[test]
    fn the_decoder_knows_every_field_and_other_fields_are_reported() {
        for name in FIELDS.into_iter().filter(|name| *name != "context") {
            let item = InputItem {
                line: None,
                value: format!(r#"{{"session_id":"s","{name}":[[]]}}"#).into(),
            };
            let examined = examine(&item, &rules(), NOW.parse().unwrap());
            let said = examined.notes.into_iter().chain(examined.fault).collect::<Vec<_>>();
            assert!(said.join("; ").contains(name), "{name}: {said:?}");
        }
        let json = r#"{"sesion_id":"s","context":{"a":1},"target":{"agent":"a","strict":true},
            "options":{"disable_queueing":true},"attributes":{"any":"1"}}"#;
        let item = InputItem { line: None, value: json.into() };
        let examined = examine(&item, &rules(), NOW.parse().unwrap());
        let named: Vec<_> = examined.ignored.into_iter().map(|field| field.name).collect();
        assert_eq!(named, ["sesion_id", "target.agent", "options.disable_queueing"]);
    }

    fn rules() -> DecodeRules {
        DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 1_000,
            time_to_live: Duration::from_secs(600),
            input: Arc::default(),
        }
    }

    #[derive(Debug, Default, PartialEq)]
    struct ExpectedIds<'a> {
        session: Option<&'a str>,
        event: Option<&'a str>,
    }

    const NONE: ExpectedIds<'_> = ExpectedIds { session: None, event: None };
    const S: ExpectedIds<'_> = ExpectedIds { session: Some("s"), event: None };

    fn check(value: &str, ids: ExpectedIds<'_>, fault: Option<&str>) {
        let item = InputItem { line: Some(1), value: value.as_bytes().to_vec() };
        let examined = examine(&item, &rules(), NOW.parse().unwrap());
        let (session, event) = (examined.session_id.as_deref(), examined.event_id.as_deref());
        assert_eq!(ExpectedIds { session, event }, ids, "{value}");
        let text = examined.fault.as_deref();
        let is_expected = match (text, fault) {
            (Some(text), Some(fault)) => text.starts_with(fault),
            (text, fault) => text.is_none() && fault.is_none(),
        };
        assert!(is_expected, "{value}: {text:?}");
    }

    #[test]
    fn what_the_service_leaves_out_is_a_note_and_no_fault() {
        let json = "\u{feff}{\"session_id\":\"s\",\"reason\":\"\\ud83d\",\"expires_at\":\"soon\"}";
        let item = InputItem { line: Some(1), value: json.into() };
        let examined = examine(&item, &rules(), NOW.parse().unwrap());
        assert_eq!((examined.fault, examined.notes.len()), (None, 1));
        assert!(examined.notes[0].starts_with("expires_at ignored: \"soon\" is not a time"));
    }

    #[test]
    fn everything_that_prevents_a_call_is_a_fault() {
        check(r#"{"session_id":"s"}"#, S, None);
        check(
            r#"{"session_id":7,"id":"e"}"#,
            ExpectedIds { session: Some("7"), event: Some("e") },
            None,
        );
        check(r#"{"session_id":"s","priority":11}"#, S, Some("priority is 11; "));
        check("{}", NONE, Some("session_id is missing"));
        check("[]", NONE, Some("the value is a list; "));
        check("{", NONE, Some("not JSON: "));
        let skipped = "the service skips it: its type is \"x\", which is not in escalation.types; ";
        check(r#"{"type":"x","session_id":"s"}"#, NONE, Some(skipped));
        let old = r#"{"session_id":"s","expires_at":"2026-11-23T09:00:00Z"}"#;
        check(old, S, Some("its deadline has passed: 2026-11-23T09:00:00Z"));
        let old = r#"{"session_id":"s","requested_at":"2026-11-23T09:00:00Z"}"#;
        check(old, S, Some("its deadline has passed: 2026-11-23T09:10:00Z"));
    }
}
