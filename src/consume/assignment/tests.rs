//! What is assigned, in which order records start, and what the events of the ledger wait for.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::advance;

use super::*;
use crate::domain::ledger_entry::{EntryState, RecordOrigin, RecoveredEntry, WaitsFor};
use crate::domain::record::Position;

fn record(partition: i32, offset: i64, second: i64) -> Record {
    Record {
        position: Position { topic: "t".into(), partition, offset },
        timestamp: Some(Timestamp::from_second(second).unwrap()),
        key: None,
        value: Some(vec![0; 10]),
        headers: vec![],
    }
}

fn start(reading: u64, from: Option<i64>, unread_from: i64) -> ReadingStart {
    ReadingStart { partition: 0, reading, from, unread_from }
}

/// Every waiting record is one that no event was claimed with.
fn identify(assignments: &mut Assignments) {
    for question in assignments.ask_identities() {
        let assignment = assignments.get_mut(question.assignment.partition).unwrap();
        assignment.on_identities(&question, StoredIdentities::default());
    }
}

fn waiting(assignments: &Assignments) -> usize {
    assignments.states().iter().map(|state| state.waiting_records).sum()
}

#[test]
fn a_partition_that_is_assigned_again_is_another_assignment() {
    let mut assignments = Assignments::default();
    assignments.add(&[3]);
    let id = assignments.get_mut(3).unwrap().id;
    assert!(assignments.is_current(id));
    let draining = assignments.drain(Some(&[3]));
    assert_eq!(draining, [id]);
    assert_eq!(assignments.remove(&draining), [0; 0]);
    assert!(!assignments.is_current(id));
    assignments.add(&[3]);
    assert!(!assignments.is_current(id));
    assert_eq!(assignments.remove(&draining), [0; 0], "a late result removes nothing");
    assert_eq!(assignments.len(), 1);
}

#[test]
fn the_oldest_record_starts_first_in_whatever_order_partitions_were_fetched() {
    let mut assignments = Assignments::default();
    assignments.add(&[0, 1, 2]);
    for (partition, offset, second) in [(2, 0, 30), (2, 1, 31), (0, 7, 10), (0, 8, 40), (1, 5, 1)] {
        assignments.push(record(partition, offset, second));
    }
    assignments.push(record(9, 0, 0));
    assert_eq!(waiting(&assignments), 5, "one partition is not assigned");
    identify(&mut assignments);
    assert_eq!(assignments.pop_oldest(), None, "recovered events go first");
    for partition in [0, 2] {
        assignments.get_mut(partition).unwrap().recovered = true;
    }
    let mut started = Vec::new();
    while let Some(WaitingRecord { record, .. }) = assignments.pop_oldest() {
        started.push((record.position.partition, record.position.offset));
    }
    assert_eq!(started, [(0, 7), (2, 0), (2, 1), (0, 8)]);
    assert_eq!(waiting(&assignments), 1, "one waits for recovery");
    assignments.drain(None);
    assert_eq!(waiting(&assignments), 0);
    assignments.push(record(0, 9, 50));
    assert_eq!(waiting(&assignments), 0, "the next owner reads it");
    assert!(assignments.states().iter().all(|state| state.waiting_bytes == 0));
}

#[test]
fn a_follower_waits_until_the_records_ahead_of_it_are_started() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    assignments.get_mut(0).unwrap().set_recovered();
    let up_to = |assignments: &mut Assignments, offset| {
        assignments.get_mut(0).unwrap().nothing_ahead_below() >= offset
    };
    assert!(!up_to(&mut assignments, 5), "nothing was read");
    assignments.push(record(0, 4, 1));
    assignments.push(record(0, 7, 1));
    assignments.set_end_reached(0);
    assert!(!up_to(&mut assignments, 5), "the record ahead is not started");
    assert!(up_to(&mut assignments, 4));
    assert_eq!(assignments.pop_oldest(), None, "it may be an event under another identity");
    identify(&mut assignments);
    let first = assignments.pop_oldest().unwrap();
    assignments.get_mut(0).unwrap().start(first.record.identity());
    assert!(up_to(&mut assignments, 7), "the rest is behind it");
    assert!(!up_to(&mut assignments, 8));
    assignments.add(&[0]);
    assert!(!up_to(&mut assignments, 4), "the next assignment reads again");
    assignments.drain(None);
    assignments.set_end_reached(0);
    assert!(!up_to(&mut assignments, 4), "waiting records were dropped");
    assignments.add(&[0]);
    assignments.get_mut(0).unwrap().start(record(0, 9, 1).identity());
    assert!(up_to(&mut assignments, 9), "records arrive in their order");
}

