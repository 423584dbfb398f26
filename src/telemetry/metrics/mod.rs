//! Every metric, declared once.
//!
//! To add a metric: a field here, its name and help text in [`registration`], and its row in
//! docs/metrics.md; a test compares the two. Labels have a small, closed set of values ([`labels`]).
//! Session ids, event ids and Desk's codes never become labels, because Prometheus keeps a series for
//! each value.

mod buckets;
mod collectors;
mod labels;
mod registration;

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::buckets::{call_buckets, event_buckets, transfer_buckets, write_buckets};
pub use self::collectors::ConfiguredLimits;
pub(super) use self::collectors::encode_one;
pub use self::labels::RebalanceKind;
use self::labels::{
    CallLabel, ClassLabel, CommandLabel, DialectLabel, FileLabel, KindLabel, NO_ROUTE,
    OutcomeLabel, PARKED_WHY, PartitionLabel, ProblemLabel, ReasonLabel, RouteLabel, StatusLabel,
    WhyLabel,
};
use crate::domain::event::MalformedClass;
use crate::domain::problem::Problem;
use crate::domain::request::DeskCommand;
use crate::domain::signal::ShutReason;
use crate::domain::wire::Channel;
use crate::domain::wire::outcome::Status;
use crate::domain::wire::reading::SkipReason;

