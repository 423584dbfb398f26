//! `handoff run`: the service. [`crate::app`] builds and runs it.

use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::adapters::kafka::RefusedConfiguration;
use crate::config::Config;
use crate::{app, telemetry};

/// Runs the service until `shutdown`, then drains it.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let _log = telemetry::start_service_log(&config.log).map_err(Failure::Configuration)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "questionable configuration");
    }
    // An unreadable key should stop the start, not fail the first event.
    config.desk.key.read().await.map_err(Failure::Configuration)?;
    let listener = app::listen(&config).await.map_err(Failure::Unavailable)?;
    let service = app::Service::build(config).map_err(Failure::Configuration)?;
    service.run(listener, shutdown).await.map_err(|error| {
        if error.chain().any(|cause| cause.is::<tokio::task::JoinError>()) {
            Failure::Bug(error)
        } else if error.is::<RefusedConfiguration>() {
            Failure::Configuration(error)
        } else {
            Failure::Unavailable(error)
        }
    })
}
