//! The simulated Kafka: topics, committed offsets, and the group coordinator, which moves partitions
//! when members join, leave, crash or are paused, or for no reason.
//!
//! A commit counts only from the member that owns the partition. The coordinator asks a live member
//! before it takes a partition, and expels one that is silent for the session timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use handoff::consume::ReadingStart;
use handoff::domain::record::{Position, Record};
use handoff::domain::wire::Message;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::checks;
use super::mutations::Mutation;
use super::schedule::{InputRecord, RecordKind};
use super::world::{SimProcess, SimWorld, lock};

pub(super) const TOPIC: &str = "escalations";

pub(super) struct SimKafka {
    pub(super) partitions: Vec<Partition>,
    pub(super) published: Vec<PublishedRecord>,
    pub(super) members: BTreeMap<usize, GroupMember>,
    /// The keys of entries that have been parked with their record at some time.
    pub(super) parked: BTreeSet<Arc<str>>,
    /// Until when the state of a session may be queried.
    pub(super) reconcile_until: BTreeMap<Arc<str>, Timestamp>,
}

/// A partition of the escalations topic.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) records: Vec<Record>,
    pub(super) kinds: Vec<RecordKind>,
    pub(super) committed: i64,
    pub(super) owner: Option<Arc<SimProcess>>,
    /// Its owner was asked to revoke it.
    draining: bool,
}

/// A record of the outcome or dead-letter topic.
pub(super) struct PublishedRecord {
    pub(super) message: Message,
    /// Position of the record that it answers.
    pub(super) source: String,
    /// A final outcome follows.
    pub(super) interim: bool,
    /// Its process was paused between enqueueing and sending it.
    pub(super) late: bool,
    at: Timestamp,
}

pub(super) struct GroupMember {
    pub(super) process: Arc<SimProcess>,
    pub(super) commands: mpsc::UnboundedSender<GroupCommand>,
    pub(super) wake: Arc<Notify>,
    /// The coordinator has expelled it, and it does not know yet.
    pub(super) expelled: bool,
    silent_since: Option<Instant>,
}

/// A command of the coordinator to a member.
pub(super) enum GroupCommand {
    Assign(Vec<i32>),
    Revoke(Vec<i32>),
    Lose(Vec<i32>),
}

impl GroupMember {
    pub(super) fn new(
        process: &Arc<SimProcess>,
        commands: mpsc::UnboundedSender<GroupCommand>,
    ) -> Self {
        let (process, wake) = (process.clone(), Arc::default());
        Self { process, commands, wake, expelled: false, silent_since: None }
    }

    fn send(&self, command: GroupCommand) {
        // Fails for a member that has ended.
        drop(self.commands.send(command));
        self.wake.notify_one();
    }

    fn is_silent(&self) -> bool {
        self.process.is_crashed() || self.process.paused_until().is_some()
    }
}

