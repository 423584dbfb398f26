//! Takes a new version of the configuration file while the service runs.
//!
//! The content is compared every 5 s and on SIGHUP. Events of the file system are not used: a
//! ConfigMap is replaced by a link two levels above the file, which such events miss.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::{ConfigFile, Reload, Reloader};
use crate::deliver::{SharedPolicy, SharedRules};
use crate::telemetry::{self, Metrics};

const COMPARE_INTERVAL: Duration = Duration::from_secs(5);
/// A new content must stay the same for this long: half of a file may be a valid one.
const STABLE_FOR: Duration = Duration::from_millis(300);

/// The content of the file, or why it cannot be read.
type Content = Result<ConfigFile, String>;

/// What a reload changes in the service.
pub(super) struct Reloaded {
    pub(super) policy: SharedPolicy,
    pub(super) rules: SharedRules,
    pub(super) metrics: Arc<Metrics>,
}

impl Reloaded {
    /// Compare the file with what runs, until the end of the process.
    pub(super) async fn watch(self, mut reloader: Reloader) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut tick = interval(COMPARE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen: Content = Ok(reloader.file().clone());
        loop {
            let is_requested = tokio::select! {
                _ = tick.tick() => false,
                () = received(&mut hangup) => true,
            };
            let content = stable_content(&reloader).await;
            if content != seen {
                self.take(&mut reloader, content.clone());
                seen = content;
            } else if is_requested {
                info!("configuration unchanged");
            }
        }
    }

    fn take(&self, reloader: &mut Reloader, content: Content) {
        let reload = content.map_err(anyhow::Error::msg).and_then(|file| reloader.take(file));
        match reload.and_then(|reload| self.apply(&reload).map(|()| reload)) {
            Ok(Reload { changes, needs_restart, .. }) => {
                self.metrics.config_reloaded(Clock::system().now());
                let changes = changes.join("; ");
                info!(changes, "configuration reloaded");
                if !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    warn!(keys, "configuration changed where only a restart takes it");
                }
            }
            Err(error) => {
                self.metrics.config_reload_failed();
                let error = format!("{error:#}").replace("\n  ", "; ");
                error!(error, "configuration not reloaded; the old one stays in use");
            }
        }
    }

    fn apply(&self, reload: &Reload) -> anyhow::Result<()> {
        let Reload { config, .. } = reload;
        telemetry::set_log_level(&config.log.level).context("failed to set log.level")?;
        self.metrics.start_routes(config.policy.routes.names());
        config.policy.routes.shadow_names().for_each(|route| self.metrics.shadow_route(route));
        self.policy.replace(config.policy.clone());
        self.metrics.start_dialects(config.rules.input.format_names());
        self.rules.replace(config.rules.clone());
        Ok(())
    }
}

/// Pends where the signal cannot be listened to.
async fn received(hangup: &mut Option<Signal>) {
    let signal = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if signal.is_none() {
        std::future::pending::<()>().await;
    }
}

/// The content, once it is the same for [`STABLE_FOR`] or the one that runs.
async fn stable_content(reloader: &Reloader) -> Content {
    let mut content = content(reloader).await;
    loop {
        if content.as_ref().is_ok_and(|content| content == reloader.file()) {
            return content;
        }
        sleep(STABLE_FOR).await;
        let again = self::content(reloader).await;
        if again == content {
            return content;
        }
        content = again;
    }
}

async fn content(reloader: &Reloader) -> Content {
    let path = reloader.path().to_owned();
    // A network file system may take its time.
    let read = spawn_blocking(move || ConfigFile::read(&path)).await;
    match read {
        Ok(read) => read.map_err(|error| format!("{error:#}")),
        Err(panicked) => Err(panicked.to_string()),
    }
}
