//! Whether a call may begin now: the state of the worker's gate towards Desk.
//!
//! Open: calls begin at the worker's speed, each command at its own. Shut (misconfigured, or Desk
//! out of reach): one probe at a time, ever more slowly, until one succeeds; after that calls
//! come back little by little. Times are durations since any fixed moment. This file never ends an event: whoever waits here is not burnt.

use std::time::Duration;

use super::rate_limiter::RateLimiter;
use crate::domain::course::Signal;
use crate::domain::request::DeskCommand;

/// The rules of the gate.
#[derive(Debug, Clone, Copy)]
pub struct BreakerPolicy {
    /// The first probe follows the closing after so long.
    pub probe_initial: Duration,
    /// The longest time between probes.
    pub probe_max: Duration,
    /// So many calls in a row without an answer mean that Desk is out of reach.
    pub outage_after: u32,
}

/// ShutReason the gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutReason {
    /// Somebody has to repair something.
    Misconfigured,
    /// Desk does not answer.
    Unreachable,
}

impl ShutReason {
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
pub enum Admission {
    /// Yes.
    Go,
    /// Yes, as the one probe of a shut gate.
    Probe,
    /// Not before this time.
    NotBefore(Duration),
    /// Not before something else happens: the probe comes back, or partitions come.
    Later,
}

/// What a report changed, for the log.
#[derive(Debug, Clone, PartialEq)]
pub enum GateChange {
    /// Shut, and what to repair.
    Shut(ShutReason, String),
    /// Open again after so long.
    Opened(Duration),
    /// Slowed down to so many calls per second.
    Slowed(f64),
}

/// So many calls at once after an outage, and twice as many each time this has passed.
const FIRST_PLACES: usize = 4;
const GROWS: Duration = Duration::from_secs(1);

/// The state of the gate.
#[derive(Debug)]
pub struct GateState {
    policy: BreakerPolicy,
    /// Of each command, in the order of `DeskCommand::ALL`.
    speeds: [RateLimiter; DeskCommand::ALL.len()],
    silent: u32,
    shut: Option<Shut>,
    /// When it opened again, if it was shut.
    opened: Option<Duration>,
}

#[derive(Debug)]
struct Shut {
    why: ShutReason,
    text: String,
    since: Duration,
    interval: Duration,
    probe_at: Duration,
    probing: bool,
}

impl GateState {
    /// An open gate; each command has this speed.
    pub fn new(policy: BreakerPolicy, speed: &RateLimiter) -> Self {
        let speeds = DeskCommand::ALL.map(|_| speed.clone());
        Self { policy, speeds, silent: 0, shut: None, opened: None }
    }

    /// From now on the part of a command's quota that goes with these of all partitions is ours.
    pub fn set_share(&mut self, command: DeskCommand, (ours, all): (&[i32], usize), now: Duration) {
        self.speed(command).set_share(ours, all, now);
    }

    /// How many of the `all` calls may be out at once now, and when it may be more: after an
    /// outage not everybody who waits comes at once.
    pub fn places(&self, all: usize, now: Duration) -> (usize, Option<Duration>) {
        let Some(opened) = self.opened else { return (all, None) };
        let doublings = u32::try_from(now.saturating_sub(opened).as_millis() / GROWS.as_millis());
        let places = doublings.map_or(all, |n| FIRST_PLACES.saturating_mul(1 << n.min(32)));
        if places >= all {
            return (all, None);
        }
        (places, Some(opened + GROWS * (doublings.unwrap_or(0) + 1)))
    }

    fn speed(&mut self, command: DeskCommand) -> &mut RateLimiter {
        &mut self.speeds[command as usize]
    }

    /// ShutReason it is shut and what to repair, if it is.
    pub fn shut(&self) -> Option<(ShutReason, &str)> {
        self.shut.as_ref().map(|shut| (shut.why, shut.text.as_str()))
    }

    /// May a call begin now? `Go` and `Probe` count it as begun.
    pub fn admit(&mut self, command: DeskCommand, now: Duration) -> Admission {
        match self.speed(command).ready_at(now) {
            None => return Admission::Later,
            Some(ready_at) if now < ready_at => return Admission::NotBefore(ready_at),
            Some(_) => {}
        }
        match &mut self.shut {
            Some(shut) if shut.probing => return Admission::Later,
            Some(shut) if now < shut.probe_at => return Admission::NotBefore(shut.probe_at),
            Some(shut) => shut.probing = true,
            None => {}
        }
        self.speed(command).begin(now);
        if self.shut.is_some() { Admission::Probe } else { Admission::Go }
    }

