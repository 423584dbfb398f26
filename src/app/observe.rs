//! What the service reports about itself, as its configuration asks for it.

use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry::{ConfiguredLimits, Metrics, Traces};

/// The metrics, with the series of what is configured at zero.
pub(super) fn metrics(config: &Config) -> Metrics {
    let metrics = Metrics::new();
    metrics.config_reloaded(Clock::system().now());
    metrics.start_routes(config.policy.routes.names());
    config.policy.routes.shadow_names().for_each(|route| metrics.shadow_route(route));
    metrics.start_dialects(config.rules.input.format_names());
    metrics.set_limits(ConfiguredLimits {
        time_to_live: config.rules.time_to_live.as_secs_f64(),
        concurrency: config.concurrency,
        quota_per_second: config.quota_per_second,
    });
    metrics
}

/// The traces; the thread that exports them starts here.
pub(super) fn traces(config: &Config) -> anyhow::Result<Traces> {
    match &config.traces {
        Some(settings) => Traces::start(settings.clone(), config.kafka.traced_names()),
        None => Ok(Traces::off()),
    }
}
