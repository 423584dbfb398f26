//! The simulated Desk in a process of its own, and its controls over HTTP.
//!
//! It lives through the whole run, so that it can tell the judge what really happened.
//! This file never decides which fault is due.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use handoff::sim::desk::{Script, SessionReport, Stats};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::judge::AtDesk;
use crate::support::worker::PATIENCE;
use crate::support::worker::free_port;

/// `handoff desk`, running.
pub(super) struct Desk {
    _child: Child,
    client: reqwest::Client,
    pub(super) endpoint: String,
}

impl Desk {
    pub(super) async fn start(folder: &Path, seed: u64) -> Self {
        // Whoever came first in this process has installed it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let address = format!("127.0.0.1:{}", free_port());
        let log = || File::create(folder.join("desk.log")).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_handoff"))
            .args(["desk", "--listen", &address, "--latency-ms", "5-60"])
            .args(["--seed", &seed.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .kill_on_drop(true)
            .spawn()
            .expect("the simulated Desk starts");
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5));
        let client = client.pool_max_idle_per_host(0).build().expect("an HTTP client");
        let desk = Self { _child: child, client, endpoint: format!("http://{address}") };
        desk.stats().await;
        desk
    }

    /// Instructions; an outage may stand in the way, and then passes.
    pub(super) async fn script(&self, script: &Script) {
        self.post("script", serde_json::to_string(script).expect("a script is JSON")).await;
    }

    pub(super) async fn outage(&self, refuse: bool, time: Duration) {
        let order = json!({"on": true, "refuse": refuse, "for_ms": time.as_millis() as u64});
        self.post("outage", order.to_string()).await;
    }

    pub(super) async fn stats(&self) -> Stats {
        self.get("stats").await.expect("statistics")
    }

    /// What it knows of these sessions; nothing of those that nobody named.
    pub(super) async fn sessions(&self, ids: Vec<String>) -> BTreeMap<String, AtDesk> {
        let reports = ids.into_iter().map(|id| async move {
            let report: Option<SessionReport> = self.get(&format!("sessions/{id}")).await;
            report.map(|r| (r.session_id, AtDesk { acted: r.transfers_acted, calls: r.log }))
        });
        let reports = stream::iter(reports).buffer_unordered(16);
        reports.filter_map(|report| async { report }).collect().await
    }

    async fn post(&self, route: &str, body: String) {
        let url = format!("{}/sim/{route}", self.endpoint);
        let until = Instant::now() + PATIENCE;
        loop {
            match self.client.post(&url).body(body.clone()).send().await {
                Ok(response) => return assert!(response.status().is_success(), "{route}: {body}"),
                Err(error) => assert!(Instant::now() < until, "{url}: {error:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn get<T: DeserializeOwned>(&self, route: &str) -> Option<T> {
        let url = format!("{}/sim/{route}", self.endpoint);
        let until = Instant::now() + PATIENCE;
        loop {
            match self.client.get(&url).send().await {
                Ok(response) if response.status() == 404 => return None,
                Ok(response) => {
                    let text = response.text().await.expect("a text");
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    return Some(serde_json::from_value(value).expect("what was asked for"));
                }
                Err(error) => assert!(Instant::now() < until, "{url}: {error:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
