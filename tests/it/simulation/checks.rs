//! What the service promises, checked at every call and every commit, and when all is over.
//!
//! A promise is judged by what the world knows: the topics, Desk's own history, the ledger.
//! This file never asks the service whether it did well.

use std::collections::BTreeMap;
use std::sync::Arc;

use handoff::domain::ledger_entry::{Claim, EntryState};
use handoff::domain::wire::dead_letter::DeadLetter;
use handoff::domain::wire::outcome::{Channel, Message, OutcomeRecord};
use jiff::Timestamp;

use super::desk::State;
use super::kafka::{Posted, TOPIC};
use super::plan::Kind;
use super::world::{Life, World, lock};

fn key(kind: &Kind, (partition, offset): (i32, i64)) -> String {
    match kind {
        Kind::Event { id: Some(id), .. } => format!("id:{id}"),
        Kind::Malformed => format!("letter:{TOPIC}/{partition}/{offset}"),
        _ => format!("place:{TOPIC}/{partition}/{offset}"),
    }
}

/// A call arrives at Desk: for this session, a transfer for this event, or a question.
pub(super) fn at_call(life: &Arc<Life>, (id, number): (&str, Option<u64>), now: Timestamp) {
    let world = &life.world;
    let mut floor = lock(&world.floor);
    let session = floor.session(id, now);
    let (busy, again) = (session.is_busy(now), number.is_some_and(|n| session.has_effect(n)));
    drop(floor);
    let who = || format!("{} for {number:?} of {id}", life.name);
    // A question of a former owner does no harm: its answer counts for nothing.
    if busy && (number.is_some() || lock(&world.broker).owns_session(life, id)) {
        world.fault(format!("a call while Desk is at work on another of the session: {}", who()));
    }
    if again {
        world.fault(format!("a second transfer while the first has taken effect: {}", who()));
    }
    match number {
        Some(number) => at_transfer(life, number, now),
        None => at_question(world, id, now),
    }
}

fn at_transfer(life: &Arc<Life>, number: u64, now: Timestamp) {
    let world = &life.world;
    let broker = lock(&world.broker);
    for (index, partition) in broker.partitions.iter().enumerate() {
        let places = partition.kinds.iter().enumerate();
        for (offset, kind) in places {
            let Kind::Event { number: n, deadline, session, .. } = kind else { continue };
            if *n != number {
                continue;
            }
            let place = (index as i32, offset as i64);
            let Some(entry) = world.ledger.story(&key(kind, place)) else {
                world.fault(format!("{} transfers {number} before it is claimed", life.name));
                continue;
            };
            if (i64::from(entry.source.partition), entry.source.offset) != (index as i64, place.1) {
                continue;
            }
            if now >= *deadline {
                world.fault(format!("{} transfers {number} past its deadline", life.name));
            }
            if entry.is_settled() || entry.state != EntryState::Open {
                world.fault(format!("{} transfers {number}, which is put away", life.name));
            }
            let earlier = partition.kinds[..offset].iter().enumerate();
            for (before, kind) in earlier {
                let same = matches!(kind, Kind::Event { session: s, .. } if s == session);
                let entry = same.then(|| world.ledger.story(&key(kind, (place.0, before as i64))));
                let open = match entry {
                    Some(Some(entry)) => {
                        let source = &entry.source;
                        let its_own = (source.partition, source.offset) == (place.0, before as i64);
                        its_own && !entry.is_settled()
                    }
                    Some(None) => true,
                    None => false,
                };
                if open {
                    let text = format!("{place:?} transferred before {before} is answered");
                    world.fault(format!("order: {text}"));
                }
            }
        }
    }
}

fn at_question(world: &World, id: &str, now: Timestamp) {
    let latest = lock(&world.broker).asked_until.get(id).copied();
    if latest.is_none_or(|latest| now > latest) {
        world.fault(format!("{id} is asked after the time of grace"));
    }
}

/// A claim is asked for: from now on its session may be asked after.
pub(super) fn claimed(life: &Arc<Life>, claim: &Claim) {
    let (Some(session), Some(deadline)) = (&claim.session_id, claim.deadline) else { return };
    let world = &life.world;
    // The claim itself may take a while, and the course begins before it.
    let until = deadline.max(world.now()) + world.plan.policy.doubt_grace;
    let mut broker = lock(&world.broker);
    let latest = broker.asked_until.entry(session.clone()).or_insert(until);
    *latest = (*latest).max(until);
}

/// Nothing below a committed offset may be unfinished.
pub(super) fn at_commit(world: &World, (partition, offset): (i32, i64)) {
    let broker = lock(&world.broker);
    let kinds = &broker.partitions[partition as usize].kinds;
    let mut faults = Vec::new();
    for (place, kind) in kinds.iter().take(offset as usize).enumerate() {
        let place = place as i64;
        let key = key(kind, (partition, place));
        let source = format!("{TOPIC}/{partition}/{place}");
        let answers = |posted: &Posted| posted.source == source && !posted.interim;
        let published = broker.posted.iter().any(answers);
        let parked = broker.parked.contains(key.as_str());
        let entry = world.ledger.story(&key);
        let duplicate = entry.is_some_and(|entry| entry.source.to_string() != source);
        if *kind != Kind::NotForUs && !published && !parked && !duplicate {
            faults.push(format!("{partition} is committed to {offset}, past {key}, unfinished"));
        }
    }
    drop(broker);
    faults.into_iter().for_each(|fault| world.fault(fault));
}

