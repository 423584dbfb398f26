//! Whether a call may begin now: the state of the worker's gate towards Desk.
//!
//! Open: calls begin at the worker's speed. Shut (misconfigured, or Desk out of reach): one
//! probe at a time, ever more slowly, until one succeeds. Times are durations since any
//! fixed moment. This file never ends an event: whoever waits here is not burnt.

use std::time::Duration;

use super::course::Notice;
use super::pace::Speed;

/// The rules of the gate.
#[derive(Debug, Clone, Copy)]
pub struct GatePolicy {
    /// The first probe follows the closing after so long.
    pub probe_initial: Duration,
    /// The longest time between probes.
    pub probe_max: Duration,
    /// So many calls in a row without an answer mean that Desk is out of reach.
    pub outage_after: u32,
}

/// Why the gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Somebody has to repair something.
    Misconfigured,
    /// Desk does not answer.
    Unreachable,
}

impl Why {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::Misconfigured, Self::Unreachable];

    /// The word in the metric and in `/ready`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Unreachable => "unreachable",
        }
    }
}

/// May a call begin?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Yes.
    Go,
    /// Yes, as the one probe of a shut gate.
    Probe,
    /// Not before this time.
    NotBefore(Duration),
    /// Not while the probe is out.
    AfterProbe,
}

/// What a report changed, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Shut, and what to repair.
    Shut(Why, String),
    /// Open again after so long.
    Opened(Duration),
    /// Slowed down to so many calls per second.
    Slowed(f64),
}

/// The state of the gate.
#[derive(Debug)]
pub struct GateState {
    policy: GatePolicy,
    speed: Speed,
    silent: u32,
    shut: Option<Shut>,
}

#[derive(Debug)]
struct Shut {
    why: Why,
    text: String,
    since: Duration,
    interval: Duration,
    probe_at: Duration,
    probing: bool,
}

impl GateState {
    /// An open gate.
    pub fn new(policy: GatePolicy, speed: Speed) -> Self {
        Self { policy, speed, silent: 0, shut: None }
    }

    /// Why it is shut and what to repair, if it is.
    pub fn shut(&self) -> Option<(Why, &str)> {
        self.shut.as_ref().map(|shut| (shut.why, shut.text.as_str()))
    }

    /// May a call begin now? `Go` and `Probe` count it as begun.
    pub fn admit(&mut self, now: Duration) -> Admit {
        let ready_at = self.speed.ready_at();
        if now < ready_at {
            return Admit::NotBefore(ready_at);
        }
        match &mut self.shut {
            Some(shut) if shut.probing => return Admit::AfterProbe,
            Some(shut) if now < shut.probe_at => return Admit::NotBefore(shut.probe_at),
            Some(shut) => shut.probing = true,
            None => {}
        }
        self.speed.begin(now);
        if self.shut.is_some() { Admit::Probe } else { Admit::Go }
    }

    /// A call that was admitted came back.
    pub fn report(&mut self, probe: bool, notice: &Notice, now: Duration) -> Option<Change> {
        if probe {
            return self.probed(notice, now);
        }
        if self.shut.is_some() {
            // It began before the gate was shut and says nothing about the repair.
            return None;
        }
        match notice {
            Notice::Fine | Notice::Resigning | Notice::CannotAsk(_) => self.silent = 0,
            Notice::Silent(text) => {
                self.silent += 1;
                if self.silent >= self.policy.outage_after {
                    let count = self.silent;
                    let text = format!("Desk gave no answer {count} times in a row, last: {text}");
                    return Some(self.close(Why::Unreachable, &text, now));
                }
            }
            Notice::Slow(pause) => return self.slow_down(*pause, now),
            Notice::Closed(text) => return Some(self.close(Why::Misconfigured, text, now)),
        }
        None
    }

    /// A call that was admitted was given up without a result.
    pub fn abandon(&mut self, probe: bool) {
        if probe && let Some(shut) = &mut self.shut {
            shut.probing = false;
        }
    }

