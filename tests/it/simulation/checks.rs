//! The promises of the service, checked at each call, at each commit, and at the end.
//!
//! The checks use only what the world knows: the topics, Desk's own history, the ledger. They do not
//! rely on the service's reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use handoff::domain::ledger_entry::{Claim, EntryState, LedgerEntry, RecordOrigin, WaitsFor};
use handoff::domain::record::Record;
use handoff::domain::wire::dead_letter::DeadLetter;
use handoff::domain::wire::outcome::OutcomeRecord;
use handoff::domain::wire::{Channel, Message};
use jiff::Timestamp;

use super::desk::{ObservedCall, SimSessionState};
use super::kafka::{Partition, PublishedRecord, SimKafka, TOPIC};
use super::operator;
use super::schedule::RecordKind;
use super::world::{SimProcess, SimWorld, lock};

/// The ledger key of a record.
fn key(kind: &RecordKind, record: &Record) -> String {
    let at_ms = record.timestamp.map_or(0, Timestamp::as_millisecond);
    match kind {
        RecordKind::Event { id: Some(id), .. } => format!("id:{id}"),
        RecordKind::Malformed => format!("dead-letter:{}@{at_ms}", record.position),
        _ => format!("record:{}@{at_ms}", record.position),
    }
}

/// The entry belongs to the record at this position, not to an earlier one with the same id.
fn is_of(entry: &LedgerEntry, partition: usize, offset: usize) -> bool {
    let source = &entry.source;
    i64::from(source.partition) == partition as i64 && source.offset == offset as i64
}

/// Check a call when it reaches Desk: it overlaps no other of its session, and it is due.
pub(super) fn check_call(process: &Arc<SimProcess>, call: &ObservedCall<'_>) {
    let world = &process.world;
    let ObservedCall { session: id, number, now } = *call;
    let mut desk = lock(&world.desk);
    let session = desk.session(id, now);
    let (busy, repeated) = (session.is_busy(now), number.is_some_and(|n| session.has_effect(n)));
    drop(desk);
    let describe = || format!("{} for {number:?} of {id}", process.name);
    // A state query of a previous owner does no harm: its result is discarded.
    if busy && (number.is_some() || lock(&world.kafka).owns_session(process, id)) {
        world.violation(format!("a call overlaps another of its session: {}", describe()));
    }
    if repeated {
        world.violation(format!("a second transfer after one took effect: {}", describe()));
    }
    match number {
        Some(number) => check_transfer(process, number, now),
        None => check_state_query(world, id, now),
    }
}

fn check_transfer(process: &Arc<SimProcess>, number: u64, now: Timestamp) {
    let (world, name) = (&process.world, &process.name);
    let kafka = lock(&world.kafka);
    for (partition, log) in kafka.partitions.iter().enumerate() {
        for (offset, kind) in log.kinds.iter().enumerate() {
            let RecordKind::Event { number: n, deadline, session, .. } = kind else { continue };
            if *n != number {
                continue;
            }
            let Some(entry) = world.ledger.entry(&key(kind, &log.records[offset])) else {
                world.violation(format!("{name} transfers {number} before it is claimed"));
                continue;
            };
            if !is_of(&entry, partition, offset) {
                continue;
            }
            operator::check_transfer(process, number, &entry);
            if now >= *deadline {
                world.violation(format!("{name} transfers {number} past its deadline"));
            }
            if entry.is_settled() || !matches!(entry.state, EntryState::Open { .. }) {
                world.violation(format!("{name} transfers {number}, which is not claimed"));
            }
            for (earlier, kind) in log.kinds[..offset].iter().enumerate() {
                if matches!(kind, RecordKind::Event { session: s, .. } if s == session)
                    && is_unanswered(world, kind, &log.records[earlier])
                {
                    let text = format!("{partition}/{offset} transferred before {earlier}");
                    world.violation(format!("order: {text} is answered"));
                }
            }
        }
    }
}

fn is_unanswered(world: &SimWorld, kind: &RecordKind, record: &Record) -> bool {
    match world.ledger.entry(&key(kind, record)) {
        Some(entry) => entry.source == record.position && !entry.is_settled(),
        None => true,
    }
}

