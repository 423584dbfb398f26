//! Selects the host to call: the main one, or the backup while the main one cannot be reached.
//!
//! [`FAILURE_LIMIT`] connection failures in a row move all calls to the other host. After
//! [`BACKUP_PERIOD`] on the backup the main host is tried again. This module does not connect.

use parking_lot::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use reqwest::Url;
use tracing::warn;

use crate::domain::reply::Reply;
use crate::domain::request::DeskCommand;

/// Connection failures in a row before the other host is used.
const FAILURE_LIMIT: u32 = 3;
/// How long the backup is used before the main host is tried again.
const BACKUP_PERIOD: Duration = Duration::from_secs(300);

/// Whether a call reached its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reachability {
    Connected,
    NotConnected,
}

impl Reachability {
    pub(super) fn of(reply: &Reply) -> Self {
        if reply.was_sent() { Self::Connected } else { Self::NotConnected }
    }
}

/// The main host (number 0) and the backup (number 1).
pub(super) struct Hosts {
    /// By host and by command in the order of `DeskCommand::ALL`; without a query.
    urls: [[Url; DeskCommand::ALL.len()]; 2],
    state: Mutex<HostState>,
}

struct HostState {
    current: usize,
    failures: u32,
    moved_at: Timestamp,
}

impl Hosts {
    pub(super) fn new(main: &str, backup: Option<&str>) -> anyhow::Result<Self> {
        let urls = [urls(main)?, urls(backup.unwrap_or(main))?];
        let state = HostState { current: 0, failures: 0, moved_at: Timestamp::UNIX_EPOCH };
        Ok(Self { urls, state: Mutex::new(state) })
    }

    /// The number of the host to call now.
    pub(super) fn current(&self, now: Timestamp) -> usize {
        let mut state = self.state.lock();
        if state.current == 1 && now.duration_since(state.moved_at).unsigned_abs() >= BACKUP_PERIOD
        {
            state.move_to(0, now);
        }
        state.current
    }

    /// The URL of a command on a host.
    pub(super) fn url(&self, host: usize, command: DeskCommand) -> &Url {
        &self.urls[host][command as usize]
    }

    /// Records whether a call reached this host.
    pub(super) fn record(&self, host: usize, reachability: Reachability, now: Timestamp) {
        let mut state = self.state.lock();
        // A late reply of the host used before says nothing about the current one, and without a
        // backup there is no other host.
        if host != state.current || self.urls[0] == self.urls[1] {
            return;
        }
        if reachability == Reachability::Connected {
            state.failures = 0;
            return;
        }
        state.failures += 1;
        if state.failures >= FAILURE_LIMIT {
            state.move_to(1 - host, now);
            let to = self.urls[state.current][0].origin().ascii_serialization();
            // Logging may block; other calls must not wait for it.
            drop(state);
            warn!(desk.host = to, "cannot connect to Desk, using the other host");
        }
    }
}

fn urls(endpoint: &str) -> anyhow::Result<[Url; DeskCommand::ALL.len()]> {
    let url = |command: DeskCommand| {
        let url = format!("{endpoint}/v4/desk_http_svc/{}", command.as_str());
        Url::parse(&url).with_context(|| format!("{endpoint:?} is not the URL of a host"))
    };
    let [transfer, state_query] = DeskCommand::ALL.map(url);
    Ok([transfer?, state_query?])
}

impl HostState {
    fn move_to(&mut self, host: usize, now: Timestamp) {
        *self = Self { current: host, failures: 0, moved_at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_move_calls_to_the_backup_for_a_while() {
        use Reachability::{Connected, NotConnected};
        let hosts = Hosts::new("https://main", Some("https://backup")).unwrap();
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for reachability in [NotConnected, NotConnected, Connected, NotConnected, NotConnected] {
            hosts.record(0, reachability, now);
            assert_eq!(hosts.current(now), 0);
        }
        hosts.record(0, NotConnected, now);
        assert_eq!(hosts.current(now), 1);
        hosts.record(0, NotConnected, now);
        assert_eq!(hosts.current(now + Duration::from_secs(299)), 1);
        assert_eq!(hosts.current(now + Duration::from_secs(300)), 0);
        let url = hosts.url(1, DeskCommand::GetSessionState).as_str();
        assert_eq!(url, "https://backup/v4/desk_http_svc/get_session_state");
    }
}