    fn probed(&mut self, notice: &Notice, now: Duration) -> Option<Change> {
        let shut = self.shut.as_mut()?;
        let wait = match notice {
            Notice::Silent(_) | Notice::Closed(_) => {
                shut.interval = (shut.interval * 2).min(self.policy.probe_max);
                shut.interval
            }
            // Neither says whether it was repaired: probe again, not more slowly.
            Notice::Resigning => self.policy.probe_initial,
            Notice::Slow(pause) if shut.why == Why::Misconfigured => {
                shut.interval.max(pause.unwrap_or_default())
            }
            Notice::Fine | Notice::CannotAsk(_) | Notice::Slow(_) => {
                return Some(self.open(notice, now));
            }
        };
        shut.probing = false;
        shut.probe_at = now + wait;
        match notice {
            Notice::Closed(text) if *text != shut.text => {
                (shut.why, shut.text) = (Why::Misconfigured, text.clone());
                Some(Change::Shut(shut.why, text.clone()))
            }
            _ => None,
        }
    }

    fn open(&mut self, notice: &Notice, now: Duration) -> Change {
        let since = self.shut.take().map_or(now, |shut| shut.since);
        self.silent = 0;
        if let Notice::Slow(pause) = notice {
            self.slow_down(*pause, now);
        }
        Change::Opened(now.saturating_sub(since))
    }

    fn slow_down(&mut self, pause: Option<Duration>, now: Duration) -> Option<Change> {
        self.silent = 0;
        self.speed.slow_down(now, pause).map(Change::Slowed)
    }

    fn close(&mut self, why: Why, text: &str, now: Duration) -> Change {
        let interval = self.policy.probe_initial;
        self.shut = Some(Shut {
            why,
            text: text.to_owned(),
            since: now,
            interval,
            probe_at: now + interval,
            probing: false,
        });
        Change::Shut(why, text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn gate() -> GateState {
        let policy = GatePolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 };
        GateState::new(policy, Speed::new(None))
    }

    #[test]
    fn misconfigured_is_probed_ever_more_slowly_and_opens_by_itself() {
        let mut gate = gate();
        let closed = Notice::Closed("60021".into());
        assert_eq!(gate.admit(S(0)), Admit::Go);
        let shut = Change::Shut(Why::Misconfigured, "60021".into());
        assert_eq!(gate.report(false, &closed, S(0)), Some(shut));
        assert_eq!(gate.report(false, &Notice::Fine, S(1)), None);
        assert_eq!(gate.admit(S(1)), Admit::NotBefore(S(5)));
        assert_eq!(gate.admit(S(5)), Admit::Probe);
        assert_eq!(gate.admit(S(5)), Admit::AfterProbe);
        assert_eq!(gate.report(true, &closed, S(5)), None);
        assert_eq!(gate.admit(S(6)), Admit::NotBefore(S(15)));
        assert_eq!(gate.admit(S(15)), Admit::Probe);
        gate.abandon(true);
        assert_eq!(gate.admit(S(15)), Admit::Probe);
        assert_eq!(gate.report(true, &closed, S(15)), None);
        assert_eq!(gate.admit(S(16)), Admit::NotBefore(S(30)));
        assert_eq!(gate.admit(S(30)), Admit::Probe);
        assert_eq!(gate.report(true, &Notice::Fine, S(31)), Some(Change::Opened(S(31))));
        assert_eq!(gate.admit(S(31)), Admit::Go);
    }

    #[test]
    fn silence_in_a_row_shuts_it_and_one_answer_in_between_does_not() {
        let mut gate = gate();
        let silent = Notice::Silent("refused".into());
        for notice in [&silent, &silent, &Notice::Fine, &silent, &silent] {
            assert_eq!(gate.report(false, notice, S(0)), None);
        }
        let change = gate.report(false, &silent, S(0));
        assert!(matches!(change, Some(Change::Shut(Why::Unreachable, _))), "{change:?}");
    }

    #[test]
    fn too_fast_holds_everybody_back() {
        let mut gate = gate();
        assert_eq!(gate.admit(S(0)), Admit::Go);
        let change = gate.report(false, &Notice::Slow(Some(S(7))), S(0));
        assert!(matches!(change, Some(Change::Slowed(_))));
        assert_eq!(gate.admit(S(1)), Admit::NotBefore(S(7)));
    }
}
