//! What the consumer's statistics show about the brokers and the group: whether a broker answers,
//! whether the group gives us partitions, and whether their leaders answer ([`LeaderWatch`]).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::statistics::ConsumerGroup;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::KafkaSettings;
use super::cluster_probe::{ClusterProbe, ProbeError};
use super::leader_watch::LeaderWatch;
use super::remedy::{TopicUse, remedy};
use crate::health::{Fault, FaultKind, Health};
use crate::telemetry::Metrics;

/// Every member of a group hears from its coordinator several times in this time. `/ready` has to
/// say so within 30 s.
const BROKER_SILENCE: Duration = Duration::from_secs(20);
/// A member that is not part of its group for longer is a fault. A rebalance takes a few seconds.
const OUTSIDE_GROUP: Duration = Duration::from_secs(25);
/// An error from before this time explains nothing of today.
const ERROR_AGE: Duration = Duration::from_secs(60);

/// From one attempt to read to the next.
const READING_INTERVAL: Duration = Duration::from_secs(5);
/// How long one request of such an attempt may take.
const READING_LIMIT: Duration = Duration::from_secs(5);

/// What to do when the group is not joined. librdkafka asks brokers without KIP-848 for nothing then,
/// and reports no error.
pub(super) fn outside_remedy(settings: &KafkaSettings) -> &'static str {
    if settings.uses_kip848() {
        "only Apache Kafka from 4.0 on has \"group.protocol\" = \"consumer\": with older brokers remove it \
         from [kafka.properties]"
    } else {
        "a member that was killed keeps the others waiting until its session times out; \
         kafka-consumer-groups.sh --describe --members shows them"
    }
}

/// What was seen last.
pub(super) struct ConsumerWatch {
    /// What to do when the group is not joined.
    outside_remedy: &'static str,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_error: Option<ClientError>,
    /// Why no broker answers, as found at the beginning: librdkafka reports each broker in turn.
    silence: Option<String>,
    /// Without partitions and not a member of the group.
    outside_since: Option<Instant>,
    leaders: LeaderWatch,
}

struct ClientError {
    at: Instant,
    text: String,
}

impl ConsumerWatch {
    pub(super) fn new(
        outside_remedy: &'static str,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { outside_remedy, health, metrics, state: Mutex::default() }
    }

    /// The client has reported an error.
    pub(super) fn on_error(&self, error: &KafkaError, text: &str) {
        use Code::{TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition};
        // librdkafka reports these once and goes on trying; it does not report the end of them.
        if let Some(TopicAuthorizationFailed | UnknownTopic | UnknownTopicOrPartition) =
            error.rdkafka_error_code()
        {
            self.health.set_reading_is_suspect(true);
        }
        // "All brokers down" follows the error that says why: that one is kept.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            let error = ClientError { at: Instant::now(), text: text.to_owned() };
            self.state.lock().last_error = Some(error);
        }
    }

    /// Look at the statistics, which come every second, whether brokers answer or not.
    pub(super) fn observe(&self, statistics: &Statistics) {
        let mut state = self.state.lock();
        let idle_us =
            statistics.brokers.values().filter_map(|broker| u64::try_from(broker.rxidle).ok());
        if let Some(idle_us) = idle_us.min() {
            self.health.report_broker_contact(Duration::from_micros(idle_us));
        }
        // The coordinator answers a member that joins when all others have joined, or are removed; the
        // client sends nothing else meanwhile.
        let is_joining = statistics.cgrp.as_ref().is_some_and(|group| group.join_state != "steady");
        if is_joining && statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.health.report_broker_contact(Duration::ZERO);
        }
        let faults = self.health.faults();
        let silence = self.health.broker_silence();
        if silence > BROKER_SILENCE {
            let why = state.silence.take().unwrap_or_else(|| state.recent_error());
            let cause = format!("no broker answers{why}");
            state.silence = Some(why);
            let remedy = "start the brokers, or repair the network to kafka.bootstrap_servers";
            let since = Instant::now().checked_sub(silence).unwrap_or_else(Instant::now);
            let fault = Fault { cause, remedy: remedy.into() };
            faults.report(FaultKind::BrokersSilent, since, fault);
            // What it means for the group and the leaders is no news.
            state.leaders.reset();
            return;
        }
        state.silence = None;
        faults.clear(FaultKind::BrokersSilent);
        match state.leaders.observe(statistics) {
            Some((since, fault)) => faults.report(FaultKind::LeaderSilent, since, fault),
            None => faults.clear(FaultKind::LeaderSilent),
        }
        match statistics.cgrp.as_ref().and_then(|group| self.outside(&mut state, group)) {
            Some((since, fault)) => faults.report(FaultKind::NoPartitions, since, fault),
            None => faults.clear(FaultKind::NoPartitions),
        }
    }

    /// Whether we have been outside the group for too long. A member without partitions is inside:
    /// the group has more members than partitions, and it is ready to take over.
    fn outside(&self, state: &mut State, group: &ConsumerGroup) -> Option<(Instant, Fault)> {
        let partitions = self.metrics.partitions.get();
        debug!(partitions, group.state, group.join_state, "consumer group");
        let is_member = group.state == "up" && group.join_state == "steady";
        if partitions > 0 || is_member {
            state.outside_since = None;
            return None;
        }
        let since = *state.outside_since.get_or_insert_with(Instant::now);
        (since.elapsed() > OUTSIDE_GROUP).then(|| {
            let error = state.recent_error();
            let cause = format!(
                "no partition is assigned, because the consumer has not joined its group{error}"
            );
            (since, Fault { cause, remedy: self.outside_remedy.into() })
        })
    }
}

