//! The section `[input]`: how records of other systems are read.

use super::raw_config::RawConfig;
use crate::domain::wire::input::InputRules;

/// Reads the section; `None` after recording a problem.
pub(super) fn read(raw: &mut RawConfig) -> Option<InputRules> {
    let unwrap = raw.flag("input.unwrap");
    let id_header = raw.optional("input.id_header").map(|given| given.value);
    Some(InputRules { unwrap: unwrap?, id_header })
}
