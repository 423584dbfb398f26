//! Metrics that are read at each scrape: limits of the configuration, and the log's own counter.

use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::telemetry::dropped_lines;

/// Limits of the configuration beside which the other metrics are read, so that rules for alerts need
/// no numbers of one installation. Only a restart changes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfiguredLimits {
    /// `escalation.time_to_live_s`, in seconds.
    pub time_to_live: f64,
    /// `desk.concurrency`.
    pub concurrency: usize,
    /// `desk.quota_per_second`; `None`: no limit.
    pub quota_per_second: Option<f64>,
}

/// Adds one metric without labels.
pub(in crate::telemetry) fn encode_one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// The limits, once they are known.
#[derive(Debug)]
pub(super) struct LimitsCollector(pub(super) Arc<OnceLock<ConfiguredLimits>>);

impl Collector for LimitsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(limits) = self.0.get() else { return Ok(()) };
        let help =
            "How long an escalation lives that names no deadline (escalation.time_to_live_s)";
        let time_to_live = ConstGauge::new(limits.time_to_live);
        encode_one(&mut encoder, "time_to_live", help, Some(&Unit::Seconds), &time_to_live)?;
        let help = "The most calls to Desk in flight (desk.concurrency)";
        let concurrency = ConstGauge::new(limits.concurrency as f64);
        encode_one(&mut encoder, "desk_concurrency", help, None, &concurrency)?;
        let Some(quota) = limits.quota_per_second else { return Ok(()) };
        let help = "Calls per second of each command in the whole group (desk.quota_per_second)";
        encode_one(&mut encoder, "desk_quota_per_second", help, None, &ConstGauge::new(quota))
    }
}

/// Reads the log's own counter at each scrape.
#[derive(Debug)]
pub(super) struct DroppedLines;

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Log lines dropped because standard error was not read";
        let counter = ConstCounter::new(dropped_lines());
        encode_one(&mut encoder, "log_lines_dropped", help, None, &counter)
    }
}
