//! What the ledger stores of one event, and the rules by which it changes.
//!
//! [`apply`] holds all of these rules: it takes the entry as it is and a [`LedgerCommand`], and
//! returns the changed entry and the result. Every ledger, the simulated one too, only reads,
//! calls [`apply`] and writes.
//!
//! Invariants: an answer never changes once it is stored, and an instance that lost an event
//! to another owner can change nothing of it any more.

mod command;
mod identity;
mod json;
pub mod key;
mod operator;
mod words;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::command::{
    Actor, Applied, Claim, ClaimResult, CommandResult, LedgerCommand, Park, PriorClaim,
    RecordOrigin, Settle, WakeSession, WriteResult, apply,
};
pub use self::identity::{StoredDeadLetter, StoredIdentities, StoredIdentity};
pub use self::json::{entry_json, outcome_of, snapshot_of, unreadable_parts};
pub use self::operator::{
    GivenUp, OperatorAct, OperatorRefusal, OperatorResult, just_before, operate,
};
pub use self::words::{operator_words, parse_operator_line, state_text};
use super::record::{Position, Record};
use super::wire::Message;

/// Items that a history keeps from its beginning.
const FIRST_ITEMS: usize = 8;
/// Items that a history keeps from its end.
const LAST_ITEMS: usize = 24;

/// Everything the ledger stores of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The session; `None` for a dead letter.
    pub session_id: Option<Arc<str>>,
    /// The position of its record in the escalations topic.
    pub source: Position,
    /// The timestamp of its record: a topic that is created again has others at its positions.
    pub recorded_at: Option<Timestamp>,
    /// The record itself: stored when the event is parked, dropped when its answer is published.
    /// `None` also where the ledger did not load it.
    pub record: Option<Record>,
    /// When an instance read the record for the first time.
    pub first_seen: Timestamp,
    /// After this time no transfer is requested; `None` for a dead letter. Only an operator who
    /// gives the event up moves it.
    pub deadline: Option<Timestamp>,
    /// The instance that claimed it last.
    pub owner: Arc<str>,
    /// When that instance claimed it.
    pub claimed_at: Timestamp,
    /// Counts the changes. A ledger writes a version only over the one before it, so that no
    /// instance overwrites a change that it has not read.
    pub version: i64,
    /// How far the event is.
    pub state: EntryState,
    /// The course's snapshot when the event was last parked: JSON, opaque here.
    pub snapshot: Option<String>,
    /// The final answer; `None` also where the ledger did not load it.
    pub answer: Option<Arc<Message>>,
    /// What happened to the entry, oldest first, bounded by [`append_history`].
    pub history: Vec<HistoryItem>,
}

/// How far an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryState {
    /// Claimed: a call may be in flight.
    Open {
        /// Where its record was read. One that Kafka delivered comes back from there after a crash,
        /// behind the events ahead of it, even if the ledger has its record from an earlier park.
        origin: RecordOrigin,
    },
    /// Waits for its next attempt; no call is in flight.
    Parked {
        /// When it is due by itself; its deadline at the latest.
        until: Timestamp,
        /// What it waits for.
        waits_for: WaitsFor,
    },
    /// Its answer is stored, and perhaps published.
    Settled {
        /// When the answer was decided.
        at: Timestamp,
    },
    /// The broker has acknowledged its answer.
    Published {
        /// When the answer was decided.
        settled_at: Timestamp,
        /// When the acknowledgement was stored.
        at: Timestamp,
        /// The position of the answer, where it is known.
        position: Option<Position>,
    },
}

/// What a parked event waits for, apart from its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsFor {
    /// The time at which it is due.
    Time,
    /// The answers to the events ahead of it in its session: [`WakeSession`] makes it due.
    Session,
    /// An agent for its plan: the events of one waiting room are retried one by one.
    Agent(RoomName),
    /// Its record: the event was released without it, and Kafka delivers it again.
    Redelivery,
}

