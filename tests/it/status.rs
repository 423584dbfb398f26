//! The samples of `/status` in tests/fixtures/status/, which the page and `handoff top` are tried with.

use std::path::Path;

use handoff::domain::wire::outcome::Status;
use serde_json::{Value, json};

use crate::support::outcome_schema::{document, validator};

const SCHEMA: &str = "status.schema.json";

fn sample(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/status");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn errors(status: &Value) -> Vec<String> {
    validator(&document(SCHEMA)).iter_errors(status).map(|error| error.to_string()).collect()
}

#[test]
fn the_schema_is_valid_itself() {
    let schema = document(SCHEMA);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::meta::validate(&schema).unwrap();
}

#[test]
fn the_samples_are_valid_and_their_numbers_agree() {
    for name in ["busy.json", "calm.json"] {
        let status = sample(name);
        assert_eq!(errors(&status), [""; 0], "{name}");
        let by_problem = status["now"]["by_problem"].as_object().unwrap();
        let sum: u64 = by_problem.values().filter_map(Value::as_u64).sum();
        assert_eq!(json!(sum), status["now"]["unfinished"], "{name}");
        assert_eq!(status["headline"]["waiting"], status["now"]["unfinished"], "{name}");
        let history = &status["history"];
        let points = |name: &str| history[name].as_array().unwrap().len();
        assert_eq!(
            (points("answered"), points("calls")),
            (points("unfinished"), points("unfinished"))
        );
    }
}

#[test]
fn the_schema_refuses_what_a_reader_could_misunderstand() {
    let changes: [(&str, Value); 7] = [
        ("/format", json!(2)),
        ("/headline/level", json!("fine")),
        ("/headline/since", json!("an hour ago")),
        ("/now/lag", json!(9_007_199_254_740_993_u64)),
        ("/now/lag", json!(-1)),
        ("/unfinished_events/0/problem", json!("running")),
        ("/unfinished_events/0/record/partition", json!(-1)),
    ];
    for (pointer, value) in changes {
        let mut status = sample("busy.json");
        *status.pointer_mut(pointer).unwrap() = value.clone();
        assert_eq!(errors(&status).len(), 1, "{pointer} {value}");
    }
}

#[test]
fn the_words_of_the_schema_are_those_of_the_service() {
    let schema = document(SCHEMA);
    let statuses = json!(Status::ALL.map(Status::as_str));
    assert_eq!(schema["$defs"]["last_outcome"]["properties"]["status"]["enum"], statuses);
    let now = &schema["properties"]["now"]["properties"];
    let problems = &schema["$defs"]["unfinished_event"]["properties"]["problem"]["enum"];
    assert_eq!(&now["by_problem"]["required"], problems);
}
