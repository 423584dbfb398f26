//! The commands that change an entry, and what each of them does: [`apply`].

use std::sync::Arc;

use jiff::Timestamp;

use super::{EntryState, GivenUp, HistoryItem, HistoryKind, LedgerEntry, WaitsFor, append_history};
use crate::domain::record::{Position, Record};
use crate::domain::wire::Message;

/// A change to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerCommand {
    /// Start or continue to work on the event.
    Claim(Box<Claim>),
    /// Store it until its next attempt, or release it.
    Park(Park),
    /// Store its final answer.
    Settle(Settle),
    /// Store that the broker acknowledged the answer.
    Publish {
        /// The position of the answer, where it is known.
        position: Option<Position>,
    },
}

/// Takes ownership of an event and records the intent to call, before the first call of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The entry's key, see [`key`](super::key).
    pub key: Arc<str>,
    /// The session; `None` for a dead letter.
    pub session_id: Option<Arc<str>>,
    /// The position of the record.
    pub source: Position,
    /// The timestamp of the record: a topic that is created again has others at its positions.
    pub recorded_at: Option<Timestamp>,
    /// When an instance read the record for the first time.
    pub first_seen: Timestamp,
    /// After this time no transfer is requested; `None` for a dead letter.
    pub deadline: Option<Timestamp>,
    /// The current time.
    pub at: Timestamp,
    /// Where the record was read.
    pub origin: RecordOrigin,
    /// The version in which the entry was read, for an event that came from the ledger. An entry that
    /// has changed since is not claimed: it may be parked for later by now, or have another owner.
    pub expected_version: Option<i64>,
}

/// Where the record of an event was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOrigin {
    /// In the escalations topic.
    Kafka,
    /// In the ledger: the event was parked, or its previous owner left it unfinished.
    Ledger,
}

/// Stores a final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The answer.
    pub answer: Arc<Message>,
    /// When it was decided.
    pub at: Timestamp,
    /// The parked events of the session that the answer may make due, in the same transaction:
    /// after a crash in between, nobody would know that they are due. Only where another program has
    /// locked such an event, it is made due after the lock.
    pub wake: Option<WakeSession>,
}

/// Makes the first parked event of a session due, if it [waits for its session](WaitsFor::Session).
///
/// It is then parked until a time before its deadline, even if it is woken after that: this tells it
/// from one that nobody has woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeSession {
    /// The session.
    pub session_id: Arc<str>,
    /// The topic of the escalations.
    pub topic: Arc<str>,
    /// The partition of the events.
    pub partition: i32,
    /// The offset of the session's next event in memory: parked events behind it stay parked.
    pub before_offset: Option<i64>,
}

/// Stores an event until its next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Park {
    /// When the event is due.
    pub until: Timestamp,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// The course's snapshot: JSON, opaque here.
    pub snapshot: String,
    /// Why it is parked: one short line for the history.
    pub note: String,
    /// The record, so that its offset may be committed; `None` where Kafka delivers it again.
    pub record: Option<Record>,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    /// Of a claim.
    Claim(ClaimResult),
    /// Of every other command.
    Write(WriteResult),
}

/// What the ledger knows of a record that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult {
    /// Nothing: the event is new, and now ours.
    Fresh,
    /// The same record was claimed before, by this or a previous owner; it is ours now.
    Resumed(PriorClaim),
    /// The event is parked with its record: it needs no other delivery of the record. Nothing has
    /// changed.
    Parked {
        /// When it is due.
        until: Timestamp,
        /// What it waits for.
        waits_for: WaitsFor,
    },
    /// The entry is not in the [expected version](Claim::expected_version). Nothing has changed.
    Changed,
    /// The answer to this record is stored.
    Settled {
        /// The answer, byte for byte.
        answer: Arc<Message>,
        /// Whether the broker's acknowledgement is stored.
        published: bool,
        /// When the answer was decided.
        at: Timestamp,
    },
    /// Another record of the same session has this id: only that one is answered.
    Duplicate {
        /// That record.
        first: Position,
        /// When its answer was decided; `None` while it is unfinished.
        answered_at: Option<Timestamp>,
    },
    /// The id belongs to another session.
    Conflict {
        /// That session; `None` where the id belongs to a dead letter.
        session_id: Option<Arc<str>>,
    },
    /// The entry cannot be read: it is damaged, or a newer version wrote it.
    Unreadable {
        /// What an operator has to repair.
        why: String,
    },
}

