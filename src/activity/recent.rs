//! What was done lately: the last outcomes and dead letters, and counts per piece of time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::histogram::MillisHistogram;
use super::time_ring::TimeRing;
use crate::domain::record::Position;
use crate::domain::request::DeskCommand;
use crate::domain::wire::outcome::{Outcome, Status};

/// Outcomes that are kept.
const MAX_OUTCOMES: usize = 500;
/// Dead letters that are kept.
const MAX_DEAD_LETTERS: usize = 50;
/// Routes that are counted: a reload may bring new ones.
const MAX_ROUTES: usize = 200;
/// Seconds of a point of the small charts.
pub const STEP_S: u64 = 10;
/// Half an hour shows how a fault began.
pub(super) const STEP: Duration = Duration::from_secs(STEP_S);
pub(super) const STEPS: usize = 180;
pub(super) const HOUR: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// A final outcome that was published.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentOutcome {
    /// The event.
    pub event_id: Arc<str>,
    /// Its session.
    pub session_id: Arc<str>,
    /// What became of it.
    pub status: Status,
    /// Its route.
    pub route: Option<String>,
    /// Transfers sent.
    pub attempts: u32,
    /// Desk's last code.
    pub code: Option<i64>,
    /// The agent who was assigned.
    pub agent_id: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Milliseconds from `requested_at` to the decision.
    pub elapsed_ms: u64,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The position of its record.
    pub source: Position,
}

/// A dead letter that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentDeadLetter {
    /// The position of the malformed record.
    pub source: Position,
    /// The class of the error.
    pub class: &'static str,
    /// The error.
    pub error: String,
    /// When it was published.
    pub at: Timestamp,
}

/// A call to Desk that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallEnded {
    pub(super) command: DeskCommand,
    pub(super) is_throttled: bool,
    pub(super) took: Duration,
}

#[derive(Debug)]
pub(super) struct Recent {
    pub(super) outcomes: VecDeque<RecentOutcome>,
    pub(super) dead_letters: VecDeque<RecentDeadLetter>,
    pub(super) last_answer_at: Option<Timestamp>,
    pub(super) minutes: TimeRing<OutcomeMinute>,
    pub(super) routes: HashMap<Option<String>, TimeRing<RouteMinute>>,
    pub(super) steps: TimeRing<StepCounts>,
    pub(super) call_seconds: TimeRing<u32>,
    pub(super) call_minutes: TimeRing<CallMinute>,
}

/// What was published in a minute.
#[derive(Debug, Default)]
pub(super) struct OutcomeMinute {
    pub(super) by_status: [u32; Status::ALL.len()],
    pub(super) decided: MillisHistogram,
    pub(super) dead_letters: u32,
}

/// The outcomes of one route in a minute.
#[derive(Debug, Default)]
pub(super) struct RouteMinute {
    pub(super) by_status: [u32; Status::ALL.len()],
    /// Assigned or queued by the first target of the plan.
    pub(super) first_target: u32,
}

/// A point of the small charts.
#[derive(Debug, Default)]
pub(super) struct StepCounts {
    pub(super) answered: u32,
    pub(super) calls: u32,
    /// Unfinished events at its end; `None`: nobody has looked.
    pub(super) unfinished: Option<u64>,
}

/// The calls to Desk of a minute.
#[derive(Debug, Default)]
pub(super) struct CallMinute {
    pub(super) calls: u32,
    pub(super) throttled: u32,
    pub(super) took: MillisHistogram,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            outcomes: VecDeque::new(),
            dead_letters: VecDeque::new(),
            last_answer_at: None,
            minutes: TimeRing::new(MINUTE, HOUR),
            routes: HashMap::new(),
            steps: TimeRing::new(STEP, STEPS),
            call_seconds: TimeRing::new(Duration::from_secs(1), 10),
            call_minutes: TimeRing::new(MINUTE, 5),
        }
    }
}

impl Recent {
    pub(super) fn answered(&mut self, outcome: &Outcome, elapsed: Duration) {
        let status = outcome.status as usize;
        let minute = self.minutes.present(elapsed);
        minute.by_status[status] += 1;
        minute.decided.observe(outcome.elapsed_ms);
        self.steps.present(elapsed).answered += 1;
        self.last_answer_at = Some(outcome.decided_at);
        if let Some(route) = self.route(&outcome.route) {
            let minute = route.present(elapsed);
            minute.by_status[status] += 1;
            let found = matches!(outcome.status, Status::Assigned | Status::Queued);
            // Only a cascade lists its targets.
            minute.first_target += u32::from(found && outcome.tried.is_empty());
        }
        put(&mut self.outcomes, MAX_OUTCOMES, RecentOutcome::of(outcome));
    }

    /// An answer that a previous incarnation had stored was published.
    pub(super) fn answered_earlier(&mut self, status: Status, at: Timestamp, elapsed: Duration) {
        self.minutes.present(elapsed).by_status[status as usize] += 1;
        self.steps.present(elapsed).answered += 1;
        self.last_answer_at = Some(at);
    }

    pub(super) fn dead_letter(&mut self, dead_letter: RecentDeadLetter, elapsed: Duration) {
        self.minutes.present(elapsed).dead_letters += 1;
        put(&mut self.dead_letters, MAX_DEAD_LETTERS, dead_letter);
    }

    pub(super) fn called(&mut self, call: &CallEnded, elapsed: Duration) {
        let CallEnded { command, is_throttled, took } = *call;
        self.steps.present(elapsed).calls += 1;
        // It is compared with the limit of transfers.
        if command == DeskCommand::TransferToHuman {
            *self.call_seconds.present(elapsed) += 1;
        }
        let minute = self.call_minutes.present(elapsed);
        minute.calls += 1;
        minute.throttled += u32::from(is_throttled);
        minute.took.observe(took.as_millis() as u64);
    }

    fn route(&mut self, name: &Option<String>) -> Option<&mut TimeRing<RouteMinute>> {
        if !self.routes.contains_key(name) {
            if self.routes.len() >= MAX_ROUTES {
                return None;
            }
            self.routes.insert(name.clone(), TimeRing::new(MINUTE, HOUR));
        }
        self.routes.get_mut(name)
    }
}

impl RecentOutcome {
    fn of(outcome: &Outcome) -> Self {
        Self {
            event_id: outcome.event_id.clone(),
            session_id: outcome.session_id.clone(),
            status: outcome.status,
            route: outcome.route.clone(),
            attempts: outcome.attempts,
            code: outcome.desk.as_ref().map(|desk| desk.code),
            agent_id: outcome.agent_id.clone(),
            reason: outcome.reason.clone(),
            elapsed_ms: outcome.elapsed_ms,
            decided_at: outcome.decided_at,
            source: outcome.source.clone(),
        }
    }
}

/// Adds a value in front; the oldest one beyond `limit` is dropped.
fn put<T>(list: &mut VecDeque<T>, limit: usize, value: T) {
    list.truncate(limit - 1);
    list.push_front(value);
}
