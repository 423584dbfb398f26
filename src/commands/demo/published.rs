//! The records that the service published, parsed as any consumer of the topics would parse them.

use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::domain::record::Record;
use crate::domain::target::Target;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::outcome::{OutcomeRecord, Tried};

/// A record that the service published.
#[derive(Debug)]
pub(super) struct PublishedRecord {
    pub(super) at: Instant,
    pub(super) content: PublishedContent,
}

#[derive(Debug)]
pub(super) enum PublishedContent {
    /// An outcome, and its JSON as published.
    Outcome(OutcomeRecord, Box<RawValue>),
    DeadLetter(DeadLetter),
    /// The value is not an outcome.
    Unreadable(String),
}

impl PublishedRecord {
    pub(super) fn outcome(record: &Record, at: Instant) -> Self {
        let value = record.value.as_deref().unwrap_or_default();
        let parsed = OutcomeRecord::parse(value).and_then(|outcome| {
            Ok(PublishedContent::Outcome(outcome, serde_json::from_slice(value)?))
        });
        let content =
            parsed.unwrap_or_else(|error| PublishedContent::Unreadable(error.to_string()));
        Self { at, content }
    }

    pub(super) fn dead_letter(record: &Record, at: Instant) -> Self {
        Self { at, content: PublishedContent::DeadLetter(DeadLetter::read(&record.headers)) }
    }

    /// A description for people.
    pub(super) fn describe(&self) -> String {
        let known = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
        match &self.content {
            PublishedContent::Outcome(outcome, _) => {
                let (event, session) = (known(&outcome.event_id), known(&outcome.session_id));
                format!("outcome {} of {event} in {session}", outcome.status)
            }
            PublishedContent::DeadLetter(dead_letter) => {
                let source =
                    dead_letter.source().map_or_else(|| "?".to_owned(), |at| at.to_string());
                format!("dead letter {} of {source}", known(&dead_letter.class))
            }
            PublishedContent::Unreadable(error) => format!("unreadable outcome: {error}"),
        }
    }
}

/// The requested agents or group of one step of a cascade, and Desk's code.
pub(super) fn describe_tried(tried: &Tried) -> String {
    let requested = match &tried.target {
        Target::Named { agents, group } => {
            let group = group.map(|group| format!("group {group}"));
            agents.iter().cloned().chain(group).collect::<Vec<_>>().join(" or ")
        }
        Target::Default => "anybody".to_owned(),
    };
    match tried.code {
        Some(code) => format!("{requested} ({code})"),
        None => requested,
    }
}