    /// A call that was admitted came back.
    pub fn report(&mut self, probe: bool, signal: &Signal, now: Duration) -> Option<GateChange> {
        if probe {
            return self.probed(signal, now);
        }
        if self.shut.is_some() {
            // It began before the gate was shut and says nothing about the repair.
            return None;
        }
        match signal {
            Signal::Success | Signal::Reauthenticating | Signal::StateQueryUnsupported(_) => {
                self.silent = 0
            }
            Signal::NoResponse(text) => {
                self.silent += 1;
                if self.silent >= self.policy.outage_after {
                    let count = self.silent;
                    let text = format!("Desk gave no answer {count} times in a row, last: {text}");
                    return Some(self.close(ShutReason::Unreachable, &text, now));
                }
            }
            Signal::Throttled(pause) => return self.slow_down(*pause, now),
            Signal::Misconfigured(text) => {
                return Some(self.close(ShutReason::Misconfigured, text, now));
            }
        }
        None
    }

    /// The number of the call to this command that was admitted last.
    pub fn last(&self, command: DeskCommand) -> u64 {
        self.speeds[command as usize].begun()
    }

    /// The call of this number to this command was not made.
    pub fn unused(&mut self, command: DeskCommand, number: u64) {
        self.speed(command).unused(number);
    }

    /// A call that was admitted was given up without a result.
    pub fn abandon(&mut self, probe: bool) {
        if probe && let Some(shut) = &mut self.shut {
            shut.probing = false;
        }
    }

    fn probed(&mut self, signal: &Signal, now: Duration) -> Option<GateChange> {
        let shut = self.shut.as_mut()?;
        let wait = match signal {
            Signal::NoResponse(_) | Signal::Misconfigured(_) => {
                shut.interval = (shut.interval * 2).min(self.policy.probe_max);
                shut.interval
            }
            // Neither says whether it was repaired: probe again, not more slowly.
            Signal::Reauthenticating => self.policy.probe_initial,
            Signal::Throttled(pause) if shut.why == ShutReason::Misconfigured => {
                shut.interval.max(pause.unwrap_or_default())
            }
            Signal::Success | Signal::StateQueryUnsupported(_) | Signal::Throttled(_) => {
                return Some(self.open(signal, now));
            }
        };
        shut.probing = false;
        shut.probe_at = now + wait;
        match signal {
            Signal::Misconfigured(text) if *text != shut.text => {
                (shut.why, shut.text) = (ShutReason::Misconfigured, text.clone());
                Some(GateChange::Shut(shut.why, text.clone()))
            }
            _ => None,
        }
    }

    fn open(&mut self, signal: &Signal, now: Duration) -> GateChange {
        let since = self.shut.take().map_or(now, |shut| shut.since);
        self.silent = 0;
        self.opened = Some(now);
        if let Signal::Throttled(pause) = signal {
            self.slow_down(*pause, now);
        }
        GateChange::Opened(now.saturating_sub(since))
    }

    fn slow_down(&mut self, pause: Option<Duration>, now: Duration) -> Option<GateChange> {
        self.silent = 0;
        // Desk limits the app as well as each command: all of them slow down.
        let [transfers, questions] = &mut self.speeds;
        let (rate, other) = (transfers.slow_down(now, pause), questions.slow_down(now, pause));
        rate.or(other).map(GateChange::Slowed)
    }

