//! When a room is probed, filled, opened and closed.

use super::*;
use crate::domain::ledger_entry::WaitsFor;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn name() -> RoomName {
    "group 7 #1".into()
}

/// A room in which `events` were parked at second 0 and whose probe is due at second 15.
fn room_of(events: usize) -> WaitingRooms {
    let mut rooms = WaitingRooms::default();
    for _ in 0..events {
        rooms.on_nobody(&name(), 0, at(0), at(15), TriedFrom::Outside);
    }
    rooms
}

fn on_read(rooms: &mut WaitingRooms, second: i64, events: usize) {
    let (room, found, started) = (&name(), events, events);
    rooms.on_read(&RoomResult { room, partitions: &[0], found, started }, at(second));
}

/// Try what is due: how many events.
fn tried(rooms: &mut WaitingRooms, second: i64) -> usize {
    let requests = rooms.take_due(at(second), 100);
    let mut started = 0;
    for RoomRequest { room, events, .. } in requests {
        for _ in 0..events {
            rooms.on_started(&room, 0, at(0));
        }
        on_read(rooms, second, events);
        started += events;
    }
    started
}

#[test]
fn a_room_sends_one_probe_per_interval_whatever_waits_in_it() {
    let mut rooms = room_of(100_000);
    assert_eq!([tried(&mut rooms, 14), tried(&mut rooms, 15), tried(&mut rooms, 16)], [0, 1, 0]);
    rooms.on_nobody(&name(), 0, at(0), at(31), TriedFrom::Outside);
    assert_eq!(tried(&mut rooms, 40), 0, "the probe is still out");
    rooms.on_ended(&name());
    rooms.on_nobody(&name(), 0, at(16), at(32), TriedFrom::Room);
    assert_eq!([tried(&mut rooms, 31), tried(&mut rooms, 32)], [0, 1]);
    assert_eq!(rooms.events(), 100_000);
}

#[test]
fn after_a_success_the_others_follow_with_slow_start_until_one_finds_nobody() {
    let mut rooms = room_of(10);
    assert_eq!(tried(&mut rooms, 15), 1);
    rooms.on_ended(&name());
    rooms.on_found(&name());
    assert_eq!(tried(&mut rooms, 15), 1);
    rooms.on_ended(&name());
    rooms.on_found(&name());
    assert_eq!(tried(&mut rooms, 15), 2);
    rooms.on_ended(&name());
    rooms.on_found(&name());
    rooms.on_ended(&name());
    rooms.on_found(&name());
    assert_eq!(tried(&mut rooms, 15), 4);
    rooms.on_ended(&name());
    rooms.on_nobody(&name(), 0, at(16), at(31), TriedFrom::Room);
    assert_eq!([tried(&mut rooms, 30), rooms.events() as usize], [0, 3]);
}

#[test]
fn a_success_of_an_event_from_outside_opens_the_room() {
    let mut rooms = room_of(3);
    rooms.on_found(&name());
    assert_eq!(tried(&mut rooms, 1), 1);
}

#[test]
fn an_event_that_says_nothing_about_the_targets_is_followed_by_the_next() {
    let mut rooms = room_of(3);
    assert_eq!(tried(&mut rooms, 15), 1);
    rooms.on_ended(&name());
    rooms.on_inconclusive(&name(), at(16));
    assert_eq!(tried(&mut rooms, 16), 1);
}

#[test]
fn a_room_without_events_is_forgotten() {
    let mut rooms = room_of(2);
    assert_eq!(rooms.status(9)[0].events, Some(2));
    assert_eq!(rooms.status(9)[0].next_probe, Some(at(15)));
    rooms.on_overdue(&name(), 0);
    rooms.remove_partition(1);
    assert_eq!(rooms.events(), 1);
    rooms.remove_partition(0);
    assert_eq!((rooms.events(), rooms.rooms.len(), rooms.due.len()), (0, 0, 0));
    let mut read = room_of(2);
    assert_eq!(read.take_due(at(20), 9).len(), 1);
    on_read(&mut read, 20, 0);
    assert_eq!(read.rooms.len(), 0, "the ledger has no event of it");
}

