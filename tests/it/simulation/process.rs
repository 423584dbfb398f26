//! A process: the real `consume` and `deliver` on simulated ports, and the loop that polls Kafka for
//! them. [`run_instance`] restarts the process when it has ended.
//!
//! The poll loop does what the Kafka adapter does: it asks for a drain, waits for it within its
//! time, commits and releases the partitions. Lost partitions are fenced at once.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::Duration;

use handoff::activity::Activity;
use handoff::clock::{Clock, Rng};
use handoff::consume::{Inbound, IntakeLimits, IntakeSettings, Source, consume};
use handoff::deliver::{Context, Ports, SharedPolicy, SharedRules};
use handoff::domain::wire::escalation::DecodeRules;
use handoff::gate::{BreakerPolicy, Gate, GateSettings};
use handoff::health::Health;
use handoff::lease::Lease;
use handoff::telemetry::{DeadLetterLog, Metrics, Traces};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::desk::SimDeskClient;
use super::draining::{self, Draining};
use super::kafka::{self, GroupCommand, GroupMember, TOPIC, commit};
use super::mutations;
use super::ports::{SimLedger, SimProducer};
use super::world::{SimProcess, SimWorld, lock};

const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// The simulated ports.
pub(super) struct SimPorts;

impl Ports for SimPorts {
    type Desk = SimDeskClient;
    type Outcomes = SimProducer;
    type Ledger = SimLedger;
}

/// What the poll loop and `consume` share.
#[derive(Clone)]
struct SimSource {
    process: Arc<SimProcess>,
    stored: Arc<Mutex<BTreeMap<i32, i64>>>,
    paused: Arc<Mutex<BTreeSet<i32>>>,
    wake: Arc<Notify>,
}

impl Source for SimSource {
    fn store(&self, partition: i32, _: u64, offset: i64) {
        lock(&self.stored).insert(partition, mutations::stored(&self.process, offset));
        self.wake.notify_one();
    }

    fn pause(&self, partitions: &[i32]) {
        lock(&self.paused).extend(partitions);
    }

    fn resume(&self, partitions: &[i32]) {
        lock(&self.paused).retain(|partition| !partitions.contains(partition));
        self.wake.notify_one();
    }
}

/// Start processes one after another until the world ends.
pub(super) async fn run_instance(world: Arc<SimWorld>, slot: usize, stop: CancellationToken) {
    for number in 1.. {
        let process = SimProcess::new(&world, slot, number);
        world.log(|| format!("{} starts", process.name));
        let stop_early = CancellationToken::new();
        tokio::select! {
            biased;
            () = process.crash_signal.notified() => {}
            () = run_process(&process, &stop_early) => world.log(|| format!("{} has ended", process.name)),
            () = inject_faults(&process, &stop_early) => {}
            () = async { stop.cancelled().await; stop_early.cancel(); std::future::pending().await } => {}
        }
        if stop.is_cancelled() {
            return;
        }
        let pause = world.ms(50, if world.one_in(2) { 1_000 } else { 12_000 });
        sleep(pause).await;
    }
}

/// Pause or kill the process, or ask it to stop.
async fn inject_faults(process: &Arc<SimProcess>, stop: &CancellationToken) {
    let world = &process.world;
    loop {
        sleep(world.ms(500, 20_000)).await;
        if world.faults_are_over() {
            return std::future::pending().await;
        }
        match world.rng(|rng| rng.u8(0..4)) {
            0 | 3 if world.schedule.pauses => {
                let until = Instant::now() + world.ms(500, 15_000);
                world.log(|| format!("{} PAUSED for {:?}", process.name, until - Instant::now()));
                process.pause(until);
                sleep_until(until).await;
                world.log(|| format!("{} resumes", process.name));
            }
            1 if world.schedule.crashes => process.crash("by SIGKILL"),
            2 => {
                world.log(|| format!("{} is asked to stop", process.name));
                stop.cancel();
            }
            _ => {}
        }
    }
}

