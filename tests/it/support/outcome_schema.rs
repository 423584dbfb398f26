//! The schema of outcomes: every outcome that a test reads from Kafka is checked against it.

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// A document in schemas/.
pub(crate) fn document(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let text = std::fs::read_to_string(file).expect("it is there");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// With formats, such as that of times, which a validator ignores by default.
pub(crate) fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).expect("a schema")
}

static OUTCOME: LazyLock<Validator> = LazyLock::new(|| validator(&document("outcome.schema.json")));

/// What is wrong with an outcome.
pub(crate) fn errors_of_outcome(outcome: &Value) -> Vec<String> {
    OUTCOME.iter_errors(outcome).map(|error| error.to_string()).collect()
}

/// Nothing is wrong with it.
#[track_caller]
pub(crate) fn check_outcome(outcome: &Value) {
    assert_eq!(errors_of_outcome(outcome), [""; 0], "{outcome}");
}