/// The last claim before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorClaim {
    /// The course's snapshot when the event was last parked.
    pub snapshot: Option<String>,
    /// When an instance read the record for the first time.
    pub first_seen: Timestamp,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When the parked event is due. `None`: it is not parked, and a call may be in flight since
    /// `claimed_at`.
    pub parked_until: Option<Timestamp>,
    /// Whether an operator may have made the parked event due before its time.
    pub is_early: bool,
    /// Whether an operator has given the event up.
    pub given_up: Option<GivenUp>,
}

/// Whether the ledger accepted a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// The change is stored.
    Done,
    /// Nothing changed: the entry is settled, belongs to another owner, or does not exist.
    Refused,
}

impl WriteResult {
    /// Whether the change is stored.
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

/// The instance that sends a command, or an operator, and the current time.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The instance.
    pub owner: &'a Arc<str>,
    /// The current time.
    pub now: Timestamp,
}

/// What a command does.
#[derive(Debug)]
pub struct Applied {
    /// The entry to be written; `None` where nothing changes.
    pub next: Option<LedgerEntry>,
    /// The result for the sender.
    pub result: CommandResult,
}

impl Applied {
    fn done(next: LedgerEntry) -> Self {
        Self { next: Some(next), result: CommandResult::Write(WriteResult::Done) }
    }

    fn refused() -> Self {
        Self { next: None, result: CommandResult::Write(WriteResult::Refused) }
    }
}

/// Applies a command to an entry; `None` means that there is no such entry.
pub fn apply(entry: Option<LedgerEntry>, command: &LedgerCommand, actor: Actor<'_>) -> Applied {
    match (command, entry) {
        (LedgerCommand::Claim(command), entry) => claim(entry, command, actor),
        (_, None) => Applied::refused(),
        (LedgerCommand::Park(command), Some(entry)) => park(entry, command, actor),
        (LedgerCommand::Settle(command), Some(entry)) => {
            settle(entry, &command.answer, Actor { now: command.at, ..actor })
        }
        (LedgerCommand::Publish { position }, Some(entry)) => {
            publish(entry, position.as_ref(), actor)
        }
    }
}

fn claim(entry: Option<LedgerEntry>, command: &Claim, actor: Actor<'_>) -> Applied {
    let result = judge_claim(entry.as_ref(), command);
    let actor = Actor { now: command.at, ..actor };
    let next = match (&result, entry) {
        (ClaimResult::Fresh, _) => {
            Some(changed(new_entry(command, actor.owner), HistoryKind::Claimed, "", actor))
        }
        (ClaimResult::Resumed(_), Some(entry)) => {
            let owner = actor.owner.clone();
            let note = if entry.owner == owner { "" } else { "taken over" };
            // An instance that has lost the partition may still hold a record from Kafka, whose
            // offset is committed by now: the ledger alone can give the event back.
            let origin = if is_from_ledger(&entry) { RecordOrigin::Ledger } else { command.origin };
            let (claimed_at, state) = (command.at, EntryState::Open { origin });
            let entry = LedgerEntry { owner, claimed_at, state, ..entry };
            Some(changed(entry, HistoryKind::Claimed, note, actor))
        }
        _ => None,
    };
    Applied { next, result: CommandResult::Claim(result) }
}

fn judge_claim(entry: Option<&LedgerEntry>, command: &Claim) -> ClaimResult {
    if command.expected_version.is_some_and(|read| entry.map(|entry| entry.version) != Some(read)) {
        return ClaimResult::Changed;
    }
    let Some(entry) = entry else { return ClaimResult::Fresh };
    if entry.session_id != command.session_id {
        return ClaimResult::Conflict { session_id: entry.session_id.clone() };
    }
    if entry.source != command.source {
        let answered_at = match entry.state {
            EntryState::Settled { at } | EntryState::Published { settled_at: at, .. } => Some(at),
            EntryState::Open { .. } | EntryState::Parked { .. } => None,
        };
        return ClaimResult::Duplicate { first: entry.source.clone(), answered_at };
    }
    let (published, at) = match &entry.state {
        EntryState::Open { .. } => return ClaimResult::Resumed(prior_claim(entry, None)),
        EntryState::Parked { until, waits_for } => {
            // Only the owner of its partition reads it in the ledger. A record from Kafka may be in
            // the hands of an instance that has lost the partition.
            if command.origin == RecordOrigin::Kafka && *waits_for != WaitsFor::Redelivery {
                return ClaimResult::Parked { until: *until, waits_for: waits_for.clone() };
            }
            return ClaimResult::Resumed(prior_claim(entry, Some(*until)));
        }
        EntryState::Settled { at } => (false, *at),
        EntryState::Published { settled_at, .. } => (true, *settled_at),
    };
    let answer = entry.answer.clone().expect("a settled entry is loaded with its answer");
    ClaimResult::Settled { answer, published, at }
}