fn outcome(message: &Message) -> OutcomeRecord {
    OutcomeRecord::parse(message.value.as_deref().unwrap_or_default()).unwrap()
}

/// Returns the position of the record that a message answers, as text.
pub(super) fn source_of(message: &Message) -> String {
    let source = match message.channel {
        Channel::DeadLetters => DeadLetter::read(&message.headers).source(),
        Channel::Outcomes => outcome(message).source,
    };
    source.expect("every message names its source").to_string()
}

/// Returns whether another outcome of the same event follows.
pub(super) fn is_interim(message: &Message) -> bool {
    message.channel == Channel::Outcomes && !outcome(message).is_final
}

/// All is over: what must have happened, once.
pub(super) fn at_end(world: &World) {
    let broker = lock(&world.broker);
    let mut faults = Vec::new();
    // By identity: how often it was answered, and how many records bear it.
    let mut answers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, posted) in broker.posted.iter().enumerate() {
        answers.entry(posted.source.clone()).or_default().push(index);
    }
    for (number, partition) in broker.partitions.iter().enumerate() {
        if partition.committed != partition.records.len() as i64 {
            faults.push(format!("partition {number} stays at {}", partition.committed));
        }
        for (offset, kind) in partition.kinds.iter().enumerate() {
            let place = (number as i32, offset as i64);
            let source = format!("{TOPIC}/{}/{}", place.0, place.1);
            let got = answers.get(&source).map_or(&[][..], Vec::as_slice);
            let expected = usize::from(expected(world, kind, &source));
            let (interim, got): (Vec<_>, Vec<_>) =
                got.iter().copied().partition(|index| broker.posted[*index].interim);
            let counted = |of: &[usize]| {
                of.iter().filter(|index| !is_repeat(&broker.posted, **index)).count()
            };
            if counted(&got) != expected {
                faults.push(format!("{source} ({kind:?}): {got:?} answers, not {expected}"));
            }
            let after: Vec<_> =
                interim.iter().copied().filter(|index| Some(index) > got.first()).collect();
            if counted(&interim) > 1 || counted(&after) > 0 {
                faults
                    .push(format!("{source}: told {interim:?} that another follows; {got:?} did"));
            }
            for posted in got.iter().map(|index| &broker.posted[*index]) {
                let arrived = partition.records[offset].timestamp.unwrap();
                faults.extend(judge(world, (kind, arrived), posted).err());
            }
        }
    }
    drop(broker);
    faults.into_iter().for_each(|fault| world.fault(fault));
}

/// The same bytes as an earlier answer, through the documented hole: a consumer drops them by id.
fn is_repeat(posted: &[Posted], index: usize) -> bool {
    let this = &posted[index];
    let is_same = |other: &Posted| other.message == this.message;
    let before = posted[..index].iter().find(|other| is_same(other));
    // Either of the two may have been the late one.
    before.is_some_and(|before| this.late || before.late)
}

/// Whether this record is to be answered: the first of those with its identity and session,
/// and each with the identity of another session.
fn expected(world: &World, kind: &Kind, source: &str) -> bool {
    match kind {
        Kind::NotForUs => false,
        Kind::Malformed => true,
        Kind::Event { id: None, .. } => true,
        Kind::Event { id: Some(id), session, .. } => {
            let Some(entry) = world.ledger.story(&format!("id:{id}")) else { return true };
            let conflict = entry.session_id.as_deref() != Some(format!("s{session}").as_str());
            conflict || entry.source.to_string() == source
        }
    }
}

/// Is this answer true?
fn judge(world: &World, asked: (&Kind, Timestamp), posted: &Posted) -> Result<(), String> {
    let (kind, arrived) = asked;
    let Kind::Event { number, session, .. } = kind else {
        let letter = posted.message.channel == Channel::DeadLetters;
        return if letter { Ok(()) } else { Err(format!("{kind:?} got an outcome")) };
    };
    if posted.message.channel == Channel::DeadLetters {
        let class = posted.message.label();
        let conflict = class == "conflicting_id";
        return if conflict { Ok(()) } else { Err(format!("{kind:?} is a dead letter: {class}")) };
    }
    let outcome = outcome(&posted.message);
    let decided = outcome.decided_at().unwrap();
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let mut floor = lock(&world.floor);
    let session = floor.session(&format!("s{session}"), world.now()).clone();
    drop(floor);
    let effect = session.effects.get(number).copied();
    let was = |state| session.was(state, (arrived, decided));
    let by_reply = outcome.confirmed_by.as_deref() == Some("reply");
    let said = reason.contains("unknown") || reason.contains("may have");
    let is_true = match outcome.status.as_str() {
        "assigned" if by_reply => effect == Some(State::Agent),
        "assigned" => was(State::Agent) && outcome.agent_id.as_deref() == Some("a@x"),
        "queued" if by_reply => effect == Some(State::Queue),
        "queued" => was(State::Queue),
        "no_agent_online" | "expired" => effect.is_none(),
        "rejected" => effect.is_none() || said,
        "failed" => effect.is_none() || said,
        _ => false,
    };
    let told = || format!("untrue: {outcome:?}; effect {effect:?}, {:?}", session.history);
    if is_true { Ok(()) } else { Err(told()) }
}
