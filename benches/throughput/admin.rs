//! Load on the admin port of a contestant: more than any monitoring makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

const PATHS: [&str; 4] = ["metrics", "status", "ready", "health"];
const PAUSE: Duration = Duration::from_millis(10);

/// Requests one after the other, until dropped.
pub(crate) struct AdminLoad {
    answered: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl AdminLoad {
    /// Asks this address.
    pub(crate) fn start(address: &str) -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let (counter, address) = (answered.clone(), address.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let Ok(http) = reqwest::Client::builder().no_proxy().build() else { return };
            for path in PATHS.into_iter().cycle() {
                if let Ok(response) = http.get(format!("http://{address}/{path}")).send().await
                    && response.bytes().await.is_ok()
                {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                sleep(PAUSE).await;
            }
        });
        Self { answered, _task: task }
    }

    /// How many requests were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}
