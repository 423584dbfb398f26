//! Takes a value out of the envelopes that Kafka Connect, Debezium and schema registries put around it.
//!
//! Each form is recognised by its exact shape, and searched for only where its marks occur in the
//! text, so that a value without envelope costs a few nanoseconds. Forms may be nested, as in a
//! `payload` that is JSON in a string.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reading::{ReadingStep, ReadingSteps};
use super::repair;
use crate::domain::event::{Malformed, MalformedClass};

/// Envelopes around envelopes that are removed, at most.
const MAX_LAYERS: usize = 8;

/// A value without its envelopes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwrapped<'r> {
    /// The text without byte order marks.
    pub(super) text: Cow<'r, [u8]>,
    /// An envelope was repaired, so characters of an id may be missing.
    pub(super) is_repaired: bool,
}

impl<'r> Unwrapped<'r> {
    /// The value without any search for envelopes.
    pub(super) fn as_it_is(value: &'r [u8]) -> Self {
        Self { text: Cow::Borrowed(repair::trimmed(value)), is_repaired: false }
    }
}

/// Why a record is skipped for its envelope.
pub(super) const OTHER_CHANGE: &str =
    "a change event of Debezium that is no new row: \"op\" is not c or r";

/// Removes every envelope. `None`: [`OTHER_CHANGE`], such as a row that was deleted.
pub(super) fn unwrap<'r>(
    value: &'r [u8],
    steps: &mut ReadingSteps,
) -> Result<Option<Unwrapped<'r>>, Malformed> {
    let mut inside = Unwrapped::as_it_is(without_frame(value, steps));
    for _ in 0..MAX_LAYERS {
        match layer(&inside.text) {
            Layer::None => break,
            Layer::Around { envelope, text, is_repaired } => {
                steps.add(|| ReadingStep::Unwrapped(envelope.to_owned()));
                inside.is_repaired |= is_repaired;
                inside.text = Cow::Owned(text);
            }
            Layer::AroundNull => {
                let error = "the envelope contains null (a tombstone)".to_owned();
                return Err(Malformed { class: MalformedClass::NullValue, error });
            }
            Layer::OtherChange => {
                steps.add(|| ReadingStep::Skipped(OTHER_CHANGE.to_owned()));
                return Ok(None);
            }
        }
    }
    Ok(Some(inside))
}

/// Removes the frame of a schema registry, `0x00` and the schema's id in four bytes, where JSON is
/// behind it: JSON needs no schema to be read.
fn without_frame<'r>(value: &'r [u8], steps: &mut ReadingSteps) -> &'r [u8] {
    match value {
        [0, a, b, c, d, json @ ..] if json.trim_ascii_start().starts_with(b"{") => {
            steps.add(|| {
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                let envelope = format!("frame of a schema registry (schema id {id})");
                ReadingStep::Unwrapped(envelope)
            });
            json
        }
        _ => value,
    }
}

enum Layer {
    None,
    Around {
        /// Its name for people.
        envelope: &'static str,
        text: Vec<u8>,
        is_repaired: bool,
    },
    AroundNull,
    /// A change of a table that is no new row.
    OtherChange,
}

impl Layer {
    fn around(envelope: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self::Around { envelope, text: text.into(), is_repaired: false }
    }
}

fn layer(text: &[u8]) -> Layer {
    let has = |mark: &str| memmem::find(text, mark.as_bytes()).is_some();
    match text.trim_ascii_start().first() {
        Some(b'"') => repairing(text, json_in_a_string),
        Some(b'{') if has("\"payload\"") && has("\"schema\"") => repairing(text, connect),
        Some(b'{') if has("\"after\"") && has("\"op\"") => repairing(text, change_event),
        _ => Layer::None,
    }
}

/// Reads an envelope, if need be once more after a repair. A text that is none stays as it is.
fn repairing(text: &[u8], read: fn(&[u8]) -> serde_json::Result<Layer>) -> Layer {
    match read(text) {
        Ok(layer) => layer,
        // Another shape: no repair makes an envelope of it.
        Err(error) if error.is_data() => Layer::None,
        Err(_) => match read(repair::repaired(text).as_bytes()) {
            Ok(Layer::Around { envelope, text, .. }) => {
                Layer::Around { envelope, text, is_repaired: true }
            }
            Ok(layer) => layer,
            Err(_) => Layer::None,
        },
    }
}

fn json_in_a_string(text: &[u8]) -> serde_json::Result<Layer> {
    let inside: String = serde_json::from_slice(text)?;
    let trimmed = repair::trimmed(inside.as_bytes());
    let is_json = trimmed.trim_ascii_start().starts_with(b"{");
    Ok(if is_json { Layer::around("JSON in a string", trimmed) } else { Layer::None })
}

/// What Connect's `JsonConverter` writes with `schemas.enable=true`: these two members only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectEnvelope<'a> {
    #[serde(rename = "schema")]
    _schema: IgnoredAny,
    #[serde(borrow)]
    payload: &'a RawValue,
}