fn check_state_query(world: &SimWorld, id: &str, now: Timestamp) {
    let latest = lock(&world.kafka).reconcile_until.get(id).copied();
    if latest.is_none_or(|latest| now > latest) {
        world.violation(format!("the state of {id} is queried after its grace"));
    }
}

/// Note that a claim is about to be made: from now on the session's state may be queried.
pub(super) fn note_claim(process: &Arc<SimProcess>, claim: &Claim) {
    let (Some(session), Some(deadline)) = (&claim.session_id, claim.deadline) else { return };
    let world = &process.world;
    // The claim itself takes time, and the course starts before it.
    let until = deadline.max(world.now()) + world.schedule.policy.doubt_grace;
    let mut kafka = lock(&world.kafka);
    let latest = kafka.reconcile_until.entry(session.clone()).or_insert(until);
    *latest = (*latest).max(until);
}

/// Check a claim of this entry: an event that was parked for a time comes back when that time has come,
/// or when its session was woken.
pub(super) fn check_due(process: &Arc<SimProcess>, before: Option<&LedgerEntry>, claim: &Claim) {
    let Some(LedgerEntry { state: EntryState::Parked { until, waits_for }, .. }) = before else {
        return;
    };
    let has_time = matches!(waits_for, WaitsFor::Time | WaitsFor::Session);
    let is_expected = claim.expected_version.is_none_or(|it| Some(it) == before.map(|b| b.version));
    if claim.origin == RecordOrigin::Ledger && has_time && is_expected {
        let (world, name, key) = (&process.world, &process.name, &claim.key);
        if *until > world.now() {
            world.violation(format!("{name} starts {key} before it is due, at {until}"));
        }
    }
}

/// Check that each event below a committed offset is answered or parked.
pub(super) fn check_commit(world: &SimWorld, partition: i32, committed: i64) {
    let kafka = lock(&world.kafka);
    let Partition { kinds, records, .. } = &kafka.partitions[partition as usize];
    let mut violations = Vec::new();
    for (offset, kind) in kinds.iter().take(committed as usize).enumerate() {
        let key = key(kind, &records[offset]);
        let source = format!("{TOPIC}/{partition}/{offset}");
        let answers = |record: &PublishedRecord| record.source == source && !record.interim;
        let answered = kafka.published.iter().any(answers);
        let parked = kafka.parked.contains(key.as_str());
        let entry = world.ledger.entry(&key);
        let duplicate = entry.is_some_and(|entry| entry.source.to_string() != source);
        if *kind != RecordKind::NotForUs && !answered && !parked && !duplicate {
            violations.push(format!("{partition} is committed to {committed}, past {key}"));
        }
    }
    drop(kafka);
    violations.into_iter().for_each(|violation| world.violation(violation));
}

fn outcome(message: &Message) -> OutcomeRecord {
    OutcomeRecord::parse(message.value.as_deref().unwrap_or_default()).unwrap()
}

/// The position of the record that a message answers, as text.
pub(super) fn source_of(message: &Message) -> String {
    let source = match message.channel {
        Channel::DeadLetters => DeadLetter::read(&message.headers).source(),
        Channel::Outcomes => outcome(message).source,
    };
    source.expect("every message names its source").to_string()
}

/// A final outcome of the same event follows.
pub(super) fn is_interim(message: &Message) -> bool {
    message.channel == Channel::Outcomes && !outcome(message).is_final
}

/// Check at the end that each record is committed and has exactly the answers that it must have.
pub(super) fn check_end(world: &SimWorld) {
    let kafka = lock(&world.kafka);
    let mut violations = Vec::new();
    // Indexes of the published records, by the position of the record that they answer.
    let mut answers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, record) in kafka.published.iter().enumerate() {
        answers.entry(&record.source).or_default().push(index);
    }
    for (partition, log) in kafka.partitions.iter().enumerate() {
        if log.committed != log.records.len() as i64 {
            violations.push(format!("partition {partition} stays at {}", log.committed));
        }
        for (offset, kind) in log.kinds.iter().enumerate() {
            let source = format!("{TOPIC}/{partition}/{offset}");
            let published = answers.get(&*source).map_or(&[][..], Vec::as_slice);
            let expected = usize::from(expects_answer(world, kind, &source));
            let faults = check_counts(&kafka, published, expected);
            violations.extend(faults.iter().map(|fault| format!("{source} ({kind:?}): {fault}")));
            let arrived = log.records[offset].timestamp.unwrap();
            let records = published.iter().map(|index| &kafka.published[*index]);
            for record in records.filter(|record| !record.interim) {
                violations.extend(check_truth(world, kind, arrived, record).err());
            }
        }
    }
    drop(kafka);
    violations.into_iter().for_each(|violation| world.violation(violation));
}

