//! How soon the events beside the piles are answered, while the service is up and Desk answers them.
//!
//! Pure, as the checker is. An event is judged unless something explains its wait: it arrived just
//! before, during or after a [`Disturbance`] (a kill, a pause, an outage), or behind events of such a
//! time in its partition, or Desk refused or did not answer a call of its session. What is judged
//! beside which pile is up to the faults of the run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::checker::{Evidence, ExpectedResult, ObservedOutcome, RecordKind, RecordPosition};

/// Within this time an event that is judged must be answered.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// For this long after a disturbance events may wait for those that arrived in it.
const CATCH_UP: Duration = Duration::from_secs(60);
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
    // The id too: a topic that is created again has other records at the same positions.
    let mut answers: BTreeMap<(&str, RecordPosition), &ObservedOutcome> = BTreeMap::new();
    for outcome in evidence.outcomes.iter().filter(|outcome| outcome.is_final) {
        // The first copy counts, if there are several.
        answers.entry((&outcome.event, outcome.source)).or_insert(outcome);
    }
    let mut beside: Vec<_> = evidence.sent.iter().filter(|sent| !sent.is_in_pile).collect();
    beside.sort_by_key(|sent| (sent.topic, sent.position));
    // By partition: when the events of disturbances were answered that are ahead of the next one.
    let mut caught_up: BTreeMap<i32, Timestamp> = BTreeMap::new();
    let mut freshness = Freshness::default();
    for sent in beside {
        let RecordKind::Event { id, session, expected: ExpectedResult::FromDesk } = &sent.kind
        else {
            continue;
        };
        // A repeated record has no answer of its own; a lost event is another finding.
        let Some(answer) = answers.get(&(id.as_str(), sent.position)) else { continue };
        if !was_answered(evidence, session) {
            freshness.explained += 1;
            continue;
        }
        let caught_up = caught_up.entry(sent.position.0).or_insert(Timestamp::MIN);
        let disturbances = evidence.disturbances.iter().filter(|time| time.explains(sent.arrived));
        if let Some(until) = disturbances.map(|time| time.until).max() {
            let limit = until.saturating_add(CATCH_UP).unwrap_or(Timestamp::MAX);
            *caught_up = (*caught_up).max(answer.published.min(limit));
            freshness.explained += 1;
            continue;
        }
        let time = answer.published.duration_since(sent.arrived.max(*caught_up));
        // Negative: answered before an event ahead of it.
        let time = Duration::try_from(time).unwrap_or_default();
        if sent.arrived < *caught_up && time <= LIMIT {
            freshness.explained += 1;
        } else {
            freshness.judged.push((time, id.clone()));
        }
    }
    freshness.judged.sort();
    freshness
}

/// Whether Desk answered each call of this session and refused none.
fn was_answered(evidence: &Evidence, session: &str) -> bool {
    let calls = evidence.desk.get(session).map_or(&[][..], |desk| &desk.calls);
    calls.iter().all(|call| call.code.is_some_and(|code| ANSWERED.contains(&code)))
}
