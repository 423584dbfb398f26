//! The JSON of `/status` (schemas/status.schema.json), as far as it is shown.
//!
//! Unknown fields are ignored, so that a newer service can say more. What a reader could misunderstand
//! has another format number, and is refused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// The format that is read.
const FORMAT: u32 = 1;

/// What one instance says about itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenStatus {
    /// Ages are counted from here, not from the clock of this host.
    pub(super) as_of: Timestamp,
    /// `instance` or `group`, per section.
    pub(super) covers: BTreeMap<String, String>,
    pub(super) service: SeenService,
    pub(super) headline: SeenHeadline,
    pub(super) ready: bool,
    pub(super) not_ready: Vec<String>,
    pub(super) gate: SeenGate,
    pub(super) now: SeenNow,
    pub(super) last_hour: SeenHour,
    pub(super) desk: SeenDesk,
    pub(super) history: SeenHistory,
    pub(super) routes: Vec<SeenRoute>,
    pub(super) rooms: Vec<SeenRoom>,
    pub(super) partitions: Vec<SeenPartition>,
    pub(super) unfinished_events: Vec<SeenEvent>,
    pub(super) last_outcomes: Vec<SeenOutcome>,
    pub(super) dead_letters: Vec<SeenDeadLetter>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenService {
    pub(super) version: String,
    pub(super) started_at: Timestamp,
    pub(super) instance: String,
    pub(super) group_id: String,
    pub(super) ledger: String,
    pub(super) partitions: u64,
    pub(super) partitions_in_all: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SeenLevel {
    Well,
    Warning,
    Critical,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenHeadline {
    pub(super) level: SeenLevel,
    pub(super) what: String,
    pub(super) since: Option<Timestamp>,
    pub(super) cost: Option<String>,
    pub(super) repair: Option<String>,
    pub(super) next_probe_at: Option<Timestamp>,
    pub(super) first_deadline_at: Option<Timestamp>,
    pub(super) waiting: u64,
    pub(super) last_answer_at: Option<Timestamp>,
    pub(super) runbook: Option<String>,
    pub(super) also: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenGate {
    pub(super) state: String,
    pub(super) reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenNow {
    pub(super) unfinished: u64,
    pub(super) by_problem: BTreeMap<String, u64>,
    pub(super) oldest_received_at: Option<Timestamp>,
    pub(super) lag: Option<SeenCount>,
    pub(super) dead_letters_last_hour: u64,
    pub(super) intake: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenHour {
    pub(super) assigned: u64,
    pub(super) queued: u64,
    pub(super) no_agent_online: u64,
    pub(super) rejected: u64,
    pub(super) expired: u64,
    pub(super) failed: u64,
    pub(super) decided_in_ms: SeenPercentiles,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct SeenPercentiles {
    pub(super) p50: Option<u64>,
    pub(super) p95: Option<u64>,
    #[serde(default)]
    pub(super) p99: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenDesk {
    pub(super) calls_per_second: f64,
    pub(super) limit_per_second: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) concurrency: u64,
    pub(super) latency_ms: SeenPercentiles,
    pub(super) throttled_percent: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenHistory {
    pub(super) step_s: u64,
    pub(super) answered: Vec<u64>,
    pub(super) unfinished: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenRoute {
    pub(super) name: Option<String>,
    pub(super) waiting: u64,
    pub(super) longest_wait_since: Option<Timestamp>,
    pub(super) assigned: u64,
    pub(super) queued: u64,
    pub(super) no_agent_online: u64,
    pub(super) other: u64,
    pub(super) first_target: Option<f64>,
    pub(super) trend: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenRoom {
    pub(super) name: String,
    pub(super) waiting: Option<u64>,
    pub(super) oldest_received_at: Timestamp,
    pub(super) next_probe_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenPartition {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) lag: Option<SeenCount>,
    pub(super) unfinished: u64,
    pub(super) oldest_received_at: Option<Timestamp>,
    pub(super) blocked: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenEvent {
    pub(super) event: String,
    pub(super) session: String,
    pub(super) problem: String,
    pub(super) received_at: Timestamp,
    pub(super) deadline_at: Option<Timestamp>,
    pub(super) route: Option<String>,
    pub(super) attempts: u64,
    pub(super) last: Option<String>,
    pub(super) next: String,
    pub(super) next_at: Option<Timestamp>,
    pub(super) record: SeenRecord,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenOutcome {
    pub(super) event: String,
    pub(super) session: String,
    pub(super) status: String,
    pub(super) route: Option<String>,
    pub(super) attempts: u64,
    pub(super) code: Option<i64>,
    pub(super) agent: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) elapsed_ms: u64,
    pub(super) decided_at: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenDeadLetter {
    pub(super) record: SeenRecord,
    pub(super) class: String,
    pub(super) error: String,
    pub(super) at: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SeenRecord {
    topic: String,
    partition: i32,
    offset: SeenCount,
}

/// A number that is written as text beyond 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenCount")]
pub(super) struct SeenCount(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenCount {
    Number(u64),
    Text(String),
}

impl TryFrom<WrittenCount> for SeenCount {
    type Error = std::num::ParseIntError;

    fn try_from(written: WrittenCount) -> Result<Self, Self::Error> {
        Ok(Self(match written {
            WrittenCount::Number(number) => number,
            WrittenCount::Text(text) => text.parse()?,
        }))
    }
}

impl std::fmt::Display for SeenRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset.0)
    }
}

/// Reads the answer of an instance; the error says what is wrong with it, in words.
pub(super) fn parse_status(body: &[u8]) -> Result<SeenStatus, String> {
    #[derive(Deserialize)]
    struct FormatNumber {
        format: u32,
    }
    let format = serde_json::from_slice::<FormatNumber>(body);
    let format =
        format.map_err(|_| "what answers there is not handoff's /status".to_owned())?.format;
    if format != FORMAT {
        return Err(format!(
            "its /status has the format {format}, and this program reads {FORMAT}: use the one of the \
             same version"
        ));
    }
    serde_json::from_slice(body).map_err(|error| format!("its /status cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../../tests/fixtures/status/busy.json");

    #[test]
    fn unknown_fields_are_ignored_and_large_numbers_exact() {
        let mut value: Value = serde_json::from_slice(SAMPLE).unwrap();
        value["later"] = json!({"a": 1});
        value["now"]["by_problem"]["asleep"] = json!(3);
        let status = parse_status(value.to_string().as_bytes()).unwrap();
        assert_eq!(status.now.lag, Some(SeenCount(9_007_199_254_742_623)));
        assert_eq!(status.now.by_problem["asleep"], 3);
        assert_eq!(status.headline.level, SeenLevel::Critical);
    }

    #[test]
    fn what_cannot_be_read_is_said_in_words() {
        let error = |body: &[u8]| parse_status(body).unwrap_err();
        assert_eq!(error(b"<html>"), "what answers there is not handoff's /status");
        assert!(error(b"{\"format\":2}").contains("format 2"));
        assert!(error(b"{\"format\":1}").contains("missing field"));
    }
}
