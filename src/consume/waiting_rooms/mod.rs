//! Waiting rooms: who may try again when nobody was online.
//!
//! "Nobody is online" is a state of the targets, not of an event. All events of one plan share a
//! room, and the room sends one of them, the first seen, as a probe per interval. When a probe finds
//! an agent the next events follow with slow start (1, 2, 4, ...) until one finds nobody again. So
//! the calls per interval are one per room, whatever waits in it. The events themselves are parked
//! in the ledger. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::event_count::EventCount;
use crate::domain::ledger_entry::RoomName;
use crate::health::RoomStatus;
use crate::ledger::ParkedGroup;

/// More rooms than this are not opened: the events of further plans wait alone. Each event may name
/// agents of its own, so the number of plans has no bound.
const MAX_ROOMS: usize = 10_000;
/// The most events that a room tries at once.
const MAX_WINDOW: usize = 64;

/// After a read that found no event which could be started.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// The same while others are being tried: until they are claimed, a read shows them.
const READ_SOON: Duration = Duration::from_millis(100);

/// The rooms of the partitions of this process.
#[derive(Debug, Default)]
pub(super) struct WaitingRooms {
    rooms: HashMap<RoomName, WaitingRoom>,
    /// The rooms that may send an event next, by its time.
    due: BTreeSet<(Timestamp, RoomName)>,
    /// Parked events in all rooms, as far as they are known.
    events: u64,
}

#[derive(Debug)]
struct WaitingRoom {
    /// The partitions that may have events of it. One is removed only by a read that finds none, so
    /// that no event is forgotten because of a wrong count.
    waiting: BTreeMap<i32, Waiting>,
    /// When the first of them was first seen.
    oldest: Timestamp,
    next_probe: Timestamp,
    /// Events that may be tried at once; 0 but for slow start.
    window: usize,
    /// Events that are being tried.
    trying: usize,
    /// Its events are being read from the ledger.
    reading: bool,
    /// In slow start: it is not read before this time.
    read_again: Timestamp,
    /// Its time in [`WaitingRooms::due`].
    indexed_at: Option<Timestamp>,
    /// Its events in [`WaitingRooms::events`].
    counted: u64,
}

/// The events of a room in one partition.
#[derive(Debug, Default)]
struct Waiting {
    events: EventCount,
    /// One was parked since the last read of the room began, which may not have found it.
    parked_since: bool,
}

/// How many events of a room to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomRequest {
    pub(super) room: RoomName,
    pub(super) events: usize,
    /// Events of it that are being tried. Until they are claimed, the ledger shows them first.
    pub(super) trying: usize,
}

/// What a read of a room found.
pub(super) struct RoomResult<'a> {
    pub(super) room: &'a RoomName,
    pub(super) partitions: &'a [i32],
    pub(super) found: usize,
    pub(super) started: usize,
}

