//! From a stream of records to ordered session_queues, deliveries and offsets to commit.
//!
//! One task owns all of this: which partitions are ours, what is unfinished in each, whose
//! turn it is in each session, how much is in memory. It never waits for a call: every event
//! runs in a task of its own. A partition that is revoked drains within its budget; then it is
//! fenced, and whatever still runs for it is cancelled.
//! This folder never talks to Kafka itself and never commits past an unfinished event.

mod assignment;
mod said;
mod session_queues;
mod tasks;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info};

use crate::deliver::{Context, Delivered, OutcomePublisher as _, Ports};
use crate::domain::ledger_entry::RecoveredEntry;
use crate::domain::record::Record;
use crate::domain::wire::escalation::DecodeRules;
use crate::health::Health;
use crate::ledger::Ledger as _;

use assignment::{Assignments, Bounds, Place, Revocation};
use tasks::{Ended, Happened, Job, Jobs};

/// What comes from the consumer, in its order.
#[derive(Debug)]
pub enum Inbound {
    /// So many partitions the topic has; told before the first are ours.
    Topic(usize),
    /// These partitions are ours from now on.
    Assigned(Vec<i32>),
    /// Records of partitions that are ours, in the order of each partition.
    Records(Vec<Record>),
    /// Not heard of the group for so long that what is ours may soon be somebody else's.
    CutOff,
    /// These partitions are being taken away; answer `done` when they are drained.
    Revoked {
        /// Which.
        partitions: Vec<i32>,
        /// They are somebody else's already: nothing may be finished any more.
        lost: bool,
        /// Drained and fenced.
        done: SyncSender<()>,
    },
    /// The consumer ends: the same for everything that is ours.
    Ending {
        /// It is somebody else's already.
        lost: bool,
        /// Drained and fenced.
        done: SyncSender<()>,
    },
}

/// The consumer, as this module needs it. Nothing here waits for a broker.
pub trait Source: Send + 'static {
    /// Everything below this offset is finished.
    fn store(&self, partition: i32, offset: i64);
    /// Deliver nothing of these partitions for now.
    fn pause(&self, partitions: &[i32]);
    /// Go on with these partitions.
    fn resume(&self, partitions: &[i32]);
}

/// Bounds of the intake.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The topic that is consumed.
    pub topic: Arc<str>,
    /// How records are read.
    pub rules: DecodeRules,
    /// Recovered events in memory; as many records may wait for room to become one, and as many
    /// for a look-up.
    pub max_events: usize,
    /// Bytes of unfinished events in memory.
    pub max_bytes: usize,
    /// How far a partition may be read ahead of its committed offset.
    pub max_span: usize,
    /// How long a revoked partition may drain.
    pub drain: Duration,
}

/// So long the consumer's thread may wait for room before partitions are paused.
const HOLD: Duration = Duration::from_millis(300);

/// Bytes of records that wait for room; as many may wait for a look-up, and join these after it.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// Until somebody has repaired what could not be read.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);

/// A part of a bound that has to be free before more is taken in.
const ROOM: usize = 16;
const ROOM_AFTER_A_PAUSE: usize = 4;

/// So much is dealt with before the books are looked at again.
const TOGETHER: usize = 32;

/// Consume until the consumer ends.
pub async fn consume<P: Ports, S: Source>(
    mut inbound: mpsc::Receiver<Inbound>,
    context: Arc<Context<P>>,
    parts: (S, Settings, Arc<Health>),
) {
    let (source, settings, health) = parts;
    let mut worker = Worker {
        jobs: Jobs::new(context.clone(), settings.rules.clone()),
        assignments: Assignments::default(),
        revocations: Vec::new(),
        full: None,
        partitions: 0,
        source,
        settings,
        context,
        health,
    };
    let mut tick = interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // What is in hand goes before what comes: it is bounded, and always in the same order.
        tokio::select! {
            biased;
            happened = worker.jobs.next() => {
                worker.happened(happened);
                // What is ready goes along: the bookkeeping below is for all of it.
                for _ in 0..TOGETHER {
                    let Some(happened) = worker.jobs.next().now_or_never() else { break };
                    worker.happened(happened);
                }
            }
            message = inbound.recv(), if !worker.holds() => match message {
                Some(message) => worker.take(message),
                None => break,
            },
            _ = tick.tick() => {}
        }
        worker.admit();
        worker.answer_revocations();
        worker.bound_intake();
        worker.health.report_progress();
        worker.health.set_earliest_deadline(worker.jobs.oldest_due());
        worker.health.set_recovering_since(worker.assignments.held_since());
        worker.health.set_blocked_events(worker.jobs.stuck());
    }
}

