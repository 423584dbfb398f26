//! The simulated Desk as a process of its own, and what it has counted.
//!
//! Its sessions return to the chatbot at once, so that each of 10,000 sessions can be transferred often. It never
//! shares a process with what is measured.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use handoff::sim::desk::{DeskStats, SessionReport};
use serde::Serialize;

use crate::tls::TlsRelay;

/// It, running; killed when dropped.
pub(crate) struct Desk {
    child: Child,
    endpoint: String,
    relay: Option<TlsRelay>,
    http: reqwest::Client,
}

impl Desk {
    /// Calls take `latency`; above `limit` calls of a command in any one second it says so.
    pub(crate) fn start(latency: Duration, limit: u32) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_handoff"))
            .args(["desk", "--listen", "127.0.0.1:0", "--sessions-return", "--calls-kept", "5000"])
            .args(["--latency-ms", &latency.as_millis().to_string()])
            .args(["--limit-per-second", &limit.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the simulated Desk does not start")?;
        let out = child.stdout.take().context("it has an output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let endpoint = line.split([' ', ';']).find(|word| word.starts_with("http://"));
        let endpoint = endpoint.with_context(|| format!("no address in {line:?}"))?.to_owned();
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { child, endpoint, relay: None, http })
    }

    /// From now on contestants reach it by TLS.
    pub(crate) async fn put_behind_tls(&mut self) -> Result<()> {
        self.relay = Some(TlsRelay::start(self.endpoint.replace("http://", "")).await?);
        Ok(())
    }

    /// Where contestants call it.
    pub(crate) fn endpoint(&self) -> String {
        self.relay.as_ref().map_or(&self.endpoint, |relay| &relay.endpoint).clone()
    }

    /// The variable that makes a contestant trust it, if it is behind TLS.
    pub(crate) fn trust(&self) -> Option<(&'static str, PathBuf)> {
        Some(("SSL_CERT_FILE", self.relay.as_ref()?.certificate()))
    }

    pub(crate) async fn stats(&self) -> Result<DeskStats> {
        Ok(serde_json::from_str(&self.get("stats").await?)?)
    }

    /// How long a transfer took on average, as Desk saw it: a little more than configured, as timers are.
    pub(crate) async fn took(&self) -> Result<Duration> {
        let transfers = self.stats().await?.of(handoff::sim::desk::ApiCommand::Transfer);
        Ok(Duration::from_micros(transfers.took_us / transfers.calls.max(1)))
    }

    /// Between an answer to this session and its next call: the waits, in their order.
    pub(crate) async fn gaps(&self, session: &str) -> Result<Vec<Duration>> {
        let report: SessionReport =
            serde_json::from_str(&self.get(&format!("sessions/{session}")).await?)?;
        let gap = |pair: &[handoff::sim::desk::CallRecord]| {
            let ended = pair[0].ended_ns.unwrap_or(pair[1].began_ns);
            Duration::from_nanos(pair[1].began_ns.saturating_sub(ended))
        };
        Ok(report.log.windows(2).map(gap).collect())
    }

    pub(crate) async fn outage(&self, on: bool) -> Result<()> {
        let url = format!("{}/sim/outage", self.endpoint);
        self.http.post(url).body(format!("{{\"on\": {on}}}")).send().await?.error_for_status()?;
        Ok(())
    }

    /// Sends a control, as docs/simulated-desk.md describes them.
    pub(crate) async fn control(&self, route: &str, body: &impl Serialize) -> Result<()> {
        let url = format!("{}/sim/{route}", self.endpoint);
        let body = serde_json::to_string(body)?;
        self.http.post(url).body(body).send().await?.error_for_status()?;
        Ok(())
    }

    async fn get(&self, what: &str) -> Result<String> {
        let url = format!("{}/sim/{what}", self.endpoint);
        Ok(self.http.get(url).send().await?.error_for_status()?.text().await?)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}
