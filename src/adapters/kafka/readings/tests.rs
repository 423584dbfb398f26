//! Readings of partitions, from the assignment to the commit.

use super::*;

fn start(due: &UnknownStart, offset: i64, id: Option<&str>) -> PartitionStart {
    PartitionStart {
        due: due.clone(),
        offset: Some(offset),
        end: 10,
        unread_from: offset,
        topic_id: id.map(Arc::from),
        is_new: true,
        discarded: None,
    }
}

/// Begins a reading of partition 0 at this offset.
fn begin(readings: &Readings, due: &[UnknownStart], offset: i64, id: &str) -> u64 {
    let start = start(&due[0], offset, Some(id));
    assert!(readings.is_due(&due[0]));
    readings.begin(&start).reading
}

fn uncommitted(readings: &Readings) -> Vec<i64> {
    let starts = StartingOffsets::new("in".into(), None);
    let list = readings.take_uncommitted("in", &starts).unwrap();
    list.elements().iter().filter_map(|element| element.offset().to_raw()).collect()
}

#[test]
fn what_an_earlier_reading_reports_is_ignored() {
    let readings = Readings::default();
    let due = readings.add(&[0]);
    assert_eq!(readings.receive(0, 4), Receipt::Dropped, "its start is unknown");
    let first = begin(&readings, &due, 5, "one");
    assert_eq!(readings.receive(0, 5), Receipt::Kept);
    assert_eq!(readings.receive(0, 9), Receipt::KeptAtEnd);
    assert!(readings.reach_end(0) && !readings.reach_end(0));
    assert!(readings.end_of_other_topics(&"one".into()).is_empty());
    let due = readings.end_of_other_topics(&"two".into());
    assert_eq!(due[0].read_before.as_deref(), Some("one"));
    assert!(readings.end_of_other_topics(&"two".into()).is_empty(), "once");
    readings.finish(0, first, 10);
    assert_eq!(uncommitted(&readings), [5], "finished while nobody knows the topic");
    let second = begin(&readings, &due, 0, "two");
    readings.finish(0, first, 10);
    assert_eq!(uncommitted(&readings), [0]);
    readings.finish(0, second, 1);
    assert_eq!(uncommitted(&readings), [1]);
    assert!(readings.reach_end(0), "it has an end of its own");
    readings.remove(&[0]);
    assert_eq!(readings.receive(0, 1), Receipt::Dropped);
}

#[test]
fn a_partition_whose_topic_is_made_again_was_read_from_the_old_one() {
    let readings = Readings::default();
    let due = readings.add(&[0, 1]);
    assert!(readings.topics_read(&[0, 1]).is_empty(), "nothing was read");
    begin(&readings, &due, 5, "one");
    let one = TopicsRead::from([(0, Some("one".into()))]);
    assert_eq!(readings.topics_read(&[0, 1]), one);
    assert!(readings.topics_read(&[1]).is_empty(), "the other one stays");
    readings.end_of_other_topics(&"two".into());
    assert_eq!(readings.topics_read(&[0, 1]), one, "its events are in memory");
}