#[test]
fn an_event_that_is_parked_during_a_read_keeps_its_room() {
    let mut rooms = room_of(1);
    assert_eq!(rooms.take_due(at(15), 9).len(), 1);
    rooms.on_nobody(&name(), 0, at(15), at(30), TriedFrom::Outside);
    rooms.on_nobody(&name(), 1, at(15), at(30), TriedFrom::Outside);
    on_read(&mut rooms, 15, 0);
    assert_eq!(tried(&mut rooms, 15), 1, "the read may have begun before it was parked");
    rooms.on_ended(&name());
    rooms.on_inconclusive(&name(), at(16));
    assert_eq!(rooms.take_due(at(16), 9).len(), 1);
    on_read(&mut rooms, 16, 0);
    assert!(rooms.rooms.contains_key(&name()), "partition 1 was not read");
    rooms.remove_partition(1);
    assert_eq!(rooms.rooms.len(), 0, "none was parked in partition 0 since");
}

#[test]
fn a_room_is_closed_only_by_a_read_that_finds_none() {
    let mut rooms = room_of(1);
    rooms.on_overdue(&name(), 0);
    assert_eq!((rooms.events(), rooms.rooms.len()), (0, 1), "the count may be wrong");
    assert_eq!(rooms.take_due(at(15), 9).len(), 1);
    on_read(&mut rooms, 15, 0);
    assert_eq!(rooms.rooms.len(), 0);
}

#[test]
fn a_room_of_a_previous_owner_is_probed_before_its_events_are_counted() {
    let mut rooms = WaitingRooms::default();
    let other = "other".into();
    rooms.add(&name(), 0, at(3), at(15));
    rooms.add(&name(), 1, at(2), at(12));
    rooms.add(&other, 0, at(1), at(99));
    assert_eq!((rooms.events(), rooms.status(9)[0].events), (0, None));
    assert_eq!([tried(&mut rooms, 14), tried(&mut rooms, 15)], [0, 1], "the latest counts");
    rooms.on_counted(0, &HashMap::from([(&name(), 10), (&other, 5)]));
    let shown = |rooms: &WaitingRooms| {
        let status = rooms.status(9).into_iter();
        status.map(|room| (room.name.to_string(), room.events)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&rooms), [(name().to_string(), None), ("other".into(), Some(5))]);
    rooms.on_counted(1, &HashMap::new());
    assert_eq!(shown(&rooms)[0].1, Some(9), "one of them is being tried");
    assert_eq!(rooms.events(), 14);
}

#[test]
fn events_that_another_instance_has_parked_open_their_room() {
    let found = |partition| ParkedGroup {
        partition,
        waits_for: WaitsFor::Agent(name()),
        oldest: at(1),
        oldest_until: at(99),
    };
    let mut rooms = WaitingRooms::default();
    rooms.add_unknown(&name(), &found(0));
    rooms.add_unknown(&name(), &found(0));
    assert_eq!(rooms.events(), 1, "at least");
    assert_eq!([tried(&mut rooms, 98), tried(&mut rooms, 99)], [0, 1]);

    let mut known = room_of(2);
    known.add_unknown(&name(), &found(0));
    known.add_unknown(&name(), &found(1));
    assert_eq!((known.events(), tried(&mut known, 15)), (3, 1), "its probe is due all the same");
    known.remove_partition(0);
    assert!(known.rooms.contains_key(&name()), "partition 1 has one");
}

#[test]
fn a_room_whose_events_are_all_being_tried_is_not_read_incessantly() {
    let mut rooms = room_of(2);
    rooms.on_found(&name());
    rooms.on_found(&name());
    assert_eq!(tried(&mut rooms, 1), 2);
    rooms.on_found(&name());
    let requests = rooms.take_due(at(1), 9);
    assert_eq!((requests[0].events, requests[0].trying), (1, 2));
    let (room, partitions) = (&name(), &[0][..]);
    let read = RoomResult { room, partitions, found: 2, started: 0 };
    rooms.on_read(&read, at(1));
    assert_eq!(rooms.take_due(at(1), 9).len(), 0);
    assert_eq!(rooms.take_due(at(2), 9).len(), 1);
}

#[test]
fn only_so_many_rooms_are_opened() {
    let mut rooms = WaitingRooms::default();
    for room in 0..MAX_ROOMS {
        rooms.add(&format!("{room}").into(), 0, at(0), at(15));
    }
    assert!(rooms.admits(&"7".into()) && !rooms.admits(&name()));
}
