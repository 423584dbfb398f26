//! How soon the events beside the piles are answered, while the service is up and Desk answers them.
//!
//! Pure, as the checker is. An event is judged unless something explains its wait: it arrived just
//! before, during or after a [`Disturbance`] (a kill, a pause, an outage), or Desk refused or did not
//! answer a call of its session. What is judged beside which pile is up to the faults of the run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::checker::{Evidence, ExpectedResult, ObservedOutcome, RecordKind, RecordPosition};

/// Within this time an event that is judged must be answered.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Codes of calls that Desk carried out: done, and "a human has the session".
const ANSWERED: [i64; 2] = [0, 141_003];

/// A time in which events may wait: the service is not up everywhere, or Desk cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disturbance {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Disturbance {
    /// Whether an event that arrived then may have waited for its end.
    fn explains(&self, arrived: Timestamp) -> bool {
        arrived <= self.until && arrived + LIMIT >= self.from
    }
}

/// Whether, and how soon, events beside the piles were answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Freshness {
    /// The times from arrival to answer of the judged events, ascending, with their ids.
    pub(super) judged: Vec<(Duration, String)>,
    /// Events whose wait is explained.
    pub(super) explained: usize,
}

impl Freshness {
    /// The answer time that this part of the judged events does not exceed.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        let index = (self.judged.len() as f64 * part).ceil() as usize;
        self.judged.get(index.saturating_sub(1)).map_or(Duration::ZERO, |(time, _)| *time)
    }

    /// The judged events that were answered too late, for people.
    pub(super) fn late(&self) -> Vec<String> {
        let late = self.judged.iter().filter(|(time, _)| *time > LIMIT);
        late.map(|(time, id)| format!("event {id} was answered after {time:.1?}")).collect()
    }
}

/// The answer times of all events that are part of no pile and whose answer Desk decides.
pub(super) fn freshness(evidence: &Evidence) -> Freshness {
    let mut answers: BTreeMap<RecordPosition, &ObservedOutcome> = BTreeMap::new();
    for outcome in evidence.outcomes.iter().filter(|outcome| outcome.is_final) {
        // The first copy counts, if there are several.
        answers.entry(outcome.source).or_insert(outcome);
    }
    let mut freshness = Freshness::default();
    for sent in evidence.sent.iter().filter(|sent| !sent.is_in_pile) {
        let RecordKind::Event { id, session, expected: ExpectedResult::FromDesk } = &sent.kind
        else {
            continue;
        };
        // A repeated record has no answer of its own; a lost event is another finding.
        let Some(answer) = answers.get(&sent.position) else { continue };
        let is_disturbed = evidence.disturbances.iter().any(|time| time.explains(sent.arrived));
        if is_disturbed || !was_answered(evidence, session) {
            freshness.explained += 1;
            continue;
        }
        let time = answer.published.duration_since(sent.arrived).unsigned_abs();
        freshness.judged.push((time, id.clone()));
    }
    freshness.judged.sort();
    freshness
}

/// Whether Desk answered each call of this session and refused none.
fn was_answered(evidence: &Evidence, session: &str) -> bool {
    let calls = evidence.desk.get(session).map_or(&[][..], |desk| &desk.calls);
    calls.iter().all(|call| call.code.is_some_and(|code| ANSWERED.contains(&code)))
}
