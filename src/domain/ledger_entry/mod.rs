//! What is remembered of one event, and what a claim, a parking, an answer and an
//! acknowledgement do to it.
//!
//! `apply` is the whole of it: the entry as it stands and a command give the entry as it shall
//! stand and the reply. Every ledger, the simulated one too, reads, applies and writes.
//! This file never changes an answer once given, and never lets a former owner change anything.

use std::sync::Arc;

use jiff::Timestamp;

use super::record::{Position, Record};
use super::wire::outcome::Message;

/// The history of a history that are kept from its beginning.
const FIRST_STEPS: usize = 8;
/// The history of a history that are kept from its end.
const LAST_STEPS: usize = 24;

/// "We are about to work on this": written before the first call of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The event's identity, or the record's position.
    pub key: Arc<str>,
    /// The session; a dead letter has none.
    pub session_id: Option<Arc<str>>,
    /// Where its record stands.
    pub source: Position,
    /// When it was first seen here.
    pub first_seen: Timestamp,
    /// Past this nothing is called any more.
    pub deadline: Option<Timestamp>,
    /// Now.
    pub at: Timestamp,
}

/// What is known of the record that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult {
    /// Nothing: it is new, and ours.
    Fresh,
    /// The same record was claimed before, by us or by an earlier owner; it is ours now.
    Resumed(PriorClaim),
    /// The same record has its answer.
    Settled {
        /// The answer, byte for byte.
        answer: Arc<Message>,
        /// The broker's acknowledgement was noted.
        published: bool,
        /// When it was settled.
        at: Timestamp,
    },
    /// Another record of this session bears the identity: that one is answered, this one is not.
    Duplicate,
    /// The identity belongs to another session.
    Conflict {
        /// The session that has it; none: a dead letter has it.
        session_id: Option<Arc<str>>,
    },
    /// What is known of it cannot be read: damaged, or written by a version that knows more.
    Unreadable {
        /// What to repair.
        why: String,
    },
}

/// What an earlier claim left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorClaim {
    /// What the course wanted remembered when it was last put away.
    pub memory: Option<String>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last claimed before this.
    pub claimed_at: Timestamp,
    /// It was put away cleanly until then. `None`: since `claimed_at` a call may be out.
    pub parked_until: Option<Timestamp>,
}

/// Something to be put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// When it is due again.
    pub until: Timestamp,
    /// What its course remembers: a JSON text, opaque here.
    pub memory: String,
    /// One short line for the history: why.
    pub note: String,
    /// The original, so that it can be worked on again after its offset is committed; `None`: Kafka
    /// delivers it again.
    pub record: Option<Record>,
}

/// How far an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryState {
    /// ClaimResult: a call may be out.
    Open,
    /// Put away; no call is out.
    Parked {
        /// When it is due again.
        until: Timestamp,
    },
    /// It has its answer.
    Settled {
        /// Since when.
        at: Timestamp,
    },
    /// Its answer is acknowledged by the broker.
    Published {
        /// When it was settled.
        settled_at: Timestamp,
        /// When the acknowledgement was noted.
        at: Timestamp,
        /// Where it stands, where that is known.
        place: Option<Position>,
    },
}

/// Everything that is remembered of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The session; a dead letter has none.
    pub session_id: Option<Arc<str>>,
    /// Where its record stands.
    pub source: Position,
    /// The record, once it was put away; dropped when published, or not loaded.
    pub record: Option<Record>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Past this nothing is called any more.
    pub deadline: Option<Timestamp>,
    /// Who claimed it last.
    pub owner: Arc<str>,
    /// When.
    pub claimed_at: Timestamp,
    /// Counts the changes, so that nobody overwrites what he has not read.
    pub version: i64,
    /// How far it is.
    pub state: EntryState,
    /// What its course wanted remembered.
    pub memory: Option<String>,
    /// Its final answer; or not loaded.
    pub answer: Option<Arc<Message>>,
    /// Its story.
    pub history: Vec<HistoryItem>,
}