/// Run a process until it has stopped. Dropping the future kills it.
async fn run_process(process: &Arc<SimProcess>, stop: &CancellationToken) {
    let world = &process.world;
    let (ledger, writer) = SimLedger::open(process);
    let (producer, producer_queue) = SimProducer::start(process);
    let (inbound, received) = mpsc::channel(16);
    let (tx, commands) = mpsc::unbounded_channel();
    let member = GroupMember::new(process, tx);
    let source = SimSource {
        process: process.clone(),
        stored: Arc::default(),
        paused: Arc::default(),
        wake: member.wake.clone(),
    };
    lock(&world.kafka).members.insert(process.slot, member);
    let lease = Arc::new(Lease::new(Duration::from_secs(30)));
    let poll = PollLoop {
        source: source.clone(),
        lease: lease.clone(),
        inbound,
        next: BTreeMap::new(),
        ends: BTreeSet::new(),
        draining: Vec::new(),
    };
    let context = context(process, producer, ledger, lease);
    let mut helpers = JoinSet::new();
    helpers.spawn(context.gate.clone().drive());
    helpers.spawn(writer.run());
    helpers.spawn(producer_queue.run());
    let mut main = JoinSet::new();
    main.spawn(consume(received, source, settings(world), context));
    main.spawn(poll.run(commands, stop.clone()));
    main.join_all().await;
    // Enqueued messages may still arrive, or not.
    process.delay_up_to(1_000).await;
}

fn context(
    process: &Arc<SimProcess>,
    outcomes: SimProducer,
    ledger: SimLedger,
    lease: Arc<Lease>,
) -> Arc<Context<SimPorts>> {
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::new(lease.clone(), Duration::from_secs(3_600)));
    let (clock, rng) = (process.world.clock(), process.world.clone());
    let activity = Activity::new(Clock::from_fn(move || clock.now()));
    let gate = gate(&process.world, 8, &metrics);
    *lock(&process.gate) = Some(gate.clone());
    Arc::new(Context {
        desk: SimDeskClient { process: process.clone() },
        outcomes,
        ledger,
        gate,
        policy: SharedPolicy::new(process.world.schedule.policy.clone()),
        clock: Clock::from_fn(move || clock.now()),
        rng: Rng::from_fn(move || rng.rng(|rng| rng.u64(..))),
        lease,
        health,
        activity,
        metrics,
        dead_letter_log: DeadLetterLog::default(),
        traces: Traces::off(),
    })
}

/// A gate with this number of call permits.
pub(super) fn gate(world: &SimWorld, concurrency: usize, metrics: &Arc<Metrics>) -> Arc<Gate> {
    let breaker = BreakerPolicy {
        probe_initial: Duration::from_secs(1),
        probe_max: Duration::from_secs(8),
        outage_after: 6,
    };
    let settings = GateSettings {
        breaker,
        quota_per_second: None,
        concurrency,
        retry_budget: mutations::retry_budget(world),
        call_timeout: Duration::from_secs(5),
    };
    Gate::new(settings, metrics.clone())
}

fn settings(world: &SimWorld) -> IntakeSettings {
    IntakeSettings {
        topic: TOPIC.into(),
        rules: SharedRules::new(DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 10_000,
            time_to_live: Duration::from_secs(30),
            input: Arc::default(),
        }),
        // Small enough that a dozen events meet every limit.
        limits: IntakeLimits {
            max_events: 12,
            max_per_session: 2,
            max_bytes: 100_000,
            max_span: 8,
        },
        drain: world.schedule.drain,
    }
}

/// The thread that polls Kafka.
struct PollLoop {
    source: SimSource,
    lease: Arc<Lease>,
    inbound: mpsc::Sender<Inbound>,
    /// The next offset to deliver of each assigned partition.
    next: BTreeMap<i32, i64>,
    /// The assigned partitions whose end was reported.
    ends: BTreeSet<i32>,
    draining: Vec<Draining>,
}