const NOW: Timestamp = Timestamp::constant(10, 0);
const LATER: i64 = 20;

/// An event of the one session at this offset.
fn entry(state: EntryState, offset: i64, deadline: i64) -> RecoveredEntry {
    RecoveredEntry {
        key: "k".into(),
        session_id: Some("s".into()),
        record: record(0, offset, 1),
        first_seen: NOW,
        deadline: Some(Timestamp::from_second(deadline).unwrap()),
        state,
        version: 1,
    }
}

fn claimed(offset: i64) -> RecoveredEntry {
    entry(EntryState::Open { origin: RecordOrigin::Ledger }, offset, LATER)
}

fn answered(offset: i64) -> RecoveredEntry {
    entry(EntryState::Settled { at: NOW }, offset, LATER)
}

fn parked(waits_for: WaitsFor, offset: i64) -> RecoveredEntry {
    entry(EntryState::Parked { until: NOW, waits_for }, offset, LATER)
}

/// A partition of which the ledger was read, and that is read from this offset.
fn recovered(from: Option<i64>) -> Assignments {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    assignments.get_mut(0).unwrap().begin_recovery();
    assignments.begin_reading(&[start(1, from, 9)]);
    assignments
}

fn is_early(assignments: &mut Assignments, entry: &RecoveredEntry) -> bool {
    assignments.get_mut(0).unwrap().is_early(entry, NOW)
}

fn start_record(assignments: &mut Assignments, offset: i64) {
    assignments.get_mut(0).unwrap().start(record(0, offset, 1).identity());
}

/// This time passes while Kafka delivers nothing.
async fn silent_for(assignments: &mut Assignments, seconds: u64, intake_is_paused: bool) {
    assignments.note_silence(intake_is_paused);
    advance(Duration::from_secs(seconds)).await;
    assignments.note_silence(intake_is_paused);
}

#[test]
fn an_event_of_the_ledger_starts_once_kafka_delivers_nothing_ahead_of_it() {
    let mut unknown = Assignments::default();
    unknown.add(&[0]);
    assert!(is_early(&mut unknown, &claimed(5)), "nobody knows what is delivered");
    let mut assignments = recovered(Some(4));
    assert!(is_early(&mut assignments, &claimed(5)), "the event of offset 4 may be ahead of it");
    assert!(is_early(&mut assignments, &answered(5)), "that one may be answered as well");
    assert!(is_early(&mut assignments, &parked(WaitsFor::Session, 5)));
    assert!(!is_early(&mut assignments, &parked(WaitsFor::Time, 5)), "it had its turn");
    let overdue = |state| entry(state, 5, 10);
    let open = EntryState::Open { origin: RecordOrigin::Ledger };
    assert!(!is_early(&mut assignments, &overdue(open)), "it waits for no other");
    let settled = EntryState::Settled { at: NOW };
    assert!(is_early(&mut assignments, &overdue(settled)), "answers are published in order");
    let dead_letter = RecoveredEntry { session_id: None, ..claimed(5) };
    assert!(!is_early(&mut assignments, &dead_letter), "it has no session");
    assignments.push(record(0, 4, 1));
    assignments.set_end_reached(0);
    assert!(is_early(&mut assignments, &claimed(5)), "the record ahead is not started");
    assert!(!is_early(&mut assignments, &claimed(4)));
    assignments.get_mut(0).unwrap().set_recovered();
    identify(&mut assignments);
    assignments.pop_oldest().unwrap();
    start_record(&mut assignments, 4);
    assert!(!is_early(&mut assignments, &claimed(5)));
    let mut assignments = recovered(Some(5));
    assert!(!is_early(&mut assignments, &claimed(5)), "the committed offset is its own");
    assert!(is_early(&mut assignments, &answered(6)), "the record at that offset is not started");
    start_record(&mut assignments, 5);
    assert!(!is_early(&mut assignments, &answered(6)));
}

