//! Waiting for outcomes, and the requirements that every run has to meet.

use std::time::Duration;

use anyhow::{Result, ensure};
use handoff::sim::desk::{ApiCommand, DeskStats};
use tokio::time::{Instant, sleep};

use crate::contestant::Contestant;
use crate::desk::Desk;
use crate::kafka::{Topics, Watch};
use crate::outcomes::{Outcomes, uncommitted};
use crate::scenario::Run;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for this number of outcomes and returns how many there are then.
pub(crate) async fn answered(
    contestant: &mut Contestant,
    watch: &mut Watch,
    wanted: usize,
    limit: Duration,
) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let outcomes = watch.outcomes().await;
        if outcomes >= wanted {
            return Ok(outcomes);
        }
        contestant.check()?;
        let name = contestant.kind.name();
        ensure!(begun.elapsed() < limit, "{name}: {outcomes} of {wanted} answered in {limit:?}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Stops the contestant and checks the requirements.
pub(crate) async fn finish(
    run: &mut Run,
    contestant: &mut Contestant,
    topics: &Topics,
    desk: &Desk,
    count: usize,
) -> Result<Outcomes> {
    run.figures.insert("peak_rss_mib", contestant.memory()?.1);
    let stopped = contestant.stop().await?;
    run.figures.insert("stop_ms", stopped.as_secs_f64() * 1e3);
    let stats = desk.stats().await?;
    let outcomes = Outcomes::read(topics).await?;
    check(run, &stats, &outcomes, count);
    run.must("uncommitted", uncommitted(topics).await as f64, 0.0);
    Ok(outcomes)
}

/// Requires one outcome and one call for each event, in order.
pub(crate) fn check(run: &mut Run, stats: &DeskStats, outcomes: &Outcomes, count: usize) {
    run.must("answered", outcomes.at_us.len() as f64, count as f64);
    run.must("doubled", outcomes.doubled as f64, 0.0);
    run.must("inversions", outcomes.inversions as f64, 0.0);
    run.must("overlaps", stats.overlapping_calls as f64, 0.0);
    let calls = stats.of(ApiCommand::Transfer).calls + stats.of(ApiCommand::State).calls;
    run.must("calls_per_event", calls as f64 / count as f64, 1.0);
}

/// The time of the first log line that contains this text.
pub(crate) fn logged_at_us(log: &str, what: &str) -> Option<i64> {
    let line = log.lines().find(|line| line.contains(what))?;
    let at: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
    Some(at.as_microsecond())
}