fn prior_claim(entry: &LedgerEntry, parked_until: Option<Timestamp>) -> PriorClaim {
    PriorClaim {
        snapshot: entry.snapshot.clone(),
        first_seen: entry.first_seen,
        claimed_at: entry.claimed_at,
        parked_until,
        is_early: parked_until.is_some() && entry.is_due_early(),
        given_up: entry.given_up(),
    }
}

fn new_entry(claim: &Claim, owner: &Arc<str>) -> LedgerEntry {
    LedgerEntry {
        session_id: claim.session_id.clone(),
        source: claim.source.clone(),
        recorded_at: claim.recorded_at,
        record: None,
        first_seen: claim.first_seen,
        deadline: claim.deadline,
        owner: owner.clone(),
        claimed_at: claim.at,
        version: 0,
        // The ledger has no record of it yet.
        state: EntryState::Open { origin: RecordOrigin::Kafka },
        snapshot: None,
        answer: None,
        history: vec![],
    }
}

fn park(entry: LedgerEntry, command: &Park, actor: Actor<'_>) -> Applied {
    if !may_change(&entry, actor) {
        return Applied::refused();
    }
    let snapshot = Some(command.snapshot.clone());
    let waits_for = match &command.waits_for {
        WaitsFor::Redelivery if is_from_ledger(&entry) => WaitsFor::Time,
        waits_for => waits_for.clone(),
    };
    // An event that was given up while it was in work has another deadline than its owner knows.
    let deadline = entry.deadline.filter(|_| entry.given_up().is_some());
    let until = deadline.map_or(command.until, |deadline| command.until.min(deadline));
    let state = EntryState::Parked { until, waits_for };
    let record = command.record.clone().or(entry.record);
    let parked = LedgerEntry { snapshot, state, record, ..entry };
    let note = format!("until {until}; {}", command.note);
    Applied::done(changed(parked, HistoryKind::Parked, &note, actor))
}

fn settle(entry: LedgerEntry, answer: &Arc<Message>, actor: Actor<'_>) -> Applied {
    if !may_change(&entry, actor) {
        return Applied::refused();
    }
    let state = EntryState::Settled { at: actor.now };
    let settled = LedgerEntry { answer: Some(answer.clone()), state, ..entry };
    Applied::done(changed(settled, HistoryKind::Settled, answer.label(), actor))
}

/// Unlike the other commands this one does not require ownership: an acknowledgement is a fact
/// about the broker, and every instance that learns of it may store it.
fn publish(entry: LedgerEntry, position: Option<&Position>, actor: Actor<'_>) -> Applied {
    let EntryState::Settled { at: settled_at } = entry.state else { return Applied::refused() };
    let state = EntryState::Published { settled_at, at: actor.now, position: position.cloned() };
    let published = LedgerEntry { state, record: None, ..entry };
    let note = position.map(ToString::to_string).unwrap_or_default();
    Applied::done(changed(published, HistoryKind::Published, &note, actor))
}

/// Whether its record was read in the ledger when it was claimed.
fn is_from_ledger(entry: &LedgerEntry) -> bool {
    matches!(entry.state, EntryState::Open { origin: RecordOrigin::Ledger })
}

/// First writer wins: only the last claimant may change an entry, and only until it is settled.
fn may_change(entry: &LedgerEntry, actor: Actor<'_>) -> bool {
    !entry.is_settled() && entry.owner == *actor.owner
}

/// Adds the version and the history item that belong to every change.
pub(super) fn changed(
    mut entry: LedgerEntry,
    kind: HistoryKind,
    note: &str,
    actor: Actor<'_>,
) -> LedgerEntry {
    entry.version += 1;
    let (owner, note) = (actor.owner.clone(), note.to_owned());
    append_history(&mut entry.history, HistoryItem { at: actor.now, kind, owner, note });
    entry
}
