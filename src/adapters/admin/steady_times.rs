//! Times that are computed from two clocks differ by a little each time; what is shown stands still.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// How much they differ at most.
const JITTER: SignedDuration = SignedDuration::from_millis(1_500);

/// Times that stay the same as long as they differ by little from the last look.
#[derive(Debug, Default)]
pub(super) struct SteadyTimes(HashMap<&'static str, Timestamp>);

impl SteadyTimes {
    /// This time, or the one of the last look if it is as good.
    pub(super) fn at(&mut self, name: &'static str, time: Option<Timestamp>) -> Option<Timestamp> {
        let Some(time) = time else {
            self.0.remove(name);
            return None;
        };
        let kept = self.0.entry(name).or_insert(time);
        if kept.duration_since(time).abs() > JITTER {
            *kept = time;
        }
        Some(*kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_steady_until_it_changes_by_more_than_a_little() {
        let at = |millis| Some(Timestamp::from_millisecond(millis).unwrap());
        let mut steady = SteadyTimes::default();
        assert_eq!(steady.at("gate", at(10_000)), at(10_000));
        assert_eq!(steady.at("gate", at(10_007)), at(10_000));
        assert_eq!(steady.at("gate", at(8_600)), at(10_000));
        assert_eq!(steady.at("gate", at(20_000)), at(20_000));
        assert_eq!(steady.at("gate", None), None);
        assert_eq!(steady.at("gate", at(20_001)), at(20_001));
    }
}