#[test]
fn an_id_that_is_learned_late_counts_at_once() {
    let readings = Readings::default();
    let due = readings.add(&[0]);
    readings.begin(&start(&due[0], 0, None));
    assert!(readings.end_of_other_topics(&"one".into()).is_empty());
    readings.set_unknown_topics(&"one".into());
    readings.set_unknown_topics(&"two".into());
    assert!(readings.end_of_other_topics(&"one".into()).is_empty());
    assert_eq!(readings.end_of_other_topics(&"two".into()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_count_as_time_without_a_fetch() {
    const TIME: Duration = Duration::from_secs(5);
    let readings = Readings::default();
    let due = readings.add(&[0]);
    readings.pause(&[0]);
    begin(&readings, &due, 5, "one");
    for _ in 0..2 {
        tokio::time::advance(TIME * 2).await;
        assert!(readings.unread_for(TIME).is_empty(), "it is paused");
        readings.resume(&[0]);
        tokio::time::advance(TIME * 3 / 5).await;
        readings.pause(&[0]);
    }
    readings.resume(&[0]);
    assert_eq!(readings.unread_for(TIME), [0], "it was fetched for six seconds in all");
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_which_nothing_comes_is_unread() {
    const TIME: Duration = Duration::from_secs(5);
    let readings = Readings::default();
    let due = readings.add(&[0, 1, 2]);
    begin(&readings, &due, 5, "one");
    begin(&readings, &due[1..], 10, "one");
    readings.reach_end(1);
    tokio::time::advance(TIME).await;
    assert_eq!(readings.unread_for(TIME), [0, 1, 2], "1 began at its end, 2 has no start");
    begin(&readings, &due[2..], 5, "one");
    readings.set_fetched(1);
    readings.pass(0, 9);
    assert_eq!(readings.unread_for(TIME), [0]);
    assert!(readings.unread_for(TIME * 2).is_empty());
    readings.receive(0, 9);
    assert!(readings.unread_for(TIME).is_empty());
}

#[test]
fn a_commit_that_has_failed_is_repeated() {
    let readings = Readings::default();
    let due = readings.add(&[0]);
    assert!(uncommitted(&readings).is_empty());
    begin(&readings, &due, 5, "one");
    let starts = StartingOffsets::new("in".into(), None);
    let list = readings.take_uncommitted("in", &starts).unwrap();
    assert!(uncommitted(&readings).is_empty());
    readings.set_uncommitted(&list);
    assert_eq!(uncommitted(&readings), [5]);
    assert_eq!(readings.receive(0, 5), Receipt::Kept);
    assert_eq!(uncommitted(&readings), [5], "with the mark that the record was read");
    assert!(uncommitted(&readings).is_empty());
}

#[test]
fn the_position_is_committed_once_all_that_was_received_is_finished() {
    let check = |received: Option<i64>, finished: i64, position, expected: &[i64]| {
        let readings = Readings::default();
        let due = readings.add(&[0]);
        let number = begin(&readings, &due, 0, "one");
        received.map(|offset| readings.receive(0, offset));
        readings.finish(0, number, finished);
        uncommitted(&readings);
        readings.pass(0, position);
        assert_eq!(uncommitted(&readings), expected, "{received:?} {finished} {position}");
    };
    check(Some(4), 5, 17, &[17]);
    check(Some(9), 5, 17, &[]);
    check(Some(4), 17, 17, &[]);
    check(None, 0, 12, &[12]);
    check(None, 0, -1001, &[]);
}

#[test]
fn a_partition_is_fetched_while_its_reading_has_begun_and_is_not_paused() {
    let readings = Readings::default();
    let due = readings.add(&[0, 1]);
    assert!(readings.fetched(&[0, 1]).is_empty(), "their starts are unknown");
    readings.pause(&[1]);
    begin(&readings, &due, 5, "one");
    begin(&readings, &due[1..], 5, "one");
    assert_eq!(readings.fetched(&[0, 1]), [0]);
    readings.resume(&[1]);
    assert_eq!(readings.fetched(&[0, 1]), [0, 1]);
    readings.pause(&[0]);
    let again = readings.add(&[0]);
    begin(&readings, &again, 5, "one");
    assert_eq!(readings.fetched(&[0, 1]), [1], "it was never revoked");
    readings.remove(&[0]);
    let new = readings.add(&[0]);
    begin(&readings, &new, 5, "one");
    assert_eq!(readings.fetched(&[0, 1]), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_not_confirmed_is_repeated() {
    let readings = Readings::default();
    let due = readings.add(&[0]);
    let number = begin(&readings, &due, 0, "one");
    readings.finish(0, number, 7);
    assert!(!readings.is_commit_lost(0, -1001), "nothing was committed");
    assert_eq!(uncommitted(&readings), [7]);
    assert!(!readings.is_commit_lost(0, 3), "it may wait in the client");
    tokio::time::advance(CONFIRMED_AFTER).await;
    assert!(readings.is_commit_lost(0, 3) && !readings.is_commit_lost(0, 3), "once");
    assert_eq!(uncommitted(&readings), [7]);
    readings.repeat_unconfirmed();
    assert_eq!(uncommitted(&readings), [7], "before the partition is released");
    assert!(!readings.is_commit_lost(0, 7), "it is confirmed");
    tokio::time::advance(CONFIRMED_AFTER).await;
    readings.repeat_unconfirmed();
    assert!(!readings.is_commit_lost(0, 3) && uncommitted(&readings).is_empty());
}