struct Worker<P: Ports, S> {
    jobs: Jobs<P>,
    assignments: Assignments,
    revocations: Vec<Revocation>,
    /// Since when no more records can wait.
    full: Option<Instant>,
    /// All partitions of the topic, ours or not; 0 while that is not known.
    partitions: usize,
    source: S,
    settings: Settings,
    context: Arc<Context<P>>,
    health: Arc<Health>,
}

impl<P: Ports, S: Source> Worker<P, S> {
    fn take(&mut self, message: Inbound) {
        match message {
            Inbound::Topic(partitions) => {
                self.partitions = partitions;
                self.share();
            }
            Inbound::Assigned(partitions) => {
                info!(kafka.partitions = ?partitions, "partitions assigned");
                let epoch = self.assignments.add(&partitions);
                self.jobs.stop_look_ups(|epoch| self.assignments.has(epoch));
                self.share();
                self.jobs.look_up(&self.settings.topic, (partitions, epoch), Duration::ZERO);
                self.health.set_joined();
            }
            Inbound::Records(records) => {
                records.into_iter().for_each(|record| self.assignments.push(record));
            }
            // It would leave when the network is back; then it is looked for first.
            Inbound::CutOff => self.context.outcomes.purge(),
            Inbound::Revoked { partitions, lost, done } => {
                info!(kafka.partitions = ?partitions, lost, "partitions revoked");
                self.drain(Some(&partitions), lost, done);
            }
            Inbound::Ending { lost, done } => self.drain(None, lost, done),
        }
    }

    fn drain(&mut self, partitions: Option<&[i32]>, lost: bool, done: SyncSender<()>) {
        let leaving = self.assignments.drain(partitions);
        // Ours ends before that of the next owner begins.
        self.share();
        let budget = if lost { Duration::ZERO } else { self.settings.drain };
        let until = Instant::now() + budget;
        self.revocations.push(Revocation { leaving, until, lost, done });
    }

    /// Begin what waits, as far as there is room.
    fn admit(&mut self) {
        let Settings { max_events, max_bytes, .. } = self.settings;
        loop {
            let (events, bytes) = self.jobs.load();
            if events >= max_events || bytes >= max_bytes {
                return;
            }
            let Some(record) = self.assignments.next() else { return };
            self.begin(record);
        }
    }

