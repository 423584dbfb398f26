//! What the field writes and a strict parser refuses: read, or left out and noted.

use super::*;

/// Decodes a value that must be an event.
fn read_event(value: &[u8]) -> Event {
    match read(&record(Some(value))) {
        Decoded::Event(event) => *event,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(value)),
    }
}

fn malformed(value: &[u8]) -> Malformed {
    malformed_by(value, InputRules::default())
}

fn malformed_by(value: &[u8], input: InputRules) -> Malformed {
    match decode(&record(Some(value)), &rules(vec![], input), at(0)) {
        Decoded::Malformed(malformed) => malformed,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(value)),
    }
}

fn attribute(event: &Event, name: &str) -> Option<String> {
    event.request.as_ref().unwrap().attributes.get(name).cloned()
}

#[test]
fn half_an_emoji_in_a_text_is_replaced() {
    let value = br#"{"session_id":"s","reason":"help \ud83d","attributes":{"intent":"a\ud83d"}}"#;
    let event = read_event(value);
    assert_eq!(attribute(&event, "intent").as_deref(), Some("a\u{fffd}"));
    assert_eq!(event.notes, [""; 0]);
    let in_context = read_event(br#"{"session_id":"s","context":{"summary":"\ud83d"}}"#);
    assert_eq!(in_context.notes, [""; 0]);
}

#[test]
fn half_an_emoji_in_an_id_makes_no_two_ids_one() {
    for id in [r"a\ud83d", r"a\ud83c", r"\ud83d\ud83d"] {
        let error = malformed(format!(r#"{{"session_id":"s","id":"{id}"}}"#).as_bytes());
        assert_eq!(error.class, MalformedClass::BadId, "{error:?}");
        let error = malformed(format!(r#"{{"session_id":"{id}"}}"#).as_bytes());
        assert_eq!(error.class, MalformedClass::BadSessionId);
        assert!(error.error.contains("half a character"), "{error:?}");
    }
    // Written as it is, it is a character as any other.
    assert_eq!(&*event("\"id\":\"\u{fffd}\"").id, "\u{fffd}");
}

#[test]
fn half_an_emoji_in_a_login_asks_for_nobody_else() {
    for agents in [r#""a\ud83d""#, r#"["b@x","a\ud83d"]"#] {
        let reason = event(&format!(r#""target":{{"agents":{agents}}}"#)).request.unwrap_err();
        let allowed = "allowed is a list of texts, none blank or with half a character";
        assert!(reason.starts_with("target.agents is ") && reason.ends_with(allowed), "{reason}");
    }
    let whole = event("\"target\":{\"agents\":[\"a\u{fffd}\"]}").request.unwrap();
    assert_eq!(whole.requested_target.agents, ["a\u{fffd}"]);
}

#[test]
fn a_raw_tab_a_number_beyond_an_f64_and_nan_are_read_as_text() {
    let event = read_event(
        b"{\"session_id\":\"s\",\"reason\":\"a\tb\nc\",\"attributes\":{\"a\":\"x\ty\",\"n\":1e400,\"f\":NaN}}",
    );
    assert_eq!(attribute(&event, "a").as_deref(), Some("x\ty"));
    assert_eq!(attribute(&event, "n").as_deref(), Some("1e400"));
    assert_eq!(attribute(&event, "f").as_deref(), Some("NaN"));
    assert_eq!(event.notes, [""; 0]);
    assert_eq!(read_event(br#"{"session_id":"s","context":{"n":1e400}}"#).notes, [""; 0]);
}

#[test]
fn nested_attributes_are_left_out_at_any_depth_and_noted() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 2, 90, 120, 130, 5_000] {
        let fields = format!(r#""attributes":{{"lang":"de","deep":{}}}"#, nested(depth));
        let event = event(&fields);
        assert_eq!(attribute(&event, "lang").as_deref(), Some("de"), "{depth}");
        assert_eq!(attribute(&event, "deep"), None);
        let start = "attributes.deep ignored: [";
        assert!(event.notes.len() == 1 && event.notes[0].starts_with(start), "{:?}", event.notes);
    }
    let all = event(&format!(r#""attributes":{}"#, nested(5_000)));
    assert!(all.notes[0].ends_with("... is not an object"), "{:?}", all.notes);
}

#[test]
fn of_a_doubled_field_the_last_one_counts() {
    let event = read_event(
        br#"{"session_id":"a","session_id":"s","id":"1","priority":11,"id":"2","priority":3,
            "attributes":{"lang":"de","lang":"en"},"target":{"group":1,"group":2}}"#,
    );
    assert_eq!((&*event.session_id, &*event.id), ("s", "2"));
    assert_eq!(attribute(&event, "lang").as_deref(), Some("en"));
    let request = event.request.unwrap();
    assert_eq!((request.priority, request.requested_target.group), (Some(3), Some(2)));
}

#[test]
fn a_byte_order_mark_and_a_closing_nul_are_skipped() {
    assert_eq!(read_event(b"\xef\xbb\xbf{\"session_id\":\"s\"}"), event(""));
    assert_eq!(read_event(b"{\"session_id\":\"s\"}\0"), event(""));
}

#[test]
fn whole_numbers_are_read_where_text_is_meant_and_the_reverse() {
    let written = event(
        r#""id":7,"reason":5,"priority":"3","target":{"agents":[8,"a@x"],"group":"9"},
           "attributes":{"n":5,"b":true},"expires_at":"1800000030""#,
    );
    assert_eq!((&*written.id, written.deadline), ("7", at(30)));
    assert_eq!(attribute(&written, "n").as_deref(), Some("5"));
    let request = written.request.unwrap();
    assert_eq!(request.requested_target.agents, ["8", "a@x"]);
    assert_eq!((request.requested_target.group, request.priority), (Some(9), Some(3)));
    assert_eq!(written.notes, [""; 0]);
}

#[test]
fn one_agent_may_be_a_text_instead_of_a_list() {
    for agents in [r#""a@x""#, r#"["a@x"]"#] {
        let event = event(&format!(r#""target":{{"agents":{agents}}}"#));
        assert_eq!(event.request.unwrap().requested_target.agents, ["a@x"]);
    }
    let number = event(r#""target":{"agents":5}"#);
    assert_eq!(number.request.unwrap().requested_target.agents, ["5"]);
}

#[test]
fn an_unreadable_time_is_noted_and_the_records_time_and_the_time_to_live_apply() {
    let event = event(r#""requested_at":"yesterday","expires_at":"2026-11-23""#);
    assert_eq!((event.requested_at, event.deadline), (at(-100), at(500)));
    let allowed = "is not a time as 2026-11-23T10:00:00Z, or seconds or milliseconds since 1970";
    assert_eq!(
        event.notes,
        [
            format!("requested_at ignored: \"yesterday\" {allowed}"),
            format!("expires_at ignored: \"2026-11-23\" {allowed}"),
        ]
    );
    assert!(event.request.is_ok());
}

#[test]
fn the_end_of_the_year_9999_is_a_deadline() {
    let event = event(r#""expires_at":"9999-12-31T23:59:59Z""#);
    assert_eq!((event.deadline, event.notes.len()), (Timestamp::MAX, 0));
}

#[test]
fn a_refused_event_has_its_notes_too() {
    let event = event(r#""reason":{},"priority":11,"attributes":[1]"#);
    assert!(event.request.unwrap_err().starts_with("priority is 11; "));
    assert_eq!(
        event.notes,
        ["reason ignored: {} is not a text", "attributes ignored: [1] is not an object"]
    );
}

fn as_it_is() -> InputRules {
    InputRules { unwrap: false, ..InputRules::default() }
}

#[test]
fn a_value_is_read_inside_its_envelopes_and_repaired_like_any_other() {
    let event = read_event(b"\0\0\0\0\x07{\"session_id\":\"s\",\"reason\":\"\\ud83d\"}");
    assert_eq!((&*event.session_id, event.notes.len()), ("s", 0));
    let text = br#""{\"session_id\":\"s\",\"id\":\"a\ud83d\"}""#;
    assert_eq!(malformed(text).class, MalformedClass::BadId, "two ids could become one");
    let deleted = br#"{"op":"d","before":{"session_id":"s"},"after":null}"#;
    assert_eq!(word(&read(&record(Some(deleted)))), "not for us");
}

#[test]
fn a_header_names_the_identity_where_the_value_has_none() {
    let with_header = |value: &str, id: &[u8]| {
        let headers = vec![("id".to_owned(), Some(id.to_vec()))];
        let record = Record { headers, ..record(Some(value.as_bytes())) };
        match read(&record) {
            Decoded::Event(event) => event.id.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let value = r#"{"session_id":"s"}"#;
    assert_eq!(with_header(value, b"5f0c-1"), "5f0c-1");
    assert_eq!(with_header(value, b"\"5f0c-1\""), "5f0c-1");
    assert_eq!(with_header(r#"{"session_id":"s","id":"own"}"#, b"5f0c-1"), "own");
    for useless in [&b""[..], b" ", b"\xff\xfe", b"\0\0\0\x07", &[b'x'; 257], b"s"] {
        assert_eq!(with_header(value, useless), "t/3/7", "{useless:?}");
    }
}

#[test]
fn a_dead_letter_names_the_cause_before_the_complaint_of_the_parser() {
    for (value, class, start) in [
        (
            &b"\0\0\0\0\x07{\"session_id\":\"s\"}"[..],
            "not_json",
            "the value has a schema-registry frame (schema id 7)",
        ),
        (b"\x1f\x8b\x08\0", "not_json", "the value is gzip"),
        (b"\xff\xfe{\0\"\0", "not_json", "the value is UTF-16"),
        (
            b"\"{\\\"session_id\\\":\\\"s\\\"}\"",
            "not_an_object",
            "the value is JSON inside a JSON string",
        ),
        (b"hello", "not_json", "not JSON: expected value at line 1 column 1"),
        (b"{\"session_id\":\"s\"", "not_json", "not JSON: EOF while parsing an object"),
    ] {
        let error = malformed_by(value, as_it_is());
        assert_eq!(error.class.as_str(), class);
        assert!(error.error.starts_with(start), "{error:?}");
    }
    let envelope = br#"{"schema":{},"payload":{"session_id":"s"}}"#;
    let envelope = malformed_by(envelope, as_it_is());
    assert_eq!(envelope.class, MalformedClass::BadSessionId);
    assert!(envelope.error.contains("an envelope {schema, payload} of Kafka Connect"));
}

#[test]
fn a_type_in_a_header_may_be_quoted_or_padded() {
    for (kind, expected) in
        [("\"escalation\"", "good"), (" escalation\n", "good"), ("\"chat\"", "not for us")]
    {
        let headers = vec![("handoff-type".to_owned(), Some(kind.as_bytes().to_vec()))];
        let record = Record { headers, ..record(Some(br#"{"session_id":"s"}"#)) };
        assert_eq!(word(&read(&record)), expected, "{kind}");
    }
    let headers = vec![("handoff-type".to_owned(), Some(b"\xff\xfe".to_vec()))];
    let record = Record { headers, ..record(Some(br#"{"session_id":"s"}"#)) };
    assert_eq!(word(&read(&record)), "not for us");
}

#[test]
fn a_trace_header_that_is_not_ascii_is_not_copied() {
    let headers = vec![
        ("traceparent".to_owned(), Some(b"00-\xff".to_vec())),
        ("tracestate".to_owned(), Some(b"a=b".to_vec())),
    ];
    let record = Record { headers: headers.clone(), ..record(None) };
    assert_eq!(trace(&record, &[]), headers[1..]);
}
