//! What is remembered of one event, and what a claim, a parking, an answer and an
//! acknowledgement do to it.
//!
//! `apply` is the whole of it: the entry as it stands and a deed give the entry as it shall
//! stand and the reply. Every ledger, the simulated one too, reads, applies and writes.
//! This file never changes an answer once given, and never lets a former owner change anything.

use std::sync::Arc;

use jiff::Timestamp;

use super::outcome::Message;
use super::record::{Position, Record};

/// The steps of a history that are kept from its beginning.
const FIRST_STEPS: usize = 8;
/// The steps of a history that are kept from its end.
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
pub enum Claimed {
    /// Nothing: it is new, and ours.
    Fresh,
    /// The same record was claimed before, by us or by an earlier owner; it is ours now.
    Resumed(Resumed),
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
pub struct Resumed {
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
pub enum Stage {
    /// Claimed: a call may be out.
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
pub struct Entry {
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
    pub stage: Stage,
    /// What its course wanted remembered.
    pub memory: Option<String>,
    /// Its final answer; or not loaded.
    pub answer: Option<Arc<Message>>,
    /// Its story.
    pub steps: Vec<Step>,
}

/// An entry that still needs somebody, and that Kafka need not deliver again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
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
    pub stage: Stage,
    /// What its course wanted remembered.
    pub memory: Option<String>,
    /// Its final answer, if it is settled.
    pub answer: Option<Arc<Message>>,
}

/// One step of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: What,
    /// Who did it.
    pub owner: Arc<str>,
    /// One short line, perhaps empty.
    pub note: String,
}

/// What can happen to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Claimed: calls may follow.
    Claimed,
    /// Put away.
    Parked,
    /// Answered.
    Settled,
    /// The answer is acknowledged.
    Published,
}

