//! Whether Desk refuses one session only.
//!
//! A refusal is isolated if Desk accepted the same command of another session between the first
//! refusal of this event and its present call, and refused no other session since that success. Calls
//! that were in flight at the time prove nothing, so a success counts from the start of its call.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::request::DeskCommand;
use crate::domain::signal::Signal;
use crate::gate::permits::{Caller, SessionHash, Ticket};

use super::StartedCall;

/// Refused events that are remembered. The oldest are forgotten first; they need a second witness
/// again then.
const MAX_REFUSED_EVENTS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// When the first refusal of an event returned, if it has met nothing else since.
    first_refused: BTreeMap<Ticket, Duration>,
    /// Per command, in the order of [`DeskCommand::ALL`]: starts of calls that Desk accepted.
    accepted: [LatestOfTwo; DeskCommand::ALL.len()],
    /// Returns of refusals that were not isolated.
    refused: [LatestOfTwo; DeskCommand::ALL.len()],
}

impl Isolation {
    /// Whether a refusal of the call that starts now would be isolated.
    pub(super) fn is_contradicted(&self, command: DeskCommand, caller: Caller) -> bool {
        let Some(first) = self.first_refused.get(&caller.rank.ticket) else { return false };
        let accepted = self.accepted[command as usize].of_others(caller.session);
        let refused = self.refused[command as usize].of_others(caller.session);
        accepted.is_some_and(|at| at >= *first && refused.is_none_or(|refused| at > refused))
    }

    /// Whether the last that this event met was a refusal.
    pub(super) fn was_refused(&self, caller: Caller) -> bool {
        self.first_refused.contains_key(&caller.rank.ticket)
    }

    pub(super) fn on_signal(&mut self, call: &StartedCall, signal: &Signal, now: Duration) {
        let ticket = call.caller.rank.ticket;
        match signal {
            Signal::Success | Signal::StateQueryUnsupported(_) => {
                self.first_refused.remove(&ticket);
                self.accepted[call.command as usize].add(call.caller.session, call.started_at);
            }
            Signal::Misconfigured(_) | Signal::Reauthenticating | Signal::Misrouted(_) => {
                self.first_refused.entry(ticket).or_insert(now);
                if self.first_refused.len() > MAX_REFUSED_EVENTS {
                    self.first_refused.pop_first();
                }
                if matches!(signal, Signal::Misconfigured(_)) && !call.contradicted {
                    self.refused[call.command as usize].add(call.caller.session, now);
                }
            }
            // Neither says anything about the session.
            Signal::NoResponse(_) | Signal::Throttled(_) => {}
        }
    }
}

/// The latest times of two sessions: enough to find the latest of the others for any session.
#[derive(Debug, Default)]
struct LatestOfTwo {
    latest: Option<(SessionHash, Duration)>,
    second: Option<(SessionHash, Duration)>,
}

impl LatestOfTwo {
    fn add(&mut self, session: SessionHash, at: Duration) {
        let is_later = |than: Option<(SessionHash, Duration)>| than.is_none_or(|(_, t)| at >= t);
        match self.latest {
            Some((latest, before)) if latest == session => {
                self.latest = Some((session, before.max(at)));
            }
            latest if is_later(latest) => {
                self.second = latest;
                self.latest = Some((session, at));
            }
            _ if is_later(self.second) => self.second = Some((session, at)),
            _ => {}
        }
    }

    fn of_others(&self, session: SessionHash) -> Option<Duration> {
        let of_another = |entry: &(SessionHash, Duration)| entry.0 != session;
        let found = self.latest.filter(of_another).or(self.second.filter(of_another));
        found.map(|(_, at)| at)
    }
}
