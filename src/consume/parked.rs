//! Parked events: they live in the ledger, and come back when they are due.
//!
//! In memory there are only numbers: about how many events are parked, when the next one is due, and
//! the [`WaitingRooms`]. [`ParkedEvents::read_due`] reads what is due, one read at a time; the event
//! loop starts what was read. An event that is due comes back only while a retry slot is free, so
//! that events that fail again and again leave room for those that were never tried. An event past
//! its deadline needs no slot, because it needs no call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::assignment::Assignments;
use super::event_count::{Counts, EventCount};
use super::oldest_parked::{OldestParked, ParkedSince};
use super::parked_reads::{DueRead, DueRequest, ParkedRead, RoomRead, StoredStart, SweepRead};
use super::running::NewlyParked;
use super::unreadable::UnreadableEvents;
use super::waiting_rooms::{RoomResult, WaitingRooms};
use crate::deliver::{Context, Ports};
use crate::domain::ledger_entry::{EntryState, RecoveredEntry, RoomName, WaitsFor};
use crate::domain::record::Position;
use crate::health::RoomStatus;
use crate::ledger::{DueEntries, DueQuery, ParkedCount, ParkedGroup, StoredEntries};

/// Events past their deadline that one read returns.
const MAX_OVERDUE: usize = 256;
/// Events that one read returns for the waiting rooms. A few are probes, which need no retry slot:
/// events that fail must not keep others from learning that somebody is online.
const MAX_FROM_ROOMS: usize = 128;
const MIN_FROM_ROOMS: usize = 4;
/// From one sweep for what fenced instances have claimed or parked to the next. A claimed event is
/// taken over by the second sweep, when every call of that instance is over.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);
/// Rooms that `/status` shows.
const MAX_SHOWN_ROOMS: usize = 20;
/// Events that one read returns at most, apart from those that cannot be read.
const MAX_READ: usize = 1024;
/// After a read that found nothing new.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// What is known of the parked events of the assigned partitions.
pub(super) struct ParkedEvents<P: Ports> {
    context: Arc<Context<P>>,
    topic: Arc<str>,
    counts: BTreeMap<i32, Counts>,
    pub(super) oldest: OldestParked,
    rooms: WaitingRooms,
    /// When the next event may have come due; `None`: none waits.
    next_due: Option<Timestamp>,
    next_deadline: Option<Timestamp>,
    reads: JoinSet<ParkedRead>,
    /// Events that are due, or of rooms, are being read.
    is_reading: bool,
    is_sweeping: bool,
    next_sweep: Timestamp,
    /// Unfinished entries that the last sweep found: partition and offset, and the version.
    swept: HashMap<(i32, i64), i64>,
    unreadable: UnreadableEvents,
}

impl<P: Ports> ParkedEvents<P> {
    pub(super) fn new(context: Arc<Context<P>>, topic: Arc<str>) -> Self {
        Self {
            context,
            topic,
            counts: BTreeMap::new(),
            oldest: OldestParked::default(),
            rooms: WaitingRooms::default(),
            next_due: None,
            next_deadline: None,
            reads: JoinSet::new(),
            is_reading: false,
            is_sweeping: false,
            next_sweep: Timestamp::MIN,
            swept: HashMap::new(),
            unreadable: UnreadableEvents::default(),
        }
    }

    /// A partition was assigned, and has parked events in these groups.
    pub(super) fn on_recovered(&mut self, partition: i32, groups: &[ParkedGroup]) {
        self.remove_partition(partition);
        self.oldest.on_read(&[partition], groups, self.latest_retry());
        for group in groups.iter().filter(|group| group.partition == partition) {
            let counts = self.counts.entry(partition).or_default();
            match &group.waits_for {
                WaitsFor::Time => counts.time = EventCount::unknown(),
                WaitsFor::Session => counts.session = EventCount::unknown(),
                WaitsFor::Agent(room) => {
                    self.rooms.add(room, partition, group.oldest, group.oldest_until);
                }
                WaitsFor::Redelivery => {}
            }
            self.check_soon();
        }
    }

