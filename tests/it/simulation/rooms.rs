//! A waiting room sends one probe per interval, and more only after an event of it found an agent or
//! ended without saying whether anybody is online.

use std::collections::BTreeMap;
use std::sync::Arc;

use handoff::domain::ledger_entry::{
    Claim, EntryState, LedgerEntry, Park, RecordOrigin, RoomName, WaitsFor,
};
use jiff::Timestamp;

use super::world::{SimProcess, lock};

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
