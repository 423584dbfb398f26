//! The scenarios: what is measured, and the figures of one run.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::contestant::Kind;
use crate::desk::Desk;
use crate::workload::{Keys, Work};

const MS: fn(u64) -> Duration = Duration::from_millis;
const BOTH: &[Kind] = &[Kind::Handoff, Kind::Plain];
const ALL: &[Kind] = &[Kind::Handoff, Kind::NoLedger, Kind::Plain];
const ONE: &[Kind] = &[Kind::Handoff];
const THREADS: &[Kind] = &[Kind::Handoff, Kind::OneThread];

/// How the events arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flow {
    /// All are in the topic before the contestant starts.
    Backlog,
    /// They arrive one by one, at this part of the possible rate.
    Open(f64),
    /// Another kind of run, see [`crate::special`].
    Special(Special),
}

/// Runs that are not one contestant and one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Quota,
    Outage,
    StartStop,
    Beside(Pile),
}

/// Events that cannot be answered now, beside which ten others must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pile {
    /// People wait for a group without agents.
    Room,
    /// Each call is answered with 141002.
    Retries,
    Parked(LedgerKind),
    /// All events are of one session.
    Flood,
    /// Calls get no answer.
    Hanging,
    /// As `Room`, but far more, who have waited since before the start.
    Crowd(LedgerKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LedgerKind {
    Sqlite,
    Postgres,
}

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) keys: Keys,
    pub(crate) partitions: i32,
    pub(crate) concurrency: usize,
    pub(crate) latency: Duration,
    pub(crate) count: usize,
    pub(crate) flow: Flow,
    pub(crate) kinds: &'static [Kind],
    pub(crate) beside: Beside,
}

/// What a drained backlog has beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// Desk is reached by TLS.
    Tls,
    /// The admin port is asked for metrics, status and readiness all the time.
    Admin,
}

/// The figures of one run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) figures: BTreeMap<&'static str, f64>,
    /// Violated requirements.
    pub(crate) faults: Vec<String>,
}

impl Run {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, figures: BTreeMap::new(), faults: Vec::new() }
    }

    /// Records a figure that is required to have this value.
    pub(crate) fn must(&mut self, what: &'static str, value: f64, wanted: f64) {
        self.figures.insert(what, value);
        if value != wanted {
            self.faults.push(format!("{}: {what} is {value}, not {wanted}", self.kind.name()));
        }
    }
}

impl Scenario {
    pub(crate) fn work(&self, scale: f64, seed: usize) -> Work {
        let count = ((self.count as f64 * scale) as usize).max(100);
        Work::new(self.keys, count, seed as u64)
    }

    pub(crate) fn desk(&self) -> Result<Desk> {
        Desk::start(self.latency, 0)
    }

    /// The configuration of a contestant.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("DESK__CONCURRENCY", self.concurrency.to_string())]
    }
}

/// All of them, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let base = Scenario {
        name: "drain-64",
        what: "backlog, 12 partitions, 64 calls at once of 50 ms",
        keys: Keys::Uniform,
        partitions: 12,
        concurrency: 64,
        latency: MS(50),
        count: 20_000,
        flow: Flow::Backlog,
        kinds: BOTH,
        beside: Beside::Nothing,
    };
    let mut all = compared(&base);
    all.extend(threads(&base));
    all.extend(alone(base.clone()));
    all.extend(beside_piles(&base));
    all
}

