//! How long the machine stood still while a test measured.
//!
//! A virtual machine is paused now and then, or has something else to do. What the service answers within
//! a second it does not answer meanwhile, so tests whose limit is that short allow for it.

use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(20);
/// A thread that is late by less only had to wait for others.
const STALL: Duration = Duration::from_millis(100);

static WATCHED: Mutex<Option<Watched>> = Mutex::new(None);
static WATCH: Once = Once::new();

/// What the thread has seen that sleeps all the time.
#[derive(Clone, Copy)]
struct Watched {
    stalled: Duration,
    woke_at: Instant,
}

impl Watched {
    fn now() -> Self {
        let mut watched = WATCHED.lock().unwrap();
        let now = Instant::now();
        let Watched { stalled, woke_at } =
            watched.unwrap_or(Self { stalled: Duration::ZERO, woke_at: now });
        let late = (now - woke_at).saturating_sub(TICK);
        // Also where this thread has woken first.
        let late = if late >= STALL { late } else { Duration::ZERO };
        *watched.insert(Self { stalled: stalled + late, woke_at: now })
    }
}

/// Knows the stalls from here on.
pub(crate) struct Stalls {
    before: Duration,
}

impl Stalls {
    pub(crate) fn begin() -> Self {
        WATCH.call_once(|| {
            drop(thread::spawn(|| {
                loop {
                    Watched::now();
                    thread::sleep(TICK);
                }
            }));
        });
        Self { before: Watched::now().stalled }
    }

    pub(crate) fn total(&self) -> Duration {
        Watched::now().stalled - self.before
    }
}
