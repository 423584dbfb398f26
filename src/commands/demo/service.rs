//! The real service inside the demo, observed through its admin port as an operator would.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::Service;
use crate::task::spawn_owned;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const STOP_LIMIT: Duration = Duration::from_secs(15);

pub(super) struct DemoService {
    task: AbortOnDropHandle<anyhow::Result<()>>,
    stop: CancellationToken,
    admin: AdminPort,
}

/// The service's admin port.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdminPort(SocketAddr);

impl DemoService {
    /// Runs the service with its admin port on this listener.
    pub(super) fn start(service: Service, listener: TcpListener) -> anyhow::Result<Self> {
        let admin = AdminPort(listener.local_addr()?);
        let stop = CancellationToken::new();
        let task = spawn_owned(service.run(Some(listener), stop.clone()));
        Ok(Self { task, stop, admin })
    }

    pub(super) fn admin(&self) -> AdminPort {
        self.admin
    }

    /// Waits until the service ends by itself and returns why. It must not be awaited again then.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error.context("the service ended"),
            Err(error) => anyhow!("the service ended: {error}"),
            Ok(Ok(())) => anyhow!("the service ended early"),
        }
    }

    /// Drains and stops the service.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = timeout(STOP_LIMIT, self.task).await;
        ended.context("the service did not stop in time")?.context("the service panicked")?
    }
}

impl AdminPort {
    /// Waits until the service has joined its consumer group.
    pub(super) async fn wait_until_ready(&self) -> anyhow::Result<()> {
        while !self.get("/ready").await?.starts_with("HTTP/1.0 200") {
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until this many records were skipped. A skipped record is seen in this metric only.
    pub(super) async fn wait_until_skipped(&self, expected: u64) -> anyhow::Result<()> {
        while self.skipped().await? < expected {
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Number of records skipped so far.
    pub(super) async fn skipped(&self) -> anyhow::Result<u64> {
        let name = "handoff_records_skipped_total{";
        let metrics = self.metrics().await?;
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        let values: Vec<u64> =
            samples.filter_map(|sample| sample.rsplit_once(' ')?.1.parse().ok()).collect();
        anyhow::ensure!(!values.is_empty(), "the service's metrics lack {name}");
        Ok(values.iter().sum())
    }

    /// All metrics, as text.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        self.get("/metrics").await
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let exchange = async {
            let mut connection = TcpStream::connect(self.0).await?;
            // By HTTP/1.0 the server closes the connection after its answer, which ends the read.
            let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.0);
            connection.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        exchange.await.context("the service's admin port does not answer")
    }
}
