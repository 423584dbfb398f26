//! What the service reports about itself: the log and the metrics.
//!
//! - [`log`]: level, format and start of the log.
//! - [`metrics`]: every metric, declared once; docs/metrics.md explains each one.

pub mod log;
pub mod metrics;

pub use self::log::{LogFormat, LogSettings, dropped_lines, start_log, start_service_log};
pub use self::metrics::Metrics;
