//! Which of Desk's hosts to call: the main one, or its backup while that cannot be reached.
//!
//! Some connection failures in a row move all calls to the other host. From the backup they
//! go back after a while, to see whether the main host works again.
//! This file never connects to anything.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

/// So many connection failures in a row, and the other host is tried.
const FAILURES: u32 = 3;
/// So long on the backup, and the main host is tried again.
const BACK_AFTER: Duration = Duration::from_secs(300);

/// The hosts.
pub(super) struct Hosts {
    endpoints: [String; 2],
    state: Mutex<State>,
}

struct State {
    current: usize,
    failures: u32,
    moved_at: Timestamp,
}

impl Hosts {
    pub(super) fn new(main: String, backup: Option<String>) -> Self {
        let backup = backup.unwrap_or_else(|| main.clone());
        let state = State { current: 0, failures: 0, moved_at: Timestamp::UNIX_EPOCH };
        Self { endpoints: [main, backup], state: Mutex::new(state) }
    }

    /// The host to call now: its number, for `reached`, and its URL.
    pub(super) fn current(&self, now: Timestamp) -> (usize, &str) {
        let mut state = self.lock();
        if state.current == 1 && now.duration_since(state.moved_at).unsigned_abs() >= BACK_AFTER {
            state.move_to(0, now);
        }
        (state.current, &self.endpoints[state.current])
    }

    /// A call to this host was or was not connected.
    pub(super) fn reached(&self, host: usize, connected: bool, now: Timestamp) {
        let mut state = self.lock();
        if host != state.current || self.endpoints[0] == self.endpoints[1] {
            return;
        }
        if connected {
            state.failures = 0;
            return;
        }
        state.failures += 1;
        if state.failures >= FAILURES {
            state.move_to(1 - host, now);
            let to = self.endpoints[state.current].as_str();
            drop(state);
            warn!(to, "cannot connect to Desk {FAILURES} times in a row; trying the other host");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn move_to(&mut self, host: usize, now: Timestamp) {
        *self = Self { current: host, failures: 0, moved_at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_the_backup_after_failures_in_a_row_and_back_after_a_while() {
        let hosts = Hosts::new("main".into(), Some("backup".into()));
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for connected in [false, false, true, false, false] {
            hosts.reached(0, connected, now);
            assert_eq!(hosts.current(now), (0, "main"));
        }
        hosts.reached(0, false, now);
        assert_eq!(hosts.current(now), (1, "backup"));
        hosts.reached(0, false, now);
        assert_eq!(hosts.current(now + Duration::from_secs(299)), (1, "backup"));
        assert_eq!(hosts.current(now + Duration::from_secs(300)), (0, "main"));
    }
}