impl State {
    /// The client's last error, to be put behind a sentence.
    fn recent_error(&self) -> String {
        match &self.last_error {
            Some(error) if error.at.elapsed() < ERROR_AGE => format!(": {}", error.text),
            _ => String::new(),
        }
    }
}

/// Find out whether the escalations can be read, after each error that says the opposite, until they
/// can be. Does not end.
pub(crate) async fn watch_reading(settings: KafkaSettings, health: Arc<Health>) {
    let (mut since, faults) = (None, health.faults());
    let topic = settings.topics.escalations.clone();
    loop {
        sleep(READING_INTERVAL).await;
        if !health.reading_is_suspect() {
            continue;
        }
        let since_now = *since.get_or_insert_with(Instant::now);
        let (settings, name) = (settings.clone(), topic.clone());
        let read = spawn_blocking(move || {
            let probe = ClusterProbe::new(settings, READING_LIMIT);
            probe.map_err(|error| ProbeError::Other(format!("{error:#}")))?.can_read(&name)
        });
        let code = match read.await {
            Ok(Ok(())) => {
                health.set_reading_is_suspect(false);
                since = None;
                faults.clear(FaultKind::ReadingRefused);
                continue;
            }
            Ok(Err(ProbeError::Denied)) => Code::TopicAuthorizationFailed,
            Ok(Err(ProbeError::NotFound)) => Code::UnknownTopicOrPartition,
            // Unknown for now: no broker answers.
            _ => continue,
        };
        let cause = format!("{topic} cannot be read: {code}");
        let remedy = remedy(code, &TopicUse::Read(&topic)).unwrap_or_default();
        faults.report(FaultKind::ReadingRefused, since_now, Fault { cause, remedy });
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;
    use crate::lease::Lease;

    fn statistics(rxidle: Option<Duration>, join_state: &str) -> Statistics {
        let rxidle = rxidle.map_or(-1, |idle| i64::try_from(idle.as_micros()).unwrap());
        let broker = Broker { rxidle, ..Broker::default() };
        let (state, join_state) = ("up".into(), join_state.into());
        let group = ConsumerGroup { state, join_state, ..ConsumerGroup::default() };
        Statistics {
            brokers: [("b".to_owned(), broker)].into(),
            cgrp: Some(group),
            ..Statistics::default()
        }
    }

    fn watch() -> (ConsumerWatch, Arc<Health>) {
        let health =
            Arc::new(Health::new(Arc::new(Lease::new(Duration::from_secs(30))), Duration::ZERO));
        (ConsumerWatch::new("wait", health.clone(), Arc::new(Metrics::new())), health)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_brokers_are_a_fault_until_one_answers() {
        let (watch, health) = watch();
        tokio::time::advance(Duration::from_secs(20)).await;
        watch.observe(&statistics(None, "steady"));
        assert_eq!(health.faults().first(), None);
        watch.on_error(&KafkaError::Global(Code::BrokerTransportFailure), "Connection refused");
        watch.on_error(&KafkaError::Global(Code::AllBrokersDown), "2/2 brokers are down");
        tokio::time::advance(Duration::from_secs(1)).await;
        watch.observe(&statistics(Some(Duration::from_secs(100)), "steady"));
        let fault = health.faults().first().unwrap();
        assert!(fault.starts_with("no broker answers: Connection refused (for 21 s)"), "{fault}");
        watch.observe(&statistics(Some(Duration::from_secs(1)), "steady"));
        assert_eq!(health.faults().first(), None);
        let mut joining = statistics(Some(Duration::from_secs(99)), "wait-join");
        joining.brokers.values_mut().for_each(|broker| broker.state = "UP".into());
        tokio::time::advance(Duration::from_secs(21)).await;
        watch.observe(&joining);
        assert_eq!(health.faults().first(), None, "it waits for the other members");
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_is_ready_and_one_outside_its_group_is_not() {
        let (watch, health) = watch();
        let see = async |join_state| {
            for _ in 0..27 {
                tokio::time::advance(Duration::from_secs(1)).await;
                watch.observe(&statistics(Some(Duration::ZERO), join_state));
            }
            health.faults().first()
        };
        assert_eq!(see("steady").await, None);
        let fault = see("wait-join").await.unwrap();
        assert!(fault.starts_with("no partition is assigned"), "{fault}");
        assert_eq!(see("steady").await, None);
    }
}
