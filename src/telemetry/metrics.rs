//! Every metric, declared once.
//!
//! To add a metric: declare and register it here, and add its row to docs/metrics.md; a test
//! compares the two. Labels have a small, fixed set of values. Session ids, event ids and Desk's
//! codes never become labels, because Prometheus keeps a series for each value.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, prometheus_text, text,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::domain::event::MalformedClass;
use crate::domain::request::DeskCommand;
use crate::domain::signal::ShutReason;
use crate::domain::wire::Channel;
use crate::domain::wire::outcome::Status;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    command: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabel {
    command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabel {
    file: &'static str,
}

/// Reads the log's own counter at each scrape.
#[derive(Debug)]
struct DroppedLines;

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(super::dropped_lines());
        let help = "Log lines dropped because standard error was not read";
        let kind = counter.metric_type();
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, kind)?)
    }
}

/// What parked events wait for: their time, the events ahead of them in their session, or an agent.
const PARKED_WHY: [&str; 3] = ["time", "session", "agent"];

/// The text formats that a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus text 0.0.4, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// Calls to Desk that have no reply yet.
    pub in_flight: Gauge,
    /// Events that were read and have no acknowledged final outcome yet.
    pub unfinished: Gauge,
    /// Sessions with unfinished events.
    pub sessions: Gauge,
    /// Partitions assigned to this process.
    pub partitions: Gauge,
    /// 1 while `/health` answers 200, else 0; set at each scrape.
    pub healthy: Gauge,
    /// 1 while `/ready` answers 200, else 0; set at each scrape.
    pub ready: Gauge,
    /// Outcomes and dead letters that are to be published and not acknowledged.
    pub unacknowledged: Gauge,
    /// When the oldest of them was enqueued, in seconds since the epoch; 0 where there is none.
    pub oldest_unacknowledged: Gauge<f64, AtomicU64>,
    /// 1 while backpressure pauses intake, else 0.
    pub intake_paused: Gauge,
    /// Records of another `type`, which are skipped.
    pub skipped: Counter,
    /// Records with the id of another one, which are not answered.
    pub duplicates: Counter,
    /// Records that are older than what the ledger remembers, which are skipped.
    pub beyond_memory: Counter,
    /// Records that were removed from the topic before they were read.
    pub removed_unread: Counter,
    /// Offset commits that failed.
    pub commit_failures: Counter,
    outcomes: Family<StatusLabel, Counter>,
    // The series that every event updates. They are resolved once, because a look-up in the family
    // takes a lock and hashes the labels.
    by_status: [(Counter, Histogram); Status::ALL.len()],
    by_command: [Histogram; DeskCommand::ALL.len()],
    interim_outcomes: Counter,
    dead_letters: Family<ClassLabel, Counter>,
    calls: Family<CallLabel, Counter>,
    call_duration: Family<CommandLabel, Histogram>,
    event_duration: Family<StatusLabel, Histogram>,
    gate_shut: Family<ReasonLabel, Gauge>,
    parked: Family<WhyLabel, Gauge>,
    by_why: [Gauge; PARKED_WHY.len()],
    lag: Family<PartitionLabel, Gauge>,
    ledger_files: Family<FileLabel, Gauge>,
    shadow_matches: Family<RouteLabel, Counter>,
    reload_successful: Gauge,
    reload_time: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let outcomes = Family::default();
        let event_duration = Family::new_with_constructor(event_buckets as fn() -> _);
        let call_duration = Family::new_with_constructor(call_buckets as fn() -> _);
        let by_status = Status::ALL.map(|status| {
            let label = StatusLabel { status: status.as_str() };
            (outcomes.get_or_create_owned(&label), event_duration.get_or_create_owned(&label))
        });
        let by_command = DeskCommand::ALL.map(|command| {
            call_duration.get_or_create_owned(&CommandLabel { command: command.as_str() })
        });
        let parked = Family::default();
        let by_why = PARKED_WHY.map(|why| parked.get_or_create_owned(&WhyLabel { why }));
        let mut metrics = Self {
            registry: Registry::with_prefix("handoff"),
            in_flight: Gauge::default(),
            unfinished: Gauge::default(),
            sessions: Gauge::default(),
            partitions: Gauge::default(),
            healthy: Gauge::default(),
            ready: Gauge::default(),
            unacknowledged: Gauge::default(),
            oldest_unacknowledged: Gauge::default(),
            intake_paused: Gauge::default(),
            skipped: Counter::default(),
            duplicates: Counter::default(),
            beyond_memory: Counter::default(),
            removed_unread: Counter::default(),
            commit_failures: Counter::default(),
            outcomes,
            by_status,
            by_command,
            interim_outcomes: Counter::default(),
            dead_letters: Family::default(),
            calls: Family::default(),
            call_duration,
            event_duration,
            gate_shut: Family::default(),
            parked,
            by_why,
            lag: Family::default(),
            ledger_files: Family::default(),
            shadow_matches: Family::default(),
            reload_successful: Gauge::default(),
            reload_time: Gauge::default(),
        };
        metrics.register();
        metrics.start_at_zero();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "desk_calls_in_flight",
            "Calls to Desk without a reply yet",
            self.in_flight.clone(),
        );
        r.register("unfinished_events", "Unfinished events in memory", self.unfinished.clone());
        r.register("sessions", "Sessions with unfinished events", self.sessions.clone());
        let help = "Partitions assigned to this process";
        r.register("assigned_partitions", help, self.partitions.clone());
        r.register("healthy", "1 while /health answers 200", self.healthy.clone());
        r.register("ready", "1 while /ready answers 200", self.ready.clone());
        let help = "Outcomes and dead letters that are published and not acknowledged yet";
        r.register("outcomes_unacknowledged", help, self.unacknowledged.clone());
        let help = "When the oldest unacknowledged outcome or dead letter was enqueued; 0: none";
        let (name, gauge) = ("oldest_unacknowledged_timestamp", self.oldest_unacknowledged.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
        let help = "1 while backpressure pauses intake";
        r.register("intake_paused", help, self.intake_paused.clone());
        r.register("records_skipped", "Records of another type, skipped", self.skipped.clone());
        let help = "Records with the id of another one, not answered";
        r.register("duplicates", help, self.duplicates.clone());
        let help = "Records older than what the ledger remembers, skipped";
        r.register("records_beyond_memory", help, self.beyond_memory.clone());
        let help = "Records removed from the topic before they were read, at most";
        r.register("records_removed_unread", help, self.removed_unread.clone());
        r.register("commit_failures", "Offset commits that failed", self.commit_failures.clone());
        r.register_collector(Box::new(DroppedLines));
        r.register("outcomes", "Final outcomes acknowledged", self.outcomes.clone());
        let help = "Interim outcomes acknowledged";
        r.register("interim_outcomes", help, self.interim_outcomes.clone());
        r.register("dead_letters", "Dead letters acknowledged", self.dead_letters.clone());
        r.register("desk_calls", "Calls to Desk by verdict", self.calls.clone());
        let help = "Duration of a call to Desk";
        r.register_with_unit("desk_call_duration", help, Unit::Seconds, self.call_duration.clone());
        let help = "Time from requested_at to the final outcome's decision";
        r.register_with_unit("event_duration", help, Unit::Seconds, self.event_duration.clone());
        r.register("gate_shut", "1 while the gate is shut for this reason", self.gate_shut.clone());
        let help = "Unfinished events that are parked in the ledger";
        r.register("parked_events", help, self.parked.clone());
        let help = "Records between the committed offset and the end of the partition";
        r.register("consumer_lag", help, self.lag.clone());
        let help = "Sizes of the SQLite ledger's files";
        r.register_with_unit("ledger_file", help, Unit::Bytes, self.ledger_files.clone());
        let help = "Escalations for which a shadow route would have been used";
        r.register("route_shadow_matches", help, self.shadow_matches.clone());
        let help = "0 while the configuration file has a version that cannot be used";
        r.register("config_last_reload_successful", help, self.reload_successful.clone());
        let help = "When the configuration was last taken from its file";
        let (name, gauge) = ("config_last_reload_success_timestamp", self.reload_time.clone());
        r.register_with_unit(name, help, Unit::Seconds, gauge);
    }

    /// An alert on `gate_shut` needs the series to exist before the gate shuts for the first time.
    fn start_at_zero(&self) {
        for reason in ShutReason::ALL {
            drop(self.gate_shut.get_or_create(&ReasonLabel { reason: reason.as_str() }));
        }
    }

    /// The metrics as text.
    pub fn render(&self, format: MetricsFormat) -> String {
        let mut text = String::new();
        let encoded = match format {
            MetricsFormat::Prometheus => prometheus_text::encode(&mut text, &self.registry),
            MetricsFormat::OpenMetrics => text::encode(&mut text, &self.registry),
        };
        // Writing to a String cannot fail.
        encoded.unwrap_or_default();
        text
    }

    /// Counts a final outcome that the broker acknowledged.
    pub fn outcome(&self, status: Status, elapsed: Duration) {
        let (count, duration) = &self.by_status[status as usize];
        count.inc();
        duration.observe(elapsed.as_secs_f64());
    }

    /// Counts an outcome or dead letter that a previous incarnation stored and this process
    /// published; `label` is its status or class. Its duration is unknown, so none is observed.
    pub fn published_from_outbox(&self, channel: Channel, label: &str) {
        let status = Status::ALL.into_iter().find(|status| status.as_str() == label);
        let class = MalformedClass::ALL.into_iter().find(|class| class.as_str() == label);
        match (channel, status, class) {
            (Channel::Outcomes, Some(status), _) => {
                self.by_status[status as usize].0.inc();
            }
            (Channel::DeadLetters, _, Some(class)) => self.dead_letter(class),
            // A newer version stored a label that this one does not have.
            _ => {}
        }
    }

    /// Counts an interim outcome that the broker acknowledged.
    pub fn interim_outcome(&self) {
        self.interim_outcomes.inc();
    }

    /// Counts an escalation for which this shadow route would have been used.
    pub fn shadow_match(&self, route: &str) {
        self.shadow_matches.get_or_create(&RouteLabel { route: route.to_owned() }).inc();
    }

    /// Starts the count of a shadow route, so that one that never matches is seen.
    pub fn shadow_route(&self, route: &str) {
        drop(self.shadow_matches.get_or_create(&RouteLabel { route: route.to_owned() }));
    }

    /// The configuration was taken from its file.
    pub fn config_reloaded(&self, now: Timestamp) {
        self.reload_successful.set(1);
        self.reload_time.set(now.as_millisecond() as f64 / 1_000.0);
    }

    /// The file has a version that cannot be used.
    pub fn config_reload_failed(&self) {
        self.reload_successful.set(0);
    }

    /// Counts a dead letter that the broker acknowledged.
    pub fn dead_letter(&self, class: MalformedClass) {
        self.dead_letters.get_or_create(&ClassLabel { class: class.as_str() }).inc();
    }

    /// Counts a call to Desk that has ended, with or without a reply.
    pub fn desk_call(&self, command: DeskCommand, verdict: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabel { command: command.as_str(), verdict }).inc();
        self.by_command[command as usize].observe(took.as_secs_f64());
    }

    /// Reports the state of the gate: shut for this reason, or open.
    pub fn gate_shut(&self, shut: Option<ShutReason>) {
        for reason in ShutReason::ALL {
            let label = ReasonLabel { reason: reason.as_str() };
            self.gate_shut.get_or_create(&label).set(i64::from(shut == Some(reason)));
        }
    }

    /// Reports how many parked events wait for their time, for their session and for an agent.
    pub fn parked_events(&self, events: [u64; PARKED_WHY.len()]) {
        for (gauge, events) in self.by_why.iter().zip(events) {
            gauge.set(i64::try_from(events).unwrap_or(i64::MAX));
        }
    }

    /// How many events are parked.
    pub fn parked(&self) -> i64 {
        self.by_why.iter().map(|gauge| gauge.get()).sum()
    }

    /// Reports the sizes of the ledger's file and of its write-ahead log.
    pub fn ledger_file_bytes(&self, db: u64, wal: u64) {
        for (file, bytes) in [("db", db), ("wal", wal)] {
            let gauge = self.ledger_files.get_or_create_owned(&FileLabel { file });
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Reports the consumer lag of a partition; `None` once it is no longer assigned.
    pub fn lag(&self, topic: &str, partition: i32, lag: Option<i64>) {
        let label = PartitionLabel { topic: topic.to_owned(), partition };
        match lag {
            Some(lag) => {
                self.lag.get_or_create(&label).set(lag);
            }
            // The new owner reports it; a stale series here would be summed up with that one.
            None => {
                self.lag.remove(&label);
            }
        }
    }
}

/// 5 ms to 10 s: Desk gives a call up after 3 s, `desk.timeout_ms` is 5 s by default.
fn call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 12))
}

/// 10 ms to 25 min: an escalation lives for 10 min by default.
fn event_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.5, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_and_command_counts_under_its_own_label() {
        let check = |metrics: &Metrics, sample: String| {
            let text = metrics.render(MetricsFormat::Prometheus);
            assert!(text.lines().any(|line| line == sample), "{sample} in:\n{text}");
        };
        for status in Status::ALL {
            let metrics = Metrics::new();
            metrics.outcome(status, Duration::ZERO);
            check(&metrics, format!("handoff_outcomes_total{{status=\"{status}\"}} 1"));
            let name = "handoff_event_duration_seconds_count";
            check(&metrics, format!("{name}{{status=\"{status}\"}} 1"));
        }
        for command in DeskCommand::ALL {
            let metrics = Metrics::new();
            metrics.desk_call(command, "assigned", Duration::ZERO);
            let (name, command) = ("handoff_desk_call_duration_seconds_count", command.as_str());
            check(&metrics, format!("{name}{{command=\"{command}\"}} 1"));
        }
    }
}
