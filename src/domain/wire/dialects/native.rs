//! Escalation v1 itself.

use serde_json::Value;

use super::{DialectInput, Reading};
use crate::domain::event::MalformedClass;
use crate::domain::wire::escalation::fields::quoted;
use crate::domain::wire::escalation::written::Written;

/// Reads an object with a session, which no other format writes under this name.
pub(super) fn read<'r>(input: &DialectInput<'r>) -> Reading<'r> {
    match Written::read(input.text, input.headers) {
        Ok(written) if written.fields.session_id.is_some() => of_type(written, input.types),
        _ => Reading::unrecognised("no JSON object with a session_id"),
    }
}

/// Reads any value.
pub(super) fn judge<'r>(input: &DialectInput<'r>) -> Reading<'r> {
    match Written::read(input.text, input.headers) {
        Ok(written) => of_type(written, input.types),
        Err(malformed) => Reading::Malformed(malformed),
    }
}

/// Leaves out what has another type.
pub(super) fn of_type<'r>(written: Written<'r>, types: &[String]) -> Reading<'r> {
    let is_ours = |kind: &String| types.is_empty() || types.contains(kind);
    match &written.fields.kind {
        Some(Value::String(kind)) if !is_ours(kind) => {
            let kind = quoted(&Value::from(kind.as_str()));
            Reading::of_other_type(format!("its type is {kind}, which is not in escalation.types"))
        }
        None | Some(Value::String(_)) => Reading::escalation(written),
        Some(other) => {
            let error = format!("type must be text, got {}", quoted(other));
            Reading::malformed(MalformedClass::BadType, error)
        }
    }
}