fn connect(text: &[u8]) -> serde_json::Result<Layer> {
    let payload = serde_json::from_slice::<ConnectEnvelope<'_>>(text)?.payload.get();
    let envelope = "{schema, payload} of Kafka Connect";
    Ok(if payload == "null" { Layer::AroundNull } else { Layer::around(envelope, payload) })
}

/// A change of a row, as Debezium writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeEvent<'a> {
    op: String,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(default, rename = "before")]
    _before: IgnoredAny,
    #[serde(default, rename = "source")]
    _source: IgnoredAny,
    #[serde(default, rename = "transaction")]
    _transaction: IgnoredAny,
    #[serde(default, rename = "ts_ms")]
    _ts_ms: IgnoredAny,
    #[serde(default, rename = "ts_us")]
    _ts_us: IgnoredAny,
    #[serde(default, rename = "ts_ns")]
    _ts_ns: IgnoredAny,
}

fn change_event(text: &[u8]) -> serde_json::Result<Layer> {
    let change: ChangeEvent<'_> = serde_json::from_slice(text)?;
    Ok(match (change.op.as_str(), change.after) {
        // Created, or read while a snapshot was made.
        ("c" | "r", Some(after)) => {
            Layer::around("change event of Debezium (a new row)", after.get())
        }
        ("c" | "r", None) => Layer::AroundNull,
        _ => Layer::OtherChange,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(value: &[u8]) -> Result<Option<Unwrapped<'_>>, Malformed> {
        unwrap(value, &mut ReadingSteps::default())
    }

    fn check(value: &[u8], expected: &str) {
        let found = unwrapped(value).unwrap().unwrap();
        let shown = String::from_utf8_lossy(value);
        let text = String::from_utf8_lossy(&found.text);
        assert_eq!(text.trim_start(), expected.trim_start(), "{shown}");
    }

    #[test]
    fn each_envelope_is_removed_also_inside_another() {
        let inside = r#"{"session_id":"s"}"#;
        let text = r#""{\"session_id\":\"s\"}""#;
        let schema = r#"{"type":"string","optional":true}"#;
        let row = format!(r#"{{"before":null,"after":{inside},"op":"c","ts_ms":1,"source":{{}}}}"#);
        for value in [
            inside.to_owned(),
            text.to_owned(),
            format!("\u{feff} {text}\0"),
            format!(r#"{{"schema":{schema},"payload":{inside}}}"#),
            format!(r#"{{ "payload" : {text}, "schema" : null }}"#),
            row.clone(),
            row.replace("\"c\"", "\"r\""),
            format!(r#"{{"schema":{schema},"payload":{row}}}"#),
            format!("\0\0\0\0\x01{inside}"),
            format!("\0\0\x01\x02\x03 \n{inside}"),
            format!("\0\0\0\0\x01{{\"schema\":{schema},\"payload\":{text}}}"),
        ] {
            check(value.as_bytes(), inside);
        }
    }

    #[test]
    fn what_has_not_exactly_the_shape_stays_as_it_is() {
        for value in [
            r#"{"schema":{},"payload":{"session_id":"s"},"session_id":"t"}"#,
            r#"{"payload":{"session_id":"s"}}"#,
            r#"{"session_id":"s","context":{"schema":1,"payload":2}}"#,
            r#"{"session_id":"s","op":"c","after":{"session_id":"t"}}"#,
            r#"{"op":1,"after":{"session_id":"t"}}"#,
            r#""text""#,
            r#""[1]""#,
            r#"["{}"]"#,
            r#"{"schema":{},"payload":{"#,
            "",
            "\0\0\0\0\x01\x02x",
            "\0{\0\"\0a",
        ] {
            check(value.as_bytes(), value);
        }
    }

    #[test]
    fn changes_that_are_no_new_row_are_not_for_us_and_null_is_a_tombstone() {
        for op in ["u", "d", "t", "m"] {
            let change = format!(r#"{{"before":{{}},"after":null,"op":"{op}"}}"#);
            assert_eq!(unwrapped(change.as_bytes()), Ok(None), "{op}");
        }
        for value in [r#"{"schema":null,"payload":null}"#, r#"{"after":null,"op":"c"}"#] {
            let malformed = unwrapped(value.as_bytes()).unwrap_err();
            assert_eq!(malformed.class, MalformedClass::NullValue, "{value}");
        }
    }

    #[test]
    fn an_envelope_is_repaired_where_its_text_needs_it() {
        let lone = br#""{\"session_id\":\"a\ud83d\"}""#;
        let found = unwrapped(lone).unwrap().unwrap();
        assert!(found.is_repaired);
        check(lone, "{\"session_id\":\"a\u{fffd}\"}");
        check(b"{\"schema\":\"a\tb\",\"payload\":{}}", "{}");
    }

    #[test]
    fn envelopes_without_end_are_left_alone() {
        let mut value = r#"{"a":1}"#.to_owned();
        for _ in 0..MAX_LAYERS + 2 {
            value = format!(r#"{{"schema":0,"payload":{value}}}"#);
        }
        let found = unwrapped(value.as_bytes()).unwrap().unwrap();
        assert!(found.text.starts_with(br#"{"schema""#));
    }
}
