//! What customers do: they talk to an agent for a while, which frees the agent, and do not queue
//! for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::sim::desk::{SimulatedDesk, SimulatedState};

/// How long a talk with an agent takes, in milliseconds.
const TALK_MS: std::ops::Range<u64> = 6_000..14_000;
/// How long a customer waits in Desk's queue, in milliseconds.
const QUEUE_MS: std::ops::Range<u64> = 30_000..90_000;
/// The escalation has been answered by then: this is more than its time to live and the time for
/// calls in doubt.
const FORGOTTEN: Duration = Duration::from_secs(200);

/// The sessions that escalations were published for, by id.
pub(super) struct Conversations {
    rng: Rng,
    sessions: BTreeMap<String, Conversation>,
}

struct Conversation {
    talk: Duration,
    leaves_queue_at: Instant,
    forgotten_at: Instant,
    /// Known once an agent has the session.
    talk_ends_at: Option<Instant>,
}

impl Conversations {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), sessions: BTreeMap::new() }
    }

    /// An escalation was published for this session.
    pub(super) fn add(&mut self, session: &str, now: Instant) {
        let talk = Duration::from_millis(self.rng.u64(TALK_MS));
        let queueing = Duration::from_millis(self.rng.u64(QUEUE_MS));
        let conversation = Conversation {
            talk,
            leaves_queue_at: now + queueing,
            forgotten_at: now + FORGOTTEN,
            talk_ends_at: None,
        };
        self.sessions.insert(session.to_owned(), conversation);
    }

    /// Ends the sessions whose customers leave by now.
    pub(super) fn advance(&mut self, desk: &SimulatedDesk, now: Instant) {
        self.sessions.retain(|id, conversation| {
            let state = desk.session(id).and_then(|report| report.state);
            let has_left = conversation.has_left(state, now);
            if has_left {
                desk.set_session_state(id, SimulatedState::NotInSession);
            }
            !has_left && now < conversation.forgotten_at
        });
    }
}

impl Conversation {
    fn has_left(&mut self, state: Option<SimulatedState>, now: Instant) -> bool {
        match state {
            Some(SimulatedState::Agent | SimulatedState::WaitingForAgentAnswering) => {
                now >= *self.talk_ends_at.get_or_insert(now + self.talk)
            }
            Some(SimulatedState::Queueing) => now >= self.leaves_queue_at,
            Some(SimulatedState::Chatbot | SimulatedState::NotInSession) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::desk::SimulatedDeskSettings;

    #[tokio::test]
    async fn customers_talk_for_a_while_and_leave() {
        let desk = SimulatedDesk::start_local(SimulatedDeskSettings::default()).unwrap();
        let mut conversations = Conversations::new(1);
        let start = Instant::now();
        for (id, state) in [
            ("talks", SimulatedState::Agent),
            ("queues", SimulatedState::Queueing),
            ("is-with-the-bot", SimulatedState::Chatbot),
        ] {
            desk.set_session_state(id, state);
            conversations.add(id, start);
        }
        let ended =
            |id: &str| desk.session(id).unwrap().state == Some(SimulatedState::NotInSession);
        conversations.advance(&desk, start);
        assert!(!ended("talks") && !ended("queues"));
        conversations.advance(&desk, start + Duration::from_millis(TALK_MS.end));
        assert!(ended("talks") && !ended("queues"));
        conversations.advance(&desk, start + Duration::from_millis(QUEUE_MS.end));
        assert!(ended("queues") && !ended("is-with-the-bot"));
        conversations.advance(&desk, start + FORGOTTEN);
        assert!(conversations.sessions.is_empty(), "nothing is remembered for ever");
    }
}
