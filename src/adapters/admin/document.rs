//! The document of `/status`: schemas/status.schema.json describes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::headline::Headline;
use super::reply::ExactNumber;
use crate::domain::problem::Problem;
use crate::domain::record::Position;

/// The version of the document.
pub(super) const FORMAT: u32 = 1;

/// The document without `as_of`, so that two of them are equal if nothing has happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StatusDocument {
    pub(super) format: u32,
    pub(super) covers: BTreeMap<&'static str, &'static str>,
    pub(super) service: ServiceStatus,
    pub(super) headline: Headline,
    pub(super) healthy: bool,
    pub(super) ready: bool,
    pub(super) not_ready: Vec<String>,
    pub(super) gate: GateJson,
    pub(super) now: NowCounts,
    pub(super) last_hour: LastHour,
    pub(super) desk: DeskCalls,
    pub(super) history: HistoryJson,
    pub(super) routes: Vec<RouteStatus>,
    pub(super) rooms: Vec<RoomJson>,
    pub(super) partitions: Vec<PartitionJson>,
    pub(super) unfinished_events: Vec<UnfinishedJson>,
    pub(super) last_outcomes: Vec<LastOutcome>,
    pub(super) dead_letters: Vec<DeadLetterJson>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ServiceStatus {
    pub(super) version: &'static str,
    pub(super) revision: Option<&'static str>,
    pub(super) started_at: Timestamp,
    pub(super) instance: String,
    pub(super) group_id: String,
    pub(super) topics: Vec<String>,
    pub(super) outcome_topic: String,
    pub(super) dead_letter_topic: String,
    pub(super) ledger: &'static str,
    pub(super) partitions: usize,
    pub(super) partitions_in_all: Option<usize>,
    pub(super) show_ids: bool,
    pub(super) actions: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct GateJson {
    pub(super) state: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) repair: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) next_probe_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct NowCounts {
    pub(super) unfinished: u64,
    pub(super) by_problem: BTreeMap<&'static str, u64>,
    pub(super) oldest_received_at: Option<Timestamp>,
    pub(super) first_deadline_at: Option<Timestamp>,
    pub(super) parked: ParkedJson,
    pub(super) sessions: u64,
    pub(super) unacknowledged: u64,
    pub(super) lag: Option<ExactNumber>,
    pub(super) dead_letters_last_hour: u64,
    pub(super) intake: &'static str,
}

/// Parked events by what they wait for.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct ParkedJson {
    pub(super) retry: u64,
    pub(super) session: u64,
    pub(super) nobody_online: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LastHour {
    pub(super) since: Timestamp,
    #[serde(flatten)]
    pub(super) by_status: BTreeMap<&'static str, u64>,
    pub(super) decided_in_ms: DecisionTimes,
}

/// Milliseconds that these parts do not exceed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DecisionTimes {
    pub(super) p50: Option<u64>,
    pub(super) p95: Option<u64>,
    pub(super) p99: Option<u64>,
}

/// The same of calls.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CallTimes {
    pub(super) p50: Option<u64>,
    pub(super) p95: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DeskCalls {
    pub(super) calls_per_second: f64,
    pub(super) limit_per_second: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) concurrency: usize,
    pub(super) latency_ms: CallTimes,
    pub(super) throttled_percent: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct HistoryJson {
    pub(super) step_s: u64,
    pub(super) until: Timestamp,
    pub(super) answered: Vec<u32>,
    pub(super) calls: Vec<u32>,
    pub(super) unfinished: Vec<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct RouteStatus {
    pub(super) name: Option<String>,
    pub(super) waiting: u64,
    pub(super) longest_wait_since: Option<Timestamp>,
    pub(super) assigned: u64,
    pub(super) queued: u64,
    pub(super) no_agent_online: u64,
    pub(super) other: u64,
    pub(super) first_target: Option<f64>,
    pub(super) trend: [u64; 12],
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct RoomJson {
    pub(super) name: String,
    pub(super) waiting: Option<u64>,
    pub(super) oldest_received_at: Timestamp,
    pub(super) next_probe_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct PartitionJson {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) lag: Option<ExactNumber>,
    pub(super) unfinished: u64,
    pub(super) oldest_received_at: Option<Timestamp>,
    pub(super) blocked: bool,
}

/// An unfinished event.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnfinishedJson {
    pub(super) event: String,
    pub(super) session: String,
    #[serde(serialize_with = "word")]
    pub(super) problem: Problem,
    pub(super) received_at: Timestamp,
    pub(super) deadline_at: Option<Timestamp>,
    pub(super) route: Option<String>,
    pub(super) attempts: u32,
    pub(super) last: Option<String>,
    pub(super) next: &'static str,
    pub(super) next_at: Option<Timestamp>,
    pub(super) record: RecordJson,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LastOutcome {
    pub(super) event: String,
    pub(super) session: String,
    pub(super) status: &'static str,
    pub(super) route: Option<String>,
    pub(super) attempts: u32,
    pub(super) code: Option<i64>,
    pub(super) agent: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) elapsed_ms: u64,
    pub(super) decided_at: Timestamp,
    pub(super) record: RecordJson,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DeadLetterJson {
    pub(super) record: RecordJson,
    pub(super) class: &'static str,
    pub(super) error: String,
    pub(super) at: Timestamp,
}

/// The position of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RecordJson {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: ExactNumber,
}

impl From<&Position> for RecordJson {
    fn from(position: &Position) -> Self {
        let Position { topic, partition, offset } = position;
        let offset = ExactNumber(u64::try_from(*offset).unwrap_or(0));
        Self { topic: topic.to_string(), partition: *partition, offset }
    }
}

fn word<S: serde::Serializer>(problem: &Problem, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(problem.as_str())
}
