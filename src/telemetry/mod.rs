//! What the service shows of itself: the log's set-up, and every metric, declared once.
//!
//! Labels come from closed enums; session ids, event ids and raw codes never become labels.
//! This file never holds a secret: nothing it is given contains one.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::domain::event::MalformedClass;
use crate::domain::request::DeskCommand;
use crate::domain::wire::outcome::{Channel, Status};
use crate::gate::breaker::ShutReason;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// The log's settings.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level, or directives as `info,handoff=debug`.
    pub level: String,
    /// How it is written.
    pub format: LogFormat,
}

/// Start logging to standard error, for the whole process. A second start changes nothing.
pub fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.level)
        .map_err(|error| anyhow::anyhow!("log.level {:?}: {error}", settings.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // `try_init` fails where a log was started already; that one goes on.
    drop(match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    });
    Ok(())
}

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
struct WhyLabel {
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: i32,
}

/// Every metric.
pub struct Metrics {
    registry: Registry,
    /// Calls to Desk that are out now.
    pub in_flight: Gauge,
    /// Events read and not finished.
    pub unfinished: Gauge,
    /// Sessions with unfinished events.
    pub sessions: Gauge,
    /// Partitions assigned to this process.
    pub partitions: Gauge,
    /// 1 while intake is paused because a bound is reached.
    pub intake_paused: Gauge,
    /// Records of another type, skipped.
    pub skipped: Counter,
    /// Offset commits that failed.
    pub commit_failures: Counter,
    outcomes: Family<StatusLabel, Counter>,
    /// What each event counts, looked up once.
    of_status: [(Counter, Histogram); Status::ALL.len()],
    of_command: [Histogram; DeskCommand::ALL.len()],
    interim_outcomes: Counter,
    dead_letters: Family<ClassLabel, Counter>,
    calls: Family<CallLabel, Counter>,
    call_duration: Family<CommandLabel, Histogram>,
    event_duration: Family<StatusLabel, Histogram>,
    gate_closed: Family<WhyLabel, Gauge>,
    lag: Family<PartitionLabel, Gauge<i64, AtomicI64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, each known label value present.
    pub fn new() -> Self {
        let outcomes = Family::default();
        let event_duration = Family::new_with_constructor(event_buckets as fn() -> _);
        let call_duration = Family::new_with_constructor(call_buckets as fn() -> _);
        let of_status = Status::ALL.map(|status| {
            let label = StatusLabel { status: status.as_str() };
            (outcomes.get_or_create_owned(&label), event_duration.get_or_create_owned(&label))
        });
        let of_command = DeskCommand::ALL.map(|command| {
            call_duration.get_or_create_owned(&CommandLabel { command: command.as_str() })
        });
        let mut metrics = Self {
            registry: Registry::with_prefix("handoff"),
            in_flight: Gauge::default(),
            unfinished: Gauge::default(),
            sessions: Gauge::default(),
            partitions: Gauge::default(),
            intake_paused: Gauge::default(),
            skipped: Counter::default(),
            commit_failures: Counter::default(),
            outcomes,
            of_status,
            of_command,
            interim_outcomes: Counter::default(),
            dead_letters: Family::default(),
            calls: Family::default(),
            call_duration,
            event_duration,
            gate_closed: Family::default(),
            lag: Family::default(),
        };
        metrics.register();
        metrics.start_at_zero();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("in_flight", "Calls to Desk that are out now", self.in_flight.clone());
        r.register("unfinished_events", "Events read and not finished", self.unfinished.clone());
        r.register("sessions", "Sessions with unfinished events", self.sessions.clone());
        r.register("assigned_partitions", "Partitions assigned here", self.partitions.clone());
        r.register("intake_paused", "1 while a bound holds intake up", self.intake_paused.clone());
        r.register("records_skipped", "Records of another type", self.skipped.clone());
        r.register("commit_failures", "Offset commits that failed", self.commit_failures.clone());
        r.register("outcomes", "Final outcomes acknowledged", self.outcomes.clone());
        let help = "Interim outcomes acknowledged: nobody online yet, asked again later";
        r.register("interim_outcomes", help, self.interim_outcomes.clone());
        r.register("dead_letters", "Dead letters acknowledged", self.dead_letters.clone());
        r.register("desk_calls", "Calls to Desk by verdict", self.calls.clone());
        let help = "Duration of calls to Desk";
        r.register_with_unit("desk_call_duration", help, Unit::Seconds, self.call_duration.clone());
        let help = "From requested_at to the decision";
        r.register_with_unit("event_duration", help, Unit::Seconds, self.event_duration.clone());
        r.register("gate_closed", "1 while calls are paused", self.gate_closed.clone());
        r.register("consumer_lag", "Records behind the partition's end", self.lag.clone());
    }

    fn start_at_zero(&self) {
        for why in ShutReason::ALL {
            drop(self.gate_closed.get_or_create(&WhyLabel { why: why.as_str() }));
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap_or_default();
        text
    }

    /// A final outcome was acknowledged.
    pub fn outcome(&self, status: Status, elapsed: Duration) {
        let (count, duration) = &self.of_status[status as usize];
        count.inc();
        duration.observe(elapsed.as_secs_f64());
    }

    /// An answer that an earlier life wrote down was acknowledged; `title` is its status or class.
    pub fn answer_of_an_earlier_life(&self, channel: Channel, title: &str) {
        let status = Status::ALL.into_iter().find(|status| status.as_str() == title);
        let class = MalformedClass::ALL.into_iter().find(|class| class.as_str() == title);
        match (channel, status, class) {
            (Channel::Outcomes, Some(status), _) => {
                self.of_status[status as usize].0.inc();
            }
            (Channel::DeadLetters, _, Some(class)) => self.dead_letter(class),
            // Written by a version that knows more.
            _ => {}
        }
    }

    /// An interim outcome is acknowledged.
    pub fn interim_outcome(&self) {
        self.interim_outcomes.inc();
    }

    /// A dead letter was acknowledged.
    pub fn dead_letter(&self, class: MalformedClass) {
        self.dead_letters.get_or_create(&ClassLabel { class: class.as_str() }).inc();
    }

    /// A call to Desk came back.
    pub fn desk_call(&self, command: DeskCommand, verdict: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabel { command: command.as_str(), verdict }).inc();
        self.of_command[command as usize].observe(took.as_secs_f64());
    }

    /// The gate was shut for this reason, or opened.
    pub fn gate_shut(&self, shut: Option<ShutReason>) {
        for why in ShutReason::ALL {
            let label = WhyLabel { why: why.as_str() };
            self.gate_closed.get_or_create(&label).set(i64::from(shut == Some(why)));
        }
    }

    /// How far a partition's committed offset is behind its end; `None`: not ours any more.
    pub fn lag(&self, partition: i32, lag: Option<i64>) {
        let label = PartitionLabel { partition };
        match lag {
            Some(lag) => {
                self.lag.get_or_create(&label).set(lag);
            }
            None => {
                self.lag.remove(&label);
            }
        }
    }
}

fn call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 12))
}

fn event_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.5, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_counts_under_its_own_label() {
        let check = |metrics: &Metrics, sample: String| {
            let text = metrics.render();
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