/// Beside the plain loop.
fn compared(base: &Scenario) -> Vec<Scenario> {
    let one = Scenario {
        name: "drain-64-1p",
        what: "the same with one partition",
        partitions: 1,
        ..base.clone()
    };
    let wide = Scenario {
        name: "drain-256",
        what: "backlog, 12 partitions, 256 calls at once of 50 ms",
        concurrency: 256,
        count: 60_000,
        ..base.clone()
    };
    let hot = Scenario {
        name: "hot-64",
        what: "backlog, one session has a tenth of all events (Zipf 1.0), 64 calls at once of 50 ms",
        keys: Keys::Zipf,
        count: 6_000,
        ..base.clone()
    };
    let narrow = Scenario {
        name: "hot-8",
        what: "the same with 8 calls at once",
        concurrency: 8,
        count: 3_000,
        ..hot.clone()
    };
    let open = Scenario {
        name: "open-64",
        what: "1024 events a second come one by one (80 % of 64 calls of 50 ms)",
        count: 15_000,
        flow: Flow::Open(0.8),
        ..base.clone()
    };
    let fast = Scenario {
        name: "cost-64",
        what: "backlog, 12 partitions, 64 calls at once that take no time: what an event costs",
        latency: MS(0),
        count: 60_000,
        kinds: ALL,
        ..base.clone()
    };
    vec![base.clone(), one, wide, hot, narrow, open, fast]
}

/// A worker thread for each core beside a single one.
fn threads(base: &Scenario) -> [Scenario; 5] {
    let base = Scenario { kinds: THREADS, ..base.clone() };
    let fast = Scenario { latency: MS(0), count: 60_000, ..base.clone() };
    let open = Flow::Open(0.8);
    let (drain, cost) = ("the same as drain-64", "the same as cost-64");
    [
        Scenario { name: "threads-drain", what: drain, ..base.clone() },
        Scenario {
            name: "threads-open",
            what: "the same as open-64",
            count: 15_000,
            flow: open,
            ..base
        },
        Scenario { name: "threads-cost", what: cost, ..fast.clone() },
        Scenario {
            name: "threads-tls",
            what: "the same with TLS",
            beside: Beside::Tls,
            ..fast.clone()
        },
        Scenario {
            name: "threads-admin",
            what: "the same, the admin port busy",
            beside: Beside::Admin,
            ..fast
        },
    ]
}

/// What the plain loop cannot do at all.
fn alone(base: Scenario) -> [Scenario; 3] {
    let quota = Scenario {
        name: "quota",
        what: "three instances share 200 transfers a second; one leaves and comes back",
        latency: MS(20),
        count: 12_000,
        flow: Flow::Special(Special::Quota),
        kinds: ONE,
        ..base.clone()
    };
    let outage = Scenario {
        name: "outage",
        what: "backlog of 200,000, and Desk is away for a minute",
        latency: MS(5),
        count: 200_000,
        flow: Flow::Special(Special::Outage),
        kinds: ONE,
        ..base.clone()
    };
    let start = Scenario {
        name: "start-stop",
        what: "from the start to the first outcome; SIGTERM with nothing to do; the binary",
        latency: MS(0),
        count: 100,
        flow: Flow::Special(Special::StartStop),
        kinds: ONE,
        ..base
    };
    [quota, outage, start]
}

/// Ten others beside each pile.
fn beside_piles(base: &Scenario) -> Vec<Scenario> {
    use LedgerKind::{Postgres, Sqlite};
    let piles = [
        ("pile-room", "people wait for a group without agents", Pile::Room, 3_000),
        ("pile-retries", "events that Desk answers with 141002", Pile::Retries, 3_000),
        ("pile-parked", "parked events in SQLite", Pile::Parked(Sqlite), 1_000_000),
        ("pile-parked-pg", "parked events in PostgreSQL", Pile::Parked(Postgres), 1_000_000),
        ("pile-flood", "events of one session", Pile::Flood, 5_000),
        ("pile-hanging", "sessions whose calls hang", Pile::Hanging, 300),
        ("pile-crowd", "people waited for it long ago, SQLite", Pile::Crowd(Sqlite), 100_000),
        ("pile-crowd-pg", "the same in PostgreSQL", Pile::Crowd(Postgres), 100_000),
    ];
    let scenario = |(name, what, pile, count)| Scenario {
        name,
        what,
        partitions: 4,
        latency: MS(50),
        count,
        flow: Flow::Special(Special::Beside(pile)),
        kinds: ONE,
        ..base.clone()
    };
    piles.map(scenario).into()
}