    fn begin(&mut self, record: Record) {
        let Some(assignment) = self.assignments.get_mut(record.position.partition) else { return };
        let offset = record.position.offset;
        if !assignment.watermark.start(offset) {
            return;
        }
        let place = assignment.place(offset);
        match assignment.left_open.get(&offset) {
            // Taken up from the ledger already: the offset waits for that.
            Some(false) => {}
            Some(true) => self.store(place.partition, offset),
            None => {
                if !self.jobs.begin(record, (place, &assignment.draining)) {
                    // Not for us.
                    self.context.metrics.skipped.inc();
                    self.store(place.partition, offset);
                }
            }
        }
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Ended(job, ended) => self.finished(&job, ended),
            Happened::Parked(place) if self.assignments.is_current(place) => self.done(place),
            Happened::Parked(_) => {}
            Happened::LookedUp { mut partitions, epoch, found } => {
                partitions.retain(|partition| !found.unread.contains(partition));
                self.take_up(&partitions, epoch, found.rows);
                let mut unread = found.unread;
                unread.retain(|partition| {
                    let ours = self.assignments.of_epoch(*partition, epoch);
                    ours.is_some_and(|assignment| !assignment.draining.is_cancelled())
                });
                if !unread.is_empty() {
                    self.jobs.look_up(&self.settings.topic, (unread, epoch), LOOK_UP_AGAIN);
                }
            }
        }
    }

    /// Go on with what the last owner left open; the records that waited for that may begin.
    fn take_up(&mut self, partitions: &[i32], epoch: u64, rows: Vec<RecoveredEntry>) {
        for row in rows {
            let (partition, offset) = (row.record.position.partition, row.record.position.offset);
            let Some(assignment) = self.assignments.of_epoch(partition, epoch) else { continue };
            assignment.left_open.insert(offset, false);
            let place = assignment.place(offset);
            if !self.jobs.take_up(row, (place, &assignment.draining)) {
                assignment.left_open.insert(offset, true);
            }
        }
        for partition in partitions {
            if let Some(assignment) = self.assignments.of_epoch(*partition, epoch) {
                assignment.looked_up = true;
            }
        }
    }

    fn finished(&mut self, job: &Job, ended: Ended) {
        let place = job.place();
        match ended {
            Ended::Delivered(Delivered::Published | Delivered::Duplicate)
                if self.assignments.is_current(place) =>
            {
                self.done(place);
            }
            Ended::Delivered(_) | Ended::Cancelled => {}
            Ended::Panicked => {
                let (partition, offset) = (place.partition, place.offset);
                let text = format!("the delivery of {partition}/{offset} panicked: a bug");
                error!("{text}; its offset is not committed, a restart delivers it again");
                self.health.report_bug(text);
            }
        }
    }

    /// An event needs its offset no more: it is answered, or put away.
    fn done(&mut self, place: Place) {
        if let Some(assignment) = self.assignments.get_mut(place.partition)
            && let Some(done) = assignment.left_open.get_mut(&place.offset)
        {
            *done = true;
        }
        self.store(place.partition, place.offset);
    }

    fn store(&mut self, partition: i32, offset: i64) {
        if let Some(assignment) = self.assignments.get_mut(partition)
            && let Some(mark) = assignment.watermark.finish(offset)
        {
            self.source.store(partition, mark);
        }
    }

    /// A revoked partition is done when nothing of it runs any more, or its time is up.
    fn answer_revocations(&mut self) {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for revocation in std::mem::take(&mut self.revocations) {
            let running = self.jobs.running_in(&revocation.leaving);
            if running > 0 && now < revocation.until {
                waiting.push(revocation);
                continue;
            }
            if running > 0 && !revocation.lost {
                error!(events = running, "the drain budget is used up; fencing what still runs");
            }
            if self.jobs.cancel(&revocation.leaving) {
                // It may not leave any more: the next owner publishes it.
                self.context.outcomes.purge();
            }
            let paused = self.assignments.remove(&revocation.leaving);
            self.jobs.stop_look_ups(|epoch| self.assignments.has(epoch));
            self.share();
            if !paused.is_empty() {
                // The client keeps a pause across assignments, and whoever comes back starts
                // without one.
                self.source.resume(&paused);
            }
            // Whoever asked may have stopped waiting; the partitions are fenced all the same.
            revocation.done.send(()).unwrap_or_default();
        }
        self.revocations = waiting;
    }

    /// Our part of the group's quota is that of the partitions; what is in doubt is asked after
    /// until the partition has gone.
    fn share(&self) {
        let all = self.partitions.max(self.assignments.at_least());
        let (transfers, questions) = (self.assignments.staying(), self.assignments.all());
        self.context.gate.set_share(&transfers, &questions, all);
    }

    /// There is no room for a moment: what comes next waits where it is. Only a longer wait is
    /// worth a pause: for it the client throws away what it has fetched, and after it takes up to a
    /// second to fetch again.
    fn holds(&self) -> bool {
        self.full.is_some_and(|since| since.elapsed() < HOLD)
    }

    /// Pause and resume partitions, with some distance in between.
    fn bound_intake(&mut self) {
        let Settings { max_events, max_span, .. } = self.settings;
        let (records, bytes) = self.assignments.waiting();
        // Whoever is paused stays so for a while; whoever only waits goes on at the first room.
        let room = if self.holds() { ROOM } else { ROOM_AFTER_A_PAUSE };
        let over = |value, bound| over(value, bound, room);
        self.full = match self.full {
            Some(_) if !over(records, max_events) && !over(bytes, MAX_WAITING_BYTES) => None,
            None if records >= max_events || bytes >= MAX_WAITING_BYTES => Some(Instant::now()),
            unchanged => unchanged,
        };
        let paused = self.full.is_some() && !self.holds() || self.context.ledger.is_unavailable();
        let bounds = Bounds { span: max_span, records: max_events, bytes: MAX_WAITING_BYTES };
        let (pause, resume) = self.assignments.flow(paused, bounds);
        if !pause.is_empty() {
            self.source.pause(&pause);
        }
        if !resume.is_empty() {
            self.source.resume(&resume);
        }
        let metrics = &self.context.metrics;
        metrics.intake_paused.set(i64::from(paused));
        metrics.partitions.set(self.assignments.len() as i64);
        metrics.unfinished.set(self.jobs.load().0 as i64);
        metrics.sessions.set(self.jobs.sessions() as i64);
    }
}

/// There is not so much room yet: one part in so many.
fn over(value: usize, bound: usize, room: usize) -> bool {
    value > bound - (bound / room).max(1)
}
