//! Whether the configured times fit together, and the warnings of the configuration.
//!
//! When the service stops or loses partitions, calls in flight may finish, their outcomes are
//! published, and only then are the partitions released. All this must fit into the time that Kafka
//! allows a consumer that does not poll. Times that cannot work are already configuration errors.

use std::time::Duration;

use super::report::{Finding, Level};
use crate::adapters::kafka::KafkaSettings;
use crate::config::Config;

/// Time to publish the outcomes of the calls that finish last.
const PUBLISH: Duration = Duration::from_secs(2);

/// The checks of the configuration alone.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<_> = warnings(config).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("configuration", "every value is known and in its range"));
    }
    findings.push(timing(&config.kafka, config.drain_timeout, config.desk.timeout));
    findings
}

/// Legal values that are probably a mistake.
pub(super) fn warnings(config: &Config) -> impl Iterator<Item = Finding> {
    config.warnings.iter().map(|warning| Finding::warn("configuration", warning, ""))
}

fn timing(kafka: &KafkaSettings, drain: Duration, call: Duration) -> Finding {
    let (session, poll) = (kafka.session_timeout(), kafka.max_poll_interval());
    let uses_kip848 = kafka.uses_kip848();
    let limit_name =
        if uses_kip848 { "the broker's session timeout, by default" } else { "session.timeout.ms" };
    let finding = |level, detail: String, remedy: &str| {
        let what = "timing".to_owned();
        Finding { level, what, detail, remedy: remedy.to_owned() }
    };
    // The broker's timeout can differ from its default, so this is a warning and not an error.
    if uses_kip848 && drain >= session {
        let detail =
            format!("drain.timeout_ms {} s reaches {limit_name} {} s", secs(drain), secs(session));
        let remedy =
            "see group.consumer.session.timeout.ms on the brokers, or lower drain.timeout_ms";
        return finding(Level::Warn, detail, remedy);
    }
    if drain < call + PUBLISH {
        let detail = format!(
            "drain.timeout_ms {} s leaves no time to publish after a call of desk.timeout_ms {} s",
            secs(drain),
            secs(call)
        );
        let remedy = format!("set drain.timeout_ms to {} or more", (call + PUBLISH).as_millis());
        return finding(Level::Warn, detail, &remedy);
    }
    let detail = format!(
        "drain {} s is above a call's {} s, below {limit_name} {} s and max.poll.interval.ms {} s",
        secs(drain),
        secs(call),
        secs(session),
        secs(poll)
    );
    finding(Level::Ok, detail, "")
}

/// Seconds, with a fraction only if there is one.
fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::TopicNames;

    fn check(properties: &[(&str, &str)], drain: u64, call: u64, level: Level, detail: &str) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let topic = String::new;
        let kafka = KafkaSettings {
            bootstrap_servers: String::new(),
            group_id: String::new(),
            topics: TopicNames {
                escalations: topic(),
                outcomes: topic(),
                dead_letters: topic(),
                create: false,
            },
            properties: properties.iter().map(own).collect(),
            consumer_properties: Default::default(),
            producer_properties: Default::default(),
        };
        let (drain, call) = (Duration::from_millis(drain), Duration::from_millis(call));
        let finding = timing(&kafka, drain, call);
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.detail.starts_with(detail), "{finding:?}");
    }

    #[test]
    fn a_drain_is_longer_than_a_call_and_shorter_than_kafkas_timeouts() {
        check(&[], 15_000, 5_000, Level::Ok, "drain 15 s is above a call's 5 s, below session.t");
        check(&[], 6_500, 5_000, Level::Warn, "drain.timeout_ms 6.5 s leaves no time");
        check(&[("session.timeout.ms", "60000")], 45_000, 5_000, Level::Ok, "drain 45 s");
        let broker = [("group.protocol", "CONSUMER")];
        let reached = "drain.timeout_ms 45 s reaches the broker's";
        check(&broker, 45_000, 5_000, Level::Warn, reached);
        let below = "drain 15 s is above a call's 5 s, below the b";
        check(&broker, 15_000, 5_000, Level::Ok, below);
    }
}
