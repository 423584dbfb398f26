//! A waiting room sends one probe per interval, and more only after an event of it found an agent or
//! ended without saying whether anybody is online. And it does send them: whatever is parked in a room
//! is tried by the owner of its partition, also what another instance has parked there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handoff::domain::ledger_entry::{
    Claim, EntryState, LedgerEntry, Park, RecordOrigin, RoomName, WaitsFor,
};
use handoff::ledger::ParkedGroup;
use jiff::Timestamp;
use tokio::time::Instant;

use super::world::{SimProcess, SimWorld, lock};

/// The owner of a partition finds an unknown room within this time: a sweep of the service.
const SWEEP: Duration = Duration::from_secs(15);
/// Longer than the delays of the simulated ledger, of calls that hang, and of a gate that opens again.
const SLACK: Duration = Duration::from_secs(9);

/// The events of one room that one process has to try: its name and the room.
type RoomOfOwner = (String, RoomName);

/// Since when each room could be tried and was not.
#[derive(Default)]
pub(super) struct UntriedRooms(BTreeMap<RoomOfOwner, Instant>);

/// What the check has seen of one room at one moment.
struct RoomOnDuty {
    process: Arc<SimProcess>,
    /// The latest time until which an event of it is parked: before that no probe is due.
    parked_until: Timestamp,
}

/// What the check remembers of one process.
#[derive(Default)]
pub(super) struct RoomProbes {
    rooms: BTreeMap<RoomName, Probes>,
    /// The events that were taken from a room and have not come back.
    taken: BTreeMap<Arc<str>, RoomName>,
}

struct Probes {
    /// When the next probe is allowed.
    next: Timestamp,
    /// How many events may be tried besides.
    extra: u32,
}

impl RoomProbes {
    fn room(&mut self, room: &RoomName) -> &mut Probes {
        let unknown = || Probes { next: Timestamp::MIN, extra: 0 };
        self.rooms.entry(room.clone()).or_insert_with(unknown)
    }

    /// The events that were taken from rooms in these partitions are no probes any more.
    fn end_taken(&mut self, process: &SimProcess, is_over: impl Fn(i32) -> bool) {
        let Self { rooms, taken } = self;
        taken.retain(|key, room| {
            let entry = process.world.ledger.entry(key);
            let is_over = entry.is_none_or(|entry| is_over(entry.source.partition));
            if is_over && let Some(of_room) = rooms.get_mut(room) {
                of_room.next = Timestamp::MIN;
            }
            !is_over
        });
    }
}

/// The process recovers these partitions, and finds these groups of parked events. What it knew of
/// their events before is over, so one that was taken from a room is no probe of it any more.
pub(super) fn on_recover(process: &Arc<SimProcess>, partitions: &[i32], parked: &[ParkedGroup]) {
    let mut probes = lock(&process.room_probes);
    probes.end_taken(process, |partition| partitions.contains(&partition));
    let now = process.world.now();
    for group in parked {
        let WaitsFor::Agent(room) = &group.waits_for else { continue };
        // It is known from now on: an event that joins it does not put its probe off.
        let of_room = probes.room(room);
        if of_room.next == Timestamp::MIN {
            of_room.next = now.min(group.oldest_until);
        }
    }
}

/// A claim is applied to this entry.
pub(super) fn on_claim(process: &Arc<SimProcess>, before: Option<&LedgerEntry>, claim: &Claim) {
    let Some(LedgerEntry { state: EntryState::Parked { waits_for, .. }, deadline, .. }) = before
    else {
        return;
    };
    let WaitsFor::Agent(room) = waits_for else { return };
    let now = process.world.now();
    if claim.origin == RecordOrigin::Kafka || deadline.is_some_and(|deadline| deadline <= now) {
        return;
    }
    if claim.expected_version.is_some_and(|read| before.map(|entry| entry.version) != Some(read)) {
        return;
    }
    let mut probes = lock(&process.room_probes);
    // A probe whose partition is being revoked may have ended without a word.
    probes.end_taken(process, |partition| !process.stays_owner_of(partition));
    probes.taken.insert(claim.key.clone(), room.clone());
    let of_room = probes.room(room);
    if of_room.extra > 0 {
        of_room.extra -= 1;
    } else if now >= of_room.next {
        of_room.next = Timestamp::MAX;
    } else {
        let name = &process.name;
        process.world.violation(format!("{name} probes {room} before {}", of_room.next));
    }
}

