//! `handoff run`: the service.
//!
//! This file never builds a part itself; `app` does.

use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::config::Config;
use crate::{app, telemetry};

/// Run until `shutdown`, then drain.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    telemetry::start_log(&config.log).map_err(Failure::Configuration)?;
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    // A key that cannot be read is told before anything begins, not with the first event.
    config.desk.key.read().await.map_err(Failure::Configuration)?;
    let listener = app::listen(&config).await.map_err(Failure::Unavailable)?;
    let service = app::Service::build(config).map_err(Failure::Configuration)?;
    service.run(listener, shutdown).await.map_err(|error| {
        let panicked = error.chain().any(|cause| cause.is::<tokio::task::JoinError>());
        if panicked { Failure::Bug(error) } else { Failure::Unavailable(error) }
    })
}