/// An entry that still needs somebody, and that Kafka need not deliver again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredEntry {
    /// The event's identity, or the record's position.
    pub key: Arc<str>,
    /// The session; a dead letter has none.
    pub session_id: Option<Arc<str>>,
    /// The original.
    pub record: Record,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Past this nothing is called any more.
    pub deadline: Option<Timestamp>,
    /// When it was last claimed.
    pub claimed_at: Timestamp,
    /// How far it is: open, parked or settled.
    pub state: EntryState,
    /// What its course wanted remembered.
    pub memory: Option<String>,
    /// Its final answer, if it is settled.
    pub answer: Option<Arc<Message>>,
}

/// One step of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: HistoryKind,
    /// Who did it.
    pub owner: Arc<str>,
    /// One short line, perhaps empty.
    pub note: String,
}

/// What can happen to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// ClaimResult: calls may follow.
    Claimed,
    /// Put away.
    Parked,
    /// Answered.
    Settled,
    /// The answer is acknowledged.
    Published,
}

impl HistoryKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Claimed, Self::Parked, Self::Settled, Self::Published];

    /// The word for people and for the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Parked => "parked",
            Self::Settled => "settled",
            Self::Published => "published",
        }
    }
}

/// What is to be done to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerCommand {
    /// Begin or go on working on it.
    Claim(Box<Claim>),
    /// Put it away.
    Park(Parking),
    /// Its final answer.
    Settle {
        /// The answer.
        answer: Arc<Message>,
        /// When it was decided.
        at: Timestamp,
    },
    /// The broker has acknowledged the answer.
    Publish {
        /// Where it stands, where that is known.
        place: Option<Position>,
    },
}

/// What the one who did it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    /// To a claim.
    Claimed(ClaimResult),
    /// To anything else; false: it changed nothing.
    Done(bool),
}

/// Who does it, and when.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The instance.
    pub owner: &'a Arc<str>,
    /// Now.
    pub now: Timestamp,
}

/// The entry as it shall stand, `None` where it stays as it is, and the reply.
pub type Applied = (Option<LedgerEntry>, CommandResult);

/// Do it to the entry as it stands; `None`: there is no such entry.
pub fn apply(entry: Option<LedgerEntry>, command: &LedgerCommand, actor: Actor<'_>) -> Applied {
    match (command, entry) {
        (LedgerCommand::Claim(claim), entry) => {
            let claimed = judge_claim(entry.as_ref(), claim);
            (claim_entry(entry, claim, (&claimed, actor)), CommandResult::Claimed(claimed))
        }
        (_, None) => (None, CommandResult::Done(false)),
        (LedgerCommand::Park(parking), Some(entry)) => park(entry, parking, actor),
        (LedgerCommand::Settle { answer, at }, Some(entry)) => settle(entry, (answer, *at), actor),
        (LedgerCommand::Publish { place }, Some(entry)) => publish(entry, place.as_ref(), actor),
    }
}

/// What a claim finds.
pub fn judge_claim(entry: Option<&LedgerEntry>, claim: &Claim) -> ClaimResult {
    let Some(entry) = entry else { return ClaimResult::Fresh };
    if entry.session_id != claim.session_id {
        return ClaimResult::Conflict { session_id: entry.session_id.clone() };
    }
    if entry.source != claim.source {
        return ClaimResult::Duplicate;
    }
    let (published, at) = match &entry.state {
        EntryState::Open => return ClaimResult::Resumed(resumed(entry, None)),
        EntryState::Parked { until } => return ClaimResult::Resumed(resumed(entry, Some(*until))),
        EntryState::Settled { at } => (false, *at),
        EntryState::Published { settled_at, .. } => (true, *settled_at),
    };
    let answer = entry.answer.clone().expect("a settled entry is loaded with its answer");
    ClaimResult::Settled { answer, published, at }
}

fn resumed(entry: &LedgerEntry, parked_until: Option<Timestamp>) -> PriorClaim {
    PriorClaim {
        memory: entry.memory.clone(),
        first_seen: entry.first_seen,
        claimed_at: entry.claimed_at,
        parked_until,
    }
}

