//! `handoff run`: the service. [`crate::app`] builds and runs it.

use std::ffi::OsString;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::adapters::kafka::RefusedConfiguration;
use crate::app::SystemdNotify;
use crate::config::{self, Config, ConfigFile, Reloader};
use crate::{app, telemetry};

/// The configuration of the service, and what takes later versions of its file.
pub(crate) struct ServiceConfig {
    pub(crate) config: Config,
    /// `None`: there is no file, or a pipe, which cannot be read again.
    reloader: Option<Reloader>,
}

impl ServiceConfig {
    /// Loads it from a file and the environment.
    pub(crate) fn load(file: Option<&Path>, env: Vec<(String, String)>) -> anyhow::Result<Self> {
        match file {
            Some(path) if path.is_file() => {
                let loaded = Reloader::start(ConfigFile::read(path)?, env)?;
                Ok(Self { config: loaded.config, reloader: Some(loaded.reloader) })
            }
            file => Ok(Self { config: config::load(file, env)?, reloader: None }),
        }
    }
}

/// Runs the service until `shutdown`, then drains it. `variables`: the whole environment, where systemd
/// says what it wants to be told.
pub(crate) async fn run(
    service: ServiceConfig,
    variables: Vec<(OsString, OsString)>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let ServiceConfig { config, reloader } = service;
    // From here on SIGHUP does not end the process, also where there is nothing to reload.
    drop(signal(SignalKind::hangup()).map_err(|error| Failure::Bug(error.into()))?);
    let _log = telemetry::start_service_log(&config.log).map_err(Failure::Configuration)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "questionable configuration");
    }
    // An unreadable key should stop the start, not fail the first event.
    config.desk.key.read().await.map_err(Failure::Configuration)?;
    let listener = app::listen(&config).await.map_err(Failure::Unavailable)?;
    let service = app::Service::build(config).map_err(Failure::Configuration)?;
    let systemd = SystemdNotify::from_variables(variables);
    let service = service.reloading(reloader).notifying(systemd);
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
