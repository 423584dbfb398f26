//! The acts that wait for their calls, and the changes of staff that wait for their moment.
//!
//! There is one queue per session and one for all sessions; a call takes the first act that is
//! meant for it, from its own session's queue before the common one. While nothing waits a look-up
//! costs one atomic read. The book hands acts out and never performs one.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::agents::Staffing;
use super::counters::lock;
use super::script::{ANY_SESSION, Act, Script, Shift};
use super::stats::Command;

/// The acts that wait, and the shifts to come.
#[derive(Default)]
pub(super) struct Book {
    /// Spares the usual call, for which nothing waits, the lock.
    anything: AtomicBool,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    by_session: HashMap<String, VecDeque<Act>>,
    for_all: VecDeque<Act>,
    shifts: Vec<Due>,
}

struct Due {
    at_transfer: u64,
    at: Option<Instant>,
    staffing: Staffing,
}

/// The call for which an act is looked up.
pub(super) struct Cue<'a> {
    pub(super) session: &'a str,
    pub(super) command: Command,
    /// Transfers asked for so far, this one included.
    pub(super) transfers: u64,
    pub(super) now: Instant,
}

impl Book {
    pub(super) fn add(&self, script: &Script, cue: &Cue<'_>) {
        let mut pages = lock(&self.pages);
        for act in &script.acts {
            pages.queue_of(&act.session).push_back(act.clone());
        }
        pages.shifts.extend(script.shifts.iter().map(|shift| Due::of(shift, cue)));
        self.anything.store(pages.anything(), Relaxed);
    }

    pub(super) fn clear(&self) {
        *lock(&self.pages) = Pages::default();
        self.anything.store(false, Relaxed);
    }

    /// The act for this call, if one waits, and the shifts that have come due.
    pub(super) fn look_up(&self, cue: &Cue<'_>, rng: &mut Rng) -> (Option<Act>, Vec<Staffing>) {
        if !self.anything.load(Relaxed) {
            return (None, Vec::new());
        }
        let mut pages = lock(&self.pages);
        let due = pages.shifts.extract_if(.., |due| due.has_come(cue)).map(|due| due.staffing);
        let due = due.collect();
        let act = pages.take(cue, rng);
        self.anything.store(pages.anything(), Relaxed);
        (act, due)
    }
}

impl Pages {
    fn queue_of(&mut self, session: &str) -> &mut VecDeque<Act> {
        if session == ANY_SESSION {
            return &mut self.for_all;
        }
        self.by_session.entry(session.to_owned()).or_default()
    }

    fn take(&mut self, cue: &Cue<'_>, rng: &mut Rng) -> Option<Act> {
        if let Some(own) = self.by_session.get_mut(cue.session) {
            let act = take_first(own, cue.command, rng);
            if own.is_empty() {
                self.by_session.remove(cue.session);
            }
            if act.is_some() {
                return act;
            }
        }
        take_first(&mut self.for_all, cue.command, rng)
    }

    fn anything(&self) -> bool {
        !(self.by_session.is_empty() && self.for_all.is_empty() && self.shifts.is_empty())
    }
}

fn take_first(acts: &mut VecDeque<Act>, command: Command, rng: &mut Rng) -> Option<Act> {
    let strikes = |act: &Act| {
        act.commands.contains(&command) && (act.chance >= 1.0 || rng.f64() < act.chance)
    };
    let place = acts.iter().position(strikes)?;
    let act = &mut acts[place];
    match act.times {
        0 => Some(act.clone()),
        1 => acts.remove(place),
        _ => {
            act.times -= 1;
            Some(act.clone())
        }
    }
}

impl Due {
    fn of(shift: &Shift, cue: &Cue<'_>) -> Self {
        Self {
            at_transfer: shift
                .after_transfers
                .map_or(u64::MAX, |n| cue.transfers.saturating_add(n)),
            at: shift.after_ms.and_then(|ms| cue.now.checked_add(Duration::from_millis(ms))),
            staffing: shift.staffing.clone(),
        }
    }

    fn has_come(&self, cue: &Cue<'_>) -> bool {
        cue.transfers > self.at_transfer || self.at.is_some_and(|at| at <= cue.now)
    }
}

#[cfg(test)]
mod tests;