fn claim_entry(
    entry: Option<LedgerEntry>,
    claim: &Claim,
    (claimed, actor): (&ClaimResult, Actor<'_>),
) -> Option<LedgerEntry> {
    let now = Actor { now: claim.at, ..actor };
    match (claimed, entry) {
        (ClaimResult::Fresh, _) => {
            Some(step(fresh(claim, actor.owner), (HistoryKind::Claimed, ""), now))
        }
        (ClaimResult::Resumed(_), Some(entry)) => {
            let owner = actor.owner.clone();
            let note = if entry.owner == owner { "" } else { "taken over" };
            let state = EntryState::Open;
            let entry = LedgerEntry { owner, claimed_at: claim.at, state, ..entry };
            Some(step(entry, (HistoryKind::Claimed, note), now))
        }
        _ => None,
    }
}

fn fresh(claim: &Claim, owner: &Arc<str>) -> LedgerEntry {
    LedgerEntry {
        session_id: claim.session_id.clone(),
        source: claim.source.clone(),
        record: None,
        first_seen: claim.first_seen,
        deadline: claim.deadline,
        owner: owner.clone(),
        claimed_at: claim.at,
        version: 0,
        state: EntryState::Open,
        memory: None,
        answer: None,
        history: vec![],
    }
}

/// Not answered yet, and claimed by this owner last.
fn is_ours(entry: &LedgerEntry, actor: Actor<'_>) -> bool {
    let unanswered = matches!(entry.state, EntryState::Open | EntryState::Parked { .. });
    unanswered && entry.owner == *actor.owner
}

fn park(entry: LedgerEntry, parking: &Parking, actor: Actor<'_>) -> Applied {
    if !is_ours(&entry, actor) {
        return (None, CommandResult::Done(false));
    }
    let memory = Some(parking.memory.clone());
    let state = EntryState::Parked { until: parking.until };
    let record = parking.record.clone().or(entry.record);
    let parked = LedgerEntry { memory, state, record, ..entry };
    let note = format!("until {}; {}", parking.until, parking.note);
    (Some(step(parked, (HistoryKind::Parked, &note), actor)), CommandResult::Done(true))
}

fn settle(
    entry: LedgerEntry,
    (answer, at): (&Arc<Message>, Timestamp),
    actor: Actor<'_>,
) -> Applied {
    if !is_ours(&entry, actor) {
        return (None, CommandResult::Done(false));
    }
    let settled =
        LedgerEntry { answer: Some(answer.clone()), state: EntryState::Settled { at }, ..entry };
    let actor = Actor { now: at, ..actor };
    (Some(step(settled, (HistoryKind::Settled, answer.label()), actor)), CommandResult::Done(true))
}

/// A fact about the broker: whoever learns it may note it.
fn publish(entry: LedgerEntry, place: Option<&Position>, actor: Actor<'_>) -> Applied {
    let EntryState::Settled { at: settled_at } = entry.state else {
        return (None, CommandResult::Done(false));
    };
    let state = EntryState::Published { settled_at, at: actor.now, place: place.cloned() };
    let published = LedgerEntry { state, record: None, ..entry };
    let note = place.map(ToString::to_string).unwrap_or_default();
    (Some(step(published, (HistoryKind::Published, &note), actor)), CommandResult::Done(true))
}

/// The same entry, changed once more.
fn step(
    mut entry: LedgerEntry,
    (what, note): (HistoryKind, &str),
    actor: Actor<'_>,
) -> LedgerEntry {
    entry.version += 1;
    let owner = actor.owner.clone();
    append_history(
        &mut entry.history,
        HistoryItem { at: actor.now, what, owner, note: note.to_owned() },
    );
    entry
}

/// One more step of a story; of a long one the beginning and the end are kept.
pub fn append_history(history: &mut Vec<HistoryItem>, step: HistoryItem) {
    if history.len() >= FIRST_STEPS + LAST_STEPS {
        history.remove(FIRST_STEPS);
    }
    history.push(step);
}

impl LedgerEntry {
    /// It has its answer.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, EntryState::Settled { .. } | EntryState::Published { .. })
    }

    /// As the next owner needs it; `None`: it needs nobody any more, or Kafka delivers it again.
    pub fn recover(self, key: Arc<str>) -> Option<RecoveredEntry> {
        let Self { session_id, record, first_seen, deadline, claimed_at, .. } = self;
        if matches!(self.state, EntryState::Published { .. }) {
            return None;
        }
        let (state, memory, answer) = (self.state, self.memory, self.answer);
        let record = record?;
        Some(RecoveredEntry {
            key,
            session_id,
            record,
            first_seen,
            deadline,
            claimed_at,
            state,
            memory,
            answer,
        })
    }
}

#[cfg(test)]
mod tests;
