//! Which of Desk's hosts to call: the main one, or its backup while that cannot be reached.
//!
//! Some connection failures in a row move all calls to the other host. From the backup they
//! go back after a while, to see whether the main host works again.
//! This file never connects to anything.

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::Url;
use tracing::warn;

use crate::domain::request::DeskCommand;

/// So many connection failures in a row, and the other host is tried.
const FAILURES: u32 = 3;
/// So long on the backup, and the main host is tried again.
const BACK_AFTER: Duration = Duration::from_secs(300);

/// The hosts.
pub(super) struct Hosts {
    /// Of each host, for each command in the order of `DeskCommand::ALL`; without a query.
    urls: [[Url; DeskCommand::ALL.len()]; 2],
    state: Mutex<State>,
}

struct State {
    current: usize,
    failures: u32,
    moved_at: Timestamp,
}

impl Hosts {
    pub(super) fn new(main: &str, backup: Option<&str>) -> anyhow::Result<Self> {
        let urls = [urls(main)?, urls(backup.unwrap_or(main))?];
        let state = State { current: 0, failures: 0, moved_at: Timestamp::UNIX_EPOCH };
        Ok(Self { urls, state: Mutex::new(state) })
    }

    /// The number of the host to call now.
    pub(super) fn current(&self, now: Timestamp) -> usize {
        let mut state = self.lock();
        if state.current == 1 && now.duration_since(state.moved_at).unsigned_abs() >= BACK_AFTER {
            state.move_to(0, now);
        }
        state.current
    }

    /// Where a host serves a command.
    pub(super) fn url(&self, host: usize, command: DeskCommand) -> &Url {
        &self.urls[host][command as usize]
    }

    /// A call to this host was or was not connected.
    pub(super) fn reached(&self, host: usize, connected: bool, now: Timestamp) {
        let mut state = self.lock();
        if host != state.current || self.urls[0] == self.urls[1] {
            return;
        }
        if connected {
            state.failures = 0;
            return;
        }
        state.failures += 1;
        if state.failures >= FAILURES {
            state.move_to(1 - host, now);
            let to = self.urls[state.current][0].origin().ascii_serialization();
            drop(state);
            warn!(to, "cannot connect to Desk {FAILURES} times in a row; trying the other host");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn urls(endpoint: &str) -> anyhow::Result<[Url; DeskCommand::ALL.len()]> {
    let url = |command: DeskCommand| {
        let url = format!("{endpoint}/v4/desk_http_svc/{}", command.as_str());
        Url::parse(&url).with_context(|| format!("{endpoint:?} is not the URL of a host"))
    };
    let [transfer, question] = DeskCommand::ALL.map(url);
    Ok([transfer?, question?])
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
        let hosts = Hosts::new("https://main", Some("https://backup")).unwrap();
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for connected in [false, false, true, false, false] {
            hosts.reached(0, connected, now);
            assert_eq!(hosts.current(now), 0);
        }
        hosts.reached(0, false, now);
        assert_eq!(hosts.current(now), 1);
        hosts.reached(0, false, now);
        assert_eq!(hosts.current(now + Duration::from_secs(299)), 1);
        assert_eq!(hosts.current(now + Duration::from_secs(300)), 0);
        let url = hosts.url(1, DeskCommand::GetSessionState).as_str();
        assert_eq!(url, "https://backup/v4/desk_http_svc/get_session_state");
    }
}