    fn close(&mut self, why: ShutReason, text: &str, now: Duration) -> GateChange {
        let interval = self.policy.probe_initial;
        self.shut = Some(Shut {
            why,
            text: text.to_owned(),
            since: now,
            interval,
            probe_at: now + interval,
            probing: false,
        });
        GateChange::Shut(why, text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn gate() -> GateState {
        let policy = BreakerPolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 };
        GateState::new(policy, &RateLimiter::new(None))
    }

    fn admit(gate: &mut GateState, now: Duration) -> Admission {
        gate.admit(DeskCommand::TransferToHuman, now)
    }

    #[test]
    fn misconfigured_is_probed_ever_more_slowly_and_opens_by_itself() {
        let mut gate = gate();
        let closed = Signal::Misconfigured("60021".into());
        assert_eq!(admit(&mut gate, S(0)), Admission::Go);
        let shut = GateChange::Shut(ShutReason::Misconfigured, "60021".into());
        assert_eq!(gate.report(false, &closed, S(0)), Some(shut));
        assert_eq!(gate.report(false, &Signal::Success, S(1)), None);
        assert_eq!(admit(&mut gate, S(1)), Admission::NotBefore(S(5)));
        assert_eq!(admit(&mut gate, S(5)), Admission::Probe);
        assert_eq!(admit(&mut gate, S(5)), Admission::Later);
        assert_eq!(gate.report(true, &closed, S(5)), None);
        assert_eq!(admit(&mut gate, S(6)), Admission::NotBefore(S(15)));
        assert_eq!(admit(&mut gate, S(15)), Admission::Probe);
        gate.abandon(true);
        assert_eq!(admit(&mut gate, S(15)), Admission::Probe);
        assert_eq!(gate.report(true, &closed, S(15)), None);
        assert_eq!(admit(&mut gate, S(16)), Admission::NotBefore(S(30)));
        assert_eq!(admit(&mut gate, S(30)), Admission::Probe);
        assert_eq!(gate.report(true, &Signal::Success, S(31)), Some(GateChange::Opened(S(31))));
        assert_eq!(admit(&mut gate, S(31)), Admission::Go);
    }

    #[test]
    fn silence_in_a_row_shuts_it_and_one_answer_in_between_does_not() {
        let mut gate = gate();
        let silent = Signal::NoResponse("refused".into());
        for signal in [&silent, &silent, &Signal::Success, &silent, &silent] {
            assert_eq!(gate.report(false, signal, S(0)), None);
        }
        let change = gate.report(false, &silent, S(0));
        assert!(matches!(change, Some(GateChange::Shut(ShutReason::Unreachable, _))), "{change:?}");
    }

    #[test]
    fn too_fast_holds_everybody_back() {
        let mut gate = gate();
        assert_eq!(admit(&mut gate, S(0)), Admission::Go);
        let change = gate.report(false, &Signal::Throttled(Some(S(7))), S(0));
        assert!(matches!(change, Some(GateChange::Slowed(_))));
        assert_eq!(admit(&mut gate, S(1)), Admission::NotBefore(S(7)));
    }

    #[test]
    fn a_command_has_a_speed_of_its_own() {
        let policy = BreakerPolicy { probe_initial: S(5), probe_max: S(15), outage_after: 3 };
        let mut gate = GateState::new(policy, &RateLimiter::new(Some(1.0)));
        assert_eq!(gate.admit(DeskCommand::TransferToHuman, S(0)), Admission::Go);
        assert!(matches!(gate.admit(DeskCommand::TransferToHuman, S(0)), Admission::NotBefore(_)));
        assert_eq!(gate.admit(DeskCommand::GetSessionState, S(0)), Admission::Go);
        gate.set_share(DeskCommand::TransferToHuman, (&[], 1), S(0));
        assert_eq!(gate.admit(DeskCommand::TransferToHuman, S(9)), Admission::Later);
        assert_eq!(gate.admit(DeskCommand::GetSessionState, S(9)), Admission::Go);
    }

    #[test]
    fn after_an_outage_calls_come_back_little_by_little() {
        let mut gate = gate();
        assert_eq!(gate.places(64, S(0)), (64, None), "nothing was wrong");
        gate.report(false, &Signal::Misconfigured("60021".into()), S(0));
        assert_eq!(admit(&mut gate, S(5)), Admission::Probe);
        gate.report(true, &Signal::Success, S(6));
        assert_eq!(gate.places(64, S(6)), (4, Some(S(7))));
        assert_eq!(gate.places(64, S(7)), (8, Some(S(8))));
        assert_eq!(gate.places(64, S(9)), (32, Some(S(10))));
        assert_eq!(gate.places(64, S(10)), (64, None));
        assert_eq!(gate.places(2, S(6)), (2, None));
        assert_eq!(gate.places(10_000, S(100_000)), (10_000, None));
    }
}
