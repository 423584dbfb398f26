//! The worker in the demo: the real one, run, asked through its own admin port, and stopped.
//!
//! This file never looks into the worker in any other way than an operator can.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;

const GLANCE: Duration = Duration::from_millis(20);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The running worker.
pub(super) struct Worker {
    task: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    admin: Admin,
}

/// Its admin port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admin(SocketAddr);

impl Worker {
    pub(super) async fn start(config: Config) -> anyhow::Result<Self> {
        let listener = app::listen(&config).await?.context("the demo needs an admin port")?;
        let admin = Admin(listener.local_addr()?);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(app::run(config, Some(listener), stop.clone()));
        Ok(Self { task, stop, admin })
    }

    pub(super) fn admin(&self) -> Admin {
        self.admin
    }

    /// Wait until it ends by itself, and say why.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.task.join_next().await {
            Some(Ok(Err(error))) => error.context("the worker ended"),
            Some(Err(error)) => anyhow!("the worker ended: {error}"),
            Some(Ok(Ok(()))) | None => anyhow!("the worker ended early"),
        }
    }

    /// Drain and end it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = timeout(STOP_LIMIT, self.task.join_next()).await;
        match ended.context("the worker did not end when it was told to")? {
            Some(ended) => ended.context("the worker ended badly")?,
            None => Ok(()),
        }
    }
}

impl Admin {
    /// Wait until the worker is a member of its group.
    pub(super) async fn joined(&self) -> anyhow::Result<()> {
        while !self.get("/ready").await?.starts_with("HTTP/1.0 200") {
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Wait until so many records were skipped: they leave no other trace.
    pub(super) async fn has_skipped(&self, wanted: u64) -> anyhow::Result<()> {
        while self.skipped().await? < wanted {
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// How many records were skipped so far.
    pub(super) async fn skipped(&self) -> anyhow::Result<u64> {
        let name = "handoff_records_skipped_total ";
        let metrics = self.get("/metrics").await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value
            .and_then(|value| value.trim().parse().ok())
            .with_context(|| format!("the worker's metrics are without {name}"))
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let asking = async {
            let mut line = TcpStream::connect(self.0).await?;
            line.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            line.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        asking.await.context("the worker's admin port does not answer")
    }
}