impl PollLoop {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<GroupCommand>,
        stop: CancellationToken,
    ) {
        let process = self.source.process.clone();
        let mut commit_at = None;
        while !stop.is_cancelled() {
            process.until_running().await;
            self.lease.renew();
            while let Ok(command) = commands.try_recv() {
                // The coordinator's response to the next heartbeat is under way.
                process.delay_up_to(1_500).await;
                self.on_command(command).await;
            }
            self.release_drained();
            if commit_at.is_some_and(|at| Instant::now() >= at) {
                process.crash_point("offsets are about to be committed").await;
                self.commit_all();
                commit_at = None;
            }
            if commit_at.is_none() && !lock(&self.source.stored).is_empty() {
                commit_at = Some(Instant::now() + process.world.schedule.commit_every);
            }
            if self.deliver_records().await {
                continue;
            }
            let draining = !self.draining.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.source.wake.notified() => {}
                () = sleep(Duration::from_millis(20)), if draining => {}
                () = sleep(MAX_POLL_INTERVAL) => {}
                () = sleep_until(commit_at.unwrap_or_else(Instant::now)), if commit_at.is_some() => {}
            }
        }
        process.until_running().await;
        self.shut_down().await;
    }

    async fn on_command(&mut self, command: GroupCommand) {
        match command {
            GroupCommand::Assign(partitions) => {
                for &partition in &partitions {
                    let kafka = lock(&self.source.process.world.kafka);
                    self.next.insert(partition, kafka.partitions[partition as usize].committed);
                }
                lock(&self.source.stored).retain(|partition, _| !partitions.contains(partition));
                lock(&self.source.paused).retain(|partition| !partitions.contains(partition));
                self.ends.retain(|partition| !partitions.contains(partition));
                let starts = kafka::reading_starts(&self.next, &partitions);
                self.send(Inbound::Assigned(partitions)).await;
                self.source.process.delay_up_to(100).await;
                self.send(Inbound::ReadingStarts(starts)).await;
            }
            GroupCommand::Revoke(mut partitions) => {
                let process = self.source.process.clone();
                partitions
                    .retain(|partition| lock(&process.world.kafka).owns(&process, *partition));
                self.revoke(partitions, false).await;
            }
            GroupCommand::Lose(partitions) => {
                // Partitions that drain are lost as well.
                self.draining.iter_mut().for_each(|draining| draining.lost = true);
                self.next.retain(|partition, _| !partitions.contains(partition));
                self.revoke(partitions, true).await;
                let mut kafka = lock(&self.source.process.world.kafka);
                if let Some(member) = kafka.members.get_mut(&self.source.process.slot) {
                    member.expelled = false;
                }
            }
        }
    }

    async fn revoke(&mut self, partitions: Vec<i32>, lost: bool) {
        if partitions.is_empty() {
            return;
        }
        let (done, drained) = sync_channel(1);
        if lost {
            self.lease.interrupt();
        }
        for message in draining::revocation(&self.source.process.world, &partitions, lost, done) {
            self.send(message).await;
        }
        let until = Instant::now() + self.source.process.world.schedule.drain + DRAIN_MARGIN;
        self.draining.push(Draining { partitions, lost, drained, until });
    }

    async fn send(&mut self, message: Inbound) {
        // Fails only after `consume` has ended.
        self.inbound.send(message).await.unwrap_or_default();
    }

    /// Commit and release the partitions that have drained.
    fn release_drained(&mut self) {
        let (over, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.draining).into_iter().partition(Draining::is_over);
        self.draining = left;
        for gone in over {
            if !gone.lost {
                self.commit_all();
                self.next.retain(|partition, _| !gone.partitions.contains(partition));
                lock(&self.source.stored).retain(|p, _| !gone.partitions.contains(p));
                lock(&self.source.process.world.kafka)
                    .release(&self.source.process, &gone.partitions);
            }
        }
    }

    fn commit_all(&self) {
        let stored = std::mem::take(&mut *lock(&self.source.stored));
        commit(&self.source.process, &stored);
    }

    /// Deliver one record of each partition, one by one or together. Returns whether there was one.
    async fn deliver_records(&mut self) -> bool {
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        for (&partition, next) in &mut self.next {
            if lock(&self.source.paused).contains(&partition) {
                continue;
            }
            let kafka = lock(&self.source.process.world.kafka);
            let record = kafka.partitions[partition as usize].records.get(*next as usize);
            if let Some(record) = record {
                records.push(record.clone());
                *next += 1;
            } else if self.ends.insert(partition) {
                ends.push(partition);
            }
        }
        let any = !records.is_empty();
        if self.source.process.world.one_in(2) {
            // Kafka defines no order across partitions.
            records.reverse();
        }
        // A batch is one message of the consumer; its size must not matter.
        let together = self.source.process.world.one_in(2);
        while !records.is_empty() {
            let left = records.split_off(if together { records.len() } else { 1 });
            self.send(Inbound::Records(std::mem::replace(&mut records, left))).await;
        }
        for partition in ends {
            self.send(Inbound::EndReached(partition)).await;
        }
        any
    }

    /// Drain every partition, commit, leave the group.
    async fn shut_down(mut self) {
        let process = &self.source.process.clone();
        lock(&process.world.kafka).set_leaving(process);
        let (done, drained) = sync_channel(1);
        self.send(Inbound::Ending { lost: false, done }).await;
        let until = Instant::now() + process.world.schedule.drain + DRAIN_MARGIN;
        while let Err(TryRecvError::Empty) = drained.try_recv()
            && Instant::now() < until
        {
            sleep(Duration::from_millis(20)).await;
            process.until_running().await;
        }
        self.commit_all();
        lock(&process.world.kafka).leave(process);
    }
}
