//! The simulated Kafka: logs, committed offsets, and the coordinator of the group, which moves
//! partitions when members come, go, die, stand still, or for no reason.
//!
//! A commit counts only from the owner of the partition, as the broker sees it.
//! This file never takes a partition from a living member without asking, and never waits for
//! one that it has not heard of for the session time-out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use handoff::domain::record::{Position, Record};
use handoff::domain::wire::outcome::Message;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::checks;
use super::mutations::Mutation;
use super::plan::{Input, Kind};
use super::world::{Life, World, lock};

pub(super) const TOPIC: &str = "escalations";

/// The brokers.
pub(super) struct Broker {
    pub(super) partitions: Vec<Partition>,
    pub(super) posted: Vec<Posted>,
    pub(super) members: BTreeMap<usize, Member>,
    /// Events that were in the ledger as parked at some time.
    pub(super) parked: BTreeSet<Arc<str>>,
    /// Until when a session may be asked after.
    pub(super) asked_until: BTreeMap<Arc<str>, Timestamp>,
}

/// A partition of the escalations.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) records: Vec<Record>,
    pub(super) kinds: Vec<Kind>,
    pub(super) committed: i64,
    pub(super) owner: Option<Arc<Life>>,
    /// Its owner was asked to give it up.
    leaving: bool,
}

/// A record of the outcome or dead-letter topic.
pub(super) struct Posted {
    pub(super) message: Message,
    /// The record it answers.
    pub(super) source: String,
    /// Another one follows.
    pub(super) interim: bool,
    /// Sent by a process that had stood still since it was handed over.
    pub(super) late: bool,
    at: Timestamp,
}

/// A member of the group.
pub(super) struct Member {
    pub(super) life: Arc<Life>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) wake: Arc<Notify>,
    /// The group has given it up, and it does not know yet.
    pub(super) expelled: bool,
    silent_since: Option<Instant>,
}

/// What the coordinator tells a member.
pub(super) enum Order {
    Take(Vec<i32>),
    Give(Vec<i32>),
    Lost(Vec<i32>),
}

impl Member {
    pub(super) fn new(life: &Arc<Life>, orders: mpsc::UnboundedSender<Order>) -> Self {
        let (life, wake) = (life.clone(), Arc::default());
        Self { life, orders, wake, expelled: false, silent_since: None }
    }

    fn tell(&self, order: Order) {
        // A member that has gone hears nothing any more.
        drop(self.orders.send(order));
        self.wake.notify_one();
    }

    fn is_silent(&self) -> bool {
        self.life.is_dead() || self.life.frozen().is_some()
    }
}

