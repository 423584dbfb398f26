//! What the contestants are given: escalations of 1 KB, their sessions, their times.
//!
//! The same seed gives the same work. Nothing here knows a contestant.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;

/// Sessions that the events are spread over.
pub(crate) const SESSIONS: usize = 10_000;
const BYTES: usize = 1024;

/// How events are spread over sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// All sessions alike.
    Uniform,
    /// Zipf with exponent 1: the hottest session has a tenth of all events.
    Zipf,
}

/// Events in their order.
pub(crate) struct Work {
    pub(crate) events: Vec<Event>,
}

/// One event.
pub(crate) struct Event {
    pub(crate) session: String,
    pub(crate) value: Vec<u8>,
}

impl Work {
    pub(crate) fn new(keys: Keys, count: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weights: Vec<f64> = (1..=SESSIONS).map(|rank| 1.0 / rank as f64).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = Vec::with_capacity(SESSIONS);
        weights.iter().fold(0.0, |sum, size_bytes| {
            sums.push(sum + size_bytes / total);
            sum + size_bytes / total
        });
        let events = (0..count).map(|number| {
            let session = match keys {
                Keys::Uniform => rng.usize(..SESSIONS),
                Keys::Zipf => {
                    let chance = rng.f64();
                    sums.partition_point(|sum| *sum < chance).min(SESSIONS - 1)
                }
            };
            event(number, session)
        });
        Self { events: events.collect() }
    }

    /// The session that has the most events, and how many.
    pub(crate) fn hottest(&self) -> (String, usize) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for event in &self.events {
            *counts.entry(&event.session).or_default() += 1;
        }
        let hottest = counts.into_iter().max_by_key(|(session, count)| (*count, session.len()));
        hottest.map_or_else(Default::default, |(session, count)| (session.to_owned(), count))
    }

    /// The least time in which this can be done: so many calls at once, one per session.
    pub(crate) fn bound(&self, concurrency: usize, latency: Duration) -> Duration {
        let together = latency.mul_f64(self.events.len() as f64 / concurrency as f64);
        together.max(latency * u32::try_from(self.hottest().1).unwrap_or(u32::MAX))
    }
}

/// The number is the event's id, so that its answer leads back to it.
fn event(number: usize, session: usize) -> Event {
    let session = format!("session-{session:08}");
    let mut event = json!({
        "type": "escalation", "id": format!("{number}"), "session_id": session,
        "reason": "user_requested", "priority": number % 10,
        "attributes": {"lang": "de", "tier": "vip", "intent": "refund"},
        "options": {"send_tip_if_no_agent_online": true},
        "context": {"summary": ""},
    });
    let rest = BYTES.saturating_sub(event.to_string().len());
    let summary: String = "the customer says that ".chars().cycle().take(rest).collect();
    event["context"]["summary"] = summary.into();
    Event { session, value: event.to_string().into_bytes() }
}