impl SimKafka {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            published: Vec::new(),
            members: BTreeMap::new(),
            parked: BTreeSet::new(),
            reconcile_until: BTreeMap::new(),
        }
    }

    pub(super) fn append(&mut self, input: &InputRecord, now: Timestamp) {
        let partition = &mut self.partitions[input.partition];
        partition.records.push(Record {
            position: Position {
                topic: TOPIC.into(),
                partition: input.partition as i32,
                offset: partition.records.len() as i64,
            },
            timestamp: Some(now),
            key: None,
            value: input.value.clone(),
            headers: vec![],
        });
        partition.kinds.push(input.kind.clone());
        if let Some(owner) = &partition.owner
            && let Some(member) = self.members.get(&owner.slot)
        {
            member.wake.notify_one();
        }
    }

    pub(super) fn publish(&mut self, message: Message, at: Timestamp, late: bool) -> Position {
        let source = checks::source_of(&message);
        let interim = checks::is_interim(&message);
        self.published.push(PublishedRecord { message, source, interim, late, at });
        let offset = self.published.len() as i64 - 1;
        Position { topic: "outcomes".into(), partition: 0, offset }
    }

    pub(super) fn find(&self, message: &Message, since: Timestamp) -> Option<Position> {
        let same =
            |published: &PublishedRecord| published.message == *message && published.at >= since;
        let offset = self.published.iter().position(same)? as i64;
        Some(Position { topic: "outcomes".into(), partition: 0, offset })
    }

    pub(super) fn owns(&self, process: &Arc<SimProcess>, partition: i32) -> bool {
        let owner = &self.partitions[partition as usize].owner;
        owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, process))
    }

    /// The process owns the partition of this session's records.
    pub(super) fn owns_session(&self, process: &Arc<SimProcess>, session: &str) -> bool {
        let number: usize = session.trim_start_matches('s').parse().unwrap();
        self.owns(process, (number % self.partitions.len()) as i32)
    }

    /// Commit an offset, if the process owns the partition. Returns whether that changed it.
    fn commit(&mut self, process: &Arc<SimProcess>, partition: i32, offset: i64) -> bool {
        if !self.owns(process, partition) {
            return false;
        }
        let partition = &mut self.partitions[partition as usize];
        let moved = partition.committed != offset;
        partition.committed = offset;
        moved
    }

    pub(super) fn release(&mut self, process: &Arc<SimProcess>, partitions: &[i32]) {
        for &partition in partitions {
            if self.owns(process, partition) {
                self.free(partition as usize);
            }
        }
    }

    pub(super) fn leave(&mut self, process: &Arc<SimProcess>) {
        let all: Vec<_> = (0..self.partitions.len() as i32).collect();
        self.release(process, &all);
        if self
            .members
            .get(&process.slot)
            .is_some_and(|member| Arc::ptr_eq(&member.process, process))
        {
            self.members.remove(&process.slot);
        }
    }

    fn free(&mut self, partition: usize) {
        let partition = &mut self.partitions[partition];
        (partition.owner, partition.draining) = (None, false);
    }

    /// The process that owns the partition and has not been asked to revoke it.
    pub(super) fn staying_owner(&self, partition: i32) -> Option<Arc<SimProcess>> {
        let Partition { owner, draining, .. } = &self.partitions[partition as usize];
        owner.clone().filter(|_| !draining)
    }

    /// The process is about to leave the group, and drains its partitions.
    pub(super) fn set_leaving(&mut self, process: &Arc<SimProcess>) {
        for partition in self.owned_by(process) {
            self.partitions[partition as usize].draining = true;
        }
    }

    fn owned_by(&self, process: &Arc<SimProcess>) -> Vec<i32> {
        (0..self.partitions.len() as i32).filter(|p| self.owns(process, *p)).collect()
    }

    /// Take the partitions of members that have been silent for too long.
    fn expel(&mut self, world: &SimWorld) {
        let mut expelled = Vec::new();
        for member in self.members.values_mut() {
            if !member.is_silent() {
                member.silent_since = None;
                continue;
            }
            let since = *member.silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= world.schedule.session_timeout && !member.expelled {
                member.expelled = true;
                expelled.push(member.process.clone());
            }
        }
        for process in expelled {
            let lost = self.owned_by(&process);
            world.log(|| format!("the group expels {}: {lost:?}", process.name));
            self.release(&process, &lost);
            if process.is_crashed() {
                self.members.remove(&process.slot);
            } else if !world.is(Mutation::IgnoreFencing) {
                self.members[&process.slot].send(GroupCommand::Lose(lost));
            }
        }
        let members = &self.members;
        let mut gone = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            if let Some(owner) = &partition.owner {
                let member = members.get(&owner.slot);
                // A restarted member takes over at once.
                if member.is_none_or(|member| !Arc::ptr_eq(&member.process, owner)) {
                    gone.push(index);
                }
            }
        }
        gone.into_iter().for_each(|partition| self.free(partition));
    }

    /// Assign the partitions that have no owner.
    fn assign(&mut self, world: &SimWorld) {
        let able: Vec<_> =
            self.members.values().filter(|m| !m.is_silent() && !m.expelled).collect();
        let mut assigned: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        if able.is_empty() {
            return;
        }
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if partition.owner.is_none() {
                let member = able[world.rng(|rng| rng.usize(0..able.len()))];
                partition.owner = Some(member.process.clone());
                assigned.entry(member.process.slot).or_default().push(index as i32);
            }
        }
        for (slot, partitions) in assigned {
            let member = &self.members[&slot];
            world.log(|| format!("{} is assigned {partitions:?}", member.process.name));
            member.send(GroupCommand::Assign(partitions));
        }
    }

    /// Ask the owner of one partition to revoke it, or each member to revoke all of its own.
    fn rebalance(&mut self, world: &SimWorld) {
        // An eager rebalance revokes everything, a cooperative one a part.
        let everything = world.one_in(3);
        let one = world.rng(|rng| rng.usize(0..self.partitions.len()));
        let mut asked: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if (everything || index == one)
                && !partition.draining
                && let Some(owner) = &partition.owner
            {
                partition.draining = true;
                asked.entry(owner.slot).or_default().push(index as i32);
            }
        }
        for (slot, partitions) in asked {
            if let Some(member) = self.members.get(&slot) {
                world.log(|| format!("{} is to revoke {partitions:?}", member.process.name));
                member.send(GroupCommand::Revoke(partitions));
            }
        }
    }

    /// Every record's offset has been committed.
    pub(super) fn all_committed(&self) -> bool {
        self.partitions.iter().all(|p| p.committed == p.records.len() as i64)
    }
}

/// Run the group coordinator.
pub(super) async fn run_coordinator(world: Arc<SimWorld>) {
    loop {
        sleep(Duration::from_millis(500)).await;
        let mut kafka = lock(&world.kafka);
        kafka.expel(&world);
        kafka.assign(&world);
        if world.schedule.rebalances && !world.faults_are_over() && world.one_in(10) {
            kafka.rebalance(&world);
        }
    }
}

/// Publish the schedule's input records at their times.
pub(super) async fn publish_inputs(world: Arc<SimWorld>) {
    for input in &world.schedule.inputs {
        tokio::time::sleep_until(world.clock().instant(input.at)).await;
        let now = world.now();
        world.log(|| format!("published to {}: {:?}", input.partition, input.kind));
        lock(&world.kafka).append(input, now);
    }
}

/// Commit stored offsets of the partitions that the process still owns.
pub(super) fn commit(process: &Arc<SimProcess>, stored: &BTreeMap<i32, i64>) {
    let world = &process.world;
    for (&partition, &offset) in stored {
        if lock(&world.kafka).commit(process, partition, offset) {
            world.log(|| format!("{} commits {partition}: {offset}", process.name));
            checks::check_commit(world, partition, offset);
        }
    }
}

/// Where a member reads its new partitions from. Every record may have been read before.
pub(super) fn reading_starts(next: &BTreeMap<i32, i64>, partitions: &[i32]) -> Vec<ReadingStart> {
    let start = |&partition: &i32| ReadingStart {
        partition,
        reading: 1,
        from: next.get(&partition).copied(),
        unread_from: i64::MAX,
    };
    partitions.iter().map(start).collect()
}
