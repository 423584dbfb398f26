//! What happens in the demo that keeps running: a cycle of three minutes in which each state of the
//! service is seen once.

use std::time::Duration;

/// After this time the phases begin again.
pub(super) const CYCLE: Duration = Duration::from_secs(180);

/// A part of the cycle: something changes at its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    /// Seconds after the beginning of the cycle.
    at_s: u64,
    /// Escalations per second, on average.
    pub(super) per_second: f64,
    /// What changes.
    pub(super) change: PhaseChange,
    /// What changes, for people.
    pub(super) text: &'static str,
}

/// What changes in the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseChange {
    /// Faults that no call has met yet are removed.
    Calm,
    /// Three answers of Desk are lost.
    LostAnswers,
    /// Records arrive that cannot be read. Last, because dead letters are a warning for an hour.
    BadRecords,
    /// The agents of billing go offline, or come back.
    BillingOnline(bool),
    /// Desk refuses connections, or accepts them again.
    DeskReachable(bool),
    /// Calls per second that Desk accepts; 0: any number.
    DeskLimit(u32),
    /// The file of the secret key holds that of another app, or the right one.
    RightKey(bool),
    /// More escalations than agents can take.
    Rush,
}

/// The phases of a cycle, in their order.
pub(super) const PHASES: [Phase; 12] = [
    Phase {
        at_s: 0,
        per_second: 1.5,
        change: PhaseChange::Calm,
        text: "calm: a few escalations per second, agents are free",
    },
    Phase {
        at_s: 6,
        per_second: 1.5,
        change: PhaseChange::LostAnswers,
        text: "answers of Desk get lost",
    },
    Phase {
        at_s: 20,
        per_second: 2.0,
        change: PhaseChange::BillingOnline(false),
        text: "all agents of billing go offline",
    },
    Phase {
        at_s: 50,
        per_second: 1.5,
        change: PhaseChange::BillingOnline(true),
        text: "the agents of billing are back",
    },
    Phase {
        at_s: 62,
        per_second: 2.0,
        change: PhaseChange::DeskReachable(false),
        text: "Desk is unreachable",
    },
    Phase {
        at_s: 87,
        per_second: 1.5,
        change: PhaseChange::DeskReachable(true),
        text: "Desk can be reached again",
    },
    Phase {
        at_s: 100,
        per_second: 4.0,
        change: PhaseChange::DeskLimit(2),
        text: "Desk accepts two calls per second; customers are many",
    },
    Phase {
        at_s: 120,
        per_second: 1.5,
        change: PhaseChange::DeskLimit(0),
        text: "Desk accepts all calls again",
    },
    Phase {
        at_s: 132,
        per_second: 2.0,
        change: PhaseChange::RightKey(false),
        text: "desk.secret_key_file gets the key of another app",
    },
    Phase {
        at_s: 152,
        per_second: 1.5,
        change: PhaseChange::RightKey(true),
        text: "desk.secret_key_file has the right key again",
    },
    Phase {
        at_s: 162,
        per_second: 5.0,
        change: PhaseChange::Rush,
        text: "a rush: more customers than agents, queues grow",
    },
    Phase {
        at_s: 174,
        per_second: 1.5,
        change: PhaseChange::BadRecords,
        text: "five records arrive that nobody can read",
    },
];

/// All phases to come, each with the time from the start at which it begins.
pub(super) fn phases() -> impl Iterator<Item = (Duration, Phase)> {
    (0..).flat_map(|cycle: u32| {
        let begin = CYCLE.saturating_mul(cycle);
        PHASES.iter().map(move |phase| (begin + Duration::from_secs(phase.at_s), *phase))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_follow_each_other_and_begin_again() {
        let starts: Vec<_> = phases().take(2 * PHASES.len()).map(|(at, _)| at).collect();
        assert!(starts.is_sorted_by(|earlier, later| earlier < later), "{starts:?}");
        assert_eq!(starts[PHASES.len()], CYCLE);
    }

    /// A newcomer who looks for ten seconds must see something happen.
    #[test]
    fn the_first_change_comes_within_ten_seconds() {
        let (at, phase) = phases().nth(1).unwrap();
        assert!(at <= Duration::from_secs(10) && phase.change != PhaseChange::Calm);
    }

    #[test]
    fn each_fault_is_repaired_before_the_cycle_ends() {
        let mut broken = Vec::new();
        for Phase { change, .. } in PHASES {
            match change {
                PhaseChange::BillingOnline(false)
                | PhaseChange::DeskReachable(false)
                | PhaseChange::RightKey(false) => broken.push(change),
                PhaseChange::DeskLimit(limit) if limit > 0 => {
                    broken.push(PhaseChange::DeskLimit(0))
                }
                PhaseChange::BillingOnline(true) => {
                    broken.retain(|fault| *fault != PhaseChange::BillingOnline(false));
                }
                PhaseChange::DeskReachable(true) => {
                    broken.retain(|fault| *fault != PhaseChange::DeskReachable(false));
                }
                PhaseChange::RightKey(true) => {
                    broken.retain(|fault| *fault != PhaseChange::RightKey(false));
                }
                PhaseChange::DeskLimit(_) => {
                    broken.retain(|fault| *fault != PhaseChange::DeskLimit(0));
                }
                PhaseChange::Calm
                | PhaseChange::LostAnswers
                | PhaseChange::BadRecords
                | PhaseChange::Rush => {}
            }
            assert!(broken.len() <= 1, "one fault at a time: {broken:?}");
        }
        assert_eq!(broken, []);
    }
}
