//! Whose turn it is in each session: first come, one at a time.
//!
//! A ticket is the arrival number of an event. The first in a session has the turn; a later
//! one gets it when all before it have left. Leaving out of turn (an expired event waits for
//! nobody) wakes nobody. This file never lets two tickets of a session have the turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::gate::Ticket;

/// The sessions that have events, each with its tickets in order of arrival.
#[derive(Debug, Default)]
pub(super) struct SessionQueues(HashMap<Arc<str>, VecDeque<Ticket>>);

impl SessionQueues {
    /// Queue up. Returns the one before it; `None`: it is this ticket's turn at once.
    pub(super) fn join(&mut self, session: &Arc<str>, ticket: Ticket) -> Option<Ticket> {
        let lane = self.0.entry(session.clone()).or_default();
        let before = lane.back().copied();
        lane.push_back(ticket);
        before
    }

    /// Leave, from wherever in the lane. Returns whose turn it has become by that.
    pub(super) fn leave(&mut self, session: &Arc<str>, ticket: Ticket) -> Option<Ticket> {
        let lane = self.0.get_mut(session)?;
        let place = lane.iter().position(|queued| *queued == ticket)?;
        lane.remove(place);
        let next = lane.front().copied();
        if next.is_none() {
            self.0.remove(session);
        }
        next.filter(|_| place == 0)
    }

    /// Sessions that have events.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_one_at_a_time_and_leaving_out_of_turn_wakes_nobody() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut session_queues = SessionQueues::default();
        assert_eq!(session_queues.join(&a, 1), None);
        assert_eq!(session_queues.join(&a, 2), Some(1));
        assert_eq!(session_queues.join(&a, 3), Some(2));
        assert_eq!(session_queues.join(&b, 4), None);
        assert_eq!(session_queues.leave(&a, 2), None);
        assert_eq!(session_queues.leave(&a, 1), Some(3));
        assert_eq!(session_queues.leave(&a, 1), None);
        assert_eq!(session_queues.leave(&b, 4), None);
        assert_eq!(session_queues.leave(&a, 3), None);
        assert_eq!(session_queues.len(), 0);
    }
}
