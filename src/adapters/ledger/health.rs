//! Whether the database answers, and the log lines about it: one when it goes, one per while
//! as long as it is away, one when it is back.
//!
//! This file never hides the first failure, and never repeats itself faster than a reader reads.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

const WHILE: Duration = Duration::from_secs(10);
/// A new reason is told earlier.
const MOMENT: Duration = Duration::from_secs(1);

/// The state of the database as it was seen last.
#[derive(Default)]
pub(super) struct Health(Mutex<Option<Illness>>);

struct Illness {
    since: Instant,
    told: Instant,
    text: String,
}

impl Health {
    /// It answered.
    pub(super) fn well(&self) {
        let illness = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(illness) = illness {
            info!(after_s = illness.since.elapsed().as_secs(), "the ledger works again");
        }
    }

    /// It did not.
    pub(super) fn ill(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            error!("the ledger does not work, nothing goes on until it does: {text}");
        }
    }

    /// Why it does not work; `None`: it does, as far as is known.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(|illness| illness.text.clone())
    }
}
