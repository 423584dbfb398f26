//! What the worker published, as any reader of its topics sees it.
//!
//! It is read from the bytes alone, so that the demo sees what everybody sees. This file never
//! uses the worker's own types for it, and never judges.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::domain::record::Record;

/// One record of the worker.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) at: Instant,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// An outcome, and its text as it came.
    Outcome(Answer, Box<RawValue>),
    DeadLetter(Letter),
    /// Neither can be made of it.
    Unreadable(String),
}

/// An outcome.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Answer {
    pub(super) event_id: String,
    pub(super) session_id: String,
    pub(super) status: String,
    #[serde(rename = "final")]
    pub(super) is_final: bool,
    pub(super) agent_id: Option<String>,
    #[serde(default)]
    pub(super) tried: Vec<Tried>,
    pub(super) confirmed_by: Option<String>,
    pub(super) attempts: u32,
    pub(super) elapsed_ms: u64,
    pub(super) reason: Option<String>,
}

/// One step of a cascade.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tried {
    target: Target,
    code: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    #[serde(default)]
    agents: Vec<String>,
    group: Option<Value>,
}

/// A dead letter.
#[derive(Debug, Clone, Default)]
pub(super) struct Letter {
    pub(super) class: String,
    pub(super) error: String,
    /// Partition and offset of the record that it is about.
    pub(super) source: Option<(i32, i64)>,
}

impl Came {
    pub(super) fn outcome(record: &Record, at: Instant) -> Self {
        let value = record.value.as_deref().unwrap_or_default();
        let read = serde_json::from_slice::<Box<RawValue>>(value)
            .and_then(|raw| Ok(What::Outcome(serde_json::from_str(raw.get())?, raw)));
        let what = read.unwrap_or_else(|error| What::Unreadable(error.to_string()));
        Self { at, what }
    }

    pub(super) fn dead_letter(record: &Record, at: Instant) -> Self {
        let text = |name: &str| {
            String::from_utf8_lossy(record.header(name).unwrap_or_default()).into_owned()
        };
        let partition = text("handoff-source-partition").parse().ok();
        let offset = text("handoff-source-offset").parse().ok();
        let letter = Letter {
            class: text("handoff-error-class"),
            error: text("handoff-error"),
            source: partition.zip(offset),
        };
        Self { at, what: What::DeadLetter(letter) }
    }

    /// What it is, in words.
    pub(super) fn text(&self) -> String {
        match &self.what {
            What::Outcome(Answer { event_id, session_id, status, .. }, _) => {
                format!("outcome {status} of {event_id} in {session_id}")
            }
            What::DeadLetter(letter) => {
                format!("dead letter {} of {:?}", letter.class, letter.source)
            }
            What::Unreadable(error) => format!("an outcome that cannot be read: {error}"),
        }
    }
}

impl Tried {
    /// Who was asked for, and what Desk said.
    pub(super) fn text(&self) -> String {
        let mut whom = self.target.agents.clone();
        whom.extend(self.target.group.as_ref().map(|group| format!("group {group}")));
        let whom = if whom.is_empty() { "anybody".to_owned() } else { whom.join(" or ") };
        match self.code {
            Some(code) => format!("{whom} ({code})"),
            None => whom,
        }
    }
}