impl WaitingRooms {
    /// Whether an event may be parked in this room.
    pub(super) fn admits(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room) || self.rooms.len() < MAX_ROOMS
    }

    /// Add the events of a partition that were found in the ledger; they are counted later.
    /// `next_probe` is that of the partition's previous owner.
    pub(super) fn add(
        &mut self,
        room: &RoomName,
        partition: i32,
        oldest: Timestamp,
        next_probe: Timestamp,
    ) {
        let added =
            self.rooms.entry(room.clone()).or_insert_with(|| WaitingRoom::new(oldest, next_probe));
        let found = Waiting { events: EventCount::unknown(), parked_since: true };
        added.waiting.insert(partition, found);
        added.oldest = added.oldest.min(oldest);
        added.next_probe = added.next_probe.max(next_probe);
        self.reindex(room);
    }

    /// Events of a partition were found in the ledger, which nobody here has parked: if their room is
    /// unknown, it is opened. The next probe of a known one stays as it is.
    pub(super) fn add_unknown(&mut self, room: &RoomName, group: &ParkedGroup) {
        let ParkedGroup { partition, oldest, oldest_until, .. } = group;
        let new = || WaitingRoom::new(*oldest, *oldest_until);
        let of_room = self.rooms.entry(room.clone()).or_insert_with(new);
        of_room.waiting.entry(*partition).or_insert_with(|| {
            let mut events = EventCount::default();
            events.parked();
            Waiting { events, parked_since: true }
        });
        self.reindex(room);
    }

    /// The events of a partition that [`Self::add`] was called for were counted.
    pub(super) fn on_counted(&mut self, partition: i32, events: &HashMap<&RoomName, u64>) {
        let rooms: Vec<_> = self.rooms.keys().cloned().collect();
        for room in rooms {
            let of_room = self.rooms.get_mut(&room);
            if let Some(waiting) = of_room.and_then(|room| room.waiting.get_mut(&partition)) {
                waiting.events.complete(events.get(&room).copied().unwrap_or(0));
            }
            self.reindex(&room);
        }
    }

    /// An event of the plan found nobody, and is parked until `next_probe` at least.
    pub(super) fn on_nobody(
        &mut self,
        room: &RoomName,
        partition: i32,
        now: Timestamp,
        next_probe: Timestamp,
        tried: TriedFrom,
    ) {
        let of_room =
            self.rooms.entry(room.clone()).or_insert_with(|| WaitingRoom::new(now, next_probe));
        if of_room.waiting.is_empty() {
            of_room.oldest = now;
        }
        let waiting = of_room.waiting.entry(partition).or_default();
        waiting.events.parked();
        waiting.parked_since = true;
        if tried == TriedFrom::Room {
            of_room.next_probe = next_probe;
        }
        of_room.window = 0;
        self.reindex(room);
    }

    /// An event of the plan found an agent.
    pub(super) fn on_found(&mut self, room: &RoomName) {
        let Some(of_room) = self.rooms.get_mut(room) else { return };
        of_room.window = (of_room.window + 1).min(MAX_WINDOW);
        self.reindex(room);
    }

    /// An event that was tried ended without saying whether anybody is online: another one goes.
    pub(super) fn on_inconclusive(&mut self, room: &RoomName, now: Timestamp) {
        let Some(of_room) = self.rooms.get_mut(room) else { return };
        if of_room.window == 0 {
            of_room.next_probe = now;
        }
        self.reindex(room);
    }

    /// An event that was tried has ended, whatever the result; called once for each
    /// [`Self::on_started`], with the same room.
    pub(super) fn on_ended(&mut self, room: &RoomName) {
        let Some(of_room) = self.rooms.get_mut(room) else { return };
        of_room.trying = of_room.trying.saturating_sub(1);
        self.reindex(room);
    }

    /// The rooms that may try events now, at most `limit` events in all. Each is followed by
    /// [`Self::on_read`].
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<RoomRequest> {
        let mut requests: Vec<RoomRequest> = Vec::new();
        let mut left = limit;
        for (_, room) in self.due.iter().take_while(|(at, _)| *at <= now) {
            let events = self.rooms[room].wanted().min(left);
            if events == 0 {
                break;
            }
            left -= events;
            let trying = self.rooms[room].trying;
            requests.push(RoomRequest { room: room.clone(), events, trying });
        }
        for request in &requests {
            if let Some(room) = self.rooms.get_mut(&request.room) {
                room.reading = true;
                room.waiting.values_mut().for_each(|waiting| waiting.parked_since = false);
            }
            self.reindex(&request.room);
        }
        requests
    }

    /// The events of a room in these partitions were read: how many there were, and how many of them
    /// were started.
    pub(super) fn on_read(&mut self, read: &RoomResult<'_>, now: Timestamp) {
        let RoomResult { room, partitions, found, started } = read;
        let Some(of_room) = self.rooms.get_mut(*room) else { return };
        of_room.reading = false;
        if *found == 0 {
            // Its events were tried, have met their deadlines, or another instance has them.
            of_room.waiting.retain(|partition, waiting| {
                waiting.parked_since || !partitions.contains(partition)
            });
        } else if *started == 0 && of_room.trying == 0 {
            of_room.window = 0;
            of_room.next_probe = now + READ_AGAIN;
        } else if *started == 0 {
            of_room.read_again = now + READ_SOON;
        }
        self.reindex(room);
    }

    /// An event of the room is being tried.
    pub(super) fn on_started(&mut self, room: &RoomName, partition: i32, first_seen: Timestamp) {
        self.take(room, partition, |room| {
            room.trying += 1;
            room.oldest = first_seen;
        });
    }

    /// An event of the room is past its deadline, and is answered without a try.
    pub(super) fn on_overdue(&mut self, room: &RoomName, partition: i32) {
        self.take(room, partition, |_| {});
    }

    fn take(&mut self, room: &RoomName, partition: i32, then: impl FnOnce(&mut WaitingRoom)) {
        let Some(of_room) = self.rooms.get_mut(room) else { return };
        if let Some(waiting) = of_room.waiting.get_mut(&partition) {
            waiting.events.started();
        }
        then(of_room);
        self.reindex(room);
    }

    /// Forget the events of a partition.
    pub(super) fn remove_partition(&mut self, partition: i32) {
        let rooms: Vec<_> = self.rooms.keys().cloned().collect();
        for room in rooms {
            if let Some(of_room) = self.rooms.get_mut(&room) {
                of_room.waiting.remove(&partition);
            }
            self.reindex(&room);
        }
    }

    /// Number of parked events in all rooms, as far as it is known.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The fullest rooms, at most `limit`.
    pub(super) fn status(&self, limit: usize) -> Vec<RoomStatus> {
        let is_shown = |room: &WaitingRoom| !room.is_counted() || room.events() > 0;
        let mut rooms: Vec<_> = self.rooms.iter().filter(|(_, room)| is_shown(room)).collect();
        rooms.sort_by_key(|(name, room)| (std::cmp::Reverse(room.events()), (*name).clone()));
        let status = |(name, room): (&RoomName, &WaitingRoom)| RoomStatus {
            name: name.clone(),
            events: room.is_counted().then(|| room.events()),
            oldest: room.oldest,
            next_probe: (room.window == 0 && room.trying == 0).then_some(room.next_probe),
        };
        rooms.into_iter().take(limit).map(status).collect()
    }

    /// Put the room where it belongs after a change.
    fn reindex(&mut self, name: &RoomName) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(at) = room.indexed_at.take() {
            self.due.remove(&(at, name.clone()));
        }
        let events = room.events();
        self.events = self.events - room.counted + events;
        room.counted = events;
        if room.is_over() {
            self.rooms.remove(name);
        } else if room.wanted() > 0 {
            let at = if room.window > 0 { room.read_again } else { room.next_probe };
            room.indexed_at = Some(at);
            self.due.insert((at, name.clone()));
        }
    }
}

/// Where an event came from that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TriedFrom {
    /// From the room.
    Room,
    /// Straight from Kafka, or after another wait: its first attempt with this plan.
    Outside,
}

impl WaitingRoom {
    fn new(oldest: Timestamp, next_probe: Timestamp) -> Self {
        Self {
            waiting: BTreeMap::new(),
            oldest,
            next_probe,
            window: 0,
            trying: 0,
            reading: false,
            read_again: Timestamp::MIN,
            indexed_at: None,
            counted: 0,
        }
    }

    fn events(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.events.events()).sum()
    }

    fn is_counted(&self) -> bool {
        self.waiting.values().all(|waiting| waiting.events.is_complete())
    }

    /// How many more events may be tried, once it is time.
    fn wanted(&self) -> usize {
        if self.reading || self.waiting.is_empty() {
            return 0;
        }
        self.window.max(1).saturating_sub(self.trying)
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.trying == 0 && !self.reading
    }
}

#[cfg(test)]
mod tests;
