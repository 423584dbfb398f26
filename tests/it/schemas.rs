//! The documents in schemas/: valid themselves, complete in both directions, and true for every
//! example in the documentation and every outcome that a test reads from Kafka.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use handoff::domain::event::{Event, Malformed, MalformedClass, TransferOptions, TransferRequest};
use handoff::domain::record::{Position, Record};
use handoff::domain::reply::DeskStatus;
use handoff::domain::target::Target;
use handoff::domain::wire::dead_letter::dead_letter;
use handoff::domain::wire::escalation::{DecodeRules, Decoded, FIELDS, TARGET_FIELDS, decode};
use handoff::domain::wire::outcome::{ConfirmedBy, Outcome, Status, Tried};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::support::outcome_schema::{check_outcome, document, errors_of_outcome, validator};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[track_caller]
fn check(validator: &Validator, value: &Value) {
    let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0], "{value}");
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// The names of the properties of the object that this pointer leads to.
fn properties(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let properties = schema.pointer(&format!("{pointer}/properties")).and_then(Value::as_object);
    properties.unwrap_or_else(|| panic!("{pointer}")).keys().cloned().collect()
}

#[test]
fn each_schema_is_valid_itself() {
    for name in ["escalation.schema.json", "outcome.schema.json", "dead-letter.schema.json"] {
        let schema = document(name);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        examples_are_valid(&schema);
    }
    jsonschema::meta::validate(&document("tool.json")["parameters"]).unwrap();
}

/// Each example is valid for the schema that it stands in.
fn examples_are_valid(schema: &Value) {
    let Some(object) = schema.as_object() else { return };
    if let Some(examples) = object.get("examples").and_then(Value::as_array) {
        let validator = validator(schema);
        examples.iter().for_each(|example| check(&validator, example));
    }
    object.values().for_each(examples_are_valid);
}

#[test]
fn the_schema_of_an_escalation_has_the_fields_that_the_service_reads() {
    let schema = document("escalation.schema.json");
    assert_eq!(properties(&schema, ""), names(FIELDS));
    assert_eq!(properties(&schema, "/properties/target"), names(TARGET_FIELDS));
    assert_eq!(properties(&schema, "/properties/options"), names(TransferOptions::NAMES));
}

/// What the schema accepts is decoded without a word of complaint, and what the service calls invalid
/// or malformed the schema refuses.
#[test]
fn the_schema_of_an_escalation_agrees_with_the_service() {
    let schema = validator(&document("escalation.schema.json"));
    let with = |name: &str, value: Value| {
        let mut escalation = json!({"session_id": "s"});
        escalation[name] = value;
        escalation
    };
    let valid = [
        with("session_id", json!("ü".repeat(128))),
        with("id", json!(null)),
        with("requested_at", json!("2026-11-23T10:00:00.5+01:00")),
        with("target", json!({"agents": ["a@x"], "group": 1, "strict": true})),
        with("target", json!({"group": i64::MAX})),
        with("target", json!({"agents": null, "group": null, "strict": null})),
        with("priority", json!(0)),
        with("priority", json!(9)),
        with("attributes", json!({"a": "b", "n": 1, "f": false, "x": null})),
        with("context", json!([{"any": "thing"}])),
        with("options", json!({"queue_timeout": u32::MAX, "disable_queuing": false})),
        with("unknown", json!({})),
    ];
    for escalation in valid {
        check(&schema, &escalation);
        let event = decoded(&escalation).unwrap_or_else(|error| panic!("{escalation}: {error}"));
        assert!(event.request.is_ok() && event.notes.is_empty(), "{escalation}: {event:?}");
    }
    let wrong = [
        json!({}),
        with("session_id", json!("")),
        with("session_id", json!("a\u{1}b")),
        with("session_id", json!({})),
        with("id", json!("i".repeat(257))),
        with("type", json!(7)),
        with("requested_at", json!("soon")),
        with("expires_at", json!([])),
        with("reason", json!({})),
        with("target", json!("a@x")),
        with("target", json!({"agents": [" "]})),
        with("target", json!({"group": 0})),
        with("target", json!({"strict": "yes"})),
        with("priority", json!(10)),
        with("attributes", json!({"nested": {}})),
        with("options", json!({"disable_queuing": "no"})),
        with("options", json!({"queue_timeout": -1})),
    ];
    for escalation in wrong {
        assert!(!schema.is_valid(&escalation), "{escalation}");
        let complains = decoded(&escalation)
            .map_or(true, |event| event.request.is_err() || !event.notes.is_empty());
        assert!(complains, "{escalation}");
    }
}