    /// The events that were parked when the partition was assigned were counted.
    pub(super) fn on_counted(&mut self, partition: i32, counted: &[ParkedCount]) {
        let (mut time, mut session) = (0, 0);
        let mut in_rooms: HashMap<&RoomName, u64> = HashMap::new();
        for ParkedCount { waits_for, events, .. } in
            counted.iter().filter(|count| count.partition == partition)
        {
            match waits_for {
                WaitsFor::Time => time += events,
                WaitsFor::Session => session += events,
                WaitsFor::Agent(room) => *in_rooms.entry(room).or_default() += events,
                WaitsFor::Redelivery => {}
            }
        }
        if let Some(counts) = self.counts.get_mut(&partition) {
            counts.time.complete(time);
            counts.session.complete(session);
        }
        self.rooms.on_counted(partition, &in_rooms);
    }

    /// Forget the parked events of a partition, which another instance may own now.
    pub(super) fn remove_partition(&mut self, partition: i32) {
        self.counts.remove(&partition);
        self.oldest.remove_partition(partition);
        self.rooms.remove_partition(partition);
        self.swept.retain(|(swept, _), _| *swept != partition);
    }

    /// Read due events at the next opportunity: one may have been woken.
    pub(super) fn check_soon(&mut self) {
        let now = self.context.clock.now();
        self.next_due = Some(now);
        self.next_deadline = Some(now);
    }

    /// Whether events of this partition wait for their sessions.
    pub(super) fn has_followers(&self, partition: i32) -> bool {
        self.counts.get(&partition).is_some_and(|counts| counts.session.may_be_any())
    }

    /// An event was parked until `until`; `deadline` is its own.
    pub(super) fn on_parked(&mut self, partition: i32, parked: &NewlyParked<'_>) {
        let now = self.context.clock.now();
        let NewlyParked { until, waits_for, tried, received_at, deadline } = parked;
        let parked = ParkedSince { partition, waits_for, since: *received_at, until: *until };
        self.oldest.on_parked(&parked, self.latest_retry());
        let counts = self.counts.entry(partition).or_default();
        match waits_for {
            WaitsFor::Time => {
                counts.time.parked();
                self.next_due = earliest(self.next_due, Some(*until));
            }
            WaitsFor::Session => {
                counts.session.parked();
                self.next_due = Some(now);
            }
            WaitsFor::Agent(room) => {
                self.rooms.on_nobody(room, partition, now, *until, *tried);
            }
            WaitsFor::Redelivery => {}
        }
        self.next_deadline = earliest(self.next_deadline, Some(*deadline));
    }

    /// No event is parked for its next attempt beyond this time.
    fn latest_retry(&self) -> Timestamp {
        let longest = self.context.policy.current().retry.park.iter().max().copied();
        self.context.clock.now() + longest.unwrap_or_default()
    }

    /// A parked event was started again.
    fn on_started(
        &mut self,
        state: &EntryState,
        partition: i32,
        first_seen: Timestamp,
        is_overdue: bool,
    ) {
        let Some(waits_for) = state.waits_for() else { return };
        let counts = self.counts.entry(partition).or_default();
        match waits_for {
            WaitsFor::Time => counts.time.started(),
            WaitsFor::Session => counts.session.started(),
            WaitsFor::Agent(room) if is_overdue => self.rooms.on_overdue(room, partition),
            WaitsFor::Agent(room) => self.rooms.on_started(room, partition, first_seen),
            WaitsFor::Redelivery => {}
        }
    }

    /// The rooms, for the results of their events.
    pub(super) fn rooms(&mut self) -> &mut WaitingRooms {
        &mut self.rooms
    }

