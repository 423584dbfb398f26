//! What the service is doing and has done lately, for people: `/status` and the page show it.
//!
//! Written from the hot path, so everything here is a counter or bounded: [`unfinished_events`] has the
//! unfinished events in memory, `recent` the last outcomes and counts per piece of time. Nothing is
//! computed before somebody asks. It decides nothing, with one exception: an operator's pause of
//! the intake is kept here.

mod histogram;
mod recent;
#[cfg(test)]
mod tests;
mod time_ring;
mod unfinished_events;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

pub use self::recent::{RecentDeadLetter, RecentOutcome, STEP_S};
pub use self::unfinished_events::{
    DeliveryPhase, UnfinishedEntry, UnfinishedEvent, UnfinishedEvents, UnfinishedState,
};

use self::histogram::MillisHistogram;
use self::recent::{CallEnded, HOUR, Recent, STEP, STEPS};
use crate::clock::Clock;
use crate::domain::event::Malformed;
use crate::domain::record::Position;
use crate::domain::request::DeskCommand;
use crate::domain::wire::outcome::{Outcome, Status};

/// What the service does. Shared by everything that does something.
#[derive(Debug)]
pub struct Activity {
    clock: Clock,
    started_at: Timestamp,
    epoch: Instant,
    unfinished: Arc<UnfinishedEvents>,
    recent: Mutex<Recent>,
    assigned: Mutex<AssignedPartitions>,
    /// When an operator paused the intake, and who.
    paused: Mutex<Option<IntakePause>>,
    /// The same as a flag, for the event loop.
    is_paused: AtomicBool,
}

/// The partitions of this instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssignedPartitions {
    /// Those that it has, in their order.
    pub partitions: Vec<i32>,
    /// How many the topic has; 0 before the first assignment.
    pub in_all: usize,
}

/// An operator's pause of the intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakePause {
    /// Since when.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
}

/// The outcomes of the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// In the order of [`Status::ALL`].
    pub by_status: [u64; Status::ALL.len()],
    /// Of those that the first target of the plan took; not counted for all routes together.
    pub first_target: u64,
    /// Dead letters; not counted per route.
    pub dead_letters: u64,
}

/// What the counters say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Of all routes together.
    pub hour: OutcomeCounts,
    /// The last ten minutes, for the share that failed.
    pub ten_minutes: OutcomeCounts,
    /// Milliseconds to the decision: half, 95 % and 99 % of them take at most this.
    pub decided_in_ms: [Option<u64>; 3],
    /// Transfers per second, over the last 10 s.
    pub calls_per_second: f64,
    /// Milliseconds of a call: half and 95 % of them take at most this.
    pub call_ms: [Option<u64>; 2],
    /// Of the calls of the last 5 minutes, 0 to 100.
    pub throttled_percent: Option<f64>,
    /// When the last outcome was decided.
    pub last_answer_at: Option<Timestamp>,
    /// The last outcomes, the newest first.
    pub outcomes: Vec<RecentOutcome>,
    /// The last dead letters, the newest first.
    pub dead_letters: Vec<RecentDeadLetter>,
}

/// The last hour of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteHour {
    /// `None`: no route matched.
    pub name: Option<String>,
    /// Its outcomes.
    pub counts: OutcomeCounts,
    /// Outcomes per 5 minutes, the oldest first.
    pub trend: [u64; 12],
}

/// Points of the small charts, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The end of the last point.
    pub until: Timestamp,
    /// Final outcomes.
    pub answered: Vec<u32>,
    /// Calls to Desk.
    pub calls: Vec<u32>,
    /// Unfinished events.
    pub unfinished: Vec<u64>,
}