fn record(value: &Value) -> Record {
    Record {
        position: Position { topic: "t".into(), partition: 3, offset: 42 },
        timestamp: "2026-11-23T10:00:00Z".parse().ok(),
        key: Some(b"s".to_vec()),
        value: Some(value.to_string().into_bytes()),
        headers: vec![],
    }
}

fn decoded(value: &Value) -> Result<Event, String> {
    let time_to_live = std::time::Duration::from_secs(600);
    let rules =
        DecodeRules { types: vec![], max_bytes: 1_000_000, time_to_live, input: Arc::default() };
    match decode(&record(value), &rules, "2026-11-23T10:00:01Z".parse().unwrap()) {
        Decoded::Event(event) => Ok(*event),
        Decoded::Malformed(malformed) => Err(malformed.error),
        Decoded::NotForUs(skip) => Err(format!("not for us: {}", skip.why)),
    }
}

/// An outcome in which every field is filled.
fn full_outcome(event: &Event, status: Status) -> Outcome {
    let named = Target::Named { agents: vec!["a@x".into()], group: Some(7) };
    let tried = |target| Tried { target, code: Some(141_001) };
    Outcome {
        agent_id: Some("a@x".into()),
        route: Some("vip".into()),
        target: Some(named.clone()),
        tried: vec![tried(named), tried(Target::Default)],
        desk: Some(DeskStatus { code: 0, info: String::new(), action_status: "OK".into() }),
        confirmed_by: Some(ConfirmedBy::SessionState),
        attempts: 3,
        reason: Some("why".into()),
        opens_at: Some(event.deadline),
        notes: vec!["requested_at ignored".into()],
        ..Outcome::new(event, status, "2026-11-23T10:00:02Z".parse().unwrap())
    }
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_of_an_outcome_has_the_fields_that_the_service_writes() {
    let schema = document("outcome.schema.json");
    let event = decoded(&json!({"session_id": "s", "id": "e"})).unwrap();
    assert_eq!(event.request, Ok(TransferRequest::default()));
    let written = |outcome: Outcome| -> Value { serde_json::from_str(&outcome.to_json()).unwrap() };
    let full = written(full_outcome(&event, Status::Failed));
    assert_eq!(keys(&full), properties(&schema, ""));
    for part in ["desk", "source"] {
        assert_eq!(keys(&full[part]), properties(&schema, &format!("/properties/{part}")));
    }
    let item = "/properties/tried/items";
    assert_eq!(keys(&full["tried"][0]), properties(&schema, item));
    let mut target = keys(&full["target"]);
    target.extend(keys(&full["tried"][1]["target"]));
    assert_eq!(properties(&schema, "/properties/target"), target);
    assert_eq!(properties(&schema, &format!("{item}/properties/target")), target);
    assert_eq!(schema["properties"]["status"]["enum"], json!(Status::ALL.map(Status::as_str)));
    let confirmed = [ConfirmedBy::Reply, ConfirmedBy::SessionState];
    assert_eq!(schema["properties"]["confirmed_by"]["enum"], json!(confirmed));

    for status in Status::ALL {
        check_outcome(&written(full_outcome(&event, status)));
    }
    check_outcome(&written(full_outcome(&event, Status::NoAgentOnline).into_interim()));
    let least = Outcome {
        reason: Some("x".into()),
        ..Outcome::new(&event, Status::Expired, event.deadline)
    };
    check_outcome(&written(least));
    let mut wrong = full.clone();
    wrong["status"] = json!("lost");
    assert!(!errors_of_outcome(&wrong).is_empty());
    let mut interim = full;
    interim["final"] = json!(false);
    assert!(!errors_of_outcome(&interim).is_empty(), "a failure is final");
}

#[test]
fn the_schema_of_a_dead_letter_has_the_headers_that_the_service_writes() {
    let schema = document("dead-letter.schema.json");
    let of_class = |class| {
        let malformed = Malformed { class, error: "why".into() };
        dead_letter(record(&json!(1)), &malformed, "2026-11-23T10:00:01Z".parse().unwrap())
    };
    let headers = |message: &handoff::domain::wire::Message| {
        let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
        let pairs = message.headers.iter().map(|(name, value)| (name.clone(), json!(text(value))));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    let mut message = of_class(MalformedClass::NotJson);
    message.key = Some(vec![b'k'; 257]);
    while message.truncate() {}
    assert_eq!(keys(&headers(&message)), properties(&schema, ""));
    let validator = validator(&schema);
    check(&validator, &headers(&message));
    for class in MalformedClass::ALL {
        check(&validator, &headers(&of_class(class)));
    }
    let classes = MalformedClass::ALL.map(MalformedClass::as_str);
    assert_eq!(schema["properties"]["handoff-error-class"]["enum"], json!(classes));
}

#[test]
fn the_arguments_of_the_tool_are_an_escalation() {
    let tool = document("tool.json");
    assert_eq!(keys(&tool), names(["name", "description", "parameters"]));
    let arguments = properties(&tool, "/parameters");
    assert!(arguments.is_subset(&names(FIELDS)), "{arguments:?}");
    let example = json!({"session_id": "s", "reason": "wants a refund", "priority": 2,
        "attributes": {"lang": "de"}, "context": {"summary": "ordered twice"}});
    assert_eq!(keys(&example), arguments);
    check(&validator(&tool["parameters"]), &example);
    check(&validator(&document("escalation.schema.json")), &example);
    assert!(decoded(&example).unwrap().request.is_ok());
}

/// Every JSON example of the documentation that is an escalation or an outcome.
#[test]
fn the_examples_of_the_documentation_are_valid() {
    let escalation = validator(&document("escalation.schema.json"));
    let mut files: Vec<_> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.push(root().join("README.md"));
    let (mut escalations, mut outcomes) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for block in text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for value in serde_json::Deserializer::from_str(block).into_iter::<Value>() {
                let value = value.unwrap_or_else(|error| panic!("{file:?}: {error}: {block}"));
                if value.get("final").is_some() {
                    outcomes += 1;
                    check_outcome(&value);
                } else if value.get("session_id").is_some() {
                    escalations += 1;
                    check(&escalation, &value);
                }
            }
        }
    }
    assert!(escalations > 0 && outcomes > 0, "the README has one of each");
}

