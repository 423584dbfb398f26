//! Whether the database takes what is written, or can be read, and the log lines about it: one when
//! it goes, one per while as long as it is away, one when it is back.
//!
//! This file never hides the first failure, and never repeats itself faster than a reader reads.

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

const WHILE: Duration = Duration::from_secs(10);
/// A new reason is told earlier.
const MOMENT: Duration = Duration::from_secs(1);

/// The state of the database as it was seen last, by those who do one thing with it.
pub(super) struct Health {
    /// What it means when it goes.
    ill: String,
    /// When it is back.
    well: &'static str,
    state: Mutex<Option<Illness>>,
}

struct Illness {
    since: Instant,
    told: Instant,
    text: String,
}

impl Health {
    /// Of those who write.
    pub(super) fn of_writing() -> Self {
        Self {
            ill: "the ledger does not work, nothing goes on until it does".into(),
            well: "the ledger works again",
            state: Mutex::default(),
        }
    }

    /// Of one who looks up what earlier owners left open in these partitions.
    pub(super) fn of_looking_up(partitions: &[i32]) -> Self {
        Self {
            ill: format!("the ledger cannot be read, the partitions {partitions:?} wait for it"),
            well: "the ledger can be read again",
            state: Mutex::default(),
        }
    }

    /// It answered.
    pub(super) fn well(&self) {
        let illness = self.lock().take();
        if let Some(illness) = illness {
            info!(after_s = illness.since.elapsed().as_secs(), "{}", self.well);
        }
    }

    /// It did not.
    pub(super) fn ill(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        let now = Instant::now();
        let mut state = self.lock();
        let (since, tell) = match &*state {
            Some(illness) => {
                let pause = if illness.text == text { WHILE } else { MOMENT };
                (illness.since, now >= illness.told + pause)
            }
            None => (now, true),
        };
        let told = state.as_ref().filter(|_| !tell).map_or(now, |illness| illness.told);
        *state = Some(Illness { since, told, text: text.clone() });
        drop(state);
        if tell {
            error!("{}: {text}", self.ill);
        }
    }

    /// Why it does not work; `None`: it does, as far as is known.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().as_ref().map(|illness| illness.text.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Illness>> {
        self.state.lock()
    }
}
