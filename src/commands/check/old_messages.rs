//! Whether the brokers refuse what a process sends after a long pause.

use std::time::Duration;

use super::report::Finding;
use crate::adapters::kafka::TopicLimits;

const AGE_SETTING: &str = "message.timestamp.before.max.ms";
const STAMP_SETTING: &str = "message.timestamp.type";
/// Up to here it may be a decision; more is nobody's. The advice is the session time-out.
const MAX_AGE: Duration = Duration::from_secs(3_600);
/// Less would refuse messages that the client still tries to send.
const MIN_AGE: Duration = Duration::from_secs(6);

/// A warning where a topic takes old messages, or refuses new ones. `None` also where the broker cannot
/// refuse them, which is so before Kafka 3.6. `session`: the session time-out of the group.
pub(super) fn old_messages(
    topic: &str,
    limits: &TopicLimits,
    session: Duration,
) -> Option<Finding> {
    const TAKES_OLD: &str =
        "a process that was paused for long may publish what another one has published meanwhile";
    const REFUSES_NEW: &str = "messages that wait for a broker for a moment are refused";
    let max_age = limits.max_age?;
    let set_to = format!("{AGE_SETTING} is {}", max_age.as_millis());
    let advised = session.max(MIN_AGE).as_millis();
    let (detail, remedy) = if limits.broker_stamps {
        let state = format!("{STAMP_SETTING} is LogAppendTime, so {AGE_SETTING} has no effect");
        let remedy = format!("set {STAMP_SETTING} to CreateTime, and {AGE_SETTING} to {advised}");
        (format!("{state}: {TAKES_OLD}"), remedy)
    } else if max_age > MAX_AGE {
        let remedy = format!("set it to {advised}, the session time-out (docs/deployment.md)");
        (format!("{set_to}: {TAKES_OLD}"), remedy)
    } else if max_age < MIN_AGE {
        (format!("{set_to}: {REFUSES_NEW}"), format!("set it to {advised}"))
    } else {
        return None;
    };
    Some(Finding::warn(format!("timestamps of {topic}"), detail, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_messages_are_taken_without_a_limit_or_where_it_has_no_effect_and_new_ones_refused() {
        let check = |max_age_ms: Option<u64>, broker_stamps, session_s, expected: &str| {
            let limits = TopicLimits {
                max_message_bytes: 1_000_000,
                is_compacted: false,
                min_in_sync: None,
                retention: None,
                max_age: max_age_ms.map(Duration::from_millis),
                broker_stamps,
            };
            let finding = old_messages("out", &limits, Duration::from_secs(session_s));
            let line = finding.map(|finding| finding.line()).unwrap_or_default();
            assert!(line.contains(expected) && line.is_empty() == expected.is_empty(), "{line}");
        };
        check(Some(45_000), false, 45, "");
        check(Some(3_600_000), false, 45, "");
        check(Some(6_000), false, 45, "");
        check(Some(5_999), false, 45, "are refused; set it to 45000");
        check(Some(3_600_001), false, 45, "; set it to 45000, the session time-out");
        check(Some(3_600_001), false, 3, "; set it to 6000");
        check(Some(u64::MAX >> 1), false, 45, "before.max.ms is 9223372036854775807: a process");
        check(Some(45_000), true, 45, "; set message.timestamp.type to CreateTime, and message.");
        check(None, false, 45, "");
        check(None, true, 45, "");
    }
}
