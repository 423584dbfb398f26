//! A record with the id of another one: counted, logged, not answered.

use std::time::Duration;

use jiff::Timestamp;

use super::{Delivery, Ports};
use crate::domain::record::Position;
use crate::telemetry::log_throttle::{LogThrottle, info_throttled, warn_throttled};

/// A publisher that repeats a record does so within this time. Later it is more likely to use the
/// id for another event, which nobody would answer.
const LATE: Duration = Duration::from_secs(3600);

/// Of the process, like the log: a bot that reuses ids does so with each event.
static LATE_ONES: LogThrottle = LogThrottle::new();
/// A bot in a loop repeats thousands.
static REPEATS: LogThrottle = LogThrottle::new();

impl<P: Ports> Delivery<'_, P> {
    /// Count and log this record, whose id belongs to the record at `first`.
    pub(super) fn report_duplicate(&self, first: &Position, answered_at: Option<Timestamp>) {
        self.context.metrics.duplicates.inc();
        let sent_at = self.record.timestamp.unwrap_or_else(|| self.context.clock.now());
        match answered_at {
            Some(answered_at) if is_late(sent_at, answered_at) => warn_throttled!(
                LATE_ONES,
                %first,
                %answered_at,
                repair = "give each escalation an id of its own: the id of a conversation is none",
                "event id used again long after its answer; not answered again"
            ),
            _ => info_throttled!(REPEATS, %first, "duplicate event id; not answered again"),
        }
    }
}

fn is_late(sent_at: Timestamp, answered_at: Timestamp) -> bool {
    sent_at.duration_since(answered_at) > LATE.try_into().unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_was_sent_an_hour_after_the_answer_is_late() {
        let answered: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert!(!is_late(answered - LATE * 2, answered), "read late, sent early");
        assert!(!is_late(answered + LATE, answered));
        assert!(is_late(answered + LATE + Duration::from_millis(1), answered));
    }
}