impl What {
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
pub enum Deed {
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
pub enum Reply {
    /// To a claim.
    Claimed(Claimed),
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
pub type Applied = (Option<Entry>, Reply);

/// Do it to the entry as it stands; `None`: there is no such entry.
pub fn apply(entry: Option<Entry>, deed: &Deed, actor: Actor<'_>) -> Applied {
    match (deed, entry) {
        (Deed::Claim(claim), entry) => {
            let claimed = judge(entry.as_ref(), claim);
            (claim_entry(entry, claim, (&claimed, actor)), Reply::Claimed(claimed))
        }
        (_, None) => (None, Reply::Done(false)),
        (Deed::Park(parking), Some(entry)) => park(entry, parking, actor),
        (Deed::Settle { answer, at }, Some(entry)) => settle(entry, (answer, *at), actor),
        (Deed::Publish { place }, Some(entry)) => publish(entry, place.as_ref(), actor),
    }
}

/// What a claim finds.
pub fn judge(entry: Option<&Entry>, claim: &Claim) -> Claimed {
    let Some(entry) = entry else { return Claimed::Fresh };
    if entry.session_id != claim.session_id {
        return Claimed::Conflict { session_id: entry.session_id.clone() };
    }
    if entry.source != claim.source {
        return Claimed::Duplicate;
    }
    let (published, at) = match &entry.stage {
        Stage::Open => return Claimed::Resumed(resumed(entry, None)),
        Stage::Parked { until } => return Claimed::Resumed(resumed(entry, Some(*until))),
        Stage::Settled { at } => (false, *at),
        Stage::Published { settled_at, .. } => (true, *settled_at),
    };
    let answer = entry.answer.clone().expect("a settled entry is loaded with its answer");
    Claimed::Settled { answer, published, at }
}

fn resumed(entry: &Entry, parked_until: Option<Timestamp>) -> Resumed {
    Resumed {
        memory: entry.memory.clone(),
        first_seen: entry.first_seen,
        claimed_at: entry.claimed_at,
        parked_until,
    }
}

fn claim_entry(
    entry: Option<Entry>,
    claim: &Claim,
    (claimed, actor): (&Claimed, Actor<'_>),
) -> Option<Entry> {
    let now = Actor { now: claim.at, ..actor };
    match (claimed, entry) {
        (Claimed::Fresh, _) => Some(step(fresh(claim, actor.owner), (What::Claimed, ""), now)),
        (Claimed::Resumed(_), Some(entry)) => {
            let owner = actor.owner.clone();
            let note = if entry.owner == owner { "" } else { "taken over" };
            let stage = Stage::Open;
            let entry = Entry { owner, claimed_at: claim.at, stage, ..entry };
            Some(step(entry, (What::Claimed, note), now))
        }
        _ => None,
    }
}

fn fresh(claim: &Claim, owner: &Arc<str>) -> Entry {
    Entry {
        session_id: claim.session_id.clone(),
        source: claim.source.clone(),
        record: None,
        first_seen: claim.first_seen,
        deadline: claim.deadline,
        owner: owner.clone(),
        claimed_at: claim.at,
        version: 0,
        stage: Stage::Open,
        memory: None,
        answer: None,
        steps: vec![],
    }
}

/// Not answered yet, and claimed by this owner last.
fn is_ours(entry: &Entry, actor: Actor<'_>) -> bool {
    let unanswered = matches!(entry.stage, Stage::Open | Stage::Parked { .. });
    unanswered && entry.owner == *actor.owner
}

fn park(entry: Entry, parking: &Parking, actor: Actor<'_>) -> Applied {
    if !is_ours(&entry, actor) {
        return (None, Reply::Done(false));
    }
    let memory = Some(parking.memory.clone());
    let stage = Stage::Parked { until: parking.until };
    let record = parking.record.clone().or(entry.record);
    let parked = Entry { memory, stage, record, ..entry };
    let note = format!("until {}; {}", parking.until, parking.note);
    (Some(step(parked, (What::Parked, &note), actor)), Reply::Done(true))
}

fn settle(entry: Entry, (answer, at): (&Arc<Message>, Timestamp), actor: Actor<'_>) -> Applied {
    if !is_ours(&entry, actor) {
        return (None, Reply::Done(false));
    }
    let settled = Entry { answer: Some(answer.clone()), stage: Stage::Settled { at }, ..entry };
    let actor = Actor { now: at, ..actor };
    (Some(step(settled, (What::Settled, answer.title()), actor)), Reply::Done(true))
}

/// A fact about the broker: whoever learns it may note it.
fn publish(entry: Entry, place: Option<&Position>, actor: Actor<'_>) -> Applied {
    let Stage::Settled { at: settled_at } = entry.stage else {
        return (None, Reply::Done(false));
    };
    let stage = Stage::Published { settled_at, at: actor.now, place: place.cloned() };
    let published = Entry { stage, record: None, ..entry };
    let note = place.map(ToString::to_string).unwrap_or_default();
    (Some(step(published, (What::Published, &note), actor)), Reply::Done(true))
}

/// The same entry, changed once more.
fn step(mut entry: Entry, (what, note): (What, &str), actor: Actor<'_>) -> Entry {
    entry.version += 1;
    let owner = actor.owner.clone();
    lengthen(&mut entry.steps, Step { at: actor.now, what, owner, note: note.to_owned() });
    entry
}

/// One more step of a story; of a long one the beginning and the end are kept.
pub fn lengthen(steps: &mut Vec<Step>, step: Step) {
    if steps.len() >= FIRST_STEPS + LAST_STEPS {
        steps.remove(FIRST_STEPS);
    }
    steps.push(step);
}

impl Entry {
    /// It has its answer.
    pub fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled { .. } | Stage::Published { .. })
    }

    /// As the next owner needs it; `None`: it needs nobody any more, or Kafka delivers it again.
    pub fn unfinished(self, key: Arc<str>) -> Option<Row> {
        let Self { session_id, record, first_seen, deadline, claimed_at, .. } = self;
        if matches!(self.stage, Stage::Published { .. }) {
            return None;
        }
        let (stage, memory, answer) = (self.stage, self.memory, self.answer);
        let record = record?;
        Some(Row {
            key,
            session_id,
            record,
            first_seen,
            deadline,
            claimed_at,
            stage,
            memory,
            answer,
        })
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
