//! The simulated Desk in a process of its own, controlled over HTTP.
//!
//! It runs for the whole run, so that its records show at the end what really happened.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use handoff::sim::desk::{DeskStats, FaultSchedule, SessionReport, StaffChange};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::checker::DeskSession;
use crate::support::worker::TIME_LIMIT;
use crate::support::worker::free_port;

/// `handoff desk`, running.
pub(super) struct DeskProcess {
    _child: Child,
    client: reqwest::Client,
    pub(super) endpoint: String,
}

impl DeskProcess {
    pub(super) async fn start(folder: &Path, seed: u64) -> Self {
        // Fails if another test of this process has installed it already.
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

    /// Adds faults; retries while an outage closes the port.
    pub(super) async fn schedule(&self, schedule: &FaultSchedule) {
        self.post("schedule", serde_json::to_string(schedule).expect("a schedule is JSON")).await;
    }

    pub(super) async fn change_staff(&self, change: &StaffChange) {
        self.post("agents", serde_json::to_string(change).expect("a change is JSON")).await;
    }

    pub(super) async fn outage(&self, closes_port: bool, time: Duration) {
        let outage = json!({"on": true, "refuse": closes_port, "for_ms": time.as_millis() as u64});
        self.post("outage", outage.to_string()).await;
    }

    pub(super) async fn stats(&self) -> DeskStats {
        self.get("stats").await.expect("statistics")
    }

    /// The reports of these sessions; without those that no call named.
    pub(super) async fn sessions(&self, ids: Vec<String>) -> BTreeMap<String, DeskSession> {
        let reports = ids.into_iter().map(|id| async move {
            let report: Option<SessionReport> = self.get(&format!("sessions/{id}")).await;
            report
                .map(|r| (r.session_id, DeskSession { transfers: r.transfers_acted, calls: r.log }))
        });
        let reports = stream::iter(reports).buffer_unordered(16);
        reports.filter_map(|report| async { report }).collect().await
    }

    async fn post(&self, route: &str, body: String) {
        let url = format!("{}/sim/{route}", self.endpoint);
        let until = Instant::now() + TIME_LIMIT;
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
        let until = Instant::now() + TIME_LIMIT;
        loop {
            match self.client.get(&url).send().await {
                Ok(response) if response.status() == 404 => return None,
                Ok(response) => {
                    let text = response.text().await.expect("a text");
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    return Some(serde_json::from_value(value).expect("the expected type"));
                }
                Err(error) => assert!(Instant::now() < until, "{url}: {error:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
