//! An embedded Kafka broker for the demo.
//!
//! It is librdkafka's mock cluster: it keeps records in memory (at most 5 MiB per partition, then
//! the oldest are removed), listens on a free port of 127.0.0.1, and creates topics only at its
//! start. Clients should use `group.protocol=consumer`, because joining by the older protocol takes
//! seconds here. A mock proves nothing about a real cluster: tests of the Kafka adapter use Kafka.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Pause between two requests to the mock cluster. It notices a request that follows the previous
/// one too closely only a second later.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);

/// A running broker; dropping it stops it.
pub(crate) struct EmbeddedBroker {
    bootstrap_servers: String,
    /// Dropping it stops the thread.
    running: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker with these topics, given as name and number of partitions.
    pub(crate) fn start(topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let topics: Vec<_> =
            topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        let (started_sender, started) = sync_channel(1);
        let (running, stopped) = sync_channel(1);
        // The mock cluster is neither `Send` nor `Sync`, so it needs a thread of its own.
        let thread = std::thread::Builder::new()
            .name("embedded-broker".into())
            .spawn(move || run_broker(&topics, &started_sender, &stopped))
            .context("failed to start the embedded broker's thread")?;
        let bootstrap_servers =
            started.recv().context("the embedded broker's thread ended at its start")??;
        Ok(Self { bootstrap_servers, running: Some(running), thread: Some(thread) })
    }

    /// The address, as `host:port`.
    pub(crate) fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("embedded broker panicked");
        }
    }
}

fn run_broker(
    topics: &[(String, i32)],
    started: &SyncSender<anyhow::Result<String>>,
    stopped: &Receiver<()>,
) {
    let cluster = start_cluster(topics);
    let result = match &cluster {
        Ok(cluster) => Ok(cluster.bootstrap_servers()),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    if started.send(result).is_ok() && cluster.is_ok() {
        // Nothing is sent on this channel: it returns when the sender is dropped.
        stopped.recv().unwrap_or_default();
    }
}

fn start_cluster(
    topics: &[(String, i32)],
) -> anyhow::Result<MockCluster<'static, DefaultProducerContext>> {
    let cluster = MockCluster::new(1).context("failed to start the embedded broker")?;
    for (name, partitions) in topics {
        std::thread::sleep(REQUEST_INTERVAL);
        cluster
            .create_topic(name, *partitions, 1)
            .with_context(|| format!("failed to create the topic {name}"))?;
    }
    Ok(cluster)
}
