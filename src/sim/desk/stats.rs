//! The statistics of the simulated Desk, for tests, benchmarks and people.
//!
//! These are plain values that are also served as JSON, so that tests in any language can read
//! them. They contain no URL, because the UserSig is a parameter of the URL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The commands of the API, as far as the simulated Desk distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiCommand {
    /// `transfer_to_human`
    Transfer,
    /// `get_session_state`
    State,
    /// `end_session`
    End,
    /// Any other; refused.
    Other,
}

impl ApiCommand {
    pub(super) const ALL: [Self; 4] = [Self::Transfer, Self::State, Self::End, Self::Other];

    pub(super) fn of_path(name: &str) -> Self {
        match name {
            "transfer_to_human" => Self::Transfer,
            "get_session_state" => Self::State,
            "end_session" => Self::End,
            _ => Self::Other,
        }
    }
}

/// Counts since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeskStats {
    /// Time since then, in milliseconds.
    pub uptime_ms: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Calls that an outage cut before they were read; they are counted nowhere else.
    pub calls_cut_by_outage: u64,
    /// Calls of all commands.
    pub calls: u64,
    /// Calls in flight.
    pub in_flight: u32,
    /// Maximum number of calls in flight at once.
    pub max_in_flight: u32,
    /// Transfers that moved a session to an agent or into the queue.
    pub transfers_acted: u64,
    /// Sessions that were transferred more than once.
    pub transferred_again: u64,
    /// Calls that began while another call of the same session was in flight.
    pub overlapping_calls: u64,
    /// Maximum number of calls of one session in flight at once.
    pub max_overlap: u32,
    /// Calls whose `random` had been used before; some are expected by chance (1 in 100,000 calls).
    pub duplicate_randoms: u64,
    /// Sessions stored.
    pub sessions: u64,
    /// Sessions removed because there were too many.
    pub forgotten_sessions: u64,
    /// Times that Desk itself sent a user the tip that no agent is online.
    pub tips_sent: u64,
    /// By command.
    pub commands: BTreeMap<ApiCommand, CommandStats>,
    /// The most recent requests, oldest first.
    pub last_requests: Vec<SeenRequest>,
}

impl DeskStats {
    /// The counts of one command; all zero if it was never called.
    pub fn of(&self, command: ApiCommand) -> CommandStats {
        self.commands.get(&command).cloned().unwrap_or_default()
    }

    /// How often a command was answered with this code.
    pub fn code(&self, command: ApiCommand, code: i64) -> u64 {
        self.of(command).codes.get(&code).copied().unwrap_or(0)
    }
}

/// The counts of one command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandStats {
    /// Calls, in flight or ended.
    pub calls: u64,
    /// Answers by `ErrorCode`.
    pub codes: BTreeMap<i64, u64>,
    /// Answers without a code, by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls without an answer: cut, or given up by the client.
    pub unanswered: u64,
    /// Total time of the ended calls from arrival to answer, in microseconds.
    #[serde(default)]
    pub took_us: u64,
    /// Maximum number of calls in one whole second since the start.
    pub max_per_second: u64,
    /// Calls by second since the start, for the last hour.
    pub per_second: Vec<SecondCount>,
}

/// The calls of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondCount {
    /// Whole seconds since the start.
    pub second: u64,
    /// Calls that began in this second.
    pub calls: u64,
}

/// A call in the log of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Its number among all calls of this Desk.
    pub seq: u64,
    /// The command.
    pub command: ApiCommand,
    /// When it began, in nanoseconds since the start.
    pub began_ns: u64,
    /// When it ended; absent while in flight.
    pub ended_ns: Option<u64>,
    /// The code of the answer; absent while in flight and without an answer.
    pub code: Option<i64>,
}

/// A recent request, without its URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenRequest {
    /// Its number among all calls of this Desk.
    pub seq: u64,
    /// The command.
    pub command: ApiCommand,
    /// When it began, in nanoseconds since the start.
    pub began_ns: u64,
    /// The JSON body.
    pub body: Value,
}
