//! What is assigned, and in which order records start.

use jiff::Timestamp;

use super::*;
use crate::domain::ledger_entry::RecordOrigin;
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
        assignment.on_identities(&question, vec![]);
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
        assignments.get_mut(0).unwrap().started_up_to() >= offset
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

#[test]
fn an_event_of_the_ledger_starts_once_kafka_delivers_nothing_ahead_of_it() {
    let mut assignments = Assignments::default();
    assignments.add(&[0]);
    let now = Timestamp::from_second(10).unwrap();
    let entry = |state, deadline: i64| RecoveredEntry {
        key: "k".into(),
        session_id: Some("s".into()),
        record: record(0, 5, 1),
        first_seen: now,
        deadline: Some(Timestamp::from_second(deadline).unwrap()),
        state,
        version: 1,
    };
    let claimed = entry(EntryState::Open { origin: RecordOrigin::Ledger }, 20);
    let parked = |waits_for| entry(EntryState::Parked { until: now, waits_for }, 20);
    let is_early = |assignments: &mut Assignments, entry: &RecoveredEntry| {
        assignments.get_mut(0).unwrap().is_early(entry, now)
    };
    assert!(is_early(&mut assignments, &claimed), "nobody knows what is delivered");
    assignments.begin_reading(&[start(1, Some(4), 9)]);
    assert!(is_early(&mut assignments, &claimed), "the event of offset 4 may be ahead of it");
    assert!(is_early(&mut assignments, &parked(WaitsFor::Session)));
    assert!(!is_early(&mut assignments, &parked(WaitsFor::Time)), "it had its turn");
    let settled = entry(EntryState::Settled { at: now }, 20);
    assert!(!is_early(&mut assignments, &settled), "it is not called any more");
    let overdue = entry(EntryState::Open { origin: RecordOrigin::Ledger }, 10);
    assert!(!is_early(&mut assignments, &overdue), "it waits for no other");
    assignments.get_mut(0).unwrap().start(record(0, 5, 1).identity());
    assert!(!is_early(&mut assignments, &claimed));
    assignments.begin_reading(&[start(2, Some(5), 9)]);
    assert!(!is_early(&mut assignments, &claimed), "the committed offset is its own");
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
    assert_eq!(assignment.started_up_to(), 0, "the end was one of the old topic");
    assert_eq!(assignment.start(new.identity()), RecordStart::New);
    assert_eq!(assignment.finish(old.identity()), None);
    assert_eq!(assignment.finish(waiting.identity()), None);
    assert_eq!(assignment.finish(new.identity()), Some(1));
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
