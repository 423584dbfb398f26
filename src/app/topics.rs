//! Whether the topics can be used, before anything is read.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::adapters::kafka;

/// How long one look for topics waits for the brokers.
pub(super) const TOPIC_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service waits for its topics.
pub(super) struct TopicsProblem {
    pub(super) what: String,
    /// The same with its cause, which varies with the broker that was asked.
    pub(super) text: String,
}

impl TopicsProblem {
    fn new(what: String) -> Self {
        Self { text: what.clone(), what }
    }
}

/// Why topics cannot be used, or why that cannot be found out; `None` where all of them can be.
pub(super) async fn topics_problem(settings: kafka::KafkaSettings) -> Option<TopicsProblem> {
    match spawn_blocking(move || kafka::unusable_topics(&settings, TOPIC_LOOKUP_TIMEOUT)).await {
        Ok(Ok(unusable)) => {
            let missing = (!unusable.missing.is_empty()).then(|| {
                let missing = unusable.missing.join(", ");
                format!(
                    "topics that do not exist: {missing}; create them, or set kafka.create_topics \
                     = true"
                )
            });
            let problems: Vec<_> = missing.into_iter().chain(unusable.refused).collect();
            (!problems.is_empty()).then(|| TopicsProblem::new(problems.join(". ")))
        }
        Ok(Err(error)) => {
            Some(TopicsProblem { what: error.to_string(), text: format!("{error:#}") })
        }
        Err(panicked) => Some(TopicsProblem::new(panicked.to_string())),
    }
}
