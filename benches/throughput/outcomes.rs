//! What came out of a run: was each event answered once and in order, and when.
//!
//! It reads the topics after the run, and never while something is measured.

use std::collections::HashMap;

use anyhow::Context as _;
use handoff::domain::wire::outcome::OutcomeRecord;

use crate::kafka::Topics;
use crate::support::kafka::{committed, high_watermarks, read_to_end};

/// All of them.
pub(crate) struct Outcomes {
    /// When the broker took the answer of each event, in microseconds since 1970.
    pub(crate) at_us: HashMap<usize, i64>,
    /// Answers beyond the first.
    pub(crate) doubled: usize,
    /// Answers that overtook an earlier event of their session.
    pub(crate) inversions: usize,
}

impl Outcomes {
    pub(crate) async fn read(topics: &Topics) -> anyhow::Result<Self> {
        let (mut at_us, mut doubled) = (HashMap::new(), 0);
        let mut sessions: HashMap<String, (i32, i64)> = HashMap::new();
        let mut inversions = 0;
        // Of each partition they come in its order, and a session is in one partition.
        for record in read_to_end(&topics.bootstrap, &topics.of("out")).await {
            let outcome = OutcomeRecord::parse(record.value.as_deref().unwrap_or_default())?;
            let source = outcome.source.context("an outcome without a source")?;
            let source = (source.partition, source.offset);
            let session_id = outcome.session_id.context("an outcome without a session")?;
            let before = sessions.insert(session_id, source);
            inversions += usize::from(before.is_some_and(|before| before > source));
            // The broker's clock counts milliseconds: the middle of one.
            let at = record.timestamp.unwrap_or(0) * 1000 + 500;
            doubled += usize::from(
                at_us.insert(outcome.event_id.unwrap_or_default().parse()?, at).is_some(),
            );
        }
        Ok(Self { at_us, doubled, inversions })
    }

    /// From the first to the last, in seconds.
    pub(crate) fn span_s(&self) -> f64 {
        let (first, last) = (self.at_us.values().min(), self.at_us.values().max());
        first.zip(last).map_or(f64::NAN, |(first, last)| (last - first) as f64 / 1e6)
    }
}

/// Records that were read and are not committed.
pub(crate) async fn uncommitted(topics: &Topics) -> i64 {
    let ends = high_watermarks(&topics.bootstrap, &topics.of("in")).await;
    let group = &topics.name;
    let done = committed(&topics.bootstrap, group, &topics.of("in"), topics.partitions).await;
    ends.iter().zip(done).map(|(end, done)| end - done.unwrap_or(0)).sum()
}