impl Broker {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            posted: Vec::new(),
            members: BTreeMap::new(),
            parked: BTreeSet::new(),
            asked_until: BTreeMap::new(),
        }
    }

    pub(super) fn append(&mut self, input: &Input, now: Timestamp) {
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

    pub(super) fn post(&mut self, message: Message, (at, late): (Timestamp, bool)) -> Position {
        let source = checks::source_of(&message);
        let interim = checks::is_interim(&message);
        self.posted.push(Posted { message, source, interim, late, at });
        let offset = self.posted.len() as i64 - 1;
        Position { topic: "outcomes".into(), partition: 0, offset }
    }

    pub(super) fn find(&self, message: &Message, since: Timestamp) -> Option<Position> {
        let same = |posted: &Posted| posted.message == *message && posted.at >= since;
        let offset = self.posted.iter().position(same)? as i64;
        Some(Position { topic: "outcomes".into(), partition: 0, offset })
    }

    pub(super) fn owns(&self, life: &Arc<Life>, partition: i32) -> bool {
        let owner = &self.partitions[partition as usize].owner;
        owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, life))
    }

    /// The partition of this session's records is this member's.
    pub(super) fn owns_session(&self, life: &Arc<Life>, session: &str) -> bool {
        let number: usize = session.trim_start_matches('s').parse().unwrap();
        self.owns(life, (number % self.partitions.len()) as i32)
    }

    /// Refused where the partition is somebody else's.
    pub(super) fn commit(&mut self, life: &Arc<Life>, (partition, offset): (i32, i64)) -> bool {
        if !self.owns(life, partition) {
            return false;
        }
        let partition = &mut self.partitions[partition as usize];
        let moved = partition.committed != offset;
        partition.committed = offset;
        moved
    }

    pub(super) fn release(&mut self, life: &Arc<Life>, partitions: &[i32]) {
        for &partition in partitions {
            if self.owns(life, partition) {
                self.free(partition as usize);
            }
        }
    }

    pub(super) fn leave(&mut self, life: &Arc<Life>) {
        let all: Vec<_> = (0..self.partitions.len() as i32).collect();
        self.release(life, &all);
        if self.members.get(&life.slot).is_some_and(|member| Arc::ptr_eq(&member.life, life)) {
            self.members.remove(&life.slot);
        }
    }

    fn free(&mut self, partition: usize) {
        let partition = &mut self.partitions[partition];
        (partition.owner, partition.leaving) = (None, false);
    }

    fn owned_by(&self, life: &Arc<Life>) -> Vec<i32> {
        (0..self.partitions.len() as i32).filter(|p| self.owns(life, *p)).collect()
    }

    /// Members that have not been heard of for too long lose what they have.
    fn expel(&mut self, world: &World) {
        let mut expelled = Vec::new();
        for member in self.members.values_mut() {
            if !member.is_silent() {
                member.silent_since = None;
                continue;
            }
            let since = *member.silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= world.plan.session && !member.expelled {
                member.expelled = true;
                expelled.push(member.life.clone());
            }
        }
        for life in expelled {
            let lost = self.owned_by(&life);
            world.say(|| format!("the group gives {} up: {lost:?}", life.name));
            self.release(&life, &lost);
            if life.is_dead() {
                self.members.remove(&life.slot);
            } else if !world.is(Mutation::IgnoreTheFence) {
                self.members[&life.slot].tell(Order::Lost(lost));
            }
        }
        let members = &self.members;
        let mut gone = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            if let Some(owner) = &partition.owner {
                let member = members.get(&owner.slot);
                // A member that came back under its name takes over at once.
                if member.is_none_or(|member| !Arc::ptr_eq(&member.life, owner)) {
                    gone.push(index);
                }
            }
        }
        gone.into_iter().for_each(|partition| self.free(partition));
    }

    /// Hand out what nobody has.
    fn assign(&mut self, world: &World) {
        let able: Vec<_> =
            self.members.values().filter(|m| !m.is_silent() && !m.expelled).collect();
        let mut taken: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        if able.is_empty() {
            return;
        }
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if partition.owner.is_none() {
                let member = able[world.chance(|rng| rng.usize(0..able.len()))];
                partition.owner = Some(member.life.clone());
                taken.entry(member.life.slot).or_default().push(index as i32);
            }
        }
        for (slot, partitions) in taken {
            let member = &self.members[&slot];
            world.say(|| format!("{} is assigned {partitions:?}", member.life.name));
            member.tell(Order::Take(partitions));
        }
    }

    /// Ask members to give up one partition, or all of them everything.
    fn rebalance(&mut self, world: &World) {
        let everything = world.one_in(3);
        let one = world.chance(|rng| rng.usize(0..self.partitions.len()));
        let mut asked: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if (everything || index == one)
                && !partition.leaving
                && let Some(owner) = &partition.owner
            {
                partition.leaving = true;
                asked.entry(owner.slot).or_default().push(index as i32);
            }
        }
        for (slot, partitions) in asked {
            if let Some(member) = self.members.get(&slot) {
                world.say(|| format!("{} is to give up {partitions:?}", member.life.name));
                member.tell(Order::Give(partitions));
            }
        }
    }

    /// Everything that was published is finished, committed and noted.
    pub(super) fn is_done(&self) -> bool {
        self.partitions.iter().all(|p| p.committed == p.records.len() as i64)
    }
}

/// The coordinator of the group.
pub(super) async fn coordinate(world: Arc<World>) {
    loop {
        sleep(Duration::from_millis(500)).await;
        let mut broker = lock(&world.broker);
        broker.expel(&world);
        broker.assign(&world);
        if world.plan.rebalances && !world.is_calm() && world.one_in(10) {
            broker.rebalance(&world);
        }
    }
}

/// Publish the escalations at their times.
pub(super) async fn feed(world: Arc<World>) {
    for input in &world.plan.inputs {
        tokio::time::sleep_until(world.clock().at(input.at)).await;
        let now = world.now();
        world.say(|| format!("published to {}: {:?}", input.partition, input.kind));
        lock(&world.broker).append(input, now);
    }
}

/// Commit what a member has stored, as far as it is still its own.
pub(super) fn commit(life: &Arc<Life>, stored: &BTreeMap<i32, i64>) {
    let world = &life.world;
    for (&partition, &offset) in stored {
        if lock(&world.broker).commit(life, (partition, offset)) {
            world.say(|| format!("{} commits {partition}: {offset}", life.name));
            checks::at_commit(world, (partition, offset));
        }
    }
}
