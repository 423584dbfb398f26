//! Whether the configured times fit together, and what else is probably not wanted.
//!
//! A stop, or partitions that go to another instance: first calls under way may finish, then
//! their outcomes are published, and only then the partitions go. All that must fit into what
//! Kafka allows a consumer that does not answer. What cannot work at all, the configuration has
//! refused before. This file never contacts anybody.

use std::time::Duration;

use super::report::{Finding, Level};
use crate::adapters::kafka::Settings;
use crate::config::Config;

/// Publishing the outcomes of the calls that finished last.
const PUBLISH: Duration = Duration::from_secs(2);

/// What the configuration alone says.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<_> = warnings(config).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("configuration", "every value is known and in its range"));
    }
    findings.push(timing(&config.kafka, config.drain_timeout, config.desk.timeout));
    findings
}

/// What works, but is probably not wanted.
pub(super) fn warnings(config: &Config) -> impl Iterator<Item = Finding> {
    config.warnings.iter().map(|warning| Finding::warn("configuration", warning, ""))
}

fn timing(kafka: &Settings, drain: Duration, call: Duration) -> Finding {
    let (session, poll) = (kafka.session_timeout(), kafka.max_poll_interval());
    let is_run_by_broker = kafka.is_run_by_broker();
    let whose = if is_run_by_broker {
        "the broker's session timeout, by default"
    } else {
        "session.timeout.ms"
    };
    let finding = |level, detail: String, remedy: &str| {
        let what = "timing".to_owned();
        Finding { level, what, detail, remedy: remedy.to_owned() }
    };
    if is_run_by_broker && drain >= session {
        let detail =
            format!("drain.timeout_ms {} s reaches {whose} {} s", secs(drain), secs(session));
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
        "drain {} s is above a call's {} s, below {whose} {} s and max.poll.interval.ms {} s",
        secs(drain),
        secs(call),
        secs(session),
        secs(poll)
    );
    finding(Level::Ok, detail, "")
}

/// Seconds, with a fraction where there is one.
fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::Topics;

    fn check(properties: &[(&str, &str)], (drain, call): (u64, u64), expected: (Level, &str)) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let topic = String::new;
        let kafka = Settings {
            bootstrap_servers: String::new(),
            group_id: String::new(),
            topics: Topics {
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
        assert_eq!(finding.level, expected.0, "{finding:?}");
        assert!(finding.detail.starts_with(expected.1), "{finding:?}");
    }

    #[test]
    fn a_drain_is_longer_than_a_call_and_shorter_than_kafkas_patience() {
        check(
            &[],
            (15_000, 5_000),
            (Level::Ok, "drain 15 s is above a call's 5 s, below session.t"),
        );
        check(&[], (6_500, 5_000), (Level::Warn, "drain.timeout_ms 6.5 s leaves no time"));
        check(&[("session.timeout.ms", "60000")], (45_000, 5_000), (Level::Ok, "drain 45 s"));
        let broker = [("group.protocol", "CONSUMER")];
        check(
            &broker,
            (45_000, 5_000),
            (Level::Warn, "drain.timeout_ms 45 s reaches the broker's"),
        );
        check(
            &broker,
            (15_000, 5_000),
            (Level::Ok, "drain 15 s is above a call's 5 s, below the b"),
        );
    }
}
