//! `handoff dead-letters replay`.
//!
//! First the producer begins, which ends what an earlier replay has left and stops one that still
//! runs; what is read after that says what was replayed, and nobody else changes it.

use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ReplayArgs;
use super::plan::{PlanRules, Planned, ReplayPlan, class};
use super::topic::{DeadLetterTopic, FoundLetter, TIMEOUT};
use crate::adapters::kafka::{KafkaSettings, ReplayProducer, TransactedRecord, partition_count};
use crate::commands::Failure;
use crate::commands::lines::print_error;
use crate::domain::record::Position;
use crate::domain::wire::replay::Replay;

/// From one transaction to the next: each costs the brokers some writes of their own.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(200);

/// Prints the plan, and publishes what it names.
pub(super) fn replay(
    args: &ReplayArgs,
    settings: &KafkaSettings,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let rules = PlanRules { max_replays: args.max_replays };
    let producer = if args.dry_run {
        None
    } else {
        settings.verify_producer().map_err(Failure::Configuration)?;
        Some(ReplayProducer::start(settings, TIMEOUT).map_err(Failure::Unavailable)?)
    };
    let topic = DeadLetterTopic::open(settings, &args.selection)?;
    let mut plan = ReplayPlan::default();
    topic.read(|FoundLetter { record, is_replayed }| {
        plan.add(class(&record), &Planned::of(record, is_replayed, rules));
        ControlFlow::Continue(())
    })?;
    plan.lines().iter().for_each(|line| print_error(line));
    let Some(producer) = producer else { return Ok(()) };
    let partitions = partition_count(settings, &settings.topics.escalations, TIMEOUT);
    let partitions = partitions.map_err(Failure::Unavailable)?.unwrap_or(0);
    let mut run = ReplayRun {
        settings,
        producer,
        partitions: partitions as i32,
        pace: ReplayPace::new(args.rate),
        batch: vec![],
        published: 0,
        result: Ok(()),
    };
    topic.read(|FoundLetter { record, is_replayed }| {
        match Planned::of(record, is_replayed, rules) {
            Planned::Replay(replay) if !shutdown.is_cancelled() => run.add(*replay),
            Planned::Replay(_) => ControlFlow::Break(()),
            Planned::Replayed | Planned::Refused(_) => ControlFlow::Continue(()),
        }
    })?;
    let is_stopped = shutdown.is_cancelled();
    let ended = run.end();
    print_error(&format!(
        "{} of {} replayed to {}",
        run.published,
        plan.to_replay(),
        settings.topics.escalations
    ));
    ended.map_err(Failure::Unavailable)?;
    if is_stopped {
        return Err(Failure::Stopped);
    }
    match plan.refused() {
        0 => Ok(()),
        refused => Err(Failure::Findings(format!("{refused} cannot be replayed"))),
    }
}

/// A replay in progress.
struct ReplayRun<'a> {
    settings: &'a KafkaSettings,
    producer: ReplayProducer,
    /// Of the escalations topic.
    partitions: i32,
    pace: ReplayPace,
    batch: Vec<Replay>,
    published: u64,
    result: anyhow::Result<()>,
}

impl ReplayRun<'_> {
    fn add(&mut self, replay: Replay) -> ControlFlow<()> {
        self.batch.push(replay);
        if self.batch.len() >= self.pace.batch {
            self.result = self.publish();
        }
        match self.result {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Publishes what is left.
    fn end(&mut self) -> anyhow::Result<()> {
        std::mem::replace(&mut self.result, Ok(()))?;
        self.publish()
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.pace.wait(self.batch.len());
        let markers: Vec<_> = self.batch.iter().map(|replay| replay.of.to_string()).collect();
        let mut records = Vec::with_capacity(2 * self.batch.len());
        for (replay, marker) in self.batch.iter().zip(&markers) {
            records.push(self.record(replay));
            records.push(TransactedRecord {
                topic: &self.settings.topics.dead_letters,
                partition: Some(replay.of.partition),
                // A topic with compaction refuses records without a key.
                key: Some(marker.as_bytes()),
                value: Some(b"{}"),
                headers: replay.marker(),
            });
        }
        self.producer.publish(&records)?;
        drop(records);
        self.published += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    fn record<'r>(&'r self, replay: &'r Replay) -> TransactedRecord<'r> {
        let topic = &self.settings.topics.escalations;
        // Where its session is: the publisher may choose partitions in another way than this client.
        let Position { topic: source, partition, .. } = &replay.record.position;
        let is_there = **source == **topic && *partition < self.partitions;
        TransactedRecord {
            topic,
            partition: is_there.then_some(*partition),
            key: replay.record.key.as_deref(),
            value: replay.record.value.as_deref(),
            headers: replay.headers(),
        }
    }
}

/// Paced transactions.
struct ReplayPace {
    /// Records of one transaction.
    batch: usize,
    per_second: f64,
    next: Instant,
}

impl ReplayPace {
    fn new(rate: u32) -> Self {
        let per_second = f64::from(rate);
        let batch = (per_second * TRANSACTION_INTERVAL.as_secs_f64()) as usize;
        Self { batch: batch.clamp(1, 500), per_second, next: Instant::now() }
    }

    /// Waits until this many records may be published.
    fn wait(&mut self, records: usize) {
        let now = Instant::now();
        sleep(self.next.saturating_duration_since(now));
        let interval = Duration::from_secs_f64(records as f64 / self.per_second);
        self.next = self.next.max(now) + interval;
    }
}