    /// Start to read the events that are due, if there may be any and no other read is running.
    /// `in_memory` is the number of events in memory that came from the ledger. Those that are not
    /// claimed yet are still parked there; the read has room for them, so that they hide no others.
    pub(super) fn read_due(
        &mut self,
        assignments: &Assignments,
        slots: &Semaphore,
        in_memory: usize,
    ) {
        if self.is_reading {
            return;
        }
        let now = self.context.clock.now();
        let free = slots.available_permits();
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let reads_due = is_due(self.next_deadline) || is_due(self.next_due) && free > 0;
        let rooms = self.rooms.take_due(now, free.clamp(MIN_FROM_ROOMS, MAX_FROM_ROOMS));
        if !reads_due && rooms.is_empty() {
            return;
        }
        let query = reads_due.then(|| DueQuery {
            topic: self.topic.clone(),
            partitions: assignments.due_partitions(),
            now,
            overdue_limit: (MAX_OVERDUE + in_memory).min(MAX_READ) + self.unreadable.len(),
            due_limit: match free {
                0 => 0,
                free => (free + in_memory).min(MAX_READ) + self.unreadable.len(),
            },
        });
        if query.is_some() {
            self.next_deadline = None;
            self.next_due = self.next_due.filter(|_| free == 0);
        }
        let request = DueRequest {
            topic: self.topic.clone(),
            assignments: assignments.recovered(),
            query,
            rooms,
            unreadable: self.unreadable.len(),
        };
        let context = self.context.clone();
        self.is_reading = true;
        self.reads.spawn(async move { ParkedRead::Due(request.read(&context).await) });
    }

    /// Start a sweep, if it is time for one.
    pub(super) fn sweep(&mut self, assignments: &Assignments) {
        let now = self.context.clock.now();
        if self.is_sweeping || now < self.next_sweep {
            return;
        }
        self.is_sweeping = true;
        self.next_sweep = now + SWEEP_INTERVAL;
        // A fenced instance may have parked an event again after this one had read.
        self.check_soon();
        let (context, topic) = (self.context.clone(), self.topic.clone());
        let assignments = assignments.recovered();
        self.reads.spawn(async move {
            ParkedRead::Sweep(SweepRead::read(&context, topic, assignments).await)
        });
    }

