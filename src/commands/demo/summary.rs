//! The summary of the demo, printed at its end or as the last JSON line.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::results::{DemoResults, Difference, Observations};

#[derive(Debug, Serialize)]
pub(super) struct DemoSummary {
    ok: bool,
    records: usize,
    escalations: usize,
    answered: usize,
    statuses: BTreeMap<String, usize>,
    dead_letters: ExpectedCount,
    skipped: ExpectedCount,
    desk_calls: u64,
    sessions_moved: usize,
    sessions_moved_twice: usize,
    committed_partitions: ExpectedCount,
    records_uncommitted: i64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain: Option<PlainSpeed>,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct ExpectedCount {
    expected: u64,
    got: u64,
}

#[derive(Debug, Serialize)]
struct PlainSpeed {
    escalations: usize,
    seconds: f64,
    per_second: f64,
}

impl DemoSummary {
    pub(super) fn new(
        results: &DemoResults,
        observed: &Observations,
        started: Instant,
        ended: Instant,
    ) -> Self {
        let differences = results.differences(observed);
        let sessions = observed.desk.sessions.values();
        let transferred =
            |at_least| sessions.clone().filter(|s| s.transfers_acted >= at_least).count();
        Self {
            ok: differences.is_empty(),
            records: results.cases().len(),
            escalations: results.escalations(),
            answered: results.answered(),
            statuses: results.statuses(),
            dead_letters: ExpectedCount {
                expected: results.expected_dead_letters() as u64,
                got: results.dead_letters() as u64,
            },
            skipped: ExpectedCount { expected: results.expected_skipped(), got: observed.skipped },
            desk_calls: observed.desk.calls,
            sessions_moved: transferred(1),
            sessions_moved_twice: transferred(2),
            committed_partitions: ExpectedCount {
                expected: results.partitions() as u64,
                got: observed.offsets.committed as u64,
            },
            records_uncommitted: observed.offsets.lag,
            seconds: hundredths(ended - started),
            plain: results
                .plain_ended()
                .map(|plain_ended| PlainSpeed::new(results.plain(), plain_ended - started)),
            differences,
        }
    }

    pub(super) fn is_as_expected(&self) -> bool {
        self.ok
    }

    pub(super) fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The lines for people, each with its label.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let of = |count: &ExpectedCount| format!("{} of {}", count.got, count.expected);
        let statuses: Vec<_> =
            self.statuses.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let Self { desk_calls, sessions_moved, records_uncommitted, .. } = self;
        let twice = match self.sessions_moved_twice {
            0 => "none twice".to_owned(),
            n => format!("{n} more than once"),
        };
        let partitions = of(&self.committed_partitions);
        let offsets =
            format!("{partitions} partitions committed, {records_uncommitted} records uncommitted");
        let mut lines = vec![
            (
                "outcomes",
                format!("{} of {}: {}", self.answered, self.escalations, statuses.join(", ")),
            ),
            ("dead letters", of(&self.dead_letters)),
            ("skipped", of(&self.skipped)),
            ("Desk", format!("{desk_calls} calls; {sessions_moved} sessions transferred, {twice}")),
            ("offsets", offsets),
        ];
        if let Some(PlainSpeed { escalations, seconds, per_second }) = &self.plain {
            let speed = format!(
                "{escalations} plain escalations in {seconds:.2} s, {per_second:.0} per second"
            );
            lines.push(("speed", speed));
        }
        lines
    }

    /// The last line if there are no differences.
    pub(super) fn verdict(&self) -> String {
        let Self { escalations, seconds, .. } = self;
        format!("all {escalations} answered exactly once and as expected, in {seconds:.1} s")
    }
}

impl PlainSpeed {
    fn new(escalations: usize, took: Duration) -> Self {
        let seconds = hundredths(took);
        Self { escalations, seconds, per_second: (escalations as f64 / seconds.max(0.01)).round() }
    }
}

fn hundredths(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}
