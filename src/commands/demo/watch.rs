//! What the worker publishes: read as it comes, and once more from the beginning to the end.
//!
//! The second reading begins when nobody publishes any more; so nothing can be missing.
//! This file never judges what it reads.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::came::Came;
use crate::adapters::kafka::{Reader, Settings, Start};
use crate::domain::record::{Position, Record};

const TURN: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);

/// The two topics that the worker writes.
pub(super) struct Watch {
    settings: Settings,
    coming: mpsc::UnboundedReceiver<(Record, Instant)>,
    readers: JoinSet<anyhow::Result<()>>,
    enough: CancellationToken,
    seen: HashSet<Position>,
}

impl Watch {
    /// Begin to read.
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (send, coming) = mpsc::unbounded_channel();
        let enough = CancellationToken::new();
        let mut readers = JoinSet::new();
        for topic in [&settings.topics.outcomes, &settings.topics.dead_letters] {
            let mut reader = Reader::open(settings, topic, Start::Oldest, LIMIT)?;
            let (send, enough) = (send.clone(), enough.clone());
            readers.spawn_blocking(move || {
                while !enough.is_cancelled() {
                    if let Some(record) = reader.next(TURN)? {
                        send.send((record, Instant::now())).unwrap_or_default();
                    }
                }
                Ok(())
            });
        }
        let (settings, seen) = (settings.clone(), HashSet::new());
        Ok(Self { settings, coming, readers, enough, seen })
    }

    /// The next record as it comes; `None` where none can come any more.
    pub(super) async fn next(&mut self) -> Option<Came> {
        let (record, at) = self.coming.recv().await?;
        Some(self.understand(&record, at))
    }

    /// All that `next` has not told.
    pub(super) async fn rest(mut self) -> anyhow::Result<Vec<Came>> {
        self.enough.cancel();
        while let Some(ended) = self.readers.join_next().await {
            ended.context("a reader ended badly")??;
        }
        let settings = self.settings.clone();
        let all = spawn_blocking(move || -> anyhow::Result<_> {
            let mut all = read_whole(&settings, &settings.topics.outcomes)?;
            all.extend(read_whole(&settings, &settings.topics.dead_letters)?);
            Ok(all)
        });
        let mut rest = all.await??;
        rest.retain(|record| !self.seen.contains(&record.position));
        let now = Instant::now();
        Ok(rest.iter().map(|record| self.understand(record, now)).collect())
    }

    fn understand(&mut self, record: &Record, at: Instant) -> Came {
        self.seen.insert(record.position.clone());
        let is_letter = *record.position.topic == *self.settings.topics.dead_letters;
        if is_letter { Came::dead_letter(record, at) } else { Came::outcome(record, at) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A blocking reader is not ended by its task's end.
        self.enough.cancel();
    }
}

fn read_whole(settings: &Settings, topic: &str) -> anyhow::Result<Vec<Record>> {
    let until = Instant::now() + LIMIT;
    let mut reader = Reader::open(settings, topic, Start::Oldest, LIMIT)?;
    let mut all = Vec::new();
    while !reader.is_at_end() {
        all.extend(reader.next(TURN)?);
        anyhow::ensure!(Instant::now() < until, "{topic} could not be read to its end");
    }
    Ok(all)
}
