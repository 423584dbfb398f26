//! Reads what the service publishes: as it arrives, and once more from the first to the last record.
//!
//! The second pass starts after the service has stopped, so that no record can be missed.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::published::PublishedRecord;
use crate::adapters::kafka::{Boundary, KafkaSettings, Leaderless, TopicFollower};
use crate::domain::record::{Position, Record};

const POLL_TIMEOUT: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);

/// Follows the two topics that the service writes to.
pub(super) struct PublishedReader {
    settings: KafkaSettings,
    arriving: mpsc::UnboundedReceiver<(Record, Instant)>,
    readers: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    seen: HashSet<Position>,
}

impl PublishedReader {
    /// Starts to read both topics.
    pub(super) fn open(settings: &KafkaSettings) -> anyhow::Result<Self> {
        let (send, arriving) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mut readers = JoinSet::new();
        for topic in [&settings.topics.outcomes, &settings.topics.dead_letters] {
            let mut reader = follow(settings, topic)?;
            let (send, stop) = (send.clone(), stop.clone());
            readers.spawn_blocking(move || {
                while !stop.is_cancelled() {
                    if let Some(record) = reader.next(POLL_TIMEOUT)? {
                        send.send((record, Instant::now())).unwrap_or_default();
                    }
                }
                Ok(())
            });
        }
        let (settings, seen) = (settings.clone(), HashSet::new());
        Ok(Self { settings, arriving, readers, stop, seen })
    }

    /// The next record as it arrives; `None` if reading has failed.
    pub(super) async fn next(&mut self) -> Option<PublishedRecord> {
        let (record, at) = self.arriving.recv().await?;
        Some(self.parse(&record, at))
    }

    /// All records that `next` has not returned.
    pub(super) async fn remaining(mut self) -> anyhow::Result<Vec<PublishedRecord>> {
        self.stop.cancel();
        while let Some(ended) = self.readers.join_next().await {
            ended.context("a reader panicked")??;
        }
        let settings = self.settings.clone();
        let all = spawn_blocking(move || -> anyhow::Result<_> {
            let mut all = read_to_end(&settings, &settings.topics.outcomes)?;
            all.extend(read_to_end(&settings, &settings.topics.dead_letters)?);
            Ok(all)
        });
        let mut remaining = all.await??;
        remaining.retain(|record| !self.seen.contains(&record.position));
        let now = Instant::now();
        Ok(remaining.iter().map(|record| self.parse(record, now)).collect())
    }

    fn parse(&mut self, record: &Record, at: Instant) -> PublishedRecord {
        self.seen.insert(record.position.clone());
        let is_dead_letter = *record.position.topic == *self.settings.topics.dead_letters;
        if is_dead_letter {
            PublishedRecord::dead_letter(record, at)
        } else {
            PublishedRecord::outcome(record, at)
        }
    }
}

impl Drop for PublishedReader {
    fn drop(&mut self) {
        // Dropping the task set does not stop blocking tasks.
        self.stop.cancel();
    }
}

fn follow(settings: &KafkaSettings, topic: &str) -> anyhow::Result<TopicFollower> {
    TopicFollower::open(settings, topic, &[Boundary::Oldest], LIMIT, Leaderless::Wait)
}

fn read_to_end(settings: &KafkaSettings, topic: &str) -> anyhow::Result<Vec<Record>> {
    let deadline = Instant::now() + LIMIT;
    let mut reader = follow(settings, topic)?;
    let mut all = Vec::new();
    while !reader.is_at_end() {
        all.extend(reader.next(POLL_TIMEOUT)?);
        anyhow::ensure!(Instant::now() < deadline, "{topic} could not be read to its end");
    }
    Ok(all)
}
