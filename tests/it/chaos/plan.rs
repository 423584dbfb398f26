//! What a run is told: how long, which seed, which ledger, how many workers.
//!
//! `scripts/chaos` says it in the environment; without it the run is a short one.
//! The seed never changes what is demanded, only what happens and how the group is set up.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;

/// The session time-out of the group.
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// How long the simulated Desk may still work on a call that got no answer.
pub(super) const SETTLE: Duration = Duration::from_millis(1500);

/// How long things break by default.
const STORMY: Duration = Duration::from_secs(20);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ledger {
    Sqlite,
    Postgres,
}

/// How the consumer group works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// `eager`, `cooperative` or `consumer`.
    pub(super) protocol: &'static str,
    /// Static membership.
    pub(super) fixed: bool,
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) calm: Duration,
    pub(super) stormy: Duration,
    pub(super) seed: u64,
    pub(super) ledger: Ledger,
    pub(super) workers: usize,
    pub(super) group: Group,
    /// Events a second.
    pub(super) rate: u64,
    /// Logs and the report.
    pub(super) folder: PathBuf,
}

impl Plan {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let number = |name: &str| variable(name).map(|text| text.parse::<f64>().expect(name));
        let ledger = match variable("LEDGER").as_deref() {
            None | Some("postgres") => Ledger::Postgres,
            Some("sqlite") => Ledger::Sqlite,
            Some(other) => panic!("HANDOFF_CHAOS_LEDGER is sqlite or postgres, not {other}"),
        };
        let minutes = number("MINUTES");
        let seed = variable("SEED").map_or(1, |text| text.parse().expect("a seed is a number"));
        let workers = match ledger {
            Ledger::Sqlite => 1,
            Ledger::Postgres => number("WORKERS").map_or(3, |workers| workers as usize),
        };
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        Self {
            calm: Duration::from_secs(if minutes.is_some() { 10 } else { 4 }),
            stormy: minutes.map_or(STORMY, |minutes| Duration::from_secs_f64(minutes * 60.0)),
            seed,
            ledger,
            workers,
            group: group(seed, variable("GROUP").as_deref()),
            rate: number("RATE").map_or(80, |rate| rate as u64),
            folder: folder.join(format!("chaos-{ledger:?}-{seed}").to_lowercase()),
        }
    }

    /// It is so long that a worker must have been killed.
    pub(super) fn must_kill(&self) -> bool {
        self.stormy >= STORMY
    }
}

fn group(seed: u64, wanted: Option<&str>) -> Group {
    let mut rng = Rng::with_seed(seed ^ 0xc0ffee);
    let all = ["cooperative", "consumer", "eager"];
    let protocol = match wanted {
        Some(name) => all.into_iter().find(|known| *known == name).expect("a known protocol"),
        None => all[rng.usize(..all.len())],
    };
    Group { protocol, fixed: rng.bool() }
}

#[expect(clippy::disallowed_methods, reason = "scripts/chaos tells the run by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(format!("HANDOFF_CHAOS_{name}")).ok().filter(|value| !value.is_empty())
}