#[test]
fn when_offsets_go_back_records_are_ahead_again() {
    let mut assignments = recovered(Some(80));
    assignments.set_end_reached(0);
    start_record(&mut assignments, 80);
    assert!(!is_early(&mut assignments, &claimed(90)));
    start_record(&mut assignments, 0);
    assert!(is_early(&mut assignments, &claimed(50)));
    assert!(is_early(&mut assignments, &parked(WaitsFor::Session, 50)));
    assert!(!is_early(&mut assignments, &claimed(1)));
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_as_long_as_records_are_delivered() {
    let mut assignments = recovered(None);
    silent_for(&mut assignments, 29, false).await;
    assert!(is_early(&mut assignments, &claimed(5)), "brokers may be electing a leader");
    silent_for(&mut assignments, 1, false).await;
    assert!(!is_early(&mut assignments, &claimed(5)), "there may be no leader for hours");

    let mut assignments = recovered(Some(0));
    assignments.push(record(0, 2, 1));
    silent_for(&mut assignments, 60, false).await;
    assert!(is_early(&mut assignments, &claimed(5)), "a record ahead waits for memory");
    silent_for(&mut assignments, 30, true).await;
    assert!(!is_early(&mut assignments, &claimed(5)), "an operator has paused the intake");
    silent_for(&mut assignments, 1, false).await;
    assert!(is_early(&mut assignments, &claimed(5)), "until it is resumed");

    let mut assignments = recovered(Some(0));
    assignments.set_paused(&[0], true);
    silent_for(&mut assignments, 60, false).await;
    assert!(is_early(&mut assignments, &claimed(5)), "the backpressure has paused the partition");
}

#[tokio::test(start_paused = true)]
async fn a_stored_answer_waits_for_five_seconds_only() {
    let mut assignments = recovered(Some(0));
    assignments.push(record(0, 2, 1));
    silent_for(&mut assignments, 4, false).await;
    // Read once more, because an entry could not be read.
    assignments.get_mut(0).unwrap().begin_recovery();
    assert!(is_early(&mut assignments, &answered(5)));
    silent_for(&mut assignments, 1, false).await;
    assert!(!is_early(&mut assignments, &answered(5)));
    assert!(is_early(&mut assignments, &claimed(5)));
}

#[test]
fn early_events_start_in_their_order_with_the_records() {
    let mut assignments = recovered(Some(0));
    let offsets = |taken: Vec<RecoveredEntry>| -> Vec<_> {
        taken.into_iter().map(|entry| entry.record.position.offset).collect()
    };
    let hold = |assignments: &mut Assignments| {
        let early = &mut assignments.get_mut(0).unwrap().early;
        let held = [claimed(2), answered(4), claimed(5), claimed(6), claimed(9)];
        early.extend(held.map(|entry| EarlyEvent { entry, _unfinished: None }));
    };
    hold(&mut assignments);
    assignments.get_mut(0).unwrap().begin_recovery();
    assert_eq!(assignments.early(), 0, "they are read again");
    hold(&mut assignments);
    let assignment = assignments.get_mut(0).unwrap();
    assert!(assignment.is_behind_early(&parked(WaitsFor::Time, 3), NOW));
    assert!(!assignment.is_behind_early(&parked(WaitsFor::Time, 2), NOW));
    let other = RecoveredEntry { session_id: Some("other".into()), ..claimed(3) };
    assert!(!assignment.is_behind_early(&other, NOW));
    assert_eq!(assignment.take_early_up_to(1), []);
    assert_eq!(offsets(assignment.take_early_up_to(4)), [2, 4]);
    // A sweep has started it.
    assignment.in_memory.insert(record(0, 5, 1).identity());
    start_record(&mut assignments, 7);
    let ready: Vec<_> = assignments.take_ready(NOW).into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(offsets(ready), [6]);
    assert_eq!((assignments.early(), assignments.oldest_early()), (1, Some(NOW)));
    assignments.drain(None);
    assert_eq!(assignments.early(), 0);
}

#[test]
fn records_of_an_old_topic_finish_no_offset_of_the_new_one() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    let assignment = assignments.get_mut(0).unwrap();
    assignment.recovered = true;
    let [old, waiting, new] = [record(0, 0, 1), record(0, 1, 2), record(0, 0, 9)];
    assert_eq!(assignment.start(old.identity()), RecordStart::New);
    let old_state = assignment.state.clone();
    assignments.push(waiting.clone());
    assignments.set_end_reached(0);
    assignments.begin_reading(&[start(2, Some(0), 0)]);
    assert!(old_state.record_is_gone.load(Ordering::Relaxed));
    assignments.push(new.clone());
    let popped = assignments.pop_oldest().unwrap();
    assert_eq!(popped, WaitingRecord { record: waiting.clone(), is_of_old_topic: true });
    assert!(!assignments.pop_oldest().unwrap().is_of_old_topic);
    let assignment = assignments.get_mut(0).unwrap();
    assert_eq!(assignment.reading(), 2);
    assert_eq!(assignment.nothing_ahead_below(), 0, "the end was one of the old topic");
    assert_eq!(assignment.start(new.identity()), RecordStart::New);
    assert_eq!(assignment.finish(old.identity()), None);
    assert_eq!(assignment.finish(waiting.identity()), None);
    assert_eq!(assignment.finish(new.identity()), Some(1));
}

