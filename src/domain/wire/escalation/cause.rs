//! Why a record is no escalation, where its bytes show it: the error of a dead letter then names
//! what its publisher has to change, not only the parser's complaint.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::domain::record::{Header, last_header};

/// The names of fields that are quoted, at most.
const MAX_NAMES: usize = 8;

/// First bytes that name a format which is not JSON.
const FORMATS: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "gzip; send the value as it is and set compression.type"),
    (b"\x28\xb5\x2f\xfd", "zstd; send the value as it is and set compression.type"),
    (b"\x04\x22\x4d\x18", "lz4; send the value as it is and set compression.type"),
    (b"\x82SNAPPY\0", "snappy; send the value as it is and set compression.type"),
    (b"\xff\xfe", "UTF-16; send UTF-8"),
    (b"\xfe\xff", "UTF-16; send UTF-8"),
    (b"\xac\xed\0\x05", "a serialized Java object; use a serializer for JSON"),
    (b"Obj\x01", "an Avro file; use a serializer for JSON"),
    (b"PK\x03\x04", "a zip file; send the JSON inside"),
];

/// What a publisher can do whose values need a schema to be read.
const NO_SCHEMA: &str = "use the serializer for JSON or JSON Schema, or convert the topic to JSON, \
                         with Kafka Connect or ksqlDB";

/// Confluent's header with the schema's identity, for values without a frame.
const SCHEMA_ID_HEADER: &str = "__value_schema_id";

/// Returns which schema a value that is not JSON has, where a header says so.
pub(super) fn of_headers(headers: &[Header]) -> Option<String> {
    let [1, id @ ..] = last_header(headers, SCHEMA_ID_HEADER)? else { return None };
    let id = uuid(id.try_into().ok()?);
    Some(format!("the value has the schema {id} of a schema registry; {NO_SCHEMA}"))
}