impl Activity {
    /// Nothing was done yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            started_at: clock.now(),
            clock,
            epoch: Instant::now(),
            unfinished: Arc::default(),
            recent: Mutex::default(),
            assigned: Mutex::default(),
            paused: Mutex::default(),
            is_paused: AtomicBool::new(false),
        })
    }

    /// When the process started.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The unfinished events in memory.
    pub fn unfinished_events(&self) -> &Arc<UnfinishedEvents> {
        &self.unfinished
    }

    /// A final outcome was published.
    pub fn answered(&self, outcome: &Outcome) {
        self.recent.lock().answered(outcome, self.epoch.elapsed());
    }

    /// An answer that a previous incarnation had stored was published; `label` is its status.
    pub fn answered_earlier(&self, label: &str) {
        if let Some(status) = Status::from_word(label) {
            let now = self.clock.now();
            self.recent.lock().answered_earlier(status, now, self.epoch.elapsed());
        }
    }

    /// A dead letter was published.
    pub fn dead_letter(&self, source: &Position, malformed: &Malformed) {
        let dead_letter = RecentDeadLetter {
            source: source.clone(),
            class: malformed.class.as_str(),
            error: malformed.error.clone(),
            at: self.clock.now(),
        };
        self.recent.lock().dead_letter(dead_letter, self.epoch.elapsed());
    }

    /// A call to Desk has ended with this verdict.
    pub fn called(&self, command: DeskCommand, verdict: &str, took: Duration) {
        let call = CallEnded { command, is_throttled: verdict == "throttled", took };
        self.recent.lock().called(&call, self.epoch.elapsed());
    }

    /// These of `in_all` partitions are assigned.
    pub fn set_assigned(&self, partitions: Vec<i32>, in_all: usize) {
        *self.assigned.lock() = AssignedPartitions { partitions, in_all };
    }

    /// The partitions of this instance.
    pub fn assigned(&self) -> AssignedPartitions {
        self.assigned.lock().clone()
    }

    /// Pause the intake, or resume it; returns whether that changes anything.
    pub fn pause_intake(&self, pause: Option<IntakePause>) -> bool {
        let mut paused = self.paused.lock();
        if paused.is_some() == pause.is_some() {
            return false;
        }
        self.is_paused.store(pause.is_some(), Ordering::Relaxed);
        *paused = pause;
        true
    }

    /// Whether an operator has paused the intake.
    pub fn intake_is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// The operator's pause, if there is one.
    pub fn intake_pause(&self) -> Option<IntakePause> {
        self.paused.lock().clone()
    }

    /// Note how many events are unfinished at the end of each point of the charts; never returns.
    pub async fn sample(self: Arc<Self>, unfinished: impl Fn() -> u64) {
        let mut step = 1;
        loop {
            let end = self.epoch + STEP * step;
            // Just before its end, so that it belongs to this point.
            sleep_until(end - STEP / 100).await;
            self.sample_unfinished(unfinished());
            step += 1;
            // After a suspension of the machine no time is made up for.
            step = step.max((self.epoch.elapsed().as_millis() / STEP.as_millis()) as u32 + 1);
        }
    }

    fn sample_unfinished(&self, unfinished: u64) {
        self.recent.lock().steps.present(self.epoch.elapsed()).unfinished = Some(unfinished);
    }

    /// When the first of the minutes began that [`Self::totals`] counts as the last hour.
    pub fn hour_since(&self) -> Timestamp {
        let present = self.recent.lock().minutes.number(self.epoch.elapsed());
        let minutes = present.saturating_sub(HOUR as u64 - 1);
        let since = Duration::from_secs(60 * minutes);
        self.started_at.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    /// What the counters say now.
    pub fn totals(&self, outcomes: usize) -> Totals {
        let elapsed = self.epoch.elapsed();
        let recent = self.recent.lock();
        let mut totals = Totals { last_answer_at: recent.last_answer_at, ..Totals::default() };
        let (mut decided, mut took) = (MillisHistogram::default(), MillisHistogram::default());
        for minute in recent.minutes.last(elapsed, HOUR) {
            totals.hour.add(&minute.by_status, 0);
            totals.hour.dead_letters += u64::from(minute.dead_letters);
            decided.add(&minute.decided);
        }
        for minute in recent.minutes.last(elapsed, 10) {
            totals.ten_minutes.add(&minute.by_status, 0);
        }
        let (mut calls, mut throttled) = (0, 0);
        for minute in recent.call_minutes.last(elapsed, 5) {
            calls += minute.calls;
            throttled += minute.throttled;
            took.add(&minute.took);
        }
        // Without the present second, which is not over.
        let seconds = recent.call_seconds.number(elapsed);
        let last = (seconds.saturating_sub(10)..seconds).filter_map(|n| recent.call_seconds.get(n));
        totals.calls_per_second = f64::from(last.sum::<u32>()) / seconds.clamp(1, 10) as f64;
        totals.decided_in_ms = [0.5, 0.95, 0.99].map(|part| decided.percentile(part));
        totals.call_ms = [0.5, 0.95].map(|part| took.percentile(part));
        totals.throttled_percent =
            (calls > 0).then(|| f64::from(throttled) / f64::from(calls) * 100.0);
        totals.outcomes = recent.outcomes.iter().take(outcomes).cloned().collect();
        totals.dead_letters = recent.dead_letters.iter().cloned().collect();
        totals
    }

    /// The newest of the last outcomes of which this is true.
    pub fn find_outcome(&self, is_it: impl Fn(&RecentOutcome) -> bool) -> Option<RecentOutcome> {
        self.recent.lock().outcomes.iter().find(|outcome| is_it(outcome)).cloned()
    }

    /// The last hour of each route that had an outcome, in no order.
    pub fn routes(&self) -> Vec<RouteHour> {
        let elapsed = self.epoch.elapsed();
        let recent = self.recent.lock();
        let hour = |(name, ring): (&Option<String>, &time_ring::TimeRing<recent::RouteMinute>)| {
            let (mut counts, mut trend) = (OutcomeCounts::default(), [0; 12]);
            let present = ring.number(elapsed);
            for age in 0..HOUR as u64 {
                let Some(minute) = present.checked_sub(age).and_then(|n| ring.get(n)) else {
                    continue;
                };
                counts.add(&minute.by_status, minute.first_target);
                let answered: u32 = minute.by_status.iter().sum();
                trend[11 - (age / 5) as usize] += u64::from(answered);
            }
            RouteHour { name: name.clone(), counts, trend }
        };
        recent.routes.iter().map(hour).collect()
    }

    /// The points of the small charts that are complete.
    pub fn history(&self) -> History {
        let elapsed = self.epoch.elapsed();
        let recent = self.recent.lock();
        let present = recent.steps.number(elapsed);
        let steps = present.saturating_sub(STEPS as u64)..present;
        let until = STEP * u32::try_from(present).unwrap_or(u32::MAX);
        let mut history = History {
            until: self.started_at.saturating_add(until).unwrap_or(Timestamp::MAX),
            answered: vec![],
            calls: vec![],
            unfinished: vec![],
        };
        let mut unfinished = 0;
        for step in steps {
            let counts = recent.steps.get(step);
            history.answered.push(counts.map_or(0, |counts| counts.answered));
            history.calls.push(counts.map_or(0, |counts| counts.calls));
            unfinished = counts.and_then(|counts| counts.unfinished).unwrap_or(unfinished);
            history.unfinished.push(unfinished);
        }
        history
    }
}

impl OutcomeCounts {
    fn add(&mut self, by_status: &[u32], first_target: u32) {
        for (sum, count) in self.by_status.iter_mut().zip(by_status) {
            *sum += u64::from(*count);
        }
        self.first_target += u64::from(first_target);
    }

    /// Outcomes with this status.
    pub fn of(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// All outcomes.
    pub fn all(&self) -> u64 {
        self.by_status.iter().sum()
    }
}
