//! Load on the admin port of a contestant: as monitoring makes it, or far more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use crate::support::worker::free_port;

const PATHS: [&str; 4] = ["metrics", "status", "ready", "health"];
/// From one request to the next: more than any monitoring asks.
pub(crate) const BUSY: Duration = Duration::from_millis(10);
/// Each path once a second, as an open page and a scraper do.
pub(crate) const WATCHED: Duration = Duration::from_millis(250);

/// Requests one after the other, until dropped.
pub(crate) struct AdminLoad {
    answered: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl AdminLoad {
    /// Opens the admin port of these settings, and asks it with this pause between two requests.
    pub(crate) fn start(settings: &mut Vec<(&'static str, String)>, pause: Duration) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        settings.push(("ADMIN__LISTEN", address.clone()));
        let answered = Arc::new(AtomicU64::new(0));
        let counter = answered.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let Ok(http) = reqwest::Client::builder().no_proxy().build() else { return };
            for path in PATHS.into_iter().cycle() {
                if let Ok(response) = http.get(format!("http://{address}/{path}")).send().await
                    && response.bytes().await.is_ok()
                {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                sleep(pause).await;
            }
        });
        Self { answered, _task: task }
    }

    /// How many requests were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}