/// What is wrong with the number or the order of the answers to one record.
fn check_counts(kafka: &SimKafka, answers: &[usize], expected: usize) -> Vec<String> {
    let (interim, last): (Vec<_>, Vec<_>) =
        answers.iter().copied().partition(|index| kafka.published[*index].interim);
    let count = |of: &[usize]| {
        of.iter().filter(|index| !is_documented_repeat(&kafka.published, **index)).count()
    };
    let mut faults = Vec::new();
    if count(&last) != expected {
        faults.push(format!("{last:?} are final answers, not {expected}"));
    }
    let late: Vec<_> = interim.iter().copied().filter(|index| Some(index) > last.first()).collect();
    if count(&interim) > 1 || count(&late) > 0 {
        faults.push(format!("{interim:?} are interim outcomes, {last:?} final ones"));
    }
    faults
}

/// The same bytes as an earlier answer, published through the documented hole: a process that is
/// paused between enqueueing and sending. Consumers discard such a repeat by its id.
fn is_documented_repeat(published: &[PublishedRecord], index: usize) -> bool {
    let this = &published[index];
    let is_same = |other: &PublishedRecord| other.message == this.message;
    let before = published[..index].iter().find(|other| is_same(other));
    // Either of the two may be the late one.
    before.is_some_and(|before| this.late || before.late)
}

/// Whether a record must be answered: the first one with its id and session, and each one whose id
/// belongs to another session.
fn expects_answer(world: &SimWorld, kind: &RecordKind, source: &str) -> bool {
    match kind {
        RecordKind::NotForUs => false,
        RecordKind::Malformed => true,
        RecordKind::Event { id: None, .. } => true,
        RecordKind::Event { id: Some(id), session, .. } => {
            let Some(entry) = world.ledger.entry(&format!("id:{id}")) else { return true };
            let conflict = entry.session_id.as_deref() != Some(format!("s{session}").as_str());
            conflict || entry.source.to_string() == source
        }
    }
}

/// Check that an answer says what Desk did.
fn check_truth(
    world: &SimWorld,
    kind: &RecordKind,
    arrived: Timestamp,
    published: &PublishedRecord,
) -> Result<(), String> {
    let RecordKind::Event { number, session, .. } = kind else {
        let dead_letter = published.message.channel == Channel::DeadLetters;
        return if dead_letter { Ok(()) } else { Err(format!("{kind:?} got an outcome")) };
    };
    if published.message.channel == Channel::DeadLetters {
        let class = published.message.label();
        let conflict = class == "conflicting_id";
        return if conflict { Ok(()) } else { Err(format!("{kind:?} is a dead letter: {class}")) };
    }
    let outcome = outcome(&published.message);
    let decided = outcome.decided_at().unwrap();
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let mut desk = lock(&world.desk);
    let session = desk.session(&format!("s{session}"), world.now()).clone();
    drop(desk);
    let effect = session.effects.get(number).copied();
    let was = |state| session.was(state, arrived, decided);
    let by_reply = outcome.confirmed_by.as_deref() == Some("reply");
    let admits_doubt = reason.contains("unknown") || reason.contains("may have");
    let is_true = match outcome.status.as_str() {
        "assigned" if by_reply => effect == Some(SimSessionState::Agent),
        "assigned" => was(SimSessionState::Agent) && outcome.agent_id.as_deref() == Some("a@x"),
        "queued" if by_reply => effect == Some(SimSessionState::Queue),
        "queued" => was(SimSessionState::Queue),
        "no_agent_online" | "expired" => effect.is_none(),
        "rejected" => effect.is_none() || admits_doubt,
        "failed" => effect.is_none() || admits_doubt,
        _ => false,
    };
    if is_true {
        return Ok(());
    }
    Err(format!("untrue: {outcome:?}; effect {effect:?}, {:?}", session.history))
}