/// A gauge of a time, in seconds since the epoch, or of a part.
pub type RealGauge = Gauge<f64, AtomicU64>;

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
    /// Events and dead letters in memory.
    pub in_memory: Gauge,
    /// When the oldest unfinished event was first read, events for which nobody is online or whose
    /// route is closed left aside; 0 where there is none.
    oldest_unfinished: RealGauge,
    /// Sessions with unfinished events.
    pub sessions: Gauge,
    /// Partitions assigned to this process.
    pub partitions: Gauge,
    /// Partitions of the escalation topic; 0 until they are known.
    pub topic_partitions: Gauge,
    /// 1 while `/health` answers 200, else 0; set at each scrape.
    pub healthy: Gauge,
    /// 1 while `/ready` answers 200, else 0; set at each scrape.
    pub ready: Gauge,
    /// 0 while the ledger is unavailable, else 1; set at each scrape.
    pub ledger_up: Gauge,
    /// The part of the quota for transfers that this process may use, 0 to 1; set at each scrape.
    pub quota_share: RealGauge,
    /// The part of that share of which throttling deprives this process, 0 to 1; set at each scrape.
    pub slowed: RealGauge,
    /// When the signature of the calls expires; 0 until one was made.
    pub signature_expiry: RealGauge,
    /// Outcomes and dead letters that are to be published and not acknowledged.
    pub unacknowledged: Gauge,
    /// When the oldest of them was enqueued, in seconds since the epoch; 0 where there is none.
    pub oldest_unacknowledged: RealGauge,
    /// 1 while backpressure pauses the intake, else 0.
    pub paused_by_backpressure: Gauge,
    /// 1 while an operator has paused the intake, else 0; set at each scrape.
    pub paused_by_operator: Gauge,
    /// Records with the id of another one, which are not answered.
    pub duplicates: Counter,
    /// Records that are older than what the ledger remembers, which are skipped.
    pub beyond_memory: Counter,
    /// Records that were removed from the topic before they were read.
    pub removed_unread: Counter,
    /// Offset commits that failed.
    pub commit_failures: Counter,
    /// Transfers that may have taken effect although no answer says so.
    pub calls_in_doubt: Counter,
    /// How long the ledger's writer took to store a batch, in seconds.
    pub ledger_write: Histogram,
    outcomes: Family<OutcomeLabel, Counter>,
    // The series that every event updates. They are resolved once, because a look-up in the family
    // takes a lock and hashes the labels.
    by_status: [Histogram; Status::ALL.len()],
    by_command: [Histogram; DeskCommand::ALL.len()],
    transfers: Histogram,
    interim_outcomes: Counter,
    dead_letters: Family<ClassLabel, Counter>,
    skipped: Family<ReasonLabel, Counter>,
    decoded: Family<DialectLabel, Counter>,
    rebalances: Family<KindLabel, Counter>,
    calls: Family<CallLabel, Counter>,
    call_duration: Family<CommandLabel, Histogram>,
    event_duration: Family<StatusLabel, Histogram>,
    gate_shut: Family<ReasonLabel, Gauge>,
    intake_paused: Family<WhyLabel, Gauge>,
    unfinished: Family<ProblemLabel, Gauge>,
    by_problem: [Gauge; Problem::ALL.len()],
    parked: Family<WhyLabel, Gauge>,
    by_why: [Gauge; PARKED_WHY.len()],
    lag: Family<PartitionLabel, Gauge>,
    ledger_files: Family<FileLabel, Gauge>,
    shadow_matches: Family<RouteLabel, Counter>,
    reload_successful: Gauge,
    reload_time: RealGauge,
    limits: Arc<OnceLock<ConfiguredLimits>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let event_duration = Family::new_with_constructor(event_buckets as fn() -> _);
        let call_duration = Family::new_with_constructor(call_buckets as fn() -> _);
        let by_status = Status::ALL.map(|status| {
            event_duration.get_or_create_owned(&StatusLabel { status: status.as_str() })
        });
        let by_command = DeskCommand::ALL.map(|command| {
            call_duration.get_or_create_owned(&CommandLabel { command: command.as_str() })
        });
        let intake_paused = Family::default();
        let intake_paused_by = |why| intake_paused.get_or_create_owned(&WhyLabel { why });
        let (paused_by_backpressure, paused_by_operator) =
            (intake_paused_by("backpressure"), intake_paused_by("operator"));
        let unfinished = Family::default();
        let by_problem = Problem::ALL.map(|problem| {
            unfinished.get_or_create_owned(&ProblemLabel { problem: problem.as_str() })
        });
        let parked = Family::default();
        let by_why = PARKED_WHY.map(|why| parked.get_or_create_owned(&WhyLabel { why }));
        let metrics = Self {
            registry: Registry::default(),
            in_flight: Gauge::default(),
            in_memory: Gauge::default(),
            unfinished,
            by_problem,
            oldest_unfinished: Gauge::default(),
            sessions: Gauge::default(),
            partitions: Gauge::default(),
            topic_partitions: Gauge::default(),
            healthy: Gauge::default(),
            ready: Gauge::default(),
            ledger_up: Gauge::default(),
            quota_share: Gauge::default(),
            slowed: Gauge::default(),
            signature_expiry: Gauge::default(),
            unacknowledged: Gauge::default(),
            oldest_unacknowledged: Gauge::default(),
            paused_by_backpressure,
            paused_by_operator,
            intake_paused,
            duplicates: Counter::default(),
            beyond_memory: Counter::default(),
            removed_unread: Counter::default(),
            commit_failures: Counter::default(),
            calls_in_doubt: Counter::default(),
            ledger_write: write_buckets(),
            outcomes: Family::default(),
            by_status,
            by_command,
            transfers: transfer_buckets(),
            interim_outcomes: Counter::default(),
            dead_letters: Family::default(),
            skipped: Family::default(),
            decoded: Family::default(),
            rebalances: Family::default(),
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
            limits: Arc::default(),
        };
        metrics.start_at_zero();
        Self { registry: metrics.registry(), ..metrics }
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

    /// Reports the limits of the configuration, once.
    pub fn set_limits(&self, limits: ConfiguredLimits) {
        self.limits.get_or_init(|| limits);
    }

    /// Starts the counts of outcomes for these routes, and for those without a route.
    pub fn start_routes<'a>(&self, routes: impl Iterator<Item = &'a str>) {
        for route in routes.chain([NO_ROUTE]) {
            for status in Status::ALL {
                let label = OutcomeLabel { status: status.as_str(), route: route.to_owned() };
                drop(self.outcomes.get_or_create(&label));
            }
        }
    }

    /// Starts the counts of these dialects.
    pub fn start_dialects(&self, dialects: impl IntoIterator<Item = Cow<'static, str>>) {
        for dialect in dialects {
            drop(self.decoded.get_or_create(&DialectLabel { dialect }));
        }
    }

    /// Counts a final outcome that the broker acknowledged.
    pub fn outcome(&self, status: Status, route: Option<&str>) {
        let route = route.unwrap_or(NO_ROUTE).to_owned();
        self.outcomes.get_or_create(&OutcomeLabel { status: status.as_str(), route }).inc();
    }

    /// Observes how long an event took until its final outcome was decided, and its transfers.
    pub fn decided(&self, status: Status, elapsed: Duration, transfers: u32) {
        self.by_status[status as usize].observe(elapsed.as_secs_f64());
        self.transfers.observe(f64::from(transfers));
    }

    /// Counts an outcome or dead letter that a previous incarnation stored and this process
    /// published; `label` is its status or class. Its duration is unknown, so none is observed.
    pub fn published_from_outbox(&self, channel: Channel, label: &str, route: Option<&str>) {
        let class = MalformedClass::ALL.into_iter().find(|class| class.as_str() == label);
        match (channel, Status::from_word(label), class) {
            (Channel::Outcomes, Some(status), _) => self.outcome(status, route),
            (Channel::DeadLetters, _, Some(class)) => self.dead_letter(class),
            // A newer version stored a label that this one does not have.
            _ => {}
        }
    }

    /// Reports when the oldest unfinished event was first read.
    pub fn oldest_unfinished(&self, since: Option<Timestamp>) {
        self.oldest_unfinished.set(since.map_or(0.0, seconds));
    }

    /// Counts a record that is skipped.
    pub fn skipped(&self, reason: SkipReason) {
        self.skipped.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// Counts a record that was read as an escalation in this dialect.
    pub fn decoded(&self, dialect: Cow<'static, str>) {
        self.decoded.get_or_create(&DialectLabel { dialect }).inc();
    }

    /// Counts a change of the assigned partitions.
    pub fn rebalanced(&self, kind: RebalanceKind) {
        self.rebalances.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
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
        self.reload_time.set(seconds(now));
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

    /// Reports how many parked events wait for their next attempt, for their session and for an agent.
    pub fn parked_events(&self, events: [u64; PARKED_WHY.len()]) {
        for (gauge, events) in self.by_why.iter().zip(events) {
            gauge.set(i64::try_from(events).unwrap_or(i64::MAX));
        }
    }

    /// How many events are parked, by what they wait for: their time, their session, an agent.
    pub fn parked(&self) -> [u64; PARKED_WHY.len()] {
        self.by_why.each_ref().map(|gauge| u64::try_from(gauge.get()).unwrap_or(0))
    }

    /// How many events are unfinished, in memory and parked.
    pub fn unfinished_events(&self) -> u64 {
        u64::try_from(self.in_memory.get()).unwrap_or(0) + self.parked().iter().sum::<u64>()
    }

    /// Reports how many events are unfinished, by what they wait for; set at each scrape.
    pub fn unfinished_by_problem(&self, events: impl Fn(Problem) -> u64) {
        for (gauge, problem) in self.by_problem.iter().zip(Problem::ALL) {
            gauge.set(i64::try_from(events(problem)).unwrap_or(i64::MAX));
        }
    }

    /// The consumer lag of a partition, where it is known.
    pub fn lag_of(&self, topic: &str, partition: i32) -> Option<u64> {
        let label = PartitionLabel { topic: topic.to_owned(), partition };
        self.lag.get(&label).and_then(|lag| u64::try_from(lag.get()).ok())
    }

    /// Whether the configuration file has a version that cannot be used.
    pub fn reload_failed(&self) -> bool {
        self.reload_successful.get() == 0
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

/// Seconds since the epoch.
pub fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
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
            metrics.outcome(status, Some("night"));
            metrics.outcome(status, None);
            metrics.decided(status, Duration::ZERO, 2);
            for route in ["night", "none"] {
                let labels = format!("{{status=\"{status}\",route=\"{route}\"}}");
                check(&metrics, format!("handoff_outcomes_total{labels} 1"));
            }
            let name = "handoff_event_duration_seconds_count";
            check(&metrics, format!("{name}{{status=\"{status}\"}} 1"));
            check(&metrics, "handoff_transfers_per_event_sum 2.0".to_owned());
        }
        for command in DeskCommand::ALL {
            let metrics = Metrics::new();
            metrics.desk_call(command, "assigned", Duration::ZERO);
            let (name, command) = ("handoff_desk_call_duration_seconds_count", command.as_str());
            check(&metrics, format!("{name}{{command=\"{command}\"}} 1"));
        }
    }
    /// A rule that divides by a limit must find none where there is none, not 0.
    #[test]
    fn the_limits_of_the_configuration_are_shown_once_they_are_known() {
        let metrics = Metrics::new();
        let text = || metrics.render(MetricsFormat::Prometheus);
        assert!(!text().contains("handoff_time_to_live_seconds"));
        let limits =
            ConfiguredLimits { time_to_live: 600.0, concurrency: 64, quota_per_second: None };
        metrics.set_limits(limits);
        assert!(text().contains("\nhandoff_time_to_live_seconds 600.0\n"), "{}", text());
        assert!(text().contains("\nhandoff_desk_concurrency 64.0\n"));
        assert!(!text().contains("handoff_desk_quota_per_second"));
    }

    #[test]
    fn the_series_of_what_is_configured_start_at_zero() {
        let metrics = Metrics::new();
        metrics.start_routes(["night"].into_iter());
        metrics.start_dialects([Cow::Borrowed("native")]);
        let text = metrics.render(MetricsFormat::Prometheus);
        for sample in [
            "handoff_outcomes_total{status=\"failed\",route=\"night\"} 0",
            "handoff_outcomes_total{status=\"assigned\",route=\"none\"} 0",
            "handoff_events_decoded_total{dialect=\"native\"} 0",
            "handoff_records_skipped_total{reason=\"other_type\"} 0",
            "handoff_rebalances_total{kind=\"lost\"} 0",
            "handoff_dead_letters_total{class=\"not_json\"} 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} in:\n{text}");
        }
    }
}
