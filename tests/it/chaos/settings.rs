//! The settings of a run: length, seed, ledger, number of workers.
//!
//! `scripts/chaos` passes them in the environment. The seed determines the faults and the set-up of
//! the consumer group, not what is required of the result.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;

use super::faults::Fault;

/// The session time-out of the consumer group.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the simulated Desk may still execute a call that got no answer.
pub(super) const SETTLE: Duration = Duration::from_millis(1500);

/// Default length of the period with faults.
const DEFAULT_LENGTH: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerKind {
    Sqlite,
    Postgres,
}

/// The set-up of the consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupSettings {
    /// `eager`, `cooperative` or `consumer`.
    pub(super) protocol: &'static str,
    /// Static or dynamic membership.
    pub(super) static_members: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RunSettings {
    /// The length of the period before the first fault.
    pub(super) without_faults: Duration,
    pub(super) with_faults: Duration,
    pub(super) seed: u64,
    pub(super) ledger: LedgerKind,
    pub(super) workers: usize,
    pub(super) group: GroupSettings,
    /// Records per second.
    pub(super) rate: u64,
    /// The kinds of faults; empty: all of them.
    pub(super) only: Vec<String>,
    /// Receives logs and report.
    pub(super) folder: PathBuf,
}

impl RunSettings {
    /// From the variables `HANDOFF_CHAOS_*`.
    pub(super) fn from_environment() -> Self {
        let number = |name: &str| variable(name).map(|text| text.parse::<f64>().expect(name));
        let ledger = match variable("LEDGER").as_deref() {
            None | Some("postgres") => LedgerKind::Postgres,
            Some("sqlite") => LedgerKind::Sqlite,
            Some(other) => panic!("HANDOFF_CHAOS_LEDGER is sqlite or postgres, not {other}"),
        };
        let minutes = number("MINUTES");
        let seed = variable("SEED").map_or(1, |text| text.parse().expect("a seed is a number"));
        let workers = match ledger {
            LedgerKind::Sqlite => 1,
            LedgerKind::Postgres => number("WORKERS").map_or(3, |workers| workers as usize),
        };
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        Self {
            without_faults: Duration::from_secs(if minutes.is_some() { 10 } else { 4 }),
            with_faults: minutes
                .map_or(DEFAULT_LENGTH, |minutes| Duration::from_secs_f64(minutes * 60.0)),
            seed,
            ledger,
            workers,
            group: group(seed, variable("GROUP").as_deref()),
            rate: number("RATE").map_or(80, |rate| rate as u64),
            only: kinds(variable("ONLY").as_deref()),
            folder: folder.join(format!("chaos-{ledger:?}-{seed}").to_lowercase()),
        }
    }

    /// Whether this run has faults of this kind.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == kind)
    }

    /// Whether the run is so long that piles are observed beside other events, which must be answered
    /// in time. In a short run, which shares the machine with other tests, every moment is disturbed.
    pub(super) fn judges_freshness(&self) -> bool {
        self.with_faults >= Duration::from_secs(60)
    }

    /// The size of the piles: 1 in a run of five minutes or more, less in a shorter one.
    pub(super) fn pile_size(&self) -> f64 {
        (self.with_faults.as_secs_f64() / 300.0).clamp(0.05, 1.0)
    }

    /// Whether the run is so long that a worker must have been killed.
    pub(super) fn must_kill(&self) -> bool {
        self.with_faults >= DEFAULT_LENGTH && self.has("kill")
    }
}

fn kinds(wanted: Option<&str>) -> Vec<String> {
    let wanted = wanted.into_iter().flat_map(|kinds| kinds.split(','));
    let known = |kind: &str| {
        assert!(Fault::KINDS.contains(&kind), "{kind} is none of {:?}", Fault::KINDS);
        kind.to_owned()
    };
    wanted.map(known).collect()
}

fn group(seed: u64, wanted: Option<&str>) -> GroupSettings {
    let mut rng = Rng::with_seed(seed ^ 0xc0ffee);
    let all = ["cooperative", "consumer", "eager"];
    let protocol = match wanted {
        Some(name) => all.into_iter().find(|known| *known == name).expect("a known protocol"),
        None => all[rng.usize(..all.len())],
    };
    GroupSettings { protocol, static_members: rng.bool() }
}

#[expect(
    clippy::disallowed_methods,
    reason = "scripts/chaos passes the settings in the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(format!("HANDOFF_CHAOS_{name}")).ok().filter(|value| !value.is_empty())
}
