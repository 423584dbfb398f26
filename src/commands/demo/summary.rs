//! The end of the demo: what came, what it says, and what differs.
//!
//! This file never decides whether something differs; `tally` does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::tally::{Difference, Facts, Tally};

/// Everything that the end has to say.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    ok: bool,
    records: usize,
    escalations: usize,
    answered: usize,
    statuses: BTreeMap<String, usize>,
    dead_letters: Count,
    skipped: Count,
    desk_calls: u64,
    sessions_moved: usize,
    sessions_moved_twice: usize,
    committed_partitions: Count,
    records_uncommitted: i64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain: Option<Plain>,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Count {
    expected: u64,
    got: u64,
}

/// The many that only show the speed.
#[derive(Debug, Serialize)]
struct Plain {
    escalations: usize,
    seconds: f64,
    per_second: f64,
}

impl Summary {
    pub(super) fn new(tally: &Tally, facts: &Facts, (begun, ended): (Instant, Instant)) -> Self {
        let differences = tally.differences(facts);
        let sessions = facts.desk.sessions.values();
        let moved = |at_least| sessions.clone().filter(|s| s.transfers_acted >= at_least).count();
        let (bad, letters) = tally.dead_letters();
        let (plain, done) = tally.plain();
        Self {
            ok: differences.is_empty(),
            records: tally.scenes().len(),
            escalations: tally.escalations(),
            answered: tally.answered(),
            statuses: tally.statuses(),
            dead_letters: Count { expected: bad as u64, got: letters as u64 },
            skipped: Count { expected: tally.not_for_us(), got: facts.skipped },
            desk_calls: facts.desk.calls,
            sessions_moved: moved(1),
            sessions_moved_twice: moved(2),
            committed_partitions: Count {
                expected: tally.partitions() as u64,
                got: facts.standing.committed as u64,
            },
            records_uncommitted: facts.standing.lag,
            seconds: hundredths(ended - begun),
            plain: done.map(|done| Plain::new(plain, done - begun)),
            differences,
        }
    }

    pub(super) fn is_as_expected(&self) -> bool {
        self.ok
    }

    pub(super) fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// Its lines, each a word and what it says.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let of = |count: &Count| format!("{} of {}", count.got, count.expected);
        let statuses: Vec<_> =
            self.statuses.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let Self { desk_calls, sessions_moved, records_uncommitted, .. } = self;
        let twice = match self.sessions_moved_twice {
            0 => "none of them twice".to_owned(),
            n => format!("{n} of them more than once"),
        };
        let partitions = of(&self.committed_partitions);
        let offsets =
            format!("{partitions} partitions committed, {records_uncommitted} records left");
        let mut lines = vec![
            (
                "outcomes",
                format!("{} of {}: {}", self.answered, self.escalations, statuses.join(", ")),
            ),
            ("dead letters", of(&self.dead_letters)),
            ("skipped", of(&self.skipped)),
            ("Desk", format!("{desk_calls} calls; {sessions_moved} sessions moved, {twice}")),
            ("offsets", offsets),
        ];
        if let Some(Plain { escalations, seconds, per_second }) = &self.plain {
            let speed =
                format!("{escalations} plain ones in {seconds:.2} s, {per_second:.0} per second");
            lines.push(("speed", speed));
        }
        lines
    }

    /// The last line, where all is well.
    pub(super) fn verdict(&self) -> String {
        let Self { escalations, seconds, .. } = self;
        format!("all {escalations} answered exactly once and as expected, in {seconds:.1} s")
    }
}

impl Plain {
    fn new(escalations: usize, took: Duration) -> Self {
        let seconds = hundredths(took);
        Self { escalations, seconds, per_second: (escalations as f64 / seconds.max(0.01)).round() }
    }
}

fn hundredths(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}