/// The words for it in the database and in `handoff events show`; a room has a prefix, so that no
/// name of one can be mistaken for another word.
impl fmt::Display for WaitsFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => formatter.write_str("time"),
            Self::Session => formatter.write_str("session"),
            Self::Agent(room) => write!(formatter, "agent:{room}"),
            Self::Redelivery => formatter.write_str("redelivery"),
        }
    }
}

/// The name of a waiting room: the targets of its plan in words, and their hash.
pub type RoomName = Arc<str>;

impl EntryState {
    /// What the event waits for; `None` where it is not parked.
    pub fn waits_for(&self) -> Option<&WaitsFor> {
        match self {
            Self::Parked { waits_for, .. } => Some(waits_for),
            _ => None,
        }
    }

    /// The word for it in the database and in `handoff events show`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Parked { .. } => "parked",
            Self::Settled { .. } => "settled",
            Self::Published { .. } => "published",
        }
    }
}

/// An unfinished event whose offset may be committed, so that only the ledger can give it back to
/// the next owner of its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredEntry {
    /// Its key.
    pub key: Arc<str>,
    /// The session under which it was first claimed; `None` for a dead letter.
    pub session_id: Option<Arc<str>>,
    /// The original record.
    pub record: Record,
    /// When an instance read the record for the first time.
    pub first_seen: Timestamp,
    /// Its deadline when it was first claimed: a time to live that has changed since does not move it.
    /// `None` for a dead letter.
    pub deadline: Option<Timestamp>,
    /// How far it is; never published.
    pub state: EntryState,
    /// The version that was read; for [`Claim::expected_version`].
    pub version: i64,
}

impl RecoveredEntry {
    /// Whether it is past its deadline, so that no call will be made.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// One item of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: HistoryKind,
    /// The instance or operator that did it.
    pub owner: Arc<str>,
    /// One short line, empty where there is nothing to add.
    pub note: String,
}

/// What can happen to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// An instance claimed it; calls may follow.
    Claimed,
    /// It was parked, or released.
    Parked,
    /// Its answer was stored.
    Settled,
    /// The broker acknowledged its answer.
    Published,
    /// An operator made it due.
    Retried,
    /// An operator gave it up.
    GivenUp,
}

impl HistoryKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Claimed, Self::Parked, Self::Settled, Self::Published, Self::Retried, Self::GivenUp];

    /// The word for it in the database and in `handoff events show`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Parked => "parked",
            Self::Settled => "settled",
            Self::Published => "published",
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether an operator did it, and not an instance of the service.
    pub fn is_by_operator(self) -> bool {
        matches!(self, Self::Retried | Self::GivenUp)
    }
}

/// Appends one item. An event that is retried for hours would grow without end, so a long history
/// keeps only its first 8 and its last 24 items, and always that it was given up: see
/// [`LedgerEntry::given_up`].
pub fn append_history(history: &mut Vec<HistoryItem>, item: HistoryItem) {
    if history.len() >= FIRST_ITEMS + LAST_ITEMS {
        let middle = history.iter().skip(FIRST_ITEMS);
        let kept = middle.take_while(|item| item.kind == HistoryKind::GivenUp).count();
        history.remove(FIRST_ITEMS + kept);
    }
    history.push(item);
}

impl LedgerEntry {
    /// Whether the final answer is stored.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, EntryState::Settled { .. } | EntryState::Published { .. })
    }

    /// The entry of this key as the next owner of its partition needs it; `None` where it is finished,
    /// or where the record is not stored.
    pub fn recover(self, key: Arc<str>) -> Option<RecoveredEntry> {
        if matches!(self.state, EntryState::Published { .. }) {
            return None;
        }
        let Self { session_id, record, first_seen, deadline, state, version, .. } = self;
        let record = record?;
        Some(RecoveredEntry { key, session_id, record, first_seen, deadline, state, version })
    }
}

#[cfg(test)]
mod tests;
