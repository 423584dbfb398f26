//! What the service reports about itself: the log, the metrics and the traces.
//!
//! - [`clock_jumps`]: says when the system's clock jumps.
//! - `json_lines`: the JSON form of the log.
//! - [`log`]: level, format and start of the log.
//! - [`log_throttle`]: how often a warning is repeated.
//! - [`metrics`]: every metric, declared once; docs/metrics.md explains each one.
//! - `process`: what Linux says about the process.
//! - [`traces`]: spans for a collector; docs/traces.md explains them.

pub mod clock_jumps;
mod json_lines;
pub mod log;
pub mod log_throttle;
pub mod metrics;
mod process;
pub mod traces;

pub use self::clock_jumps::watch_clock;
pub use self::log::{
    LogFormat, LogSettings, LoggedIds, ServiceLog, dropped_lines, set_log_level, start_log,
    start_service_log, within_a_second,
};
pub(crate) use self::log::{LoggedEventId, LoggedId};
pub use self::log_throttle::DeadLetterLog;
pub use self::metrics::{ConfiguredLimits, Metrics, MetricsFormat, RealGauge, RebalanceKind};

pub use self::traces::{SpanParent, TraceSettings, TracedNames, Traces};

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, where the build names it in the environment variable `HANDOFF_REVISION`.
pub const REVISION: &str = match option_env!("HANDOFF_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