/// An event is parked.
pub(super) fn on_park(process: &Arc<SimProcess>, key: &Arc<str>, park: &Park) {
    let mut probes = lock(&process.room_probes);
    let taken = probes.taken.remove(key);
    match (&park.waits_for, taken) {
        (WaitsFor::Agent(room), Some(_)) => {
            *probes.room(room) = Probes { next: park.until, extra: 0 };
        }
        (_, Some(room)) => probes.room(&room).extra += 1,
        (WaitsFor::Agent(room), None) => {
            let of_room = probes.room(room);
            if of_room.next == Timestamp::MIN {
                of_room.next = park.until;
            }
        }
        (_, None) => {}
    }
}

/// An event is settled.
pub(super) fn on_settle(process: &Arc<SimProcess>, key: &Arc<str>, label: &str) {
    let mut probes = lock(&process.room_probes);
    if let Some(room) = probes.taken.remove(key) {
        probes.room(&room).extra += 1;
    }
    // Slow start: each success lets one more event go, in every room of its plan.
    if label == "assigned" || label == "queued" {
        probes.rooms.values_mut().for_each(|of_room| of_room.extra += 1);
    }
}

/// Look at the ledger once; must be called about every second.
pub(super) fn check_tried(world: &SimWorld) {
    let (now, instant) = (world.now(), Instant::now());
    let mut on_duty: BTreeMap<RoomOfOwner, RoomOnDuty> = BTreeMap::new();
    for (_, entry) in world.ledger.entries() {
        let EntryState::Parked { until, waits_for: WaitsFor::Agent(room) } = entry.state else {
            continue;
        };
        // One past its deadline is answered without a try.
        let is_overdue = entry.deadline.is_some_and(|deadline| deadline <= now);
        let owner = lock(&world.kafka).staying_owner(entry.source.partition);
        if let Some(process) = owner.filter(|_| !is_overdue) {
            let unseen = RoomOnDuty { process: process.clone(), parked_until: until };
            let seen = on_duty.entry((process.name.clone(), room)).or_insert(unseen);
            seen.parked_until = seen.parked_until.max(until);
        }
    }
    let mut untried = lock(&world.untried_rooms);
    untried.0.retain(|of_owner, _| on_duty.contains_key(of_owner));
    for (of_owner, seen) in on_duty {
        let (name, room) = &of_owner;
        let since = *untried.0.entry(of_owner.clone()).or_insert(instant);
        if seen.parked_until > now || seen.process.is_excused(room) {
            untried.0.insert(of_owner, instant);
        } else if instant - since > SWEEP + SLACK {
            world.violation(format!("{name} does not try the events in {room}"));
            untried.0.remove(&of_owner);
        }
    }
}

impl SimProcess {
    fn stays_owner_of(self: &Arc<Self>, partition: i32) -> bool {
        let owner = lock(&self.world.kafka).staying_owner(partition);
        owner.is_some_and(|owner| Arc::ptr_eq(&owner, self))
    }

    /// Whether it need not try an event of this room now.
    fn is_excused(&self, room: &RoomName) -> bool {
        let probes = lock(&self.room_probes);
        let next = probes.rooms.get(room).map_or(Timestamp::MIN, |of_room| of_room.next);
        let is_early = next > self.world.now() && next != Timestamp::MAX;
        let is_ours = |entry: LedgerEntry| {
            matches!(entry.state, EntryState::Open { .. }) && *entry.owner == *self.name
        };
        let mut taken = probes.taken.iter().filter(|(_, from)| *from == room);
        is_early
            || taken.any(|(key, _)| self.world.ledger.entry(key).is_some_and(is_ours))
            || self.paused_since(Instant::now() - SWEEP)
            || self.is_gate_shut()
    }
}
