//! What a check found: one line for people, one object for machines.
//!
//! A finding that is not ok says what to do about it.
//! This file never finds anything itself.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::commands::lines::{sanitize, styled};

/// How bad it is, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Works, but look at it; or it could not be told.
    Warn,
    /// The service cannot do its work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// What was looked at.
    pub(super) what: String,
    /// What was found.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) remedy: String,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        let (what, detail) = (what.into(), detail.into());
        Self { level: Level::Ok, what, detail, remedy: String::new() }
    }

    /// Look at it.
    pub(super) fn warn(
        what: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, remedy: remedy.into(), ..Self::ok(what, detail) }
    }

    /// It does not work.
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
    fn a_line_says_how_bad_what_and_what_to_do() {
        assert_eq!(plain(&Finding::ok("topic t", "3 partitions")), "ok    topic t  - 3 partitions");
        let finding = Finding::fail("topic t", "does not exist", "create it");
        assert_eq!(plain(&finding), "FAIL  topic t  - does not exist; create it");
        let json = serde_json::to_string(&finding).unwrap();
        let expected =
            r#"{"level":"fail","what":"topic t","detail":"does not exist","remedy":"create it"}"#;
        assert_eq!(json, expected);
    }
}