fn printed(format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_handoff")).args(["schema", format]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_prints_the_files_and_a_document_that_needs_no_other() {
    for (format, file) in [
        ("escalation", "escalation.schema.json"),
        ("outcome", "outcome.schema.json"),
        ("dead-letter", "dead-letter.schema.json"),
        ("tool", "tool.json"),
        ("status", "status.schema.json"),
    ] {
        let file = std::fs::read_to_string(root().join("schemas").join(file)).unwrap();
        assert_eq!(printed(format), file);
    }
    let bundled: Value = serde_json::from_str(&printed("asyncapi")).unwrap();
    let schemas = bundled["components"]["schemas"].as_object().unwrap();
    for (name, file) in [
        ("escalation", "escalation.schema.json"),
        ("outcome", "outcome.schema.json"),
        ("deadLetter", "dead-letter.schema.json"),
    ] {
        assert_eq!(schemas[name]["properties"], document(file)["properties"]);
    }
    check_asyncapi(&bundled);
}

/// What AsyncAPI 3.1 requires of this document; references lead somewhere within it.
fn check_asyncapi(document: &Value) {
    assert_eq!(document["asyncapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    check_references(document, document);
    let channels = document["channels"].as_object().unwrap();
    let settings = std::fs::read_to_string(root().join("config/default.toml")).unwrap();
    for (name, channel) in channels {
        let address = channel["address"].as_str().unwrap();
        assert!(settings.contains(&format!("\"{address}\"")), "{name}: {address} is a default");
        assert!(!channel["messages"].as_object().unwrap().is_empty(), "{name}");
    }
    let operations = document["operations"].as_object().unwrap();
    assert_eq!(operations.len(), channels.len());
    for (name, operation) in operations {
        assert!(["send", "receive"].contains(&operation["action"].as_str().unwrap()), "{name}");
        let channel = operation["channel"]["$ref"].as_str().unwrap();
        for message in operation["messages"].as_array().unwrap() {
            let message = message["$ref"].as_str().unwrap();
            assert!(message.starts_with(&format!("{channel}/messages/")), "{name}: {message}");
        }
    }
    let messages = document["components"]["messages"].as_object().unwrap();
    for (name, message) in messages {
        let schema = &document["components"]["schemas"][name];
        for example in message["examples"].as_array().into_iter().flatten() {
            check(&validator(schema), &example["payload"]);
            if let Some(headers) = example.get("headers") {
                check(&validator(&message["headers"]), headers);
            }
        }
    }
}

fn check_references(document: &Value, part: &Value) {
    match part {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference}"));
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|part| check_references(document, part));
        }
        Value::Array(list) => list.iter().for_each(|part| check_references(document, part)),
        _ => {}
    }
}