    /// The next result; pends while nothing is being read.
    pub(super) async fn next(&mut self) -> ParkedRead {
        loop {
            match self.reads.join_next().await {
                Some(Ok(read)) => return read,
                Some(Err(panicked)) => {
                    error!(error = %panicked, "reading parked events panicked: a bug");
                    let bug = format!("reading parked events panicked: {panicked}: a bug");
                    self.context.health.report_bug(bug);
                    (self.is_reading, self.is_sweeping) = (false, false);
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Take in what was read: calls `start` for each event, which says whether it started.
    /// `partitions` are those of which the assignment is still the one that the read was for.
    pub(super) fn on_read(
        &mut self,
        read: ParkedRead,
        partitions: &[i32],
        mut start: impl FnMut(RecoveredEntry, &WaitingRooms) -> StoredStart,
    ) {
        match read {
            ParkedRead::Due(read) => self.on_due(read, partitions, &mut start),
            ParkedRead::Sweep(read) => self.on_sweep(read, partitions, &mut start),
        }
    }

    fn on_due(
        &mut self,
        read: DueRead,
        partitions: &[i32],
        start: &mut impl FnMut(RecoveredEntry, &WaitingRooms) -> StoredStart,
    ) {
        self.is_reading = false;
        let now = self.context.clock.now();
        for RoomRead { room, limit, found } in read.rooms {
            let events = found.entries.len() + found.unreadable.len();
            let started = self.start_all(found, Some(limit), start);
            let read = RoomResult { room: &room, partitions, found: events, started };
            self.rooms.on_read(&read, now);
        }
        let Some(read_due) = read.due else { return };
        let DueEntries { overdue, due, next_deadline, next_due, has_early } = read_due;
        let is_overdue_left =
            overdue.entries.len() + overdue.unreadable.len() >= read.overdue_limit;
        let is_due_left = due.entries.len() + due.unreadable.len() >= read.due_limit;
        let started = self.start_all(overdue, None, start) + self.start_all(due, None, start);
        let again = if started > 0 { now } else { now + READ_AGAIN };
        let next_deadline = if is_overdue_left { Some(again) } else { next_deadline };
        let next_due = if is_due_left { Some(again) } else { next_due };
        // Nothing tells when Kafka has delivered what is ahead of them.
        let when_early = has_early.then_some(now + READ_AGAIN);
        self.next_due = earliest(self.next_due, when_early);
        // Another time may have been noted while these were read.
        self.next_deadline = earliest(self.next_deadline, next_deadline);
        self.next_due = earliest(self.next_due, next_due);
    }

    fn on_sweep(
        &mut self,
        SweepRead { unfinished, parked, .. }: SweepRead,
        partitions: &[i32],
        start: &mut impl FnMut(RecoveredEntry, &WaitingRooms) -> StoredStart,
    ) {
        self.is_sweeping = false;
        self.oldest.on_read(partitions, &parked, self.latest_retry());
        for group in parked.iter().filter(|group| partitions.contains(&group.partition)) {
            if let WaitsFor::Agent(room) = &group.waits_for {
                self.rooms.add_unknown(room, group);
            }
        }
        self.take_over(unfinished, partitions, start);
    }

    /// Start the unfinished events that nobody works on, if the sweep before found them in the same
    /// version: if another instance has claimed one meanwhile, its call may be in flight.
    fn take_over(
        &mut self,
        unfinished: StoredEntries,
        partitions: &[i32],
        start: &mut impl FnMut(RecoveredEntry, &WaitingRooms) -> StoredStart,
    ) {
        self.unreadable.on_damaged(unfinished.unreadable);
        let swept = std::mem::take(&mut self.swept);
        for entry in unfinished.entries {
            let Position { partition, offset, .. } = entry.record.position;
            if !partitions.contains(&partition) {
                continue;
            }
            self.swept.insert((partition, offset), entry.version);
            if swept.get(&(partition, offset)) != Some(&entry.version) {
                continue;
            }
            let key = entry.key.clone();
            // `start` refuses events that are in memory.
            match start(entry, &self.rooms) {
                StoredStart::Started { .. } => warn!(
                    kafka.partition = partition,
                    kafka.offset = offset,
                    "took over an event that a fenced instance had claimed"
                ),
                StoredStart::Unreadable(why) => self.unreadable.on_not_read(key, &why),
                StoredStart::InWork | StoredStart::TooEarly => {}
            }
        }
    }

    fn start_all(
        &mut self,
        found: StoredEntries,
        limit: Option<usize>,
        start: &mut impl FnMut(RecoveredEntry, &WaitingRooms) -> StoredStart,
    ) -> usize {
        self.unreadable.on_damaged(found.unreadable);
        let mut started = 0;
        for entry in found.entries {
            if limit.is_some_and(|limit| started >= limit) {
                break;
            }
            let (partition, first_seen) = (entry.record.position.partition, entry.first_seen);
            let (key, state) = (entry.key.clone(), entry.state.clone());
            match start(entry, &self.rooms) {
                StoredStart::Started { is_overdue } => {
                    started += 1;
                    self.unreadable.on_started(&key);
                    self.on_started(&state, partition, first_seen, is_overdue);
                }
                StoredStart::InWork => {}
                StoredStart::Unreadable(why) => self.unreadable.on_not_read(key, &why),
                StoredStart::TooEarly => {
                    let again = self.context.clock.now() + READ_AGAIN;
                    self.next_due = earliest(self.next_due, Some(again));
                    self.next_deadline = earliest(self.next_deadline, Some(again));
                }
            }
        }
        started
    }

    /// The fullest rooms, for `/status`.
    pub(super) fn room_status(&self) -> Vec<RoomStatus> {
        self.rooms.status(MAX_SHOWN_ROOMS)
    }

    /// Parked events that wait for their time, for their session and for an agent, as far as they are
    /// known.
    pub(super) fn counts(&self) -> [u64; 3] {
        let time = self.counts.values().map(|counts| counts.time.events()).sum();
        let session = self.counts.values().map(|counts| counts.session.events()).sum();
        [time, session, self.rooms.events()]
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
