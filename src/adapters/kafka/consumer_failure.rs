//! Why the consumer client has failed for good, what repairs it, and how long to wait before a new
//! one is made.
//!
//! librdkafka declares a client dead where it sees no use in going on, for example because another
//! process has joined with its instance id. For the service that is an outage like any other: see
//! `source` for what it does about it.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::domain::backoff::Backoff;
use crate::health::Fault;

/// The wait is drawn from the upper half of the ceiling: at least 1 s, at most 30 s.
const FIRST_CEILING: Duration = Duration::from_secs(2);
const MAX_CEILING: Duration = Duration::from_secs(30);
/// The broker only refuses an instance id that it has not released: asking again disturbs nobody,
/// and events wait.
const MAX_UNRELEASED_CEILING: Duration = Duration::from_secs(5);
/// A client that worked for this long ends a series of failures. Longer than [`MAX_CEILING`]: two
/// processes that fence each other in turn must not start again with short waits.
const WORKED: Duration = Duration::from_secs(60);

/// Why a consumer client is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConsumerFailure {
    code: Option<Code>,
    /// The cause in the client's words.
    cause: String,
}

impl ConsumerFailure {
    /// A fatal error of the client.
    pub(super) fn fatal(code: Code, cause: String) -> Self {
        Self { code: Some(code), cause }
    }

    /// The client could not be created, although its settings were accepted before.
    pub(super) fn creation(error: &anyhow::Error) -> Self {
        Self { code: None, cause: format!("{error:#}") }
    }

    /// The cause and what to do.
    pub(super) fn fault(&self, group: &str) -> Fault {
        let remedy = self.code.and_then(|code| remedy(code, group));
        let remedy = remedy.unwrap_or_else(|| "the log of the brokers may say more".into());
        Fault { cause: format!("the Kafka consumer failed: {}", self.cause), remedy }
    }

    /// The same in one sentence.
    pub(super) fn problem(&self, group: &str) -> String {
        let Fault { cause, remedy } = self.fault(group);
        format!("{cause}: {remedy}")
    }

    /// Whether only another configuration helps: at the start the service then ends.
    pub(super) fn is_configuration(&self) -> bool {
        let refused =
            [Code::UnsupportedVersion, Code::UnsupportedFeature, Code::UnsupportedAssignor];
        self.code.is_some_and(|code| refused.contains(&code))
    }

    fn max_ceiling(&self) -> Duration {
        match self.code {
            Some(Code::UnreleasedInstanceId) => MAX_UNRELEASED_CEILING,
            _ => MAX_CEILING,
        }
    }
}

/// What an operator does about an error that keeps the consumer out of its group; `None` where the
/// code alone does not say it.
pub(super) fn remedy(code: Code, group: &str) -> Option<String> {
    Some(match code {
        Code::UnreleasedInstanceId => {
            "an earlier process with this group.instance.id has not left the group: its id is \
             released when its session times out (group.consumer.session.timeout.ms of the \
             broker); if this lasts, a running process has the same id: give each its own"
                .into()
        }
        Code::FencedInstanceId => {
            "another process has joined with the same group.instance.id: give each its own".into()
        }
        Code::GroupAuthorizationFailed => format!("grant Read on the group {group}"),
        Code::GroupMaxSizeReached => {
            "the group is full: run fewer instances, or raise group.max.size or \
             group.consumer.max.size of the broker"
                .into()
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "these brokers do not support \"group.protocol\" = \"consumer\": remove it from \
             [kafka.properties] or [kafka.consumer_properties], or use brokers from 4.0 on"
                .into()
        }
        Code::UnsupportedAssignor => {
            "the brokers do not know the \"group.remote.assignor\" of [kafka.consumer_properties]: \
             remove it, or name one of group.consumer.assignors of the broker"
                .into()
        }
        Code::InconsistentGroupProtocol => format!(
            "the members of the group {group} use another \"group.protocol\" or \
             \"partition.assignment.strategy\": set the same for all, or another kafka.group_id"
        ),
        Code::InvalidSessionTimeout => {
            "\"session.timeout.ms\" must be between group.min.session.timeout.ms and \
             group.max.session.timeout.ms of the broker"
                .into()
        }
        _ => return None,
    })
}

/// How long to wait before the next client is made.
#[derive(Debug)]
pub(super) struct FailureBackoff {
    backoff: Backoff,
    failures: u32,
}

impl Default for FailureBackoff {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_CEILING, MAX_CEILING).expect("the first is the lower one");
        Self { backoff, failures: 0 }
    }
}

impl FailureBackoff {
    /// The wait after the failure of a client that lived for `lived`, with `jitter` in 0..1.
    pub(super) fn after(
        &mut self,
        failure: &ConsumerFailure,
        lived: Duration,
        jitter: f64,
    ) -> Duration {
        self.failures = if lived < WORKED { self.failures.saturating_add(1) } else { 1 };
        let ceiling = self.backoff.ceiling(self.failures).min(failure.max_ceiling());
        ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    fn failure(code: Code) -> ConsumerFailure {
        ConsumerFailure::fatal(code, "the cause".into())
    }

    fn waits(code: Code, lived: Duration, jitter: f64) -> Vec<u64> {
        let mut backoff = FailureBackoff::default();
        let wait = |_| backoff.after(&failure(code), lived, jitter).as_millis() as u64;
        (0..7).map(wait).collect()
    }

    #[test]
    fn waits_grow_from_1_s_to_30_s() {
        let code = Code::FencedInstanceId;
        assert_eq!(waits(code, SECONDS(0), 0.0), [1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        assert_eq!(waits(code, SECONDS(0), 1.0)[4..], [30_000, 30_000, 30_000]);
    }

    #[test]
    fn two_processes_with_one_id_end_at_long_waits() {
        // Each client works until the other process has waited.
        assert_eq!(waits(Code::FencedInstanceId, SECONDS(30), 0.0)[6], 15_000);
        assert_eq!(waits(Code::FencedInstanceId, SECONDS(60), 0.0)[6], 1000, "it had worked");
    }

    #[test]
    fn an_id_that_is_soon_released_is_asked_for_often() {
        let waits = waits(Code::UnreleasedInstanceId, SECONDS(0), 1.0);
        assert_eq!(waits, [2000, 4000, 5000, 5000, 5000, 5000, 5000]);
    }

    #[test]
    fn a_problem_names_cause_and_remedy() {
        let problem = failure(Code::GroupAuthorizationFailed).problem("g");
        assert_eq!(problem, "the Kafka consumer failed: the cause: grant Read on the group g");
        assert!(
            failure(Code::Unknown).problem("g").ends_with("the log of the brokers may say more")
        );
        let error = anyhow::anyhow!("no thread").context("failed to create the Kafka consumer");
        let problem = ConsumerFailure::creation(&error).problem("g");
        assert!(problem.contains("failed to create the Kafka consumer: no thread: "), "{problem}");
    }

    #[test]
    fn only_what_another_configuration_repairs_is_one() {
        assert!(failure(Code::UnsupportedVersion).is_configuration());
        for code in [Code::UnreleasedInstanceId, Code::GroupAuthorizationFailed, Code::Unknown] {
            assert!(!failure(code).is_configuration(), "{code}");
        }
    }
}