fn uuid(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns what a value that is not a JSON object probably is.
pub(super) fn of_value(value: &[u8]) -> Option<String> {
    let format = FORMATS.iter().find(|(first, _)| value.starts_with(first));
    if let Some((_, name)) = format {
        return Some(format!("the value is {name}"));
    }
    match value {
        // Before the frame, which begins with 0 too.
        [0, b'{' | b'[' | b'"', 0, ..] | [b'{' | b'[' | b'"', 0, _, 0, ..] => {
            return Some("the value is UTF-16; send UTF-8".into());
        }
        [0, framed @ ..] if framed.len() >= 4 => {
            let (id, rest) = framed.split_first_chunk()?;
            let id = u32::from_be_bytes(*id);
            let is_json = rest.trim_ascii_start().starts_with(b"{");
            let remedy = if is_json { "set input.unwrap = true" } else { NO_SCHEMA };
            return Some(format!(
                "the value has a schema-registry frame (schema id {id}); {remedy}"
            ));
        }
        [3, 0 | 5, rest @ ..] if rest.len() >= 16 => {
            let id = uuid(rest.first_chunk()?);
            return Some(format!(
                "the value has a frame of AWS Glue (schema version {id}); {NO_SCHEMA}"
            ));
        }
        _ => {}
    }
    let value = value.trim_ascii_start();
    if value.starts_with(b"\"") {
        let text: String = serde_json::from_slice(value).ok()?;
        let is_json = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(&text).is_ok();
        return is_json.then(|| {
            "the value is JSON inside a JSON string; set input.unwrap = true, or serialize it once"
                .into()
        });
    }
    let is_list =
        value.starts_with(b"[") && serde_json::from_slice::<Vec<IgnoredAny>>(value).is_ok();
    is_list.then(|| "the value is a list; publish a record for each escalation".into())
}

/// Returns why an object has no `session_id`, and which fields it has instead.
pub(super) fn of_missing_session(object: &[u8]) -> Option<String> {
    let fields: BTreeMap<String, IgnoredAny> = serde_json::from_slice(object).ok()?;
    let has = |name: &str| fields.contains_key(name);
    let plain = |name: &str| name.replace(['_', '-', '.', ' '], "").to_lowercase();
    if has("schema") && has("payload") {
        return Some(
            "the value is an envelope {schema, payload} of Kafka Connect; \
             set input.unwrap = true, or value.converter.schemas.enable=false"
                .into(),
        );
    }
    if has("op") && has("after") {
        return Some("the value is a change event of Debezium; set input.unwrap = true".into());
    }
    if has("specversion") {
        return Some("the value is a CloudEvent; publish its \"data\"".into());
    }
    if let Some(dialect) = dialect_of(has) {
        return Some(dialect.into());
    }
    // Null is the same as absent.
    if has("session_id") {
        return None;
    }
    if let Some(name) = fields.keys().find(|name| plain(name) == "sessionid") {
        return Some(format!("the field {} must be named session_id", quoted(name)));
    }
    if fields.is_empty() {
        return None;
    }
    let names: Vec<_> = fields.keys().take(MAX_NAMES).map(|name| quoted(name)).collect();
    let more = if fields.len() > MAX_NAMES { ", ..." } else { "" };
    Some(format!("the value has the fields {}{more}", names.join(", ")))
}

/// The dialect that reads objects with these fields.
fn dialect_of(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    if has("event") && has("sender_id") || has("conversation_id") && has("event_id") {
        return Some("the value is an event of Rasa; name \"rasa\" in input.dialects");
    }
    let is_activity = has("conversation") && has("type") || has("activities");
    is_activity.then_some(
        "the value is an activity of the Bot Framework; name \"bot_framework\" in input.dialects",
    )
}

fn quoted(name: &str) -> String {
    super::fields::quoted(&name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_value_that_is_no_object_is_named() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        let little: Vec<_> = "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let framed = [&b"\0\0\0\x04\xd2"[..], b"{\"session_id\":\"s\"}"].concat();
        let glue = [&b"\x03\0"[..], &[7; 16], b"x"].concat();
        for (value, expected) in [
            (&framed[..], "a schema-registry frame (schema id 1234)"),
            (&glue, "a frame of AWS Glue"),
            (b"\0\0\0\0\x07\x02\x10", "(schema id 7); use the serializer for JSON"),
            (&framed, "set input.unwrap = true"),
            (&glue, "07070707-0707-0707-0707-070707070707"),
            (b"\x1f\x8b\x08\0\0", "gzip"),
            (b"\xff\xfe{\0", "UTF-16"),
            (&utf16("{\"a\":1}"), "UTF-16"),
            (&little, "UTF-16"),
            (b"Obj\x01\x04", "Avro"),
            (b" \"{\\\"session_id\\\":\\\"s\\\"}\"", "JSON inside a JSON string"),
            (b"[{\"session_id\":\"s\"}]", "a list"),
        ] {
            let cause = of_value(value).unwrap_or_default();
            assert!(cause.contains(expected), "{value:?}: {cause}");
        }
        for value in [&b""[..], b"{", b"\0", b"\"text\"", b"7", b"hello", b"[1"] {
            assert_eq!(of_value(value), None, "{value:?}");
        }
    }

    #[test]
    fn the_schema_in_a_header_is_named() {
        let id = [&[1, 0x89, 0x79, 0x17, 0x62, 0x23, 0x36, 0x41, 0x86][..], &[0x96; 8]].concat();
        let header = |value: &[u8]| vec![(SCHEMA_ID_HEADER.to_owned(), Some(value.to_vec()))];
        let cause = of_headers(&header(&id)).unwrap();
        assert!(cause.contains("the schema 89791762-2336-4186-9696-969696969696 of"), "{cause}");
        for other in [&b""[..], b"\x01", b"\0\0\0\0\x07"] {
            assert_eq!(of_headers(&header(other)), None);
        }
    }

    #[test]
    fn an_envelope_and_a_misspelt_session_are_named() {
        for (value, expected) in [
            (r#"{"schema":{},"payload":{}}"#, "an envelope {schema, payload} of Kafka Connect"),
            (r#"{"before":null,"after":{},"op":"c"}"#, "a change event of Debezium"),
            (r#"{"specversion":"1.0","id":"1"}"#, "a CloudEvent"),
            (r#"{"sessionId":"s"}"#, "the field \"sessionId\" must be named session_id"),
            (r#"{"b":1,"a":2}"#, "the value has the fields \"a\", \"b\""),
            (r#"{"event":"slot","sender_id":"s"}"#, "name \"rasa\" in input.dialects"),
            (r#"{"event_id":"e","conversation_id":"s"}"#, "name \"rasa\" in input.dialects"),
            (r#"{"type":"event","conversation":{}}"#, "\"bot_framework\" in input.dialects"),
            (r#"{"activities":[]}"#, "\"bot_framework\" in input.dialects"),
        ] {
            let cause = of_missing_session(value.as_bytes()).unwrap_or_default();
            assert!(cause.contains(expected), "{value}: {cause}");
        }
        let many: Vec<_> = (0..20).map(|n| format!("\"f{n}\":{n}")).collect();
        let cause = of_missing_session(format!("{{{}}}", many.join(",")).as_bytes()).unwrap();
        assert!(cause.ends_with("\"f15\", ..."), "{cause}");
        for value in ["{}", r#"{"session_id":null}"#] {
            assert_eq!(of_missing_session(value.as_bytes()), None, "{value}");
        }
    }
}
