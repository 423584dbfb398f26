//! The result of a check: one line for people, one JSON object for machines.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::commands::lines::{sanitize, styled};

/// The severity, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    /// It works but deserves attention, or it could not be checked.
    Warn,
    /// The service cannot work.
    Fail,
}

/// The result of one check. The field names are those of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The subject of the check.
    pub(super) what: String,
    pub(super) detail: String,
    /// What to do about it; empty if the result is ok.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        let (what, detail) = (what.into(), detail.into());
        Self { level: Level::Ok, what, detail, remedy: String::new() }
    }

    pub(super) fn warn(
        what: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, remedy: remedy.into(), ..Self::ok(what, detail) }
    }

    pub(super) fn fail(
        what: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, remedy: remedy.into(), ..Self::ok(what, detail) }
    }

    /// The line for people, with colours.
    pub(super) fn line(&self) -> String {
        let (word, style) = match self.level {
            Level::Ok => ("ok  ", AnsiColor::Green.on_default()),
            Level::Warn => ("warn", AnsiColor::Yellow.on_default()),
            Level::Fail => ("FAIL", AnsiColor::Red.on_default().bold()),
        };
        let what = styled(Style::new().bold(), &sanitize(&self.what));
        let mut line = format!("{}  {what}  - {}", styled(style, word), sanitize(&self.detail));
        if !self.remedy.is_empty() {
            line.push_str(&format!("; {}", sanitize(&self.remedy)));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(finding: &Finding) -> String {
        anstream::adapter::strip_str(&finding.line()).to_string()
    }

    #[test]
    fn a_line_has_level_subject_detail_and_remedy() {
        assert_eq!(plain(&Finding::ok("topic t", "3 partitions")), "ok    topic t  - 3 partitions");
        let finding = Finding::fail("topic t", "does not exist", "create it");
        assert_eq!(plain(&finding), "FAIL  topic t  - does not exist; create it");
        let json = serde_json::to_string(&finding).unwrap();
        let expected =
            r#"{"level":"fail","what":"topic t","detail":"does not exist","remedy":"create it"}"#;
        assert_eq!(json, expected);
    }
}
