//! The few numbers that the demo prints, from the service's metrics.

use std::fmt;

/// The state of the service at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServedCounts {
    answered: u64,
    unfinished: u64,
    dead_letters: u64,
}

impl ServedCounts {
    /// Reads the text of `/metrics`.
    pub(super) fn read(metrics: &str) -> Self {
        Self {
            answered: sum(metrics, "handoff_outcomes_total"),
            unfinished: sum(metrics, "handoff_unfinished_events"),
            dead_letters: sum(metrics, "handoff_dead_letters_total"),
        }
    }
}

impl fmt::Display for ServedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, unfinished, dead_letters } = self;
        write!(f, "answered {answered}, unfinished {unfinished}, dead letters {dead_letters}")
    }
}

/// The sum over all series of a metric.
fn sum(metrics: &str, name: &str) -> u64 {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
    samples.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_sums_over_all_series() {
        let metrics = "# TYPE handoff_outcomes counter\n\
                       handoff_outcomes_total{status=\"assigned\"} 5\n\
                       handoff_outcomes_total{status=\"queued\"} 2\n\
                       handoff_unfinished_events{problem=\"calling\"} 3\n\
                       handoff_unfinished_events{problem=\"in_doubt\"} 1\n\
                       handoff_unfinished_events_more 9\n\
                       handoff_dead_letters_total{class=\"not_json\"} 4\n";
        let counts = ServedCounts::read(metrics).to_string();
        assert_eq!(counts, "answered 7, unfinished 4, dead letters 4");
    }
}
