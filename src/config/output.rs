//! The section `[output]`: how outcomes are written.

use super::raw_config::RawConfig;
use crate::domain::wire::outcome_format::OutcomeFormat;

/// The section, before the group is known.
pub(super) struct OutputSection {
    form: OutcomeForm,
    type_prefix: String,
}

#[derive(Clone, Copy)]
enum OutcomeForm {
    Native,
    CloudEvents,
    HandoffStatus,
}

/// Reads the section; `None` after recording a problem.
pub(super) fn read(raw: &mut RawConfig) -> Option<OutputSection> {
    let wanted = "\"native\", \"cloudevents\" or \"handoff_status\"";
    let form = raw.parsed("output.format", wanted, |text| match text {
        "native" => Some(OutcomeForm::Native),
        "cloudevents" => Some(OutcomeForm::CloudEvents),
        "handoff_status" => Some(OutcomeForm::HandoffStatus),
        _ => None,
    });
    let type_prefix = raw.text("output.cloudevents_type_prefix");
    Some(OutputSection { form: form?, type_prefix: type_prefix? })
}

impl OutputSection {
    /// The format of the outcomes of this consumer group.
    pub(super) fn of_group(self, group_id: &str) -> OutcomeFormat {
        match self.form {
            OutcomeForm::Native => OutcomeFormat::Native,
            OutcomeForm::CloudEvents => OutcomeFormat::CloudEvents {
                kind: format!("{}.outcome.v1", self.type_prefix),
                source: format!("/handoff/{group_id}"),
            },
            OutcomeForm::HandoffStatus => OutcomeFormat::HandoffStatus,
        }
    }
}
