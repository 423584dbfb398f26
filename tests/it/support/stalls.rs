//! How long the machine stood still while a test measured.
//!
//! A virtual machine is paused now and then, or has something else to do. What the service answers within
//! a second it does not answer meanwhile, so tests whose limit is that short allow for it.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(20);
/// A thread that is late by less only had to wait for others.
const STALL: Duration = Duration::from_millis(100);

static TOTAL_MS: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// Knows the stalls from here on.
pub(crate) struct Stalls {
    before: u64,
}

impl Stalls {
    pub(crate) fn begin() -> Self {
        WATCH.call_once(|| drop(thread::spawn(watch)));
        Self { before: TOTAL_MS.load(Relaxed) }
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_millis(TOTAL_MS.load(Relaxed) - self.before)
    }
}

fn watch() {
    loop {
        let begun = Instant::now();
        thread::sleep(TICK);
        let late = begun.elapsed() - TICK;
        if late >= STALL {
            TOTAL_MS.fetch_add(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
    }
}
