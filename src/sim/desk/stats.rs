//! What the simulated Desk has seen, as tests, benchmarks and people read it.
//!
//! These are plain values that also travel as JSON, so that a test in any language can read them.
//! A URL is never among them, because the UserSig travels in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The commands that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// `transfer_to_human`
    Transfer,
    /// `get_session_state`
    State,
    /// `end_session`
    End,
    /// Anything else, which is refused.
    Other,
}

impl Command {
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

/// Everything counted since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How long that is, in milliseconds.
    pub uptime_ms: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Calls that an outage cut before they were looked at; they are counted nowhere else.
    pub calls_cut_by_outage: u64,
    /// Calls of all commands.
    pub calls: u64,
    /// Calls under way now.
    pub in_flight: u32,
    /// The most calls that were under way at once.
    pub max_in_flight: u32,
    /// Transfers that really moved a session to a human or into the queue.
    pub transfers_acted: u64,
    /// Sessions that were moved so more than once.
    pub transferred_again: u64,
    /// Calls that began while another call of the same session was under way.
    pub overlapping_calls: u64,
    /// The most calls of one session that were under way at once.
    pub max_overlap: u32,
    /// Calls whose `random` had been seen before; chance alone makes a few in 100,000.
    pub duplicate_randoms: u64,
    /// Sessions known.
    pub sessions: u64,
    /// Sessions forgotten because there were too many.
    pub forgotten_sessions: u64,
    /// Times that Desk itself told a user that nobody is online.
    pub tips_sent: u64,
    /// By command.
    pub commands: BTreeMap<Command, CommandStats>,
    /// The last requests, oldest first.
    pub last_requests: Vec<SeenRequest>,
}

impl Stats {
    /// The counts of one command; all zero when it was never called.
    pub fn of(&self, command: Command) -> CommandStats {
        self.commands.get(&command).cloned().unwrap_or_default()
    }

    /// How often one command was answered with this code.
    pub fn code(&self, command: Command, code: i64) -> u64 {
        self.of(command).codes.get(&code).copied().unwrap_or(0)
    }
}

/// The counts of one command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandStats {
    /// Calls begun.
    pub calls: u64,
    /// Answers by `ErrorCode`.
    pub codes: BTreeMap<i64, u64>,
    /// Answers that carried no code, by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls that got no answer: closed, hung up on, or left by the client.
    pub unanswered: u64,
    /// How long the calls that ended took altogether, from their arrival to their answer.
    #[serde(default)]
    pub took_us: u64,
    /// The most calls in one second of the clock.
    pub max_per_second: u64,
    /// Calls by second since the start, the last hour only.
    pub per_second: Vec<SecondCount>,
}

/// The calls of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondCount {
    /// Whole seconds since the start.
    pub second: u64,
    /// Calls begun in it.
    pub calls: u64,
}

/// One call of a session, in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Its place among all calls of this Desk.
    pub seq: u64,
    /// What was called.
    pub command: Command,
    /// When it began, in nanoseconds since the start.
    pub began_ns: u64,
    /// When it ended; absent while it is under way.
    pub ended_ns: Option<u64>,
    /// What came back; absent while under way, and without an answer.
    pub code: Option<i64>,
}

/// One request, as far as it may be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenRequest {
    /// Its place among all calls of this Desk.
    pub seq: u64,
    /// What was called.
    pub command: Command,
    /// When it began, in nanoseconds since the start.
    pub began_ns: u64,
    /// The JSON body.
    pub body: Value,
}
