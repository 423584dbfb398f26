//! When calls without an answer mean that Desk is unreachable.
//!
//! Each session is one witness: calls of a single session may hang for its own sake. A call counts
//! only if it started after the last answer, because a Desk that answers others is reachable.

use std::collections::HashSet;
use std::time::Duration;

use crate::gate::permits::SessionHash;

use super::StartedCall;

/// With fewer sessions than `outage_after`, silence for this long is an outage too. Otherwise a
/// service with little traffic would report itself as ready while Desk is down.
const LONG_SILENCE: Duration = Duration::from_secs(15);
/// As many calls at least, so that one slow call is no outage.
const MIN_CALLS_OF_LONG_SILENCE: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Silence {
    last_answer_at: Duration,
    /// Start of the first call that got no answer since then.
    since: Option<Duration>,
    sessions: HashSet<SessionHash>,
    calls: usize,
}

impl Silence {
    pub(super) fn on_answer(&mut self, now: Duration) {
        *self = Self { last_answer_at: now, ..Self::default() };
    }

    /// Count a call without an answer; true if Desk counts as unreachable now.
    pub(super) fn on_no_response(
        &mut self,
        call: &StartedCall,
        now: Duration,
        outage_after: usize,
    ) -> bool {
        if call.started_at < self.last_answer_at {
            return false;
        }
        let since = *self.since.get_or_insert(call.started_at);
        self.calls += 1;
        self.sessions.insert(call.caller.session);
        let is_long = now.saturating_sub(since) >= LONG_SILENCE;
        self.sessions.len() >= outage_after || (is_long && self.calls >= MIN_CALLS_OF_LONG_SILENCE)
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionHash> {
        self.sessions.iter().copied()
    }
}