#[test]
fn only_the_partitions_that_are_named_keep_their_records() {
    let mut assignments = Assignments::default();
    assignments.add(&[0, 1]);
    assignments.push(record(0, 4, 1));
    assignments.push(record(1, 4, 1));
    let state = |assignments: &mut Assignments, partition| {
        assignments.get_mut(partition).unwrap().state.clone()
    };
    let [revoked, stays] = [0, 1].map(|partition| state(&mut assignments, partition));
    assert_eq!(assignments.set_records_gone(&[0, 7]), 1, "of a partition that is assigned");
    assert!(revoked.record_is_gone.load(Ordering::Relaxed));
    assert!(!stays.record_is_gone.load(Ordering::Relaxed), "its next owner is given its records");
    let [gone, kept] = [[0], [1]].map(|partitions| assignments.of(&partitions));
    assert!(assignments.is_record_gone(&gone) && !assignments.is_record_gone(&kept));
}

#[test]
fn what_was_read_once_may_have_been_answered() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    let read_before = |assignments: &mut Assignments, offset| {
        assignments.get_mut(0).unwrap().read_before(&record(0, offset, 1).identity())
    };
    assert_eq!(read_before(&mut assignments, 9), ReadBefore::Maybe, "nobody knows");
    assignments.begin_reading(&[start(1, Some(0), 5)]);
    assert_eq!(read_before(&mut assignments, 4), ReadBefore::Maybe);
    assert_eq!(read_before(&mut assignments, 5), ReadBefore::Never);
    let assignment = assignments.get_mut(0).unwrap();
    assignment.start(record(0, 8, 1).identity());
    assignment.start(record(0, 0, 2).identity());
    assert_eq!(read_before(&mut assignments, 8), ReadBefore::Maybe, "the offsets went back");
    assert_eq!(read_before(&mut assignments, 9), ReadBefore::Never);
}

#[test]
fn identities_are_read_again_when_the_offsets_went_back() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    assignments.push(record(0, 8, 1));
    identify(&mut assignments);
    let assignment = assignments.get_mut(0).unwrap();
    assert!(assignment.is_identified());
    assignment.start(record(0, 8, 1).identity());
    assignment.start(record(0, 2, 2).identity());
    assert!(!assignment.is_identified(), "other records are at these offsets now");
}

#[test]
fn a_paused_partition_is_reported_when_it_is_removed() {
    let mut assignments = Assignments::default();
    assignments.add(&[3, 4]);
    let draining = assignments.drain(Some(&[3]));
    assert_eq!(assignments.states().iter().map(|s| s.draining).collect::<Vec<_>>(), [true, false]);
    assignments.set_paused(&[3], true);
    assert_eq!(assignments.remove(&draining), [3], "the client would keep it paused");
    assert_eq!(assignments.drain(None).len(), 1);
}

#[test]
fn a_paused_partition_that_is_assigned_again_is_still_paused() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    assignments.set_paused(&[0], true);
    assignments.add(&[0]);
    assert!(assignments.states()[0].paused, "so that it will be resumed");
}
